"""What a run sees: photographs, pairs and views told apart, damaged files counted, real views with their truth."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import best_offset_px, texture
from PIL import Image

from refsr.data.photos import PhotoFiles, PhotoSource
from refsr.data.plan import PairConfig, PairSampler
from refsr.data.render import render
from refsr.data.shards import (
    HEADER_NAME,
    encode_field,
    encode_header,
    interpolate_field,
    list_shards,
    pair_up,
    read_index,
    verified_points,
)
from refsr.data.sources import Partner, RealView, Sources, list_pairs, open_sources
from refsr.degrade import DegradeConfig
from refsr.errors import ImageError, UsageError
from refsr.io.listing import list_photos


def save(path: Path, height: int, width: int, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(height, width, seed).save(path)


def picture(height: int, width: int, seed: int = 0) -> Image.Image:
    return Image.fromarray((texture(height, width, seed)[0] * 255).round().byte().permute(1, 2, 0).numpy())


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for seed in range(3):
        save(folder / "deep" / f"{seed}.png", 64, 72, seed)
    return folder


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    folder = tmp_path / "pairs"
    for number in range(4):
        save(folder / "input" / f"{number}.png", 48, 48, 10 + number)
        save(folder / "ref" / f"{number}.png", 48, 48, 20 + number)
    save(folder / "input" / "alone.png", 48, 48)
    return folder


def drawing(sources: Sources, seed: int = 0, real: float = 0.5, **config: Any) -> PairSampler:
    return PairSampler(sources=sources, pairs=PairConfig(**config), degrade=DegradeConfig(), real=real, seed=seed)


def test_photos_are_decoded_when_needed_and_forgotten_when_there_is_no_room(photos: Path) -> None:
    files = PhotoFiles(list_photos(photos), 64)
    folder = PhotoSource(files, cache_mib=0)
    first = folder[0]
    assert first.shape == (3, 64, 72)
    assert len(folder._cache) == 1
    assert not torch.equal(folder[1], first)
    assert torch.equal(folder[0], first)
    assert len(folder._cache) == 1
    large = PhotoSource(files, cache_mib=1)
    assert large[2] is large[2]
    assert len(large._cache) == 1
    for _ in range(2):
        large.preload(threads=2)
        assert len(large._cache) == 3
        assert large._held_bytes == 3 * 3 * 64 * 72
    assert torch.equal(large[0], first)


def test_the_size_of_a_photo_is_that_of_its_upright_picture(tmp_path: Path) -> None:
    sideways = Image.Exif()
    sideways[0x0112] = 6
    picture(64, 72).save(tmp_path / "a.jpg", exif=sideways)
    files = PhotoFiles([tmp_path / "a.jpg"], 64)
    assert files.size_px(0) == (72, 64)
    assert PhotoSource(files)[0].shape == (3, 72, 64)


def test_damaged_and_small_photos_are_counted_not_fatal(photos: Path) -> None:
    (photos / "deep" / "0.png").write_bytes(b"no photo")
    save(photos / "deep" / "1.png", 20, 72)
    files = PhotoFiles(list_photos(photos), 64)
    assert files.first_usable(range(3)) == files.first_usable([1, 2]) == 2
    assert files.unusable == {0, 1}
    with pytest.raises(ImageError, match=r"1.png: is damaged or below 64 pixels a side: give larger ones"):
        files.size_px(1)
    (photos / "deep" / "2.png").write_bytes(b"")
    with pytest.raises(ImageError, match=r"1.png and the photos after it are damaged or below 64 pixels"):
        PhotoFiles(list_photos(photos), 64).first_usable([1, 2])


def test_a_photo_whose_pixels_are_damaged_is_replaced(photos: Path) -> None:
    """Its header reads well, so that pairs are planned of it."""
    file = photos / "deep" / "0.png"
    file.write_bytes(file.read_bytes()[:200])
    folder = PhotoSource(PhotoFiles(list_photos(photos), 64), cache_mib=0)
    assert folder.files.size_px(0) == (64, 72)
    for _ in range(2):
        assert torch.equal(folder[0], folder[1])
        assert folder.replaced == {0}


def test_crops_of_pairs_are_cut_and_turned_alike(pairs: Path) -> None:
    sources = open_sources([pairs], 32)
    assert (len(sources.single), len(sources.views)) == (0, 4)
    made = drawing(sources, references=(0.0, 1.0), unrelated=0.0)
    pixels = PhotoSource(sources.photos)
    every = [(pixels[view.photo], pixels[view.partners[0].photo]) for view in sources.views]
    for number in range(8):
        batch = render([made.plan(number, 32)], PhotoSource(sources.photos), 32)
        assert batch["truth_cells"].isnan().all()
        hr, ref = (batch[name].view(3, 32, 32) * 255 for name in ("hr", "refs"))
        found = [
            (turn, flip, y, x)
            for a, b in every for turn in range(4) for flip in (False, True) for y in range(17) for x in range(17)
            if torch.equal(_cut(a, turn, flip, y, x), hr.round().byte())
            and torch.equal(_cut(b, turn, flip, y, x), ref.round().byte())
        ]  # fmt: skip
        assert len(found) == 1


def test_pairs_that_are_damaged_or_too_small_are_left_out(pairs: Path) -> None:
    (pairs / "ref" / "0.png").write_bytes(b"no picture")
    save(pairs / "input" / "1.png", 20, 48)
    sources = open_sources([pairs], 32)
    made = drawing(sources, references=(0.0, 1.0), unrelated=0.0)
    shown = {Path(str(sources.photos.files[made.plan(number, 32).crop.photo])).name for number in range(20)}
    assert shown == {"2.png", "3.png"}
    assert sources.photos.unusable == {1, 2}
    small = open_sources([pairs], 48)
    for number in (2, 3):
        save(pairs / "ref" / f"{number}.png", 40, 48)
    with pytest.raises(ImageError, match=r"ref/\d.png: is damaged or below 48 pixels a side"):
        drawing(small).plan(0, 48)


def _cut(image: torch.Tensor, turn: int, flip: bool, y: int, x: int) -> torch.Tensor:
    turned = torch.rot90(image[:, y : y + 32, x : x + 32], turn, (-2, -1))
    return turned.flip(-1) if flip else turned


def field(shift: tuple[float, float], nodes: tuple[int, int]) -> np.ndarray:
    """Of a view whose pixel (y, x) lies at (y, x) + shift in its partner."""
    y, x = np.meshgrid(np.arange(nodes[0]) * 8.0, np.arange(nodes[1]) * 8.0, indexing="ij")
    return np.stack((y + shift[0], x + shift[1])).astype(np.float32)


def test_fields_are_looked_up_between_their_nodes() -> None:
    known = field((3.5, -2.0), (5, 6))
    known[:, 2, 3] = np.nan
    points = np.array([[10.0, 5.0], [0.0, 0.0], [40.0, 32.0], [41.0, 3.0], [25.0, 17.0]])  # (x, y)
    found = interpolate_field(known, points)
    assert found[:3] == pytest.approx(points[:3] + np.array((-2.0, 3.5)))
    assert np.isnan(found[3:]).all(), "outside, and beside a node that is not known"
    nodes = [(16.0, 8.0), (24.0, 8.0), (16.0, 16.0)]  # not (24)
    assert verified_points(known, 16, 8, 16) == pytest.approx(np.array(nodes) + (-2.0, 3.5))  # noqa: RUF005


def test_real_views_lead_to_the_same_texture(tmp_path: Path) -> None:
    """Two windows of one large picture: their true field is a shift."""
    whole = picture(240, 260)
    for name, (left, top) in {"a": (0, 0), "b": (24, 17)}.items():
        whole.crop((left, top, left + 220, top + 200)).save(tmp_path / f"{name}.png")
    known = field((-17.0, -24.0), (25, 28))
    known[:, (known[0] < 0) | (known[1] < 0)] = np.nan
    files = PhotoFiles([tmp_path / "a.png", tmp_path / "b.png"], 96)
    photos = PhotoSource(files)
    sources = Sources(photos=files, views=(RealView(photo=0, partners=(Partner(photo=1, field_px=known),)),))
    made = drawing(sources, references=(0.0, 1.0), unrelated=0.0)
    batches = [render([made.plan(number, 96)], photos, 96) for number in range(12)]
    seen = [batch for batch in batches if (~batch["truth_cells"][:, 0, 0].isnan()).sum() > 50]
    assert len(seen) > 6
    assert best_offset_px([(batch, 0) for batch in seen]) == (0.0, 0.0)


def test_the_truth_of_a_replaced_view_is_not_known(tmp_path: Path) -> None:
    """Its header reads well, its pixels do not: another picture stands in for it."""
    for seed, name in enumerate("abc"):
        picture(96, 104, seed).save(tmp_path / f"{name}.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:200])
    files = PhotoFiles([tmp_path / f"{name}.png" for name in "abc"], 64)
    partners = tuple(Partner(photo=photo, field_px=field((0, 0), (12, 13))) for photo in (1, 2))
    sources = Sources(photos=files, views=(RealView(photo=0, partners=partners),))
    photos = PhotoSource(files)
    plans = [drawing(sources, references=(0.0, 0.0, 1.0), unrelated=0.0).plan(number, 64) for number in range(4)]
    batch = render(plans, photos, 64)
    for plan, truth in zip(plans, batch["truth_cells"], strict=True):
        for reference, cells in zip(plan.references, truth, strict=True):
            assert bool(cells.isnan().all()) == (reference.photo == 1)


def test_missing_partners_are_replaced_by_photos_of_other_things(pairs: Path) -> None:
    sources = open_sources([pairs], 32)
    made = drawing(sources, references=(0.0, 0.0, 0.0, 1.0), unrelated=0.0)
    first = [
        [ref.crop.photo for ref in plan.references if ref.crop is not None]
        for plan in (made.plan(number, 32) for number in range(20))
    ]
    assert all(len(numbers) == 3 for numbers in first)
    views = [made.plan(number, 32).crop.photo for number in range(20)]
    places = [numbers.index(view + 1) for numbers, view in zip(first, views, strict=True) if view + 1 in numbers]
    assert set(places) == {0, 1, 2}, "the related one stands anywhere"


def test_a_pair_depends_on_seed_and_number_alone(photos: Path, pairs: Path) -> None:
    sources = open_sources([photos, pairs], 48)
    whole, other = drawing(sources, 1), drawing(open_sources([photos, pairs], 48), 1)
    for number in (5, 11, 3):
        first, second = (render([d.plan(number, 32)], PhotoSource(d.sources.photos), 32) for d in (whole, other))
        assert all(torch.equal(first[key], second[key]) for key in ("hr", "lr", "refs", "references", "number"))
    another = render([drawing(sources, 2).plan(3, 32)], PhotoSource(sources.photos), 32)
    assert not torch.equal(first["hr"], another["hr"])
    plans = [drawing(sources, 3).plan(number, 32) for number in range(200)]
    assert np.mean([plan.crop.photo not in sources.single for plan in plans]) == pytest.approx(0.5, abs=0.1)
    steps = ((range(4, 6), 32), (range(6, 8), 48))
    assert [plan.number for step in steps for plan in whole.plans_of(step)[0]] == [4, 5, 6, 7]
    assert Path(whole.file_of(5)).name == Path(str(sources.photos.files[whole.plan(5, 32).crop.photo])).name


def test_sources_are_told_apart(photos: Path, pairs: Path) -> None:
    sources = open_sources([photos, pairs], 48)
    assert (len(sources.single), len(sources.views)) == (3, 4)
    alone = open_sources([pairs], 48)
    assert drawing(alone, real=0.0).plan(0, 32).crop.photo % 2 == 0, "with pairs alone all are real"
    empty = photos.parent / "empty"
    empty.mkdir()
    for folders, message in (
        ([photos / "none"], "none: no such folder"),
        ([], "give a folder with --data"),
        ([empty], "holds neither photographs nor pairs"),
    ):
        with pytest.raises(UsageError, match=message):
            open_sources(folders, 48)


def pack(shard: Path, files: Mapping[str, object]) -> None:
    with tarfile.open(shard, "w") as tar:
        for name, content in files.items():
            data = content.read_bytes() if isinstance(content, Path) else content
            assert isinstance(data, bytes)
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def test_shards_are_read_in_place(photos: Path, pairs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    files = list_photos(photos)
    pack(folder / "0.tar", {"a.png": files[0], "notes.txt": files[0], "b.png": files[1]})
    pack(folder / "1.tar", {"c.png": files[2]})
    members = read_index(list_shards(folder))
    assert [member.name for member in members] == ["a.png", "b.png", "c.png"]
    assert [member.read_bytes() for member in members] == [file.read_bytes() for file in files]
    plain, packed = PhotoSource(PhotoFiles(files, 64)), PhotoSource(PhotoFiles(members, 64))
    assert all(torch.equal(plain[i], packed[i]) for i in range(3))

    both = list_pairs(pairs)
    shard = tmp_path / "pairs.tar"
    pack(shard, {f"{n}.{kind}.png": both[n][k] for n in range(4) for k, kind in enumerate(("input", "ref"))})
    paired = pair_up(read_index([shard]))
    assert [(a.name, b.name) for a, b in paired] == [(f"{n}.input.png", f"{n}.ref.png") for n in range(4)]
    sources, same = open_sources([folder, shard], 48), open_sources([photos, pairs], 48)
    assert (len(sources.single), len(sources.views)) == (3, 4)
    for number in range(6):
        first, second = (render([drawing(s, 1).plan(number, 32)], PhotoSource(s.photos), 32) for s in (sources, same))
        assert torch.equal(first["hr"], second["hr"])
    (tmp_path / "bad.tar").write_bytes(b"no tar")
    with pytest.raises(ImageError, match=r"bad.tar: damaged, or not a plain tar file"):
        open_sources([tmp_path / "bad.tar"], 48)


def test_packs_of_photographs_and_views(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pack"
    folder.mkdir()
    files = list_photos(photos)
    pack(folder / "photos-0000.tar", {HEADER_NAME: encode_header("photos"), "000000.png": files[0]})
    views: dict[str, object] = {f"0000/{n:02}.png": files[n] for n in range(3)}
    fields = {f"0000/{a:02}-{b:02}.field.npz": encode_field(field((0, 0), (8, 9))) for a, b in ((0, 1), (1, 0), (0, 2))}
    pack(folder / "views-0000.tar", {HEADER_NAME: encode_header("views")} | views | fields)
    sources = open_sources([folder], 48)
    assert (len(sources.single), len(sources.photos)) == (1, 4)
    assert [len(view.partners) for view in sources.views] == [2, 1]
    partner = sources.views[0].partners[1]
    assert torch.equal(PhotoSource(sources.photos)[partner.photo], PhotoSource(PhotoFiles(files, 48))[2])
    assert partner.field_px is not None
    assert partner.field_px == pytest.approx(field((0, 0), (8, 9)))

    held = tmp_path / "held"
    save(held / "same.png", 64, 72, 1)
    without = open_sources([folder], 48, held_out=(held,))
    assert [leak[1] for leak in without.leaks] == [str(held / "same.png")]
    assert [len(view.partners) for view in without.views] == [1], "nor is it a partner"


def test_packs_that_cannot_be_used(photos: Path, tmp_path: Path) -> None:
    file = list_photos(photos)[0]
    unknown = np.full((2, 8, 9), np.nan, dtype=np.float32)
    views: dict[str, object] = {HEADER_NAME: encode_header("views"), "0000/00.png": file, "0000/01.png": file}
    newer = json.loads(encode_header("photos")) | {"version": 2}
    for name, files, message in (
        ("newer", {HEADER_NAME: json.dumps(newer).encode(), "0.png": file}, "is a pack of version 2, and this"),
        ("odd", {HEADER_NAME: b"[]", "0.png": file}, "damaged, or not a plain tar file"),
        ("lonely", views, "none of its views has a match: pack the views again"),
        ("empty", views | {"0000/00-01.field.npz": encode_field(unknown)}, "holds no match: pack"),
        ("named", views | {"0000/00.field.npz": b""}, "not named as a field of a pack"),
        ("bare", {HEADER_NAME: encode_header("views")}, "holds no picture: make the shard again"),
        ("torn", views | {"0000/00-01.field.npz": b"PK"}, "damaged, or not a field of a pack"),
    ):  # fmt: skip
        pack(tmp_path / f"{name}.tar", files)
        with pytest.raises(ImageError, match=message):
            open_sources([tmp_path / f"{name}.tar"], 48)
    whole = (tmp_path / "lonely.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: whole.rindex(b"0000/01.png")])
    with pytest.raises(ImageError, match=r"cut.tar: damaged, or not a plain tar file \(its end is missing\)"):
        open_sources([tmp_path / "cut.tar"], 48)
