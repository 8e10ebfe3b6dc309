"""Writing files so that nothing is lost or half-written."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from refsr.errors import OutputError

_UNFINISHED: Final = ".part"


def check_writable(path: Path) -> None:
    """Refuse early, before hours of work, a path that could not be written.

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


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, unless it is there.

    Raises:
        OutputError: It cannot be made, or is a file.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be made ({error.strerror}): choose another folder") from error


def write_atomically(path: Path, data: bytes) -> None:
    """Write to a temporary file in the same folder, then rename: the path holds the old or the new whole, never less.

    Raises:
        OutputError: It cannot be written; an existing file is left as it was.
    """
    check_writable(path)
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=_UNFINISHED)
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


def clear_unfinished(folder: Path) -> None:
    """Delete the temporary files that a process killed in the midst of `write_atomically` left in a folder.

    Args:
        folder: Searched through; it must be claimed, so that nobody is writing in it.
    """
    for path in folder.rglob(f".*{_UNFINISHED}"):
        path.unlink()


@contextmanager
def claim(path: Path) -> Iterator[None]:
    """Claim a folder for this process, by a lock file in it; the claim ends with the process, however that ends.

    Args:
        path: The lock file.

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
    """The mode of the file that is replaced, or what a new file would get."""
    if path.exists():
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
