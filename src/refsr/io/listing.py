"""Photos of a folder, and what is left out of it: one rule for albums, batches, pairs, training data and data sets."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from refsr.extras import is_installed
from refsr.io.decode import READABLE_SUFFIXES
from refsr.wording import cause, counted

_RAW_SUFFIXES: Final = (
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef"),
    *(".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2"),
    *(".srf", ".srw", ".x3f"),
)
_OTHER_SUFFIXES: Final = (
    *(".ai", ".bpg", ".dds", ".emf", ".eps", ".exr", ".hdr", ".ico", ".jls", ".jxl", ".jxr"),
    *(".pbm", ".pcx", ".pgm", ".pnm", ".ppm", ".psb", ".psd", ".qoi", ".svg", ".wmf", ".xcf"),
)
_HEIC_SUFFIXES: Final = (".heic", ".heif")


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A folder's content.

    Attributes:
        photos: Files with the suffix of a photo, sorted.
        left_out: Lines for the user about pictures of other kinds, one a suffix, and folders that cannot be read.
    """

    photos: list[Path]
    left_out: tuple[str, ...]


def list_folder(folder: Path, *, deep: bool = True, without: Path | None = None) -> Listing:
    """Photos of a folder, and what is left out; hidden files and folders are not spoken of.

    Args:
        folder: May be missing: then there is nothing.
        deep: Whether to search all folders in it.
        without: Folder to leave out, such as that of the results.
    """
    unread = () if is_installed("pillow_heif") else _HEIC_SUFFIXES
    readable = [suffix for suffix in READABLE_SUFFIXES if suffix not in unread]
    photos: list[Path] = []
    others: Counter[str] = Counter()
    closed: list[OSError] = []
    for path in _files(folder, deep, None if without is None else without.resolve(), closed):
        suffix = path.suffix.lower()
        if suffix in readable:
            if path.is_file():
                photos.append(path)
        elif _remedy(suffix) is not None:
            others[suffix] += 1
    left_out = [f"left out {counted(count, f'{suffix} file')}: {_remedy(suffix)}" for suffix, count in others.items()]
    left_out += [f"left out the folder {error.filename}: {cause(error)}: change its permissions" for error in closed]
    return Listing(photos=sorted(photos), left_out=tuple(sorted(left_out)))


def list_photos(folder: Path, *, deep: bool = True, without: Path | None = None) -> list[Path]:
    """The photos alone; see `list_folder`."""
    return list_folder(folder, deep=deep, without=without).photos


def _files(folder: Path, deep: bool, without: Path | None, closed: list[OSError]) -> Iterator[Path]:
    """All files that are not hidden; folders that cannot be read are added to `closed`."""
    if not folder.is_dir():
        return
    for name, folders, files in os.walk(folder, onerror=closed.append):
        here = Path(name)
        if without is not None and here.resolve().is_relative_to(without):
            folders.clear()
            continue
        folders[:] = [each for each in folders if deep and not each.startswith(".")]
        yield from (here / each for each in files if not each.startswith("."))


def _remedy(suffix: str) -> str | None:
    """Why files of a suffix are not read, and what to do; None for what is no picture."""
    if suffix in _RAW_SUFFIXES:
        return "raw files are not read: convert them to TIFF or JPEG first"
    if suffix in _HEIC_SUFFIXES:
        return "HEIC needs an extra: pip install 'refsr[heic]'"
    if suffix in _OTHER_SUFFIXES:
        return "files of this kind are not read: convert them to PNG, TIFF or JPEG first"
    return None
