"""Triples: captures of photographs, simulated with known geometry, are registered, and what is wrong is left out."""

import importlib.util
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import fails
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from refsr.assets import sample_path
from refsr.bench.datasets import open_dataset
from refsr.cli import main
from refsr.data.local_shift import STEP_PX, Lens, Shifts, local_shifts
from refsr.data.photos import PhotoSource
from refsr.data.plan import PairConfig, PairSampler
from refsr.data.register import _agreeing_box, _largest_rectangle
from refsr.data.render import render
from refsr.data.sources import open_sources
from refsr.degrade import DegradeConfig
from refsr.errors import ImageError, OutputError, UsageError
from refsr.io.photo import read_photo, write_photo
from refsr.pairs.triples import TriplesConfig, build_triples

pytest.importorskip("cv2")
_spec = importlib.util.spec_from_file_location(
    "simulated_captures", Path(__file__).parent.parent / "scripts" / "simulated_captures.py"
)
assert _spec is not None
assert _spec.loader is not None
simulated = importlib.util.module_from_spec(_spec)
sys.modules["simulated_captures"] = simulated
_spec.loader.exec_module(simulated)


@pytest.fixture(scope="module")
def gravel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("photos") / "gravel.png"
    Image.fromarray(np.stack([data.gravel()] * 3, 2)).save(file)
    return file


@pytest.mark.parametrize("number", [0, 1], ids=["distant", "blurred"])
@pytest.mark.parametrize("kind", ["gravel", "reference"])
def test_captures_are_registered_to_a_fraction_of_a_pixel(kind: str, number: int, gravel: Path) -> None:
    sharp, blurry, *cameras = simulated.captures_of(gravel if kind == "gravel" else sample_path("reference"), number)
    found = simulated.registered(sharp, blurry)
    errors = simulated.errors_px(found, *cameras)
    assert np.percentile(errors, 95) < 0.3
    assert found.residual_px < 0.25
    assert found.truth.shape == (4 * found.lr.shape[0], 4 * found.lr.shape[1], 3)
    assert found.agreed > 0.4
    # The truth, reduced, has the LR image's light and colours.
    small = np.asarray(Image.fromarray(found.truth).resize(found.lr.shape[1::-1], Image.Resampling.BOX), dtype=float)
    assert np.abs((small - found.lr).mean((0, 1))).max() < 3


def test_captures_of_different_photos_are_refused(gravel: Path) -> None:
    captures = [simulated.captures_of(path, 0) for path in (gravel, sample_path("reference"))]
    for first, second in ((0, 1), (1, 0)):
        with pytest.raises(ImageError, match="too few features match|agrees"):
            simulated.registered(captures[first][0], captures[second][1])


