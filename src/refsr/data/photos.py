"""Photos by number: sizes from their headers, and decoded pixels in a cache on the training device."""

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

from refsr.data.sample import SCALE, Pixels
from refsr.data.shards import TarMember
from refsr.device import MIB
from refsr.errors import ImageError, RefSRError
from refsr.io.photo import decode_photo

_MAXIMUM_TRIES: Final = 10
_SIDEWAYS_ORIENTATIONS: Final = (5, 6, 7, 8)
UNREADABLE: Final = OSError, ValueError, SyntaxError, Image.DecompressionBombError
"""Exceptions of Pillow on damaged files."""


class PhotoFiles:
    """Photos by number, and their sizes, read from the headers on demand.

    Attributes:
        files: At least one photo.
        smallest_px: Minimum length of the shorter side.
        lr: Numbers of the LR images, which may be a quarter of that.
        unusable: Numbers of the photos found to be damaged or too small so far.
    """

    def __init__(self, files: Sequence[Path | TarMember], smallest_px: int, lr: frozenset[int] = frozenset()) -> None:
        """Read nothing yet; for the arguments see the attributes."""
        self.files = files
        self.lr = lr
        self.smallest_px = smallest_px
        self.unusable: set[int] = set()
        self._sizes: dict[int, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self.files)

    def is_usable(self, number: int) -> bool:
        """Whether a photo's header can be read and it is large enough."""
        if number not in self._sizes and number not in self.unusable:
            size = _read_size(self.files[number])
            least_px = self.smallest_px // SCALE if number in self.lr else self.smallest_px
            if size is None or min(size) < least_px:
                self.unusable.add(number)
            else:
                self._sizes[number] = size
        return number in self._sizes

    def size_px(self, number: int) -> tuple[int, int]:
        """Height and width of a usable photo.

        Raises:
            ImageError: It is not usable.
        """
        return self._sizes[self.first_usable([number])]

    def first_usable(self, numbers: Iterable[int]) -> int:
        """The first usable one of some photos, at least one; at most ten are tried.

        Raises:
            ImageError: None of these is usable.
        """
        tried = list(islice(numbers, _MAXIMUM_TRIES))
        for number in tried:
            if self.is_usable(number):
                return number
        subject = " and the photos after it are" if len(tried) > 1 else ": is"
        raise ImageError(
            f"{self.files[tried[0]]}{subject} damaged or below {self.smallest_px} pixels a side: give larger ones"
        )


class PhotoSource:
    """Pixels of photos, in a least-recently-used cache.

    A photo with damaged pixels is replaced by the next one, resized to its size.

    Attributes:
        files: The photos.
        device: Device of the pixels.
        replaced: Numbers of the photos replaced so far.
    """

    def __init__(self, files: PhotoFiles, cache_mib: int = 4096, device: torch.device | str = "cpu") -> None:
        """Decode nothing yet; `cache_mib` is the size of the cache on the device in MiB."""
        self.files = files
        self.device = torch.device(device)
        self.replaced: set[int] = set()
        self._capacity_bytes = cache_mib * MIB
        self._held_bytes = 0
        self._cache: OrderedDict[int, Pixels] = OrderedDict()

    def __getitem__(self, number: int) -> Pixels:
        """Pixels (3, H, W) of a usable photo, uint8, on the device."""
        if number in self._cache:
            self._cache.move_to_end(number)
            return self._cache[number]
        size = self.files.size_px(number)
        photo = None if number in self.replaced else self._decode(number)
        if photo is None:
            self.replaced.add(number)
            count = len(self.files)
            after = ((number + step) % count for step in range(1, count))
            following = (n for n in after if (n in self.files.lr) == (number in self.files.lr))
            other = self[self.files.first_usable(n for n in following if n not in self.replaced)]
            photo = F.interpolate(other[None].float(), size=size, mode="bilinear")[0].round().byte()
        self._keep(number, photo)
        return photo

    def preload(self, threads: int) -> None:
        """Decode as many photos as the cache holds, several at once."""
        numbers = [n for n in range(len(self.files)) if n not in self._cache and self.files.is_usable(n)]
        with ThreadPoolExecutor(threads) as pool:
            for some in (numbers[start : start + 4 * threads] for start in range(0, len(numbers), 4 * threads)):
                for number, photo in zip(some, pool.map(self._decode, some), strict=True):
                    if photo is None:
                        continue
                    if self._held_bytes + photo.nbytes > self._capacity_bytes:
                        return
                    self._keep(number, photo)

    def _decode(self, number: int) -> Pixels | None:
        """None if the pixels are damaged, or of another size than the header says, on which plans rely."""
        file = self.files.files[number]
        try:
            pixels = decode_photo(file.read_bytes(), str(file)).pixels[0]
        except (RefSRError, OSError):
            return None
        if pixels.shape[1:] != self.files.size_px(number):
            return None
        return _channels_last((pixels * 255).round().byte()).to(self.device)

    def _keep(self, number: int, photo: Pixels) -> None:
        self._cache[number] = photo
        self._held_bytes += photo.nbytes
        while self._held_bytes > self._capacity_bytes and len(self._cache) > 1:
            self._held_bytes -= self._cache.popitem(last=False)[1].nbytes


def _channels_last(photo: Pixels) -> Tensor:
    """The same photo with channels-last memory, which is resized in half the time."""
    return photo.permute(1, 2, 0).contiguous().permute(2, 0, 1)


def _read_size(file: Path | TarMember) -> tuple[int, int] | None:
    """Height and width of the upright photo, from the header; None if it is damaged."""
    try:
        with Image.open(io.BytesIO(file.read_bytes())) as image:
            # PngImageFile.getexif would decode the whole picture.
            sideways = Image.Image.getexif(image).get(ExifTags.Base.Orientation) in _SIDEWAYS_ORIENTATIONS
            return image.size if sideways else image.size[::-1]
    except UNREADABLE:
        return None
