"""Photographs by number: sizes from their headers, pixels when they are needed, kept on the device that trains."""

import io
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F
from PIL import ExifTags, Image
from torch import Tensor

from refsr.data.sample import Photo
from refsr.data.shards import TarMember
from refsr.device import MIB
from refsr.errors import ImageError, RefSRError
from refsr.io.photo import decode_photo

_TRIES: Final = 10
_ON_ITS_SIDE: Final = (5, 6, 7, 8)
_UNREADABLE: Final = OSError, ValueError, SyntaxError, Image.DecompressionBombError


class PhotoFiles:
    """Photographs by number, and their sizes: what plans of pairs need to know. Headers are read when they are needed.

    Attributes:
        files: At least one.
        smallest_px: Photos with a shorter side are left out.
        unusable: Numbers of those that were found to be damaged or too small so far.
    """

    def __init__(self, files: Sequence[Path | TarMember], smallest_px: int) -> None:
        """Remember the files; nothing is read yet.

        Args:
            files: See above.
            smallest_px: See above.
        """
        self.files = files
        self.smallest_px = smallest_px
        self.unusable: set[int] = set()
        self._sizes: dict[int, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self.files)

    def is_usable(self, number: int) -> bool:
        """Whether a photo can be read, and is large enough, as far as its header tells."""
        if number in self._sizes:
            return True
        if number not in self.unusable:
            size = _read_size(self.files[number])
            if size is None or min(size) < self.smallest_px:
                self.unusable.add(number)
            else:
                self._sizes[number] = size
        return number in self._sizes

    def size_px(self, number: int) -> tuple[int, int]:
        """Height and width of a usable photo.

        Raises:
            ImageError: It is not.
        """
        return self._sizes[self.first_usable([number])]

    def first_usable(self, numbers: Iterable[int]) -> int:
        """The first of some photos that can be used; ten are tried at the most.

        Args:
            numbers: In order, at least one.

        Raises:
            ImageError: None of these can.
        """
        tried = list(islice(numbers, _TRIES))
        for number in tried:
            if self.is_usable(number):
                return number
        others = " and the photos after it are" if len(tried) > 1 else ": is"
        raise ImageError(
            f"{self.files[tried[0]]}{others} damaged or below {self.smallest_px} pixels a side: give larger ones"
        )


class PhotoSource:
    """The pixels of photographs. The least recently used leave memory when the cache is full.

    A photo whose pixels turn out to be damaged is replaced by the next one, brought to its size.

    Attributes:
        files: Which photographs.
        device: Where their pixels are kept.
        replaced: Numbers of those that were replaced so far.
    """

    def __init__(self, files: PhotoFiles, cache_mib: int = 4096, device: torch.device | str = "cpu") -> None:
        """Nothing is decoded yet.

        Args:
            files: See above.
            cache_mib: Decoded photos kept, on the device.
            device: See above.
        """
        self.files = files
        self.device = torch.device(device)
        self.replaced: set[int] = set()
        self._room = cache_mib * MIB
        self._kept_bytes = 0
        self._cache: OrderedDict[int, Photo] = OrderedDict()

    def __getitem__(self, number: int) -> Photo:
        """(3, H, W) of a usable photo, on the device."""
        if number in self._cache:
            self._cache.move_to_end(number)
            return self._cache[number]
        size = self.files.size_px(number)
        photo = None if number in self.replaced else self._decode(number)
        if photo is None:
            self.replaced.add(number)
            count = len(self.files)
            following = ((number + step) % count for step in range(1, count))
            other = self[self.files.first_usable(n for n in following if n not in self.replaced)]
            photo = F.interpolate(other[None].float(), size=size, mode="bilinear")[0].round().byte()
        self._keep(number, photo)
        return photo

    def preload(self, threads: int) -> None:
        """Decode as many photos as there is room for, several at once."""
        numbers = [n for n in range(len(self.files)) if n not in self._cache and self.files.is_usable(n)]
        with ThreadPoolExecutor(threads) as pool:
            for some in (numbers[start : start + 4 * threads] for start in range(0, len(numbers), 4 * threads)):
                for number, photo in zip(some, pool.map(self._decode, some), strict=True):
                    if photo is None:
                        continue
                    if self._kept_bytes + photo.nbytes > self._room:
                        return
                    self._keep(number, photo)

    def _decode(self, number: int) -> Photo | None:
        """None where the pixels are damaged, or not as many as the header promised to the plans."""
        file = self.files.files[number]
        try:
            pixels = decode_photo(file.read_bytes(), str(file)).pixels[0]
        except (RefSRError, OSError):
            return None
        if pixels.shape[1:] != self.files.size_px(number):
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
