"""Photographs of a folder, decoded when they are needed, so that folders may be larger than memory."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from refsr.errors import ImageError, RefSRError
from refsr.image import READABLE_SUFFIXES, read_photo

MIB: Final = 2**20
_TRIES: Final = 10


class PhotoFolder:
    """Photos by number. The least recently used leave memory when the cache is full.

    A damaged or small photo is replaced by the next one that is neither, and counted in `errors`.
    """

    def __init__(self, folder: Path, smallest_px: int, cache_mib: int = 2048) -> None:
        """List a folder, searched through; nothing is decoded yet.

        Args:
            folder: Of photographs.
            smallest_px: Photos with a shorter side are left out.
            cache_mib: Decoded photos kept.

        Raises:
            ImageError: The folder holds no pictures.
        """
        self.paths: Sequence[Path] = sorted(p for p in folder.rglob("*") if p.suffix.lower() in READABLE_SUFFIXES)
        if not self.paths:
            raise ImageError(f"{folder}: holds no photos ({', '.join(READABLE_SUFFIXES)}): name another folder")
        self.folder = folder
        self.smallest_px = smallest_px
        self.errors = 0
        self._room = cache_mib * MIB
        self._cache: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        self._unusable: set[int] = set()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """(H, W, 3).

        Raises:
            ImageError: Neither this photo nor any of the next ones can be used.
        """
        for number in (n % len(self.paths) for n in range(index, index + min(_TRIES, len(self.paths)))):
            if number in self._unusable:
                continue
            if number in self._cache:
                self._cache.move_to_end(number)
                return self._cache[number]
            photo = self._decode(self.paths[number])
            if photo is not None:
                self._keep(number, photo)
                return photo
            self._unusable.add(number)
            self.errors += 1
        raise ImageError(
            f"{self.folder}: photo after photo is damaged or below {self.smallest_px} pixels a side, beginning with"
            f" {self.paths[index]}: name another folder"
        )

    def _decode(self, path: Path) -> NDArray[np.uint8] | None:
        try:
            pixels = read_photo(path).pixels[0]
        except RefSRError:
            return None
        if min(pixels.shape[-2:]) < self.smallest_px:
            return None
        return np.ascontiguousarray((pixels * 255).round().byte().permute(1, 2, 0).numpy())

    def _keep(self, number: int, photo: NDArray[np.uint8]) -> None:
        self._cache[number] = photo
        while sum(kept.nbytes for kept in self._cache.values()) > self._room and len(self._cache) > 1:
            self._cache.popitem(last=False)
