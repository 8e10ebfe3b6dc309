"""Photographs, decoded when they are needed, so that a set may be larger than memory."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from refsr.data.shards import TarMember
from refsr.errors import ImageError, RefSRError
from refsr.image import READABLE_SUFFIXES, decode_photo

MIB: Final = 2**20
_TRIES: Final = 10


def list_photos(folder: Path) -> list[Path]:
    """The pictures of a folder, searched through."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in READABLE_SUFFIXES)


class PhotoSource:
    """Photos by number. The least recently used leave memory when the cache is full.

    A damaged or small photo is replaced by the next one that is neither, and counted in `errors`.
    """

    def __init__(self, files: Sequence[Path | TarMember], smallest_px: int, cache_mib: int = 2048) -> None:
        """Remember the files; nothing is decoded yet.

        Args:
            files: At least one.
            smallest_px: Photos with a shorter side are left out.
            cache_mib: Decoded photos kept.
        """
        self.files = files
        self.smallest_px = smallest_px
        self.errors = 0
        self._room = cache_mib * MIB
        self._cache: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        self._unusable: set[int] = set()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """(H, W, 3).

        Raises:
            ImageError: Neither this photo nor any of the next ones can be used.
        """
        for number in (n % len(self.files) for n in range(index, index + min(_TRIES, len(self.files)))):
            if number in self._unusable:
                continue
            if number in self._cache:
                self._cache.move_to_end(number)
                return self._cache[number]
            photo = self._decode(self.files[number])
            if photo is not None:
                self._keep(number, photo)
                return photo
            self._unusable.add(number)
            self.errors += 1
        raise ImageError(
            f"{self.files[index]} and the photos after it are damaged or below {self.smallest_px} pixels a side: give"
            " larger ones"
        )

    def _decode(self, file: Path | TarMember) -> NDArray[np.uint8] | None:
        try:
            pixels = decode_photo(file.read_bytes(), str(file)).pixels[0]
        except (RefSRError, OSError):
            return None
        if min(pixels.shape[-2:]) < self.smallest_px:
            return None
        return np.ascontiguousarray((pixels * 255).round().byte().permute(1, 2, 0).numpy())

    def _keep(self, number: int, photo: NDArray[np.uint8]) -> None:
        self._cache[number] = photo
        while sum(kept.nbytes for kept in self._cache.values()) > self._room and len(self._cache) > 1:
            self._cache.popitem(last=False)
