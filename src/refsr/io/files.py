"""Atomic writes, and locks on folders."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from refsr.errors import OutputError

_TEMPORARY_SUFFIX: Final = ".part"


def check_writable(path: Path) -> None:
    """Refuse a path that cannot be written, before hours of work.

    Raises:
        OutputError: The folder does not exist or is not writable, or the path is a folder.
    """
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(f"{path}: the folder {folder} does not exist: make it first")
    if path.is_dir():
        raise OutputError(f"{path}: is a folder: name a file")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{path}: the folder {folder} is not writable: choose another")


def is_same_file(first: Path, second: Path) -> bool:
    """Whether two paths lead to the same place, whether there is a file or not."""
    return os.path.realpath(first) == os.path.realpath(second)


def make_folder(path: Path) -> None:
    """Make a folder and its parents, unless it exists.

    Raises:
        OutputError: It cannot be made, or the path is a file.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be made ({error.strerror}): choose another folder") from error


def write_atomically(path: Path, data: bytes) -> None:
    """Write to a temporary file, then rename it: the path holds all of the old or of the new data.

    A link stays, and its target is written; pipes and devices are written as they are.

    Raises:
        OutputError: It cannot be written; an existing file is left as it was.
    """
    path, given = Path(os.path.realpath(path)), path
    if path.is_symlink():
        raise OutputError(f"{given}: is a loop of links: choose another file")
    check_writable(path)
    if path.exists() and not path.is_file():
        _write_through(path, data)
        return
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=_TEMPORARY_SUFFIX)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(_default_mode(path))
        Path(temporary).replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}): free some room or choose another") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _write_through(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}): choose another") from error


def clear_unfinished(folder: Path) -> None:
    """Delete the temporary files of a killed `write_atomically`, in a claimed folder and all folders in it."""
    for path in folder.rglob(f".*{_TEMPORARY_SUFFIX}"):
        path.unlink()


@contextmanager
def claim(path: Path) -> Iterator[None]:
    """Hold a folder for this process by a lock file in it, which a crash releases too.

    Raises:
        OutputError: Another process holds it, or it cannot be written.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise OutputError(f"{path.parent}: another process is at work in it: stop that, or choose another") from error
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}): choose another folder") from error
    try:
        yield
    finally:
        lock.release()


def _default_mode(path: Path) -> int:
    """The mode of the file to be replaced, or of a new file."""
    if path.exists():
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
