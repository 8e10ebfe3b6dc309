"""Photographs by number: sizes from their headers, pixels when they are needed, kept on the device that trains."""

import io
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F
from PIL import ExifTags, Image
from torch import Tensor

from refsr.data.sample import Photo
from refsr.data.shards import TarMember
from refsr.errors import ImageError, RefSRError
from refsr.image import READABLE_SUFFIXES, decode_photo

MIB: Final = 2**20
_TRIES: Final = 10
_ON_ITS_SIDE: Final = (5, 6, 7, 8)
_UNREADABLE: Final = OSError, ValueError, SyntaxError, Image.DecompressionBombError


def list_photos(folder: Path) -> list[Path]:
    """The pictures of a folder, searched through."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in READABLE_SUFFIXES)


class PhotoSource:
    """Photos by number. The least recently used leave memory when the cache is full.

    A damaged or small photo is replaced by the next one that is neither, and counted in `errors`.
    """

    def __init__(
        self,
        files: Sequence[Path | TarMember],
        smallest_px: int,
        cache_mib: int = 4096,
        device: torch.device | str = "cpu",
    ) -> None:
        """Remember the files; nothing is read yet.

        Args:
            files: At least one.
            smallest_px: Photos with a shorter side are left out.
            cache_mib: Decoded photos kept, on the device.
            device: Where their pixels are kept.
        """
        self.files = files
        self.smallest_px = smallest_px
        self.device = torch.device(device)
        self.errors = 0
        self._room = cache_mib * MIB
        self._kept_bytes = 0
        self._cache: OrderedDict[int, Photo] = OrderedDict()
        self._sizes: dict[int, tuple[int, int] | None] = {}

    def __len__(self) -> int:
        return len(self.files)

    def usable(self, number: int) -> int:
        """This photo, or the next one that can be used.

        Raises:
            ImageError: Neither this photo nor any of the next ones can be used.
        """
        for tried in (n % len(self) for n in range(number, number + min(_TRIES, len(self)))):
            if self.is_usable(tried):
                return tried
        raise self.unusable(number)

    def is_usable(self, number: int) -> bool:
        """Whether a photo can be read, and is large enough, as far as its header tells."""
        return self._size(number) is not None

    def require(self, first: int, last: int) -> None:
        """See that some of the first photos of a place can be used.

        Args:
            first: Number of the place's first photo.
            last: Of its last.

        Raises:
            ImageError: None can.
        """
        tried = range(first, min(first + _TRIES, last + 1))
        if not any(self.is_usable(number) for number in tried):
            raise self.unusable(first)

    def size_px(self, number: int) -> tuple[int, int]:
        """Height and width of a usable photo."""
        size = self._size(number)
        if size is None:
            raise ImageError(f"{self.files[number]}: damaged or below {self.smallest_px} pixels a side: leave it out")
        return size

    def __getitem__(self, number: int) -> Photo:
        """(3, H, W) of a usable photo, on the device.

        One whose pixels turn out to be damaged is replaced by the next one, brought to its size.
        """
        if number in self._cache:
            self._cache.move_to_end(number)
            return self._cache[number]
        size = self.size_px(number)
        photo = self._decode(number)
        if photo is None or photo.shape[1:] != size:
            self._leave_out(number)
            other = self[self.usable(number + 1)]
            self._sizes[number] = size  # it is still asked for by pairs that were planned before
            photo = F.interpolate(other[None].float(), size=size, mode="bilinear")[0].byte()
        self._keep(number, photo)
        return photo

    def preload(self, threads: int) -> None:
        """Decode as many photos as there is room for, several at once."""
        numbers = [number for number in range(len(self)) if self._size(number) is not None]
        with ThreadPoolExecutor(threads) as pool:
            for number, photo in zip(numbers, pool.map(self._decode, numbers), strict=True):
                if photo is not None and self._kept_bytes + photo.nbytes <= self._room:
                    self._keep(number, photo)

    def _size(self, number: int) -> tuple[int, int] | None:
        if number not in self._sizes:
            self._sizes[number] = size = _read_size(self.files[number])
            if size is None or min(size) < self.smallest_px:
                self._leave_out(number)
        return self._sizes[number]

    def unusable(self, number: int) -> ImageError:
        """What to raise where neither a photo nor those after it can be used."""
        return ImageError(
            f"{self.files[number]} and the photos after it are damaged or below {self.smallest_px} pixels a side: give"
            " larger ones"
        )

    def _leave_out(self, number: int) -> None:
        self._sizes[number] = None
        self.errors += 1

    def _decode(self, number: int) -> Photo | None:
        file = self.files[number]
        try:
            pixels = decode_photo(file.read_bytes(), str(file)).pixels[0]
        except (RefSRError, OSError):
            return None
        return _by_pixel((pixels * 255).round().byte()).to(self.device)

    def _keep(self, number: int, photo: Photo) -> None:
        self._cache[number] = photo
        self._kept_bytes += photo.nbytes
        while self._kept_bytes > self._room and len(self._cache) > 1:
            self._kept_bytes -= self._cache.popitem(last=False)[1].nbytes


def _by_pixel(photo: Photo) -> Tensor:
    """The same, with the channels of a pixel side by side in memory: resized in half the time."""
    return photo.permute(1, 2, 0).contiguous().permute(2, 0, 1)


def _read_size(file: Path | TarMember) -> tuple[int, int] | None:
    """Height and width as shown, from the header; None if there is none."""
    try:
        with Image.open(io.BytesIO(file.read_bytes())) as image:
            # Pillow's own for PNG would decode the whole picture.
            sideways = Image.Image.getexif(image).get(ExifTags.Base.Orientation) in _ON_ITS_SIDE
            return image.size if sideways else image.size[::-1]
    except _UNREADABLE:
        return None
