"""Large pictures in stripes with a halo, so that what is held on the way does not grow with the picture."""

from collections.abc import Callable, Iterator
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

_STRIPE_CELLS: Final = 2**17


def stripes(height: int, width: int, halo: int) -> Iterator[tuple[slice, slice]]:
    """Rows of each stripe, without and with its halo; a single stripe where the picture is small.

    Args:
        height: Height of the picture in cells.
        width: Width of the picture in cells.
        halo: Radius of the receptive field in cells.
    """
    rows = max(halo, _STRIPE_CELLS // width)
    if height <= rows + 2 * halo:
        rows = height
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        yield slice(top, bottom), slice(max(0, top - halo), min(height, bottom + halo))


def cells_at_once(height: int, width: int, halo: int) -> int:
    """Number of cells of the largest stripe with its halo; see `stripes`."""
    rows: int = max(seen.stop - seen.start for _, seen in stripes(height, width, halo))
    return rows * width


def by_stripes(
    encode: Callable[[Tensor], tuple[Tensor, ...]], image: Float[Tensor, "b 3 h w"], *, cell_px: int, halo: int
) -> tuple[Float[Tensor, "b _ _ _"], ...]:
    """Feature maps of a picture, computed in stripes; in training at once.

    Args:
        encode: From a picture to its maps, each with a whole number of pixels per cell.
        image: The picture; its sides are multiples of `cell_px`.
        cell_px: Picture pixels per cell.
        halo: Radius of the receptive field in cells.
    """
    if torch.is_grad_enabled():
        return encode(image)
    height, width = (side // cell_px for side in image.shape[-2:])
    parts = list(stripes(height, width, halo))
    if len(parts) == 1:
        return encode(image)
    wholes: list[Tensor] = []
    for inside, seen in parts:
        for index, part in enumerate(encode(image[..., seen.start * cell_px : seen.stop * cell_px, :])):
            px = part.shape[-2] // (seen.stop - seen.start)
            if index == len(wholes):
                wholes.append(_empty_like(part, height * px))
            kept = part[..., (inside.start - seen.start) * px : (inside.stop - seen.start) * px, :]
            wholes[index][..., inside.start * px : inside.stop * px, :] = kept
    return tuple(wholes)


def _empty_like(part: Tensor, height: int) -> Tensor:
    """Empty map of another height, in the same memory format."""
    last = part.is_contiguous(memory_format=torch.channels_last)
    return torch.empty(
        (*part.shape[:-2], height, part.shape[-1]),
        dtype=part.dtype,
        device=part.device,
        memory_format=torch.channels_last if last else torch.contiguous_format,
    )
