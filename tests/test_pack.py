"""Dense truth against known geometry, and packs of photographs and views."""

import io
import json
import math
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import texture
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from skimage import data as pictures

from refsr.assets import sample_path
from refsr.data.features import detect
from refsr.data.shards import NODE_PX, UNKNOWN, ShardWriter, decode_field, encode_field
from refsr.data.truth import _best_positions, dense_positions, enough_known, resized_nodes
from refsr.errors import ImageError, OutputError, UsageError
from refsr.pairs.pack_photos import PackSummary, diverse_order, pack_photos
from refsr.pairs.pack_scene import PackConfig, choose_pairs
from refsr.pairs.verify import Overlap

SCRIPT = Path(__file__).parent.parent / "scripts" / "pack_photos.py"
Pixels = NDArray[np.uint8]
Numbers = NDArray[np.floating[Any]]


def sample(name: str = "reference") -> Pixels:
    with Image.open(sample_path("truth" if name == "truth" else "reference")) as image:
        return np.asarray(image.convert("RGB"))


def noise(height: int, width: int, seed: int) -> Pixels:
    return (texture(height, width, seed)[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)


def homography(degrees: float, zoom: float, shift: tuple[float, float], height: int, width: int) -> Numbers:
    """About the middle, a little slanted; (x, y) of the first picture to those of the second."""
    matrix = np.eye(3)
    matrix[:2] = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, zoom)
    matrix[:2, 2] += shift
    matrix[2] = (6e-5, -4e-5, 1)
    return matrix


def warp(picture: Pixels, matrix: Numbers) -> Pixels:
    return np.asarray(cv2.warpPerspective(picture, matrix, picture.shape[1::-1], flags=cv2.INTER_LINEAR))


def nodes_by(matrix: Numbers, height: int, width: int) -> Numbers:
    """(y, x) where each node lies."""
    y, x = np.mgrid[:height:NODE_PX, :width:NODE_PX].astype(float)
    there = np.einsum("ij,jhw->ihw", matrix, np.stack((x, y, np.ones_like(x))))
    return np.asarray(np.stack((there[1], there[0])) / there[2])


def truth_between(first: Pixels, second: Pixels, folder: Path) -> NDArray[np.float32] | None:
    files = [folder / "first.png", folder / "second.png"]
    for file, picture in zip(files, (first, second), strict=True):
        Image.fromarray(picture).save(file)
    greys = [np.asarray(Image.fromarray(picture).convert("L")) for picture in (first, second)]
    features = [detect(file, 2048) for file in files]
    positions = dense_positions(greys[0], greys[1], features[0], features[1])
    nodes = None if positions is None else positions[:, ::NODE_PX, ::NODE_PX]
    return nodes if nodes is not None and enough_known(nodes) else None


@pytest.mark.parametrize(("degrees", "zoom"), [(6, 0.95), (35, 0.6), (-10, 1.6)])
def test_one_plane_is_found_to_a_fraction_of_a_pixel(tmp_path: Path, degrees: float, zoom: float) -> None:
    """And what was pasted over, in either picture, is not taken for known."""
    first = sample().copy()
    height, width = first.shape[:2]
    matrix = homography(degrees, zoom, (9, -14), height, width)
    second = warp(first, matrix)
    first[250:330, 300:400] = noise(80, 100, 1)
    expected = nodes_by(matrix, height, width)
    middle = matrix @ (500, 200, 1)
    x, y = (round(float(c)) for c in middle[:2] / middle[2])
    second[y - 40 : y + 40, x - 50 : x + 50] = noise(80, 100, 2)
    found = truth_between(first, second, tmp_path)
    assert found is not None
    assert found.dtype == np.float32
    assert found.shape == (2, math.ceil(height / NODE_PX), math.ceil(width / NODE_PX))
    known = np.isfinite(found[0])
    inside = ((expected >= 0) & (expected <= np.array([height - 1, width - 1])[:, None, None])).all(0)
    error = np.hypot(*(found - expected))[known]
    assert np.median(error) < 0.2
    assert np.percentile(error, 99) < 1.5
    assert not known[~inside].any()
    assert known[inside].mean() > 0.6
    assert known[33:40, 39:49].sum() == 0, "pasted over in the first"
    covered = (np.abs(expected - np.array([y, x])[:, None, None]) < np.array([38, 48])[:, None, None]).all(0)
    assert covered.sum() > 20
    assert known[covered].sum() == 0, "pasted over in the second"


