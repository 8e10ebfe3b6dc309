"""The builder of pairs, on views of a few photographs by known homographies."""

import json
import math
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import fails, wait_for
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from refsr.bench.datasets import open_dataset
from refsr.cli import main
from refsr.data.features import LocalFeatures, detect, load_features
from refsr.data.sample import sample_view
from refsr.errors import ImageError, MissingExtraError, OutputError, UsageError
from refsr.io.photo import read_preview
from refsr.pairs.build import build_pairs
from refsr.pairs.output_folder import BuildConfig, BuildSummary
from refsr.pairs.selection import AlbumPhoto, find_duplicates, make_groups, matched_crops, single_crops, split
from refsr.pairs.shortlist import learn_words, nearest_pairs, vlad
from refsr.pairs.verify import LEVEL_MATCHES, Overlap, level_of, verify

SCENES = ("astronaut", "coffee", "chelsea", "rocket")
SIDE = 420


def view_matrix(dx: float, dy: float, degrees: float, zoom: float) -> NDArray[np.floating[Any]]:
    """From a view's pixels (x, y, 1) to the photograph's, which is about 300 to 512 pixels high."""
    angle = math.radians(degrees)
    cos, sin = zoom * math.cos(angle), zoom * math.sin(angle)
    middle = (SIDE - 1) / 2
    turn = np.array([[cos, -sin, 215 + dx], [sin, cos, 165 + dy], [0, 0, 1]])
    matrix: NDArray[np.floating[Any]] = turn @ np.array([[1, 0, -middle], [0, 1, -middle], [0, 0, 1]])
    return matrix


VIEWS = (
    view_matrix(0, 0, 0, 0.7),
    view_matrix(14, -6, 8, 0.65),
    view_matrix(-20, 5, -12, 0.75),
    view_matrix(6, 12, 25, 0.55),
)


