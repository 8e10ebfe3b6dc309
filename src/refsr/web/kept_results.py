"""Results that visitors may look at: kept whole on the disk for a while, shown place by place in full size.

A picture lies there as plain numbers, so that a small part of it is read at once.
"""

import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refsr.web.estimate import Work

Layer = tuple[str, Image.Image]
_AROUND_PX: Final = 4
"""Pixels around a part that bicubic interpolation looks at."""


@dataclass(kw_only=True)
class Kept:
    """A result on the disk: `before.npy` is the photo, `after.npy` and `without.npy` are results.

    Attributes:
        folder: Where it lies, and nothing else.
        scale: How many times as large as the photo the result is.
        denoise: Share of the weights for real photographs, as it was asked for.
        texture: Share of the crisp weights.
        work: How much work it was; None if that is not known.
        place: Where the visitor looks, (x, y), 0..1.
        born: Time at which it was made, by `time.monotonic`.
    """

    folder: Path
    scale: float
    denoise: float | None = None
    texture: float = 0.0
    work: Work | None = None
    place: tuple[float, float] = (0.5, 0.5)
    born: float = field(default_factory=time.monotonic)

    def write(self, name: str, image: Image.Image) -> None:
        """Keep a picture."""
        np.save(self.folder / f"{name}.npy", np.asarray(image.convert("RGB")))

    def read(self, name: str) -> NDArray[Any] | None:
        """A picture (H, W, 3), of which only what is used is read; None if there is none."""
        path = self.folder / f"{name}.npy"
        return np.load(path, mmap_mode="r") if path.exists() else None

    def crops(self, side_px: int) -> list[Layer]:
        """`place` of every picture in the result's full size, the photo enlarged by bicubic interpolation.

        Args:
            side_px: Side of the part, which is moved so that it lies inside; less for small results.

        Returns:
            Names and pictures: before, perhaps without, after.

        Raises:
            FileNotFoundError: The result was deleted.
        """
        photo, after = self.read("before"), self.read("after")
        if photo is None or after is None:
            raise FileNotFoundError(self.folder.name)
        height, width = after.shape[:2]
        left, right = _span(self.place[0], width, side_px)
        top, bottom = _span(self.place[1], height, side_px)
        before = _enlarged(photo, (left, top, right, bottom), (width / photo.shape[1], height / photo.shape[0]))
        found = [("before", before)]
        for name, pixels in (("without", self.read("without")), ("after", after)):
            if pixels is not None:
                found.append((name, Image.fromarray(np.ascontiguousarray(pixels[top:bottom, left:right]))))
        return found

    def delete(self) -> None:
        """Delete it."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass
class Results:
    """The last result of each visitor."""

    _kept: dict[str, Kept] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def keep(self, visitor: str, kept: Kept) -> None:
        """Keep a result in place of the visitor's last one."""
        with self._lock:
            last = self._kept.get(visitor)
            self._kept[visitor] = kept
        if last is not None:
            last.delete()

    def of(self, visitor: str) -> Kept | None:
        """The visitor's last result, if it is not deleted yet."""
        return self._kept.get(visitor)

    def sweep(self, keep_s: float) -> None:
        """Delete those older than this time in seconds."""
        with self._lock:
            old = [visitor for visitor, kept in self._kept.items() if time.monotonic() - kept.born > keep_s]
            swept = [self._kept.pop(visitor) for visitor in old]
        for kept in swept:
            kept.delete()


def _span(centre: float, length: int, side: int) -> tuple[int, int]:
    side = min(side, length)
    start = min(max(round(centre * length - side / 2), 0), length - side)
    return start, start + side


def _enlarged(photo: NDArray[Any], box: Sequence[int], factors: tuple[float, float]) -> Image.Image:
    """A part of the enlarged photo; only what lies around it is read.

    Args:
        photo: The photo (H, W, 3).
        box: Left, top, right and bottom of the part in the enlarged photo.
        factors: How many times as wide and as high as the photo the enlarged one is.
    """
    exact = [edge / factors[index % 2] for index, edge in enumerate(box)]
    left, top = (max(0, int(edge) - _AROUND_PX) for edge in exact[:2])
    right, bottom = (int(edge) + 1 + _AROUND_PX for edge in exact[2:])
    near = Image.fromarray(np.ascontiguousarray(photo[top:bottom, left:right]))
    inside = (exact[0] - left, exact[1] - top, min(exact[2] - left, near.width), min(exact[3] - top, near.height))
    return near.resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.BICUBIC, box=inside)
