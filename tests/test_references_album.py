"""References found in a folder: its index on disk, and what is chosen from it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Told, fails, texture
from torch import Tensor

from refsr.cli import main
from refsr.errors import OutputError, UsageError
from refsr.io.photo import Photo, as_photo, write_photo
from refsr.models import RefSRModel
from refsr.models.default import DefaultModel
from refsr.references.choose import MINIMUM_FIT, find_references
from refsr.references.index import describe_blurry, describe_sharp, nearest, open_library
from refsr.restore.upscale import upscale


@pytest.fixture
def album(sample: dict[str, Tensor], tmp_path: Path) -> Path:
    """Six photos of other things, and one of the same."""
    folder = tmp_path / "album"
    (folder / "trip ü").mkdir(parents=True)
    for seed in range(6):
        write_photo(folder / f"{seed}.png", Photo(pixels=texture(192, 256, seed)))
    write_photo(folder / "trip ü" / "same.jpg", Photo(pixels=sample["ref"]))
    return folder


def test_only_what_changed_is_read_again(album: Path, shipped: RefSRModel, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    told = Told()
    first = open_library(album, shipped, cache=cache, progress=told)
    assert (first.read, len(first.paths), told[-1]) == (7, 7, (7, 7, ""))
    assert np.linalg.norm(first.vectors, axis=1) == pytest.approx(1, abs=1e-2)
    again = open_library(album, shipped, cache=cache)
    assert again.read == 0
    assert again.paths == first.paths
    assert np.array_equal(again.vectors, first.vectors)

    (album / "0.png").unlink()
    write_photo(album / "1.png", Photo(pixels=texture(100, 100, 11)))
    (album / "broken.jpg").write_bytes(b"no picture")
    (album / ".hidden.png").write_bytes(b"")
    changed = open_library(album, shipped, cache=cache)
    assert changed.read == 2
    assert album / "0.png" not in changed.paths
    assert list(changed.problems) == [album / "broken.jpg"]
    assert "broken.jpg" in changed.problems[album / "broken.jpg"]
    assert open_library(album, shipped, cache=cache).read == 0
    assert not [path for path in album.rglob("*") if path.suffix == ".sqlite"]


def test_other_weights_index_all_photos_again(album: Path, shipped: RefSRModel, tmp_path: Path) -> None:
    open_library(album, shipped, cache=tmp_path)
    torch.manual_seed(0)
    assert open_library(album, DefaultModel(), cache=tmp_path).read == 7


def test_a_killed_run_keeps_the_photos_it_committed(
    album: Path, shipped: RefSRModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refsr.references.index._COMMIT_PHOTOS", 2)

    def killed(done: float, total: float = 1.0, *, stage: str = "") -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_library(album, shipped, cache=tmp_path, progress=killed)
    assert open_library(album, shipped, cache=tmp_path).read == 3


def test_the_nearest_photos_come_first(
    album: Path, shipped: RefSRModel, sample: dict[str, Tensor], tmp_path: Path
) -> None:
    library = open_library(album, shipped, cache=tmp_path)
    vector = describe_blurry(shipped, sample["lr"])
    assert nearest(library, vector, 3)[0].name == "same.jpg"
    assert len(nearest(library, vector, 100)) == 7
    likeness = describe_sharp(shipped, sample["ref"]) @ vector
    assert likeness > max(describe_sharp(shipped, texture(192, 256, seed)) @ vector for seed in range(6))


def test_only_photos_that_fit_are_found(
    album: Path, shipped: RefSRModel, sample: dict[str, Tensor], tmp_path: Path
) -> None:
    library = open_library(album, shipped, cache=tmp_path)
    photo = Photo(pixels=sample["lr"])
    told = Told()
    (found,) = find_references(photo, library, shipped, most=3, progress=told)
    assert found.path.name == "same.jpg"
    assert found.fit > MINIMUM_FIT
    assert found.why().startswith("same.jpg, which shows ")
    assert told.shares == sorted(told.shares)
    assert told.shares[-1] == 1
    assert find_references(photo, library, shipped, apart_from=[found.path]) == []
    found.path.unlink()  # after the index was read
    assert find_references(photo, library, shipped) == []


def test_a_found_photo_is_neither_read_nor_posed_again(
    album: Path,
    shipped: RefSRModel,
    sample: dict[str, Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = open_library(album, shipped, cache=tmp_path)
    photo = Photo(pixels=sample["lr"])
    read: list[str] = []

    def counted(path: Path) -> Photo:
        read.append(path.name)
        return as_photo(path)

    monkeypatch.setattr("refsr.references.choose.as_photo", counted)
    (found,) = find_references(photo, library, shipped)
    assert sorted(read) == sorted(set(read)), "each photo of the shortlist once"
    expected = upscale(photo, [found.path], model=shipped, precision="fp32")

    def never(*_: object) -> None:
        pytest.fail("read or posed again")

    monkeypatch.setattr("refsr.restore.upscale.as_photo", never)
    monkeypatch.setattr("refsr.restore.posed.find_pose", never)
    result = upscale(photo, [found], model=shipped, precision="fp32")
    assert torch.equal(result.photo.pixels, expected.photo.pixels)
    assert result.provenance.names == expected.provenance.names == (str(found.path),)


def test_the_command(
    album: Path,
    sample: dict[str, Tensor],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    blurry, out = tmp_path / "blurry.png", tmp_path / "out.png"
    write_photo(blurry, Photo(pixels=sample["lr"]))
    (album / "broken.jpg").write_bytes(b"no picture")
    assert main(["upscale", str(blurry), "--album", str(album), "-o", str(out)]) == 0
    said = capsys.readouterr().err
    assert "took same.jpg, which shows" in said
    assert "left out" in said
    with_album = as_photo(out).pixels
    assert main(["upscale", str(blurry), "--ref", str(album / "trip ü" / "same.jpg"), "-o", str(out)]) == 0
    assert torch.equal(as_photo(out).pixels, with_album)
    (album / "trip ü" / "same.jpg").unlink()
    capsys.readouterr()
    assert main(["upscale", str(blurry), "--album", str(album), "-o", str(out)]) == 0
    assert "none fits of 6 photos" in capsys.readouterr().err

    (tmp_path / "empty").mkdir()
    for folder, message in ((tmp_path / "empty", "holds no photo"), (tmp_path / "nowhere", "no such folder")):
        fails(capsys, 2, message, "upscale", blurry, "--album", folder, "-o", out)
    fails(
        capsys, 2, "bicubic takes no references", "upscale", blurry, "--album", album, "-o", out, "--model", "bicubic"
    )


def test_a_damaged_index_is_named(album: Path, shipped: RefSRModel, tmp_path: Path) -> None:
    open_library(album, shipped, cache=tmp_path)
    (file,) = tmp_path.glob("*.sqlite")
    file.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    with pytest.raises(OutputError, match=r"sqlite: the index cannot be used .*: delete the file"):
        open_library(album, shipped, cache=tmp_path)
    with pytest.raises(UsageError, match="sqlite: a file, not a folder: name a folder"):
        open_library(file, shipped, cache=tmp_path)


def test_an_album_is_read_where_no_cache_can_be_written(
    shipped: RefSRModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    album = tmp_path / "album"
    album.mkdir()
    write_photo(album / "a.png", Photo(pixels=texture(96, 128)))
    (tmp_path / "file").touch()
    library = open_library(album, shipped, cache=tmp_path / "file" / "cache")
    assert [path.name for path in library.paths] == ["a.png"]
    assert library.read == 1

    def homeless(_: str) -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr("refsr.references.index.user_cache_path", homeless)
    assert open_library(album, shipped).paths == library.paths
