"""Nothing is lost, and nothing half-written."""

import json
import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from refsr.bench.report import RESULTS
from refsr.bench.results import Result
from refsr.bench.robust import RobustResult
from refsr.errors import OutputError, UsageError
from refsr.io.files import check_writable, claim, clear_unfinished, is_same_file, write_atomically
from refsr.io.listing import list_folder, list_photos
from refsr.io.records import read_record, write_record


def test_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_atomically(path, b"one")
    path.chmod(0o600)
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_a_new_file_has_the_usual_mode(tmp_path: Path) -> None:
    write_atomically(tmp_path / "ours", b"")
    (tmp_path / "usual").write_bytes(b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"a.bin: cannot be written \(No space left on device\)"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_places_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutputError, match="the folder .*none does not exist: make it first"):
        check_writable(tmp_path / "none" / "a.bin")
    with pytest.raises(OutputError, match="is a folder: name a file"):
        check_writable(tmp_path)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere, so the answer is played
    with pytest.raises(OutputError, match="is not writable"):
        check_writable(tmp_path / "a.bin")


def test_only_unfinished_files_are_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / "deep"
    deep.mkdir()
    (deep / "results.json.part").write_bytes(b"a journal")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_args, **_keys: None)
        patch.setattr(Path, "replace", lambda *_args: None)
        write_atomically(deep / "a.bin", b"killed before it was renamed")
    assert len(list(deep.iterdir())) == 2
    clear_unfinished(tmp_path)
    assert [path.name for path in deep.iterdir()] == ["results.json.part"]


def test_photos_of_a_folder_are_listed(tmp_path: Path) -> None:
    names = ("b.JPG", "a/c.png", "a/.hidden.png", ".trash/d.png", "notes.txt", "out/e.webp", "f.tif/g.txt")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")

    def told(**how: Any) -> list[str]:
        return [path.relative_to(tmp_path).as_posix() for path in list_photos(tmp_path, **how)]

    assert told() == ["a/c.png", "b.JPG", "out/e.webp"]
    assert told(without=tmp_path / "a" / ".." / "out") == ["a/c.png", "b.JPG"]
    assert told(deep=False) == ["b.JPG"]
    assert list_photos(tmp_path / "none") == []
    assert list_folder(tmp_path).left_out == ()


def test_what_a_folder_is_left_without_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By kind, in one line each; a folder that may not be read too."""
    for name in ("a.CR2", "in/b.cr2", "c.psd", "d.svg", "e.txt", ".f.psd", "out/g.dng", "h.heic", "i.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    scan = os.scandir

    def closed(path: str) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    (tmp_path / "closed").mkdir()
    monkeypatch.setattr(os, "scandir", closed)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    listing = list_folder(tmp_path, without=tmp_path / "out")
    assert [path.name for path in listing.photos] == ["i.png"]
    assert listing.left_out == (
        "left out 1 .heic file: HEIC needs an extra: pip install 'refsr[heic]'",
        "left out 1 .psd file: files of this kind are not read: convert them to PNG, TIFF or JPEG first",
        "left out 1 .svg file: files of this kind are not read: convert them to PNG, TIFF or JPEG first",
        "left out 2 .cr2 files: raw files are not read: convert them to TIFF or JPEG first",
        f"left out the folder {tmp_path / 'closed'}: Permission denied: change its permissions",
    )


def test_a_claimed_folder_is_free_again_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        with (
            claim(tmp_path / ".lock"),
            pytest.raises(OutputError, match="another process is at work in it"),
            claim(tmp_path / ".lock"),
        ):
            pass
    with pytest.raises(OutputError, match="cannot be written"), claim(tmp_path):
        pass


@dataclass(frozen=True, kw_only=True)
class _Measured:
    name: str
    size: tuple[int, int]
    seconds: float = 0.0


def test_a_kind_of_file_has_one_schema_and_a_version(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_record(path, "measured", {"name": "a", "size": (1, 2), "mean": 3})
    assert json.loads(path.read_text()) == {"kind": "measured", "version": 1, "name": "a", "size": [1, 2], "mean": 3}
    expected = _Measured(name="a", size=(1, 2))
    assert read_record(path, {"measured": _Measured}) == expected
    path.write_text('{"name": "a", "size": [1, 2]}')
    assert read_record(path, {"measured": _Measured, "other": Path}) == expected
    for text, message in {
        '{"kind": "measured", "version": 2}': "a.json: was written by a newer refsr",
        '{"kind": "b"}': "a.json: is of kind b, not measured: name another file",
        '{"name": "a", "size": [1]}': r"a.json: damaged, or not a file of kind measured .*\$.size.*: measure again",
        '{"name": "a", "size": [1, 2], "version": "one"}': r"a.json: damaged, .*\$.version",
        "[]": "a.json: damaged",
        "{": "a.json: damaged",
    }.items():
        path.write_text(text)
        with pytest.raises(UsageError, match=message):
            read_record(path, {"measured": _Measured}, remedy="measure again")


def test_results_of_earlier_releases_are_read() -> None:
    """Those of the docs have no version, and the first ones no kind."""
    files = sorted((Path(__file__).parent.parent / "docs" / "results").glob("*.json"))
    assert len(files) > 10
    assert {type(read_record(file, RESULTS)) for file in files} == {Result, RobustResult}


def test_a_link_stays_a_link_and_a_loop_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real.bin").write_bytes(b"old")
    (tmp_path / "link.bin").symlink_to("real.bin")
    write_atomically(tmp_path / "link.bin", b"new")
    assert (tmp_path / "link.bin").is_symlink()
    assert (tmp_path / "real.bin").read_bytes() == b"new"
    (tmp_path / "loop.bin").symlink_to("loop.bin")
    with pytest.raises(OutputError, match=r"loop.bin: is a loop of links"):
        write_atomically(tmp_path / "loop.bin", b"new")
    assert is_same_file(tmp_path / "link.bin", tmp_path / "real.bin")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names on this system")
def test_a_pipe_is_written_through(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    write_atomically(tmp_path / "pipe", b"new")
    reader.join(10)
    assert found == [b"new"]