def test_two_planes_and_what_the_nearer_one_hides(tmp_path: Path) -> None:
    far, near = sample(), np.ascontiguousarray(pictures.coffee()[:, :, :3])[80:280, 150:400]
    height, width = far.shape[:2]
    matrices = homography(3, 1.0, (-12, 6), height, width), homography(3, 1.04, (46, 2), height, width)
    top, left = 170, 230
    mask = np.zeros((height, width), np.uint8)
    mask[top : top + 200, left : left + 250] = 255
    layer = np.zeros_like(far)
    layer[mask > 0] = near.reshape(-1, 3)
    first = np.where(mask[..., None] > 0, layer, far)
    mask_there = warp(mask, matrices[1])
    second = np.where(mask_there[..., None] > 127, warp(layer, matrices[1]), warp(far, matrices[0]))
    found = truth_between(first, second, tmp_path)
    assert found is not None
    is_near = mask[::NODE_PX, ::NODE_PX] > 0
    expected = np.where(is_near, nodes_by(matrices[1], height, width), nodes_by(matrices[0], height, width))
    known = np.isfinite(found[0])
    error = np.hypot(*(found - expected))
    for plane in (is_near, ~is_near):
        assert np.median(error[plane & known]) < 0.3
        assert np.percentile(error[plane & known], 95) < 1
        assert known[plane].mean() > 0.5
    places = np.nan_to_num(expected).round().astype(int).clip(0, (np.array([height, width]) - 1)[:, None, None])
    deep = cv2.erode(mask_there, np.ones((9, 9), np.uint8)) > 127
    hidden = ~is_near & deep[places[0], places[1]]
    assert hidden.sum() > 50
    assert known[hidden].mean() < 0.02


def test_unrelated_small_and_flat_pictures_have_no_truth(tmp_path: Path) -> None:
    other = np.ascontiguousarray(pictures.chelsea()[:, :, :3])
    assert truth_between(sample(), other, tmp_path) is None
    assert truth_between(noise(48, 200, 0), noise(48, 200, 0), tmp_path) is None


def test_places_with_two_likely_matches_are_unknown() -> None:
    whole, right = (slice(0, 4), slice(0, 6)), (slice(0, 4), slice(3, 6))
    likely, here = np.full((4, 6), 0.9, np.float32), np.full((2, 4, 6), 10, np.float32)
    for away, likeness, known in ((30, 0.85, False), (30, 0.95, False), (30, 0.7, True), (1, 0.85, True)):
        other = (right, here[:, :, 3:] + np.float32(away), np.full((4, 3), likeness, np.float32))
        positions, found = _best_positions([(whole, here, likely), other], (4, 6))
        assert found[:, :3].all()
        assert (found[:, 3:] == known).all()
        assert (positions[:, found] == 10).all()


