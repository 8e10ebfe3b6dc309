"""Strips of crops for people to compare: LR, bicubic, without references, with references, truth, reference."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from refsr.bench.protocol import Prepared
from refsr.io.photo import Photo, as_photo, write_photo
from refsr.restore.provenance import Provenance

_SIDE_PX: Final = 96
_ZOOM: Final = 2
_TITLE_PX: Final = 16


def write_crops(
    path: Path,
    prepared: Prepared,
    provenance: Provenance,
    bicubic: Float[Tensor, "1 3 h w"],
    without_sr: Float[Tensor, "1 3 h w"],
    with_sr: Float[Tensor, "1 3 h w"],
    scale: int,
) -> None:
    """Write the crops where the references change the result most; without references, where the model changes bicubic.

    Args:
        bicubic: Bicubic enlargement, cropped to the truth like the two results.
        without_sr: Result without references.
        with_sr: Result with references, whose origin is in `provenance`.
    """
    corner = _most_changed(with_sr, bicubic if torch.equal(with_sr, without_sr) else without_sr)
    top, left = corner[0] + prepared.top_px, corner[1] + prepared.left_px
    centre = (top + _SIDE_PX // 2, left + _SIDE_PX // 2)
    _write_strip(
        path,
        {
            "LR": _crop(prepared.lr, (top, left), scale),
            "bicubic": _crop(bicubic, corner),
            "without": _crop(without_sr, corner),
            "with": _crop(with_sr, corner),
            "truth": _crop(prepared.truth, corner),
            "reference": _reference_crop(prepared.references, provenance, centre, scale),
        },
    )


def _most_changed(first: Tensor, second: Tensor) -> tuple[int, int]:
    """Top and left, in pixels, of the crop in which two pictures differ most."""
    side = [min(_SIDE_PX, length) for length in first.shape[-2:]]
    difference = F.avg_pool2d((first - second).square().mean(1, keepdim=True), side, stride=4)
    place = int(difference.argmax())
    return place // difference.shape[-1] * 4, place % difference.shape[-1] * 4


def _crop(image: Tensor, corner_px: tuple[int, int], scale: int = 1) -> Tensor:
    """Crop of a picture `scale` times smaller than the result, at a corner in the result's pixels."""
    top, left = (c // scale for c in corner_px)
    side = _SIDE_PX // scale
    return image[..., top : top + side, left : left + side]


def _reference_crop(
    references: Sequence[Tensor], provenance: Provenance, centre_px: tuple[int, int], scale: int
) -> Tensor | None:
    """Part of the reference that the middle of a crop was matched with; None without a match."""
    row, column = (min(c // scale, n - 1) for c, n in zip(centre_px, provenance.reference.shape, strict=True))
    index = int(provenance.reference[row, column])
    if index < 0:
        return None
    reference = references[index]
    top, left = (
        max(0, min(int(centre) - _SIDE_PX // 2, length - _SIDE_PX))
        for centre, length in zip(provenance.position_px[:, row, column], reference.shape[-2:], strict=True)
    )
    return reference[..., top : top + _SIDE_PX, left : left + _SIDE_PX]


def _write_strip(path: Path, crops: dict[str, Tensor | None]) -> None:
    """Crops side by side under their names, enlarged by nearest neighbour; None leaves its place empty."""
    side = _SIDE_PX * _ZOOM
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
