"""The server's folder: all that visitors sent and got, locked while the server lives, swept when it does not.

A server that is killed cannot delete what visitors sent; the next one that starts does, where nobody holds the lock.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

_PREFIX: Final = "refsr-web-"
_BEING_MADE: Final = "refsr-new-"
_LOCK: Final = "lock"


@contextmanager
def server_folder() -> Iterator[Path]:
    """A new folder for a server, deleted at the end; those of servers that were killed are swept before.

    Raises:
        OSError: It cannot be made.
    """
    sweep()
    # It gets its name when it is locked already: another server that starts now must not take it for an old one.
    made = Path(tempfile.mkdtemp(prefix=_BEING_MADE))
    lock = FileLock(made / _LOCK)
    lock.acquire(timeout=0)
    folder = made.rename(made.with_name(made.name.replace(_BEING_MADE, _PREFIX)))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)  # where a locked file cannot be deleted


def sweep() -> None:
    """Delete the folders of servers that live no more."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError, Timeout):
            if _is_ours(folder) and (folder / _LOCK).exists():
                with FileLock(folder / _LOCK).acquire(timeout=0):
                    shutil.rmtree(folder, ignore_errors=True)


def used_bytes(folder: Path) -> int:
    """Size of all files in a folder; those that vanish meanwhile count nothing."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(f"{parent}/{name}").st_size
    return total


def _is_ours(folder: Path) -> bool:
    """Whether it is a folder of this user's; anybody may put a link of that name among the temporary files."""
    if folder.is_symlink() or not folder.is_dir() or (folder / _LOCK).is_symlink():
        return False
    return not hasattr(os, "getuid") or folder.stat().st_uid == os.getuid()
