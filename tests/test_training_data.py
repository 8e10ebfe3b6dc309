"""What a run sees: every pair a function of its number, damaged files counted, real pairs beside synthetic ones."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import texture
from PIL import Image

from refsr.data.photos import PhotoSource, list_photos
from refsr.data.real import PairSource, list_pairs, real_pair
from refsr.data.shards import list_shards, pair_up, read_index
from refsr.data.synthetic import PairConfig
from refsr.data.training import TrainingPairs, open_sources
from refsr.errors import ImageError, UsageError


def save(path: Path, height: int, width: int, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((texture(height, width, seed)[0] * 255).round().byte().permute(1, 2, 0).numpy()).save(path)


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


def test_photos_are_decoded_when_needed_and_forgotten_when_there_is_no_room(photos: Path) -> None:
    folder = PhotoSource(list_photos(photos), 64, cache_mib=0)
    first = folder[0]
    assert first.shape == (64, 72, 3)
    assert len(folder._cache) == 1
    assert not np.array_equal(folder[1], first)
    assert np.array_equal(folder[0], first)
    assert len(folder._cache) == 1
    large = PhotoSource(list_photos(photos), 64, cache_mib=1)
    assert large[2] is large[2]
    assert len(large._cache) == 1


def test_damaged_and_small_photos_are_counted_not_fatal(photos: Path) -> None:
    (photos / "deep" / "0.png").write_bytes(b"no photo")
    save(photos / "deep" / "1.png", 20, 72)
    folder = PhotoSource(list_photos(photos), 64)
    assert np.array_equal(folder[0], folder[2])
    assert folder.errors == 2
    assert np.array_equal(folder[1], folder[2])
    assert folder.errors == 2, "each is counted once"
    (photos / "deep" / "2.png").write_bytes(b"")
    with pytest.raises(ImageError, match=r"1.png and the photos after it are damaged or below 64 pixels"):
        PhotoSource(list_photos(photos), 64)[1]


def test_real_pairs_are_cut_and_turned_alike(pairs: Path) -> None:
    folder = PairSource(list_pairs(pairs))
    assert len(folder) == 4
    config = PairConfig(absent=0.0, second=0.0, unrelated=0.0)
    inputs = [folder[i] for i in range(4)]
    for seed in range(8):
        pair = real_pair(folder, config, 32, np.random.default_rng(seed))
        assert len(pair.refs) == 1
        assert pair.truth_cells.isnan().all()
        found = [
            (turn, flip, y, x)
            for hr, ref in inputs for turn in range(4) for flip in (False, True) for y in range(17) for x in range(17)
            if torch.equal(_cut(hr, turn, flip, y, x), pair.hr)
            and torch.equal(_cut(ref, turn, flip, y, x), pair.refs[0])
        ]  # fmt: skip
        assert len(found) == 1
    with pytest.raises(ImageError, match="a pair of 48 pixels cannot give crops of 64"):
        real_pair(folder, config, 64, np.random.default_rng(0))


def _cut(image: torch.Tensor, turn: int, flip: bool, y: int, x: int) -> torch.Tensor:
    turned = torch.rot90(image[:, y : y + 32, x : x + 32], turn, (-2, -1))
    return turned.flip(-1) if flip else turned


def test_references_are_absent_or_unrelated_in_their_shares(pairs: Path) -> None:
    folder = PairSource(list_pairs(pairs))
    config = PairConfig(absent=0.5, second=0.5, unrelated=0.0)
    made = [real_pair(folder, config, 48, np.random.default_rng(s)) for s in range(200)]
    counts = np.array([len(pair.refs) for pair in made])
    assert np.mean(counts == 0) == pytest.approx(0.5, abs=0.1)
    assert np.mean(counts == 2) == pytest.approx(0.25, abs=0.1)
    assert all(pair.refs.shape == (count, 3, 48, 48) for pair, count in zip(made, counts, strict=True))


def test_damaged_pairs_are_counted(pairs: Path) -> None:
    (pairs / "ref" / "0.png").write_bytes(b"no picture")
    folder = PairSource(list_pairs(pairs))
    assert torch.equal(folder[0][0], folder[1][0])
    assert folder.errors == 1
    for number in range(1, 4):
        (pairs / "input" / f"{number}.png").write_bytes(b"")
    with pytest.raises(ImageError, match="and the pairs after it are damaged"):
        PairSource(list_pairs(pairs))[0]


def test_a_pair_depends_on_seed_and_number_alone(photos: Path, pairs: Path) -> None:
    def items(seed: int, numbers: list[int]) -> list[dict[str, torch.Tensor]]:
        sources = open_sources([photos, pairs], 48, 16)
        data = TrainingPairs(sources, PairConfig(), real=0.5, size=32, seed=seed, numbers=numbers)
        return [data[i] for i in range(len(data))]

    whole, rest = items(1, list(range(12))), items(1, list(range(5, 12)))
    for first, second in zip(whole[5:], rest, strict=True):
        assert all(torch.equal(first[key], second[key]) for key in ("hr", "refs", "references", "number"))
    assert not torch.equal(whole[0]["hr"], items(2, [0])[0]["hr"])
    real = [bool(item["truth_cells"][0].isnan().all() and item["references"] > 0) for item in items(3, list(range(80)))]
    assert 0.3 < np.mean(real) < 0.8


def test_sources_are_told_apart(photos: Path, pairs: Path) -> None:
    sources = open_sources([photos, pairs], 48, 16)
    assert (len(sources.photos), len(sources.pairs)) == (1, 1)
    data = TrainingPairs(open_sources([pairs], 48, 16), PairConfig(), real=0.0, size=32, seed=0, numbers=[0])
    assert data.real == 1.0, "with pairs alone all are real"
    empty = photos.parent / "empty"
    empty.mkdir()
    for folders, message in (
        ([photos / "none"], "none: no such folder"),
        ([], "give a folder with --data"),
        ([empty], "holds neither photographs nor pairs"),
    ):
        with pytest.raises(UsageError, match=message):
            open_sources(folders, 48, 16)


def pack(shard: Path, files: dict[str, Path]) -> None:
    with tarfile.open(shard, "w") as tar:
        for name, path in files.items():
            tar.add(path, name)


def test_shards_are_read_in_place(photos: Path, pairs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    files = list_photos(photos)
    pack(folder / "0.tar", {"a.png": files[0], "notes.txt": files[0], "b.png": files[1]})
    pack(folder / "1.tar", {"c.png": files[2]})
    members = read_index(list_shards(folder))
    assert [member.name for member in members] == ["a.png", "b.png", "c.png"]
    assert [member.read_bytes() for member in members] == [file.read_bytes() for file in files]
    plain, packed = PhotoSource(files, 64), PhotoSource(members, 64)
    assert all(np.array_equal(plain[i], packed[i]) for i in range(3))

    both = list_pairs(pairs)
    shard = tmp_path / "pairs.tar"
    pack(shard, {f"{n}.{kind}.png": both[n][k] for n in range(4) for k, kind in enumerate(("input", "ref"))})
    paired = pair_up(read_index([shard]))
    assert [(a.name, b.name) for a, b in paired] == [(f"{n}.input.png", f"{n}.ref.png") for n in range(4)]
    sources = open_sources([folder, shard], 48, 16)
    assert (len(sources.photos), len(sources.pairs)) == (1, 1)
    same = open_sources([photos, pairs], 48, 16)
    made = [TrainingPairs(s, PairConfig(), real=0.5, size=32, seed=1, numbers=list(range(6))) for s in (sources, same)]
    assert all(torch.equal(made[0][i]["hr"], made[1][i]["hr"]) for i in range(6))
    (tmp_path / "bad.tar").write_bytes(b"no tar")
    with pytest.raises(ImageError, match=r"bad.tar: damaged, or not a plain tar file"):
        open_sources([tmp_path / "bad.tar"], 48, 16)
