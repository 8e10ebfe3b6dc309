"""Strips of crops to look at: LR, bicubic, without, with, truth, reference."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from refsr.io.photo import Photo, as_photo, write_photo
from refsr.restore.provenance import Provenance

SIDE_PX: Final = 96
_ZOOM: Final = 2
_TITLE_PX: Final = 16


def most_changed(first: Float[Tensor, "1 3 h w"], second: Float[Tensor, "1 3 h w"]) -> tuple[int, int]:
    """Top and left, in pixels, of the crop in which two pictures differ most."""
    side = [min(SIDE_PX, length) for length in first.shape[-2:]]
    difference = F.avg_pool2d((first - second).square().mean(1, keepdim=True), side, stride=4)
    place = int(difference.argmax())
    return place // difference.shape[-1] * 4, place % difference.shape[-1] * 4


def reference_crop(
    references: Sequence[Float[Tensor, "1 3 _ _"]], provenance: Provenance, centre_px: tuple[int, int], scale: int
) -> Float[Tensor, "1 3 h w"] | None:
    """The part of the reference that matched the middle of a crop; None without a reference."""
    row, column = (min(c // scale, n - 1) for c, n in zip(centre_px, provenance.reference.shape, strict=True))
    index = int(provenance.reference[row, column])
    if index < 0:
        return None
    reference = references[index]
    top, left = (
        max(0, min(int(centre) - SIDE_PX // 2, length - SIDE_PX))
        for centre, length in zip(provenance.position_px[:, row, column], reference.shape[-2:], strict=True)
    )
    return reference[..., top : top + SIDE_PX, left : left + SIDE_PX]


def write_strip(path: Path, crops: dict[str, Float[Tensor, "1 3 _ _"] | None]) -> None:
    """Write crops side by side, enlarged twice without smoothing, each under its name.

    Args:
        path: A .png file.
        crops: By name; what is None leaves its place empty.
    """
    side = SIDE_PX * _ZOOM
    strip = Image.new("RGB", (side * len(crops), side + _TITLE_PX), "white")
    draw = ImageDraw.Draw(strip)
    for place, (name, crop) in enumerate(crops.items()):
        draw.text((place * side + 3, 2), name, fill="black")
        if crop is not None:
            image = Photo(pixels=crop.clamp(0, 1)).to_pil()
            zoom = side / max(image.size)
            size = (round(image.width * zoom), round(image.height * zoom))
            strip.paste(image.resize(size, Image.Resampling.NEAREST), (place * side, _TITLE_PX))
    write_photo(path, as_photo(strip))


def cut(image: Float[Tensor, "1 3 h w"], corner_px: tuple[int, int], scale: int = 1) -> Float[Tensor, "1 3 _ _"]:
    """The crop at a corner given in the result's pixels.

    Args:
        image: Picture, `scale` times smaller than the result.
        corner_px: Top and left in the result.
        scale: See above.
    """
    top, left = (c // scale for c in corner_px)
    side = SIDE_PX // scale
    return torch.as_tensor(image[..., top : top + side, left : left + side])
