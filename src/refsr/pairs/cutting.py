"""Test pictures and training crops, written as PNG."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from refsr.data.geometry import linear, rotation, translation
from refsr.data.sample import sample_view
from refsr.io.files import write_atomically
from refsr.io.photo import read_preview
from refsr.pairs.selection import Square


def write_whole(long_side_px: int, item: tuple[Path, Path]) -> None:
    """Write a photo, reduced to a long side of `long_side_px` at most; `item` is the output and the photo."""
    path, photo = item
    _write_png(path, read_preview(photo, long_side_px).image)


def write_crops(work_px: int, crop_px: int, item: tuple[Path, Sequence[tuple[Path, Square]]]) -> None:
    """Write crops of `crop_px` from a working copy of `work_px`; `item` is the photo, and the output of each square."""
    photo, squares = item
    copy = read_preview(photo, work_px).image
    for path, square in squares:
        _write_png(path, _cut(copy, square, crop_px))


def _cut(copy: Image.Image, square: Square, crop_px: int) -> Image.Image:
    x, y = square.centre_px
    if square.degrees == 0 and square.side_px == crop_px:
        left, top = round(x - crop_px / 2), round(y - crop_px / 2)
        return copy.crop((left, top, left + crop_px, top + crop_px))
    turn = linear(square.side_px / crop_px * rotation(-square.degrees))
    view = translation(np.array((x - 0.5, y - 0.5))) @ turn @ translation(np.full(2, -(crop_px - 1) / 2))
    pixels = sample_view(np.asarray(copy), view, crop_px)
    return Image.fromarray((pixels * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())


def _write_png(path: Path, image: Image.Image) -> None:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())
