"""Maps of large pictures, made stripe by stripe, so that what is held on the way does not grow with the picture."""

from collections.abc import Callable
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

HALO_CELLS: Final = 32
"""How far a cell's surroundings matter to its descriptor and its detail."""

_STRIPE_CELLS: Final = 2**17


def by_stripes(
    encode: Callable[[Tensor], tuple[Tensor, ...]], image: Float[Tensor, "b 3 h w"], cell_px: int
) -> tuple[Float[Tensor, "b _ _ _"], ...]:
    """The maps of a picture; without gradient, from stripes with a halo around them, of which the inside is kept.

    Args:
        encode: Picture to maps, each with a whole number of pixels a cell.
        image: Sides are multiples of `cell_px`.
        cell_px: Pixels per cell.
    """
    height, width = (side // cell_px for side in image.shape[-2:])
    rows = _rows(width)
    if torch.is_grad_enabled() or height <= rows + 2 * HALO_CELLS:
        return encode(image)
    wholes: list[Tensor] = []
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        first, last = max(0, top - HALO_CELLS), min(height, bottom + HALO_CELLS)
        for index, part in enumerate(encode(image[..., first * cell_px : last * cell_px, :])):
            side = part.shape[-2] // (last - first)
            if index == len(wholes):
                wholes.append(_empty_like(part, height * side))
            inside = part[..., (top - first) * side : (bottom - first) * side, :]
            wholes[index][..., top * side : bottom * side, :] = inside
    return tuple(wholes)


def cells_at_once(height: int, width: int) -> int:
    """How many cells of a picture are looked at together.

    Args:
        height: Of the picture, in cells.
        width: The same.
    """
    return min(height, _rows(width) + 2 * HALO_CELLS) * width


def _rows(width: int) -> int:
    return max(HALO_CELLS, _STRIPE_CELLS // width)


def _empty_like(part: Tensor, height: int) -> Tensor:
    """Of another height, with the channels in the same order in memory."""
    last = part.is_contiguous(memory_format=torch.channels_last)
    return torch.empty(
        (*part.shape[:-2], height, part.shape[-1]),
        dtype=part.dtype,
        device=part.device,
        memory_format=torch.channels_last if last else torch.contiguous_format,
    )