def test_nodes_of_other_sizes_fit_the_resized_pictures(tmp_path: Path) -> None:
    first = sample()
    height, width = first.shape[:2]
    matrix = homography(4, 0.95, (5, 5), height, width)
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for file, picture in zip(files, (first, warp(first, matrix)), strict=True):
        Image.fromarray(picture).save(file)
    greys = [np.asarray(Image.open(file).convert("L")) for file in files]
    features = [detect(file, 400) for file in files]
    positions = dense_positions(greys[0], greys[1], *features)
    assert positions is not None
    found = resized_nodes(positions, (270, 360), greys[1].shape, (405, 540))
    assert found.shape == (2, 34, 45)
    y, x = (np.mgrid[:270:NODE_PX, :360:NODE_PX] + 0.5) * 2 - 0.5
    there = np.einsum("ij,jhw->ihw", matrix, np.stack((x, y, np.ones_like(x))))
    expected = (np.stack((there[1], there[0])) / there[2] + 0.5) * 0.75 - 0.5
    error = np.hypot(*(found - expected))
    assert np.isfinite(error).mean() > 0.4
    assert np.nanmedian(error) < 0.15
    whole = resized_nodes(positions, (height, width), greys[1].shape, greys[1].shape)
    assert np.allclose(whole, positions[:, ::NODE_PX, ::NODE_PX], atol=1e-4, equal_nan=True)


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_fields_come_back_to_a_64th_of_a_pixel(rows: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    position = rng.uniform(-3, 1030, (2, rows, columns)).astype(np.float32)
    position[:, rng.random((rows, columns)) < 0.3] = np.nan
    position[0, 0, 0] = np.nan
    encoded = encode_field(position)
    assert encoded == encode_field(position)
    back = decode_field(encoded, "a field")
    held = np.isfinite(position).all(0) & (np.abs(position) < 1023.9).all(0)
    assert back.dtype == np.float32
    assert np.abs(back - position)[:, held].max(initial=0) <= 1 / 64
    beyond = ~(np.nan_to_num(np.abs(position), nan=9999) < 1024).all(0)
    assert np.isnan(back[:, beyond]).all()
    with np.load(io.BytesIO(encoded)) as file:
        assert file["position_32nds"].dtype == np.int16
        assert (file["position_32nds"][:, beyond] == UNKNOWN).all()


def test_damaged_fields_are_refused_in_one_line() -> None:
    whole = encode_field(np.full((2, 40, 50), 3.25, np.float32))
    other, flat = io.BytesIO(), io.BytesIO()
    np.savez(other, something=np.zeros(3))
    np.savez(flat, position_32nds=np.zeros((3, 4), np.int16))
    broken = whole[:60] + bytes(b ^ 255 for b in whole[60:90]) + whole[90:]
    for data in (b"", b"junk", whole[:50], whole[:-30], broken, other.getvalue(), flat.getvalue()):
        with pytest.raises(ImageError, match=r"^views-0000.tar:0000/00-01.field.npz: .* the pack again$") as caught:
            decode_field(data, "views-0000.tar:0000/00-01.field.npz")
        assert "\n" not in str(caught.value)


@given(st.lists(st.tuples(st.floats(-1, 1, width=16), st.floats(-1, 1, width=16)), min_size=1, max_size=12))
def test_each_photo_is_the_furthest_from_those_before_it(points: list[tuple[float, float]]) -> None:
    vectors = np.array(points, dtype=np.float32)
    order = diverse_order(vectors)
    assert sorted(order) == list(range(len(points)))
    for step in range(1, len(order)):
        nearest = {i: min(math.dist(points[i], points[j]) for j in order[:step]) for i in order[step:]}
        assert math.isclose(nearest[order[step]], max(nearest.values()), abs_tol=1e-3)


def test_each_view_gets_its_best_partners() -> None:
    matches = {(0, 1): 90, (0, 2): 80, (1, 2): 70, (2, 3): 20, (1, 3): 10}
    overlaps = [Overlap(first=a, second=b, matches=n, duplicate=False, crops=()) for (a, b), n in matches.items()]
    assert choose_pairs(overlaps, 1) == [(0, 1), (0, 2), (2, 3)]
    assert choose_pairs(overlaps, 9) == sorted(matches)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs, one of them held out and one damaged; a scene of three views, one without matches."""
    folder = tmp_path_factory.mktemp("material")
    photos, views, held_out = (folder / name for name in ("photos", "views", "held-out"))
    for name in (photos, held_out, views / "place", views / "strange"):
        name.mkdir(parents=True)
    for number in range(3):
        Image.fromarray(noise(300, 400, number)).save(photos / f"{number}.png")
    Image.fromarray(pictures.coffee()).save(photos / "coffee.jpg", quality=95)
    Image.fromarray(pictures.chelsea()).save(photos / "cat.webp", quality=90)
    Image.fromarray(pictures.chelsea()).resize((200, 133)).save(held_out / "the cat.png")
    Image.fromarray(pictures.astronaut()).save(photos / "kept.webp", quality=80)
    (photos / "damaged.jpg").write_bytes(b"\xff\xd8junk")
    first = sample()
    for number, (degrees, shift) in enumerate(((0, (0, 0)), (5, (30, 5)), (-4, (-25, 8)))):
        view = warp(first, homography(degrees, 0.95, shift, *first.shape[:2]))[40:-40, 60:-60]
        Image.fromarray(np.ascontiguousarray(view)).save(views / "place" / f"{number}.png")
    (views / "place" / "damaged.webp").write_bytes(b"RIFF")
    for number in (5, 6):
        Image.fromarray(noise(300, 400, number)).save(views / "strange" / f"{number}.png")
    return folder


def pack(material: Path, out: Path, config: PackConfig | None = None) -> PackSummary:
    photos, views, held_out = ([material / name] for name in ("photos", "views", "held-out"))
    return pack_photos(photos, views, held_out, out, config or PackConfig(longest_px=512))


@pytest.fixture(scope="module")
def packed(material: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PackSummary]:
    out = tmp_path_factory.mktemp("packed") / "pack"
    return out, pack(material, out)


def members(shard: Path) -> dict[str, bytes]:
    with tarfile.open(shard, "r:") as file:
        infos = file.getmembers()
        assert all((i.mtime, i.uid, i.gid, i.uname, i.gname) == (0, 0, 0, "", "") for i in infos)
        found = {i.name: stream.read() for i in infos if (stream := file.extractfile(i)) is not None}
    assert next(iter(found)) == "pack.json"
    assert json.loads(found["pack.json"]) == {"format": "refsr-pack", "version": 1, "kind": shard.name.split("-")[0]}
    return found


def test_the_layout_of_a_pack(material: Path, packed: tuple[Path, PackSummary]) -> None:
    out, found = packed
    assert sorted(path.name for path in out.parent.iterdir()) == ["pack"]
    assert {path.name: path.stat().st_size for path in out.iterdir()} == found.shards
    assert list(found.shards) == ["views-0000.tar", "photos-0000.tar"]
    photos = members(out / "photos-0000.tar")
    assert list(photos) == ["pack.json", *(f"{number:06}.webp" for number in range(5))]
    assert (found.photos, found.scenes, found.views, found.over_limit) == (5, 1, 3, 0)
    assert (material / "photos" / "kept.webp").read_bytes() in photos.values(), "copied as it is"
    for name, data in photos.items():
        if name != "pack.json":
            with Image.open(io.BytesIO(data)) as image:
                assert image.format == "WEBP"
                assert max(image.size) <= 512
    views = members(out / "views-0000.tar")
    fields = [name for name in views if name.endswith(".npz")]
    pictures_there = [name for name in views if name.endswith(".webp")]
    assert pictures_there == ["0000/00.webp", "0000/01.webp", "0000/02.webp"]
    assert sorted(fields) == [f"0000/0{a}-0{b}.field.npz" for a in range(3) for b in range(3) if a != b]
    assert found.fields == 6
    assert 0.2 < found.known < 1


def test_a_packed_field_maps_one_packed_view_onto_the_other(packed: tuple[Path, PackSummary]) -> None:
    views = members(packed[0] / "views-0000.tar")
    first, second = (
        np.asarray(Image.open(io.BytesIO(views[f"0000/{name}.webp"])).convert("L"), dtype=np.float32)
        for name in ("00", "02")
    )
    assert first.shape[1] == 512, "smaller than the photograph"
    field = decode_field(views["0000/00-02.field.npz"], "a field")
    assert field.shape == (2, math.ceil(first.shape[0] / NODE_PX), 64)
    known = np.isfinite(field[0])
    y, x = np.nan_to_num(field)
    there = cv2.remap(second, x, y, cv2.INTER_LINEAR)
    here = first[::NODE_PX, ::NODE_PX]
    assert np.corrcoef(here[known], there[known])[0, 1] > 0.97
    moved = cv2.remap(second, x + 3, y + 3, cv2.INTER_LINEAR)
    assert np.corrcoef(here[known], moved[known])[0, 1] < 0.93


def test_what_is_left_out_is_said(material: Path, packed: tuple[Path, PackSummary]) -> None:
    left_out = {Path(path).relative_to(material).as_posix(): reason for path, reason in packed[1].left_out.items()}
    assert left_out.pop("photos/cat.webp") == f"shows the held-out picture {material}/held-out/the cat.png"
    assert "damaged" in left_out.pop("photos/damaged.jpg")
    assert "views/place/damaged.webp" in left_out
    del left_out["views/place/damaged.webp"]
    lonely = "no other view of its scene is verified to show the same"
    assert left_out == {"views/strange/5.png": lonely, "views/strange/6.png": lonely}


def test_the_same_pictures_make_the_same_pack(material: Path, packed: tuple[Path, PackSummary], tmp_path: Path) -> None:
    """By two processes, into a folder that is there and empty, from the command line."""
    out = tmp_path / "pack"
    out.mkdir()
    command = [sys.executable, SCRIPT, "--output", out, "--longest-px", "512", "--processes", "2"]
    for name in ("photos", "views", "held-out"):
        command += [f"--{name}", material / name]
    done = subprocess.run([str(part) for part in command], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "5 photographs; 3 views of 1 scenes with 6 fields" in done.stdout
    assert done.stdout.count("left out /") == 5
    assert "1 of 2 scenes" in done.stderr or "2 of 2 scenes" in done.stderr
    for path in packed[0].iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes(), path.name
    with pytest.raises(OutputError, match="is there already, and not empty: choose another folder$"):
        pack(material, out)


def test_shards_and_the_whole_keep_to_their_limits(tmp_path: Path) -> None:
    """What a limited pack holds is the beginning of the whole one."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(12):
        Image.fromarray(noise(400, 500, number)).save(photos / f"{number}.webp", quality=98)
    whole = pack_photos([photos], [], [], tmp_path / "whole", PackConfig(shard_mib=1))
    assert len(whole.shards) > 1
    assert max(whole.shards.values()) <= 2**20
    limited = pack_photos([photos], [], [], tmp_path / "limited", PackConfig(most_mib=1))
    assert sum(limited.shards.values()) <= 2**20
    assert limited.over_limit == 12 - limited.photos > 0
    first = "photos-0000.tar"
    assert members(tmp_path / "limited" / first) == members(tmp_path / "whole" / first)


def test_bad_input(material: Path, tmp_path: Path) -> None:
    photos = [material / "photos"]
    with pytest.raises(UsageError, match="no such folder"):
        pack_photos([material / "none"], [], [], tmp_path / "none", PackConfig())
    with pytest.raises(UsageError, match="nothing is left to be packed"):
        pack_photos([], [], [], tmp_path / "nothing", PackConfig())
    with pytest.raises(OutputError, match="is there already, and not empty"):
        pack_photos(photos, [], [], material, PackConfig())
    assert list(tmp_path.iterdir()) == [], "nothing is half-written"
    for wrong in ({"longest_px": 2048}, {"quality": 0}, {"partners": 0}, {"shard_mib": 0}):
        with pytest.raises(UsageError, match=f"--{next(iter(wrong)).replace('_', '-')}"):
            PackConfig(**wrong)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.integers(0, 9000), min_size=1, max_size=3), min_size=1, max_size=12))
def test_no_shard_is_too_large_and_what_belongs_together_stays_so(
    tmp_path_factory: pytest.TempPathFactory, groups: list[list[int]]
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    with ShardWriter(folder, "views", 40960) as shards:
        for number, sizes in enumerate(groups):
            shards.add([(f"{number:04}/{i:02}.webp", b"x" * size) for i, size in enumerate(sizes)])
    found = {path.name: set(members(path)) - {"pack.json"} for path in sorted(folder.iterdir())}
    assert {path.name: path.stat().st_size for path in folder.iterdir()} == shards.sizes
    assert max(shards.sizes.values()) <= 40960
    for number, sizes in enumerate(groups):
        whole = {f"{number:04}/{i:02}.webp" for i in range(len(sizes))}
        assert sum(whole <= names for names in found.values()) == 1
    assert sum(map(len, found.values())) == sum(map(len, groups))