def view(scene: str, matrix: NDArray[np.floating[Any]]) -> Image.Image:
    photo = np.ascontiguousarray(getattr(data, scene)()[..., :3])
    pixels = sample_view(photo, matrix, SIDE)
    return Image.fromarray((pixels * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())


@pytest.fixture(scope="session")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four views of each of three scenes, flat, and one of a fourth; a smaller copy of one; a damaged file."""
    folder = tmp_path_factory.mktemp("album")
    for scene in SCENES[:3]:
        for number, matrix in enumerate(VIEWS):
            view(scene, matrix).save(folder / f"{scene}_{number}.png")
    view(SCENES[3], VIEWS[0]).save(folder / "lonely.png")
    view(SCENES[0], VIEWS[0]).resize((380, 380)).save(folder / "copy.jpg", quality=80)
    (folder / "damaged.jpg").write_bytes(b"\xff\xd8junk")
    return folder


@pytest.fixture(scope="session")
def features(album: Path) -> dict[str, LocalFeatures]:
    return {path.stem: detect(path, 1024) for path in sorted(album.glob("*_*.png"))}


@pytest.fixture(scope="session")
def built(album: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BuildSummary]:
    out = tmp_path_factory.mktemp("out") / "pairs"
    return out, build_pairs(album, out, BuildConfig(test_share=0.34))


def test_views_of_one_scene_are_verified_and_others_are_not(features: dict[str, LocalFeatures]) -> None:
    names = sorted(features)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            found = verify(features[first], features[second], (0, 1), 160, 4)
            assert (found is not None) == (first[:-2] == second[:-2]), (first, second)


def test_crops_lie_where_the_homography_says(features: dict[str, LocalFeatures]) -> None:
    several = 0
    for number in (1, 2, 3):
        found = verify(features["astronaut_0"], features[f"astronaut_{number}"], (0, 1), 160, 4)
        assert found is not None
        assert found.crops
        there = np.linalg.inv(VIEWS[number]) @ VIEWS[0]
        for x1, y1, x2, y2 in found.crops:
            centre = there @ (x1 + 79.5, y1 + 79.5, 1)
            expected = (centre[:2] - 79.5).clip(0, SIDE - 160)
            assert np.abs(expected - (x2, y2)).max() < 50
        corners = [crop[:2] for crop in found.crops]
        several += len(corners) > 1
        assert all(max(abs(a[0] - b[0]), abs(a[1] - b[1])) >= 160 for i, a in enumerate(corners) for b in corners[:i])
    assert several, "else nothing was said of how far apart crops lie"


def test_duplicates_are_told_from_other_views(album: Path, features: dict[str, LocalFeatures]) -> None:
    copy = detect(album / "copy.jpg", 1024)
    for name, expected in (("astronaut_0", True), ("astronaut_1", False)):
        found = verify(features[name], copy, (0, 1), 160, 4)
        assert found is not None
        assert found.duplicate is expected


def test_a_logo_in_one_corner_proves_nothing() -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate((rng.uniform(0, 60, (80, 2)), rng.uniform(0, 1000, (200, 2)))).astype(np.float32)
    shared = rng.integers(0, 255, (80, 128), dtype=np.uint8)

    def photo(seed: int) -> LocalFeatures:
        own = np.random.default_rng(seed).integers(0, 255, (200, 128), dtype=np.uint8)
        return LocalFeatures(
            points_px=points, descriptors=np.concatenate((shared, own)), size_px=(1000, 1000), full_px=(1000, 1000),
            thumbnail=np.zeros((32, 32), np.uint8), licence="",
        )  # fmt: skip

    assert verify(photo(1), photo(2), (0, 1), 160, 4) is None


def test_the_shortlist_puts_the_same_scene_first(features: dict[str, LocalFeatures]) -> None:
    roots = [found.root_descriptors() for found in features.values()]
    words = learn_words(roots)
    vectors = np.stack([vlad(root, words) for root in roots])
    assert np.allclose((vectors**2).sum(1), 1, atol=1e-5)
    names = list(features)
    pairs = nearest_pairs(vectors, 3)
    same = sum(names[a][:-2] == names[b][:-2] for a, b in pairs)
    assert same == 3 * 6, "all pairs of the four views of each scene"
    assert same / len(pairs) > 0.8


@given(st.integers(1, 9), st.integers(1, 5), st.integers(0, 99))
def test_nearest_pairs_against_a_naive_loop(count: int, neighbours: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)
    expected = set()
    for a in range(count):
        others = sorted((b for b in range(count) if b != a), key=lambda b: -float(vectors[a] @ vectors[b]))
        expected |= {(min(a, b), max(a, b)) for b in others[:neighbours]}
    assert nearest_pairs(vectors, neighbours) == sorted(expected)


def test_levels_follow_the_number_of_matches() -> None:
    assert [level_of(n) for n in (0, 15, 16, 28, 50, 100, 200, 5000)] == [0, 0, 5, 4, 3, 2, 1, 1]
    assert list(LEVEL_MATCHES) == sorted(LEVEL_MATCHES, reverse=True)


def a_photo(path: str, pixels: int = 1000, size: tuple[int, int] = (400, 500)) -> AlbumPhoto:
    return AlbumPhoto(path=path, size_px=size, pixels=pixels, licence=None)


def an_overlap(first: int, second: int, matches: int = 100, *, duplicate: bool = False) -> Overlap:
    return Overlap(first=first, second=second, matches=matches, duplicate=duplicate, crops=((0, 0, 5, 6),))


def test_the_largest_of_duplicates_is_kept_and_chains_of_them_are_not_merged() -> None:
    photos = [a_photo("a", 10), a_photo("b", 30), a_photo("c", 20)]
    chain = [an_overlap(0, 1, duplicate=True), an_overlap(0, 2, duplicate=True), an_overlap(1, 2)]
    assert find_duplicates(photos, chain) == {0: 1}
    equal = [a_photo(name) for name in "abcd"]
    pan = [an_overlap(i, i + 1, duplicate=True) for i in range(3)]
    assert find_duplicates(equal, pan) == {1: 0, 3: 2}


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from(["", "x/", "y/", "z/"]), min_size=2, max_size=14),
    st.dictionaries(st.tuples(st.integers(0, 13), st.integers(0, 13)), st.integers(16, 400), max_size=25),
    st.floats(0, 1),
)
def test_no_test_photo_is_trained_on_and_none_is_in_two_groups(
    folders: list[str], matches: dict[tuple[int, int], int], share: float
) -> None:
    photos = [a_photo(f"{folder}{index:02}") for index, folder in enumerate(folders)]
    overlaps = [an_overlap(a, b, count) for (a, b), count in sorted(matches.items()) if a < b < len(photos)]
    test = split(photos, overlaps, share)
    for overlap in overlaps:
        assert (overlap.first in test) == (overlap.second in test)
    for i, first in enumerate(photos):
        for j, second in enumerate(photos):
            if first.folder and first.folder == second.folder:
                assert (i in test) == (j in test)
    groups = make_groups(photos, overlaps, test)
    used = [n for g in groups for n in (g.truth, *(o.partner(g.truth) for o in g.references.values()))]
    assert len(used) == len(set(used))
    assert set(used) <= test
    for group in groups:
        assert group.references
        assert all(overlap.level == level and group.truth in (overlap.first, overlap.second)
                   for level, overlap in group.references.items())  # fmt: skip
    left = test - set(used)
    assert not any({o.first, o.second} <= left for o in overlaps), "no pair is left over"
    crops = matched_crops(overlaps, frozenset(range(len(photos))) - test, 160, 2)
    assert not {s.photo for crop in crops for s in (crop.first, crop.second)} & test
    counts = [sum(n in (o.first, o.second) for o in {id(c.overlap): c.overlap for c in crops}.values() if o)
              for n in range(len(photos))]  # fmt: skip
    assert max(counts) <= 2


def test_the_share_of_photos_for_testing() -> None:
    photos = [a_photo(f"{unit}/{n}") for unit in "abcdefghij" for n in range(4)]
    overlaps = [an_overlap(4 * u + n, 4 * u + n + 1) for u in range(10) for n in range(3)]
    sizes = [len(split(photos, overlaps, share)) for share in (0.0, 0.2, 0.5, 1.0)]
    assert sizes == [0, 8, 20, 40]
    assert split(photos, overlaps, 0.2) < split(photos, overlaps, 0.5)
    assert len(split(photos, overlaps, 0.01)) == 4, "at least one unit, where there are several"


def test_crops_of_single_photos_do_not_overlap() -> None:
    photos = [a_photo("a"), a_photo("b", size=(100, 100))]
    crops = single_crops(photos, [0, 1], 160, 3)
    assert crops == single_crops(photos, [0, 1], 160, 3)
    assert {crop.first.photo for crop in crops} == {0}
    for crop in crops:
        angle = math.radians(crop.second.degrees)
        reach = (abs(math.cos(angle)) + abs(math.sin(angle))) * crop.second.side_px / 2
        (x1, y1), (x2, y2) = crop.first.centre_px, crop.second.centre_px
        assert max(abs(x1 - x2), abs(y1 - y2)) >= 80 + reach
        assert reach <= x2 <= 500 - reach
        assert reach <= y2 <= 400 - reach
        assert 80 <= crop.second.side_px <= 320


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_groups_and_crops_that_are_built(album: Path, built: tuple[Path, BuildSummary]) -> None:
    out, found = built
    assert found.photos == 14
    assert list(found.unreadable) == ["damaged.jpg"]
    assert found.duplicates == {"copy.jpg": "astronaut_0.png"}
    assert found.groups >= 1
    assert found.crops >= 4
    groups = lines(out / "test" / "manifest.jsonl")
    tested = {name[:-6] for g in groups for name in (g["source"], *(r["source"] for r in g["references"]))}
    assert len(tested) == 1, "one of three scenes"
    trained = set()
    for record in lines(out / "train" / "manifest.jsonl"):
        first, second = record["input"], record["ref"]
        assert first["source"][:-6] == second["source"][:-6]
        trained.add(first["source"][:-6])
        for part in (first, second):
            with Image.open(out / "train" / part["file"]) as crop, Image.open(album / part["source"]) as photo:
                x, y = (round(c - 80) for c in part["box"]["centre_px"])
                assert np.array_equal(np.asarray(crop), np.asarray(photo)[y : y + 160, x : x + 160])
        assert record["level"] == level_of(record["matches"])
        assert first["licence"] is None
    assert trained == set(SCENES[:3]) - tested
    samples = open_dataset(out / "test").samples
    assert [s.name for s in samples] == [g["name"] for g in groups]
    assert [[r.level for r in s.references] for s in samples] == [[r["level"] for r in g["references"]] for g in groups]
    assert open_dataset(out / "test" / "manifest.jsonl").samples == samples
    assert not (out / ".work").exists()


def test_the_contact_sheet_shows_every_picture(built: tuple[Path, BuildSummary]) -> None:
    out, _ = built
    page = (out / "index.html").read_text()
    shown = set(re.findall(r'src="([^"]+)"', page))
    assert shown == {p.relative_to(out).as_posix() for p in out.rglob("*.png")}
    assert "copy.jpg (kept: astronaut_0.png)" in page


def test_names_are_escaped_and_licences_kept(tmp_path: Path) -> None:
    folder = tmp_path / "a & b"
    folder.mkdir()
    for number in (0, 1):
        exif = Image.Exif()
        if number:
            exif[33432] = "CC BY 4.0, Ada"
        view("astronaut", VIEWS[number]).save(folder / f"<i>{number}.jpg", exif=exif, quality=95)
    out = tmp_path / "out"
    build_pairs(folder, out, BuildConfig(test_share=1.0, licence="unknown"))
    assert "&lt;i&gt;0.jpg" in (out / "index.html").read_text()
    (group,) = lines(out / "test" / "manifest.jsonl")
    licences = {group["source"]: group["licence"], **{r["source"]: r["licence"] for r in group["references"]}}
    assert licences == {"<i>0.jpg": "unknown", "<i>1.jpg": "CC BY 4.0, Ada"}


def tree(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in folder.rglob("*")
        if p.suffix != ".json" and p.is_file()
    }


def test_a_killed_run_goes_on_and_gives_the_same(album: Path, built: tuple[Path, BuildSummary], tmp_path: Path) -> None:
    """SIGKILL at two moments, with two processes; then the same files as an unbroken run of one process."""
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "refsr",
        "pairs",
        str(album),
        "-o",
        str(out),
        "--test-share",
        "0.34",
        "--processes",
        "2",
    ]
    codes = []
    for wanted in (".work/overlaps.part", "train/input/*.png"):
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        wait_for(lambda process=process, wanted=wanted: process.poll() is not None or any(out.glob(wanted)))  # type: ignore[misc]
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        codes.append(process.wait())
    assert -signal.SIGKILL in codes, "it was done before it could be killed"
    (out / "train" / "input" / ".000001.png.abc.part").write_bytes(b"killed in the midst of writing")
    finished = subprocess.run(command, check=False, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert tree(out) == tree(built[0])


def test_a_finished_run_is_not_repeated(album: Path, built: tuple[Path, BuildSummary], tmp_path: Path) -> None:
    out, found = built
    before = tree(out)
    assert build_pairs(album, out, BuildConfig(test_share=0.34)) == found
    assert tree(out) == before
    with pytest.raises(OutputError, match="was built of other photos or with other settings"):
        build_pairs(album, out, BuildConfig(test_share=0.5))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="is not empty, and not of this command"):
        build_pairs(album, tmp_path, BuildConfig())


def test_a_summary_of_an_earlier_version_is_read_and_a_damaged_one_refused(
    album: Path, built: tuple[Path, BuildSummary], tmp_path: Path
) -> None:
    out, found = built
    path, config = tmp_path / "built.json", BuildConfig(test_share=0.34)
    whole = json.loads((out / "built.json").read_text())
    assert (whole["kind"], whole["version"]) == ("pairs", 1)
    path.write_text(json.dumps({key: whole[key] for key in ("settings", "built")}, indent=1))
    assert build_pairs(album, tmp_path, config) == found
    with pytest.raises(OutputError, match="was built of other photos or with other settings"):
        build_pairs(album, tmp_path, BuildConfig(test_share=0.5))
    for text in ("", "{}", path.read_text()[:-9], json.dumps(whole | {"built": {"photos": "many"}})):
        path.write_text(text)
        with pytest.raises(UsageError, match=r"built.json: damaged, or not .* pairs \(.*\): choose another"):
            build_pairs(album, tmp_path, config)
    path.unlink()
    (tmp_path / ".work").mkdir()
    settings_file = tmp_path / ".work" / "settings.json"
    settings_file.write_text(json.dumps(whole["settings"]))
    with pytest.raises(OutputError, match="was built of other photos or with other settings"):
        build_pairs(album, tmp_path, BuildConfig(test_share=0.5))
    settings_file.write_text("{")
    with pytest.raises(UsageError, match=r"settings.json: damaged, or not a file of kind pairs-settings"):
        build_pairs(album, tmp_path, config)


def test_a_second_run_at_the_same_time_is_refused(
    album: Path, built: tuple[Path, BuildSummary], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(build_pairs, album, out, BuildConfig(test_share=0.34)) for _ in range(2)]
        (error,) = [error for run in runs if (error := run.exception()) is not None]
    assert isinstance(error, OutputError)
    assert "another process is at work in it" in str(error)
    assert tree(out) == tree(built[0])


def test_an_album_without_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "album", tmp_path / "out"
    folder.mkdir()
    for scene in SCENES:
        view(scene, VIEWS[0]).save(folder / f"{scene}.png")
    fails(capsys, 2, "no two of its 4 photos show the same thing, nothing was written", "pairs", folder, "-o", out)
    assert not out.exists()
    assert main(["pairs", str(folder), "-o", str(out), "--train-from", "single", "--processes", "1"]) == 0
    assert "0 test groups, 1" in capsys.readouterr().out
    records = lines(out / "train" / "manifest.jsonl")
    assert records
    for record in records:
        assert record["input"]["source"] == record["ref"]["source"]
        with Image.open(out / "train" / record["ref"]["file"]) as crop:
            assert crop.size == (160, 160)


def test_bad_input_is_refused_in_one_line(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    out = tmp_path / "out"
    for pattern, arguments in {
        "none: no such folder of photos": (tmp_path / "none",),
        "holds 0 photos": (empty,),
        "--test-share 2": (album, "--test-share", "2"),
        "--processes -1": (album, "--processes", "-1"),
        "--crop": (album, "--crop", "7"),
    }.items():
        fails(capsys, 2, pattern, "pairs", *arguments, "-o", out)
        assert not out.exists()
    (album / "raw.cr3").write_bytes(b"")
    assert main(["pairs", str(album), "-o", str(out), "--strict", "--processes", "1"]) == 2
    (album / "raw.cr3").unlink()
    captured = capsys.readouterr()
    assert "left out damaged.jpg: " in captured.err
    assert captured.err.count("damaged.jpg") == 1
    assert "left out 1 .cr3 file: raw files are not read" in captured.err
    assert "left out 1 photo: repair or remove them, or leave out --strict" in captured.err
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtraError, match=r"finding pairs needs an extra: pip install 'refsr\[geometry\]'"):
        build_pairs(album, tmp_path / "other", BuildConfig())


def test_features_round_trip_and_flat_pictures(features: dict[str, LocalFeatures], tmp_path: Path) -> None:
    found = features["coffee_0"]
    found.save(tmp_path / "f.npz")
    loaded = load_features(tmp_path / "f.npz")
    assert np.array_equal(loaded.descriptors, found.descriptors)
    assert np.array_equal(loaded.points_px, found.points_px)
    assert (loaded.size_px, loaded.full_px, loaded.licence) == (found.size_px, found.full_px, found.licence)
    assert np.allclose((found.root_descriptors() ** 2).sum(1), 1, atol=1e-5)
    Image.new("RGB", (200, 200), "grey").save(tmp_path / "flat.png")
    with pytest.raises(ImageError, match=r"flat.png: is flat"):
        detect(tmp_path / "flat.png", 1024)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_previews_are_upright(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = view("coffee", VIEWS[0]).crop((0, 0, 400, 300)).resize((1600, 1200))
    picture.save(tmp_path / "a.jpg", exif=exif, quality=95)
    preview = read_preview(tmp_path / "a.jpg", 400)
    turned = {1: picture, 3: picture.rotate(180), 6: picture.rotate(-90, expand=True)}[orientation]
    assert preview.full_px == turned.size[::-1]
    expected = turned.resize(preview.image.size, Image.Resampling.BICUBIC)
    assert max(preview.image.size) == 400
    assert np.abs(np.asarray(preview.image).astype(int) - np.asarray(expected)).mean() < 2


def test_previews_of_sixteen_bits(tmp_path: Path) -> None:
    deep = np.linspace(0, 65535, 300 * 200).reshape(200, 300).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    preview = read_preview(tmp_path / "a.png", 100)
    assert preview.image.size == (100, 67)
    assert preview.full_px == (200, 300)
    assert int(np.asarray(preview.image).max()) > 240
