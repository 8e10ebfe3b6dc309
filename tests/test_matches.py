"""Where matches land: against known views, a naive loop, and the benchmark's own gain."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import fails, small_models, texture
from torch import Tensor

import refsr.bench.matches
from refsr.assets import sample_path
from refsr.bench.datasets import Dataset, open_dataset
from refsr.bench.match_figures import WITHIN_CELLS, ImageMatches, MatchesResult, matches_lines
from refsr.bench.matches import cells_of, corrected, run_matches, shares_within, true_positions
from refsr.bench.measure import BenchConfig, run_benchmark
from refsr.cli import main
from refsr.data.geometry import Matrix, about, linear, project, rotation, translation
from refsr.data.sample import sample_view
from refsr.io.photo import Photo, as_photo, write_photo
from refsr.io.records import read_record
from refsr.models import DefaultModel, RefSRModel
from refsr.models.alignment import Aligned
from refsr.references.pose import Pose
from refsr.references.variants import transform
from refsr.search import Match, cell_grid

SMALL = small_models()
SIDE = 144


def write_view(path: Path, view: Matrix, side: int = SIDE) -> None:
    """A view of the bundled picture."""
    picture = np.asarray(as_photo(sample_path("reference")).to_pil().convert("RGB"))
    write_photo(path, Photo(pixels=sample_view(picture, view, side)[None]))


@pytest.fixture
def groups(tmp_path: Path) -> Path:
    """Two groups: a reference that is 3 cells and 1 pixel down and 2 cells to the left; and one of something else."""
    folder = tmp_path / "groups"
    folder.mkdir()
    write_view(folder / "000_0.png", translation(np.array((220, 120))))
    write_view(folder / "000_1.png", translation(np.array((228, 107))))
    write_view(folder / "001_0.png", translation(np.array((320, 40))), 98)
    write_photo(folder / "001_1.png", Photo(pixels=texture(64, 64)))
    return folder


def random_cells(seed: int, *size: int) -> Tensor:
    return torch.randn(2, *size, generator=torch.Generator().manual_seed(seed))


def test_shares_are_those_of_a_naive_loop() -> None:
    found = random_cells(0, 24, 30)
    true = found + random_cells(1, 24, 30) * 0.7
    true[:, ::2, 3:7] = torch.nan
    counts, verified = [0] * len(WITHIN_CELLS), 0
    for y in range(24):
        for x in range(30):
            if true[0, y, x].isnan():
                continue
            verified += 1
            away = [float(found[axis, y, x]) - float(true[axis, y, x]) for axis in (0, 1)]
            for place, within in enumerate(WITHIN_CELLS):
                counts[place] += (away[0] ** 2 + away[1] ** 2) ** 0.5 <= within
    assert 0 < counts[0] < counts[-1] < verified
    assert shares_within(found, true) == pytest.approx([count / verified for count in counts])
    assert shares_within(found, torch.full_like(true, torch.nan)) is None


@pytest.mark.parametrize(("scale", "degrees"), [(1.0, 0.0), (0.6, 0.0), (1.3, 35.0)])
def test_cells_of_a_posed_reference_lie_where_its_pixels_come_from(scale: float, degrees: float) -> None:
    origin = transform(texture(60, 80), 0, scale, degrees).origin
    position_px = random_cells(0, 3, 5) * 10 + 30
    position_px[:, 1, 2] = torch.nan
    cells = cells_of(position_px, origin, 4)
    for y in range(3):
        for x in range(5):
            copy_px = torch.cat((cells[:, y, x] * 4 + 1.5, torch.ones(1)))
            assert torch.allclose(origin.to_reference @ copy_px, position_px[:, y, x], atol=1e-3, equal_nan=True)


@pytest.mark.parametrize("degrees", [0.0, 4.0])
def test_the_truth_of_known_views_is_found_to_a_tenth_of_a_cell(tmp_path: Path, degrees: float) -> None:
    """A reference that is moved by five cells and a part of one, and turned; sides of no whole number of cells."""
    first = translation(np.array((220.0, 100.0)))
    turn = about(linear(rotation(degrees)), np.full(2, (SIDE + 1) / 2))
    second = first @ translation(np.array((-21.3, 9.6))) @ turn
    for name, view in (("truth", first), ("reference", second)):
        write_view(tmp_path / f"{name}.png", view, SIDE + 2)
    size = (SIDE // 4, SIDE // 4)
    found = true_positions(tmp_path / "truth.png", tmp_path / "reference.png", size, 4)
    x_y = (cell_grid(size, found) * 4 + 1.5).flip(0).flatten(1).T.numpy()
    expected = torch.from_numpy(project(np.linalg.inv(second) @ first, x_y).T).flip(0).view(2, *size)
    known = found[0].isfinite()
    error_cells = (found - expected).norm(dim=0)[known] / 4
    assert known.float().mean() > 0.5
    assert error_cells.quantile(0.95) < 0.1
    inside = ((expected >= 0) & (expected <= SIDE + 1)).all(0)
    assert not known[~inside].any()


def known_truth(*_: Any) -> Tensor:
    """The truth of the group 000, on part of its cells."""
    cells = torch.full((2, SIDE // 4, SIDE // 4), torch.nan)
    shift = torch.tensor((13.0, -8.0)).view(2, 1, 1)
    cells[:, :30, 4:] = (cell_grid(cells.shape[-2:], cells) * 4 + 1.5 + shift)[:, :30, 4:]
    return cells


@pytest.mark.parametrize("moved_cells", [0.0, 0.7])
def test_a_perfect_field_leaves_no_headroom(
    groups: Path, shipped: RefSRModel, monkeypatch: pytest.MonkeyPatch, moved_cells: float
) -> None:
    """And one that is off by 0.7 cells is counted so, and leaves some."""

    def fields(model: RefSRModel, lr: Tensor, values: Any, match: Match, field: Match) -> tuple[Aligned]:
        position = cells_of(known_truth(), transform(values[0][1][:, :3], 0, 1.0, 0.0).origin, 4)[None]
        position = torch.where(position.isfinite(), position, field.position_cells)
        position[:, 1] += moved_cells
        return (Aligned(field=replace(field, position_cells=position), doubt=torch.zeros_like(match.score)),)

    monkeypatch.setattr("refsr.bench.matches.true_positions", known_truth)
    monkeypatch.setattr("refsr.restore.posed.find_pose", lambda *_: Pose(scale=1.0, degrees=0.0, fit=1.0))
    monkeypatch.setattr(DefaultModel, "fields", fields)
    result = run_matches(open_dataset(groups), shipped, "m", limit=1)
    (found,) = result.images
    assert found.verified == pytest.approx(30 / 36 * 32 / 36)
    assert found.match_within is not None
    assert found.match_within[-1] > 0.8
    if moved_cells:
        assert found.field_within == (0, 0, 0, 1, 1)
        assert found.headroom_db > 0.1
    else:
        assert found.field_within == (1,) * 5
        assert found.headroom_db == 0


def test_only_verified_cells_are_corrected() -> None:
    match = Match(
        position_cells=random_cells(0, 4, 6)[None],
        reference=torch.zeros(1, 4, 6, dtype=torch.long),
        score=torch.zeros(1, 1, 4, 6),
    )
    true = random_cells(1, 4, 6)
    true[:, 2] = torch.nan
    position = corrected(Aligned(field=match, doubt=match.score), true).field.position_cells[0]
    assert torch.equal(position[:, 2], match.position_cells[0, :, 2])
    assert torch.equal(position[:, :2], true[:, :2])


def test_the_verb(
    groups: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be measured is named, and a run that was broken off goes on."""
    (groups / "002_0.png").write_bytes((groups / "000_0.png").read_bytes())
    out = tmp_path / "out.json"
    measure, calls = refsr.bench.matches._measure, list[str]()

    def counted(sample: Any, **rest: Any) -> Any:
        calls.append(sample.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return measure(sample, **rest)

    monkeypatch.setattr("refsr.bench.matches._measure", counted)
    assert main(["bench", "matches", str(groups), "-o", str(out)]) == 130
    capsys.readouterr()
    assert main(["bench", "matches", str(groups), "-o", str(out)]) == 0
    assert calls == ["000", "001", "001", "002"]
    captured = capsys.readouterr()
    assert "left out 002: has no reference" in captured.err
    assert "hard third: nothing verified in 1 picture" in captured.out
    assert "001: 001_1.png shows other things than the photo" in captured.out
    result = read_record(out, {"matches": MatchesResult})
    first, second = result.images
    assert first.verified > 0.4
    assert first.field_within is not None
    assert first.field_within[3] > 0.9
    assert (second.verified, second.match_within, second.field_within, second.gain_db) == (0, None, None, 0)
    assert result.hard == (second,)
    assert json.loads(out.read_text())["means"]["all"]["gain_db"] == pytest.approx(first.gain_db / 2, abs=1e-3)
    assert first.gain_db > 0.1


@pytest.mark.usefixtures("any_reference_fits")
@pytest.mark.parametrize("name", ["default", "flow", "srntt"])
def test_the_gain_is_the_benchmarks(groups: Path, name: str) -> None:
    """Of models with poses and alignment, and without."""
    dataset = open_dataset(groups)
    one = Dataset(name="one", samples=dataset.samples[:1])
    (found,) = run_matches(one, SMALL[name], name).images
    assert not found.refused
    assert (found.field_within == found.match_within) == (name != "default")
    assert (found.headroom_db == 0) == (name == "srntt")  # which takes texture where the search found it
    plain = run_benchmark(one, SMALL[name], name, BenchConfig())
    assert found.gain_db == pytest.approx(plain.images[0].gain_db, abs=1e-4)
    assert found.gain_db != 0


def test_means_are_over_pictures_and_the_hard_third_gains_least() -> None:
    def image(name: str, verified: float, share: float | None, refused: str = "") -> ImageMatches:
        shares = None if share is None else (share,) * len(WITHIN_CELLS)
        return ImageMatches(
            name=name, reference="r.png", verified=verified, match_within=shares, field_within=shares, gain_db=verified,
            refused=refused,
        )  # fmt: skip

    images = (image("a", 0.5, 0.9), image("b", 0.1, 0.4), image("c", 0.0, None), image("d", 0.6, 0.0, "is blurry"))
    result = MatchesResult(model="m", dataset="d", images=images, skipped=(), versions={}, commit=None)
    assert [found.name for found in result.hard] == ["c", "b"]
    every, hard = result.means["all"], result.means["hard third"]
    assert every.field_within == pytest.approx([1.3 / 3] * 5)
    assert hard.field_within == (0.4,) * 5
    assert (every.images, every.unverified, hard.images, hard.unverified) == (4, 1, 2, 1)
    assert every.gain_db == pytest.approx(0.3)
    assert matches_lines(result)[-1] == "d: r.png is blurry"


def test_bad_input(groups: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for pattern, arguments in {
        "bicubic: uses no references, so it has no matches": ("--model", "bicubic"),
        "--limit -1: give a count of pictures, or 0 for all": ("--limit", "-1"),
        "the folder .* does not exist": ("-o", groups / "none" / "out.json"),
    }.items():
        fails(capsys, 2, pattern, "bench", "matches", groups, *arguments)
    monkeypatch.setitem(sys.modules, "cv2", None)
    fails(capsys, 2, r"needs an extra: pip install 'refsr\[geometry\]'", "bench", "matches", groups)