def test_what_moved_is_left_out() -> None:
    """A fifth of the blurry photo shows something else: which the LR image leaves out; all of it is refused."""
    sharp, blurry, *_ = simulated.captures_of(sample_path("reference"), 0)
    whole = simulated.registered(sharp, blurry)
    height, width = blurry.size_px
    other = blurry.pixels.clone()
    other[..., : width // 5] = blurry.pixels.flip(2)[..., : width // 5]
    found = simulated.registered(sharp, replace(blurry, pixels=other))
    left = (found.to_blurry @ (0, 0, 1))[0]
    assert (whole.to_blurry @ (0, 0, 1))[0] < width / 10
    assert left > width / 5 - STEP_PX
    other[..., height // 8 :, :] = blurry.pixels.flip(3)[..., height // 8 :, :]
    with pytest.raises(ImageError, match="agrees with the sharp one|another place|too few"):
        simulated.registered(sharp, replace(blurry, pixels=other))


def test_local_shifts_and_lens_are_those_of_a_known_displacement() -> None:
    rng = np.random.default_rng(0)
    cv2 = pytest.importorskip("cv2")
    plane = cv2.GaussianBlur(rng.normal(128, 200, (200, 240)).astype(np.float32), (0, 0), 2.0)
    y, x = np.mgrid[:200, :240].astype(np.float32)
    true = np.stack((0.4 + 0.8 * ((x - 120) / 120) ** 3, -0.3 + 0.5 * (x - 120) * (y - 100) / 120**2))
    moved = cv2.remap(plane, x + true[0], y + true[1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    lens = Lens.straight((200, 240))
    for _ in range(4):
        dx, dy = lens.field()
        seen = cv2.remap(plane, x + dx, y + dy, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        shifts = local_shifts(0.8 * moved + 20, seen, np.ones_like(plane), 1.0)
        lens = lens.improved(shifts)
    assert np.abs(lens.field() - true)[:, 10:-10, 10:-10].max() < 0.05
    assert shifts.agrees.mean() > 0.95
    assert shifts.is_textured.mean() > 0.95


def test_what_is_bad_is_bad_where_it_is() -> None:
    """What moved is left out just so far as it reaches; a single place is chance; the outermost places do not count."""
    agrees, everywhere = np.ones((20, 30), dtype=bool), np.ones((20, 30), dtype=bool)

    def found(agrees: NDArray[np.bool_]) -> tuple[slice, slice]:
        shifts = Shifts(
            shift_px=np.zeros((2, 20, 30)), weight=np.ones((20, 30)), is_textured=everywhere, is_known=everywhere,
            agrees=agrees, extra_blur_px=0.0,
        )  # fmt: skip
        return _agreeing_box(shifts)[0]

    assert found(agrees) == (slice(1, 19), slice(1, 29))
    agrees[7, 9] = False
    assert found(agrees) == (slice(1, 19), slice(1, 29))
    agrees[:, :5] = False
    assert found(agrees) == (slice(1, 19), slice(5, 29))
    agrees[:, 26:] = False
    assert found(agrees) == (slice(1, 19), slice(5, 26))


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=7), elements=st.booleans()))
def test_the_largest_rectangle_is_that_of_a_naive_search(good: NDArray[np.bool_]) -> None:
    top, left, height, width = _largest_rectangle(good)
    assert good[top : top + height, left : left + width].all()
    rows, columns = good.shape
    naive = max(
        (
            (bottom - top) * (right - left)
            for top in range(rows)
            for bottom in range(top, rows + 1)
            for left in range(columns)
            for right in range(left, columns + 1)
            if good[top:bottom, left:right].all()
        ),
        default=0,
    )
    assert height * width == naive


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory, gravel: Path) -> Path:
    """Two places with a sharp, a blurry and another sharp photo; one without the third; a lonely one, a damaged one."""
    folder = tmp_path_factory.mktemp("captures")
    for name, path, number in (("sample", sample_path("reference"), 0), ("gravel", gravel, 1)):
        (folder / name).mkdir()
        sharp, blurry, *_ = simulated.captures_of(path, number)
        write_photo(folder / name / "sharp.png", sharp)
        write_photo(folder / name / "blurry.png", blurry)
        photo = np.asarray(read_photo(path).to_pil().convert("RGB"))
        rng = np.random.default_rng(7)
        camera = simulated.random_camera(photo.shape[:2], 1.05, rng)
        aside = np.array([[1, 0.08, 0], [-0.05, 1, 0], [2e-4, 0, 1]])
        seen = replace(camera, homography=camera.homography @ aside)
        write_photo(folder / name / "other.png", simulated.capture(photo, seen, 0.0, 1e-4, rng))
    camera = folder / "camera.png"
    Image.fromarray(np.stack([data.camera()] * 3, 2)).save(camera)
    sharp, blurry, *_ = simulated.captures_of(camera, 0)
    write_photo(folder / "camera_blurry.png", blurry)
    write_photo(camera, sharp)
    Image.fromarray(data.rocket()).save(folder / "lonely.png")
    (folder / "damaged.jpg").write_bytes(b"\xff\xd8junk")
    return folder


@pytest.fixture(scope="module")
def built(captures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("triples") / "out"
    assert main(["triples", str(captures), "-o", str(out), "--test-share", "0.5", "--processes", "1"]) == 0
    return out


def test_every_photo_has_a_role_or_a_reason(built: Path, captures: Path) -> None:
    lines = {line["photo"]: line for line in map(json.loads, (built / "manifest.jsonl").read_text().splitlines())}
    assert set(lines) == {p.relative_to(captures).as_posix() for p in captures.rglob("*.*")}
    for place in ("sample", "gravel"):
        for name in ("sharp", "blurry"):
            assert name in {role["role"] for role in lines[f"{place}/{name}.png"]["roles"]}
        assert [role["role"] for role in lines[f"{place}/other.png"]["roles"]] == ["reference"]
        assert lines[f"{place}/sharp.png"]["reason"] is None
    for name, reason in {
        "damaged.jpg": "not a PNG, JPEG",
        "lonely.png": "shows nothing that another photo shows",
        "camera_blurry.png": "with camera.png: there is no other sharp photo",
        "camera.png": "with camera_blurry.png: there is no other sharp photo",
    }.items():
        assert not lines[name]["roles"]
        assert re.search(reason, lines[name]["reason"]), lines[name]
    sheet = (built / "index.html").read_text()
    assert all(name in sheet for name in lines)


def test_the_groups_are_measured(built: Path, tmp_path: Path) -> None:
    (sample,) = open_dataset(built / "test" / "manifest.jsonl").samples
    (the_same,) = open_dataset(built / "test").samples
    assert sample.lr == the_same.lr == built / "test" / "lr" / f"{sample.name}_0.png"
    assert sample.references
    out = tmp_path / "a.json"
    assert main(["bench", str(built / "test" / "manifest.jsonl"), "--model", "bicubic", "-o", str(out)]) == 0
    assert json.loads(out.read_text())["protocol"]["lr"] == "given"
    assert json.loads(out.read_text())["mean"]["psnr_db"] > 20


def test_the_crops_are_trained_on(built: Path) -> None:
    """The LR images of a batch are those of the folder, not degraded truths."""
    sources = open_sources([built / "train"], 96)
    sampler = PairSampler(sources=sources, pairs=PairConfig(), degrade=DegradeConfig(), real=1.0, seed=0)
    plans = [sampler.plan(number, 96) for number in range(4)]
    photos = PhotoSource(sources.photos)
    batch = render(plans, photos, 96)
    for row, plan in enumerate(plans):
        assert plan.lr is not None
        lr = photos[plan.lr.photo][:, plan.lr.top : plan.lr.top + 24, plan.lr.left : plan.lr.left + 24].float() / 255
        hr = photos[plan.crop.photo][:, plan.crop.top : plan.crop.top + 96, plan.crop.left : plan.crop.left + 96]
        assert plan.crop.top == 4 * plan.lr.top
        axes = (1, 2) if plan.crop.transposed else (2, 1)
        flips = [2 - axis for axis in (0, 1) if plan.crop.flipped[axis]]
        torch.testing.assert_close(batch["lr"][row], lr.permute(0, 3 - axes[0], 3 - axes[1]).flip(flips))
        torch.testing.assert_close(batch["hr"][row], hr.permute(0, 3 - axes[0], 3 - axes[1]).flip(flips).float() / 255)


def test_an_lr_image_of_another_size_is_named(built: Path, tmp_path: Path) -> None:
    for kind in ("input", "ref", "lr"):
        (tmp_path / kind).mkdir()
        Image.new("RGB", (160, 160)).save(tmp_path / kind / "a.png")
    sources = open_sources([tmp_path], 96)
    sampler = PairSampler(sources=sources, pairs=PairConfig(), degrade=DegradeConfig(), real=1.0, seed=0)
    with pytest.raises(ImageError, match=r"lr/a.png: has 160x160 pixels, its input makes 40x40"):
        sampler.plan(0, 96)


def test_a_finished_run_is_not_repeated_and_another_is_refused(built: Path, captures: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in built.rglob("*")}
    build_triples(captures, built, TriplesConfig(test_share=0.5))
    assert {path: path.stat().st_mtime_ns for path in built.rglob("*")} == before
    with pytest.raises(OutputError, match="was built of other photos or with other settings"):
        build_triples(captures, built, TriplesConfig(test_share=0.1))


@pytest.mark.slow
def test_a_run_goes_on_where_it_was_killed(
    built: Path, captures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("refsr.pairs.triples.triples_sheet", stop)
        with pytest.raises(KeyboardInterrupt):
            build_triples(captures, tmp_path / "out", TriplesConfig(test_share=0.5))
    monkeypatch.setattr("refsr.pairs.captures.register", lambda *given: calls.append(given))
    build_triples(captures, tmp_path / "out", TriplesConfig(test_share=0.5))
    assert not calls
    for name in ("manifest.jsonl", "index.html", "test/manifest.jsonl", "train/manifest.jsonl"):
        assert (tmp_path / "out" / name).read_text() == (built / name).read_text()


def test_captures_without_a_triple(tmp_path: Path, captures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("camera.png", "camera_blurry.png", "lonely.png"):
        (folder / name).write_bytes((captures / name).read_bytes())
    pattern = "no triple among its 3 photos .*: give three photos of a place"
    fails(capsys, 2, pattern, "triples", folder, "-o", tmp_path / "out", "--processes", 1)
    assert not (tmp_path / "out").exists()


def test_wrong_input_is_refused(tmp_path: Path, captures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails(capsys, 2, "no such folder of photos", "triples", tmp_path / "no", "-o", tmp_path / "out")
    fails(capsys, 2, "is not empty", "triples", captures, "-o", captures / "gravel")
    with pytest.raises(UsageError, match="--test-share 2.0: give a share"):
        TriplesConfig(test_share=2.0)
