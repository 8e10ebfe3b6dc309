"""Bring the references' texture into the LR image's order.

    values, one per reference (B, C, s*H, s*W) ──┐
                                                 ├──> texture (B, C, s*h, s*w) on the query's grid
    Match over cells (h, w) ─────────────────────┘

`swap` pastes whole cells (the paper's equation 3), `warp` samples between pixels. s is how many pixels of the value
a cell spans in each direction: 4 at the output's size, 1 at the size of the LR image.
"""

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from refsr.search import Match, cell_grid


def swap(
    values: Sequence[Float[Tensor, "b c _ _"]], match: Match, *, scale: int, patch: int = 3
) -> Float[Tensor, "b c h2 w2"]:
    """Paste matched patches over each other and average where they overlap.

    Each query patch is replaced by the value patch of the same extent round its match: 3x3 cells are 3, 6 or 12
    pixels wide at a scale of 1, 2 or 4. As all levels share one index map, the average equals the mean over the
    patch's cells of one whole-cell gather each, shifted against each other; no patch is ever cut out.

    Args:
        values: Feature maps of the sharp references, one per reference of the searched pool.
        match: Whole-cell positions, as `search` finds them with the same patch. Where another match lets a patch
            overhang its reference's border, the cells there are repeated.
        scale: Value pixels per cell and direction.
        patch: Side of the patch in cells, odd.

    Source: Zhang et al., CVPR 2019, equation 3; ZZUTK/SRNTT for the average.
    """
    cells = [rearrange(value, "b c (h i) (w j) -> b (c i j) h w", i=scale, j=scale) for value in values]
    batch, _, height, width = match.score.shape
    total = cells[0].new_zeros(batch, cells[0].shape[1], height, width)
    count = total.new_zeros(height, width)
    reach = patch // 2
    y, x = cell_grid((height, width), match.reference)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            # The patch centred at (y - dy, x - dx) covers cell (y, x) with the value cell at its match + (dy, dx).
            centre_y, centre_x = y - dy, x - dx
            inside = (
                (centre_y >= reach) & (centre_y < height - reach) & (centre_x >= reach) & (centre_x < width - reach)
            )
            row, column = y[inside], x[inside]
            centre_row, centre_column = centre_y[inside], centre_x[inside]
            position = match.position_cells[..., centre_row, centre_column].round().long()
            reference = match.reference[..., centre_row, centre_column]
            total[..., row, column] += _gather(cells, position[:, 0] + dy, position[:, 1] + dx, reference)
            count[row, column] += 1
    return rearrange(total / count, "b (c i j) h w -> b c (h i) (w j)", i=scale, j=scale)


def warp(
    values: Sequence[Float[Tensor, "b c _ _"]], match: Match, *, scale: int, between: Literal["nearest", "bilinear"]
) -> Float[Tensor, "b c h2 w2"]:
    """Sample the references at the match, between pixels, bicubically (bilinearly at a scale of 1).

    The cells' offsets are brought to the value's size either by nearest (each cell is a rigid piece: sharp where
    neighbours disagree) or by bilinear interpolation (follows rotation, scale and perspective where they agree).

    Args:
        values: Images or maps of the references, one per reference of the searched pool.
        match: Positions, which may lie between cells.
        scale: Value pixels per cell and direction.
        between: How offsets are interpolated between cells.
    """
    offset_cells = match.offset_cells
    reference = match.reference[:, None].to(offset_cells.dtype)
    if scale > 1:
        align = None if between == "nearest" else False
        offset_cells = F.interpolate(offset_cells, scale_factor=scale, mode=between, align_corners=align)
        reference = F.interpolate(reference, scale_factor=scale, mode="nearest")
    position_px = cell_grid(offset_cells.shape[-2:], offset_cells) + offset_cells * scale
    alone = 0 if len(values) == 1 else _only_reference(match)
    if alone is not None:
        return _sample(values[alone], position_px, scale)
    warped = values[0].new_empty(len(position_px), values[0].shape[1], *position_px.shape[-2:])
    for index, value in enumerate(values):
        for batch, here in enumerate(reference[:, 0] == index):
            if here.any():
                sampled = _sample(value[batch, None], position_px[batch, None, :, None, here], scale)
                warped[batch, :, here] = sampled[0, :, 0]
    return warped


def _only_reference(match: Match) -> int | None:
    """The one that all cells are matched in, if it is one."""
    first = int(match.reference.flatten()[0])
    return first if bool((match.reference == first).all()) else None


def _sample(
    value: Float[Tensor, "b c _ _"], position_px: Float[Tensor, "b 2 h w"], scale: int
) -> Float[Tensor, "b c h w"]:
    """One reference at (y, x), bicubically, or bilinearly at a scale of 1; beyond its border, the nearest inside."""
    height, width = value.shape[-2:]
    size = position_px.new_tensor((width, height))
    grid = (2 * rearrange(position_px.flip(1), "b xy h w -> b h w xy") + 1) / size - 1
    mode = "bicubic" if scale > 1 else "bilinear"
    return F.grid_sample(value, grid, mode=mode, padding_mode="border", align_corners=False)


def _gather(
    cells: Sequence[Float[Tensor, "b c _ _"]], row: Tensor, column: Tensor, reference: Tensor
) -> Float[Tensor, "b c n"]:
    """Pick one cell per (batch, n), each from its own reference; beyond its border, the nearest inside."""
    picked = cells[0].new_empty(row.shape[0], cells[0].shape[1], row.shape[1])
    for index, cell in enumerate(cells):
        batch, n = (reference == index).nonzero(as_tuple=True)
        height, width = cell.shape[-2:]
        picked[batch, :, n] = cell[batch, :, row[batch, n].clamp(0, height - 1), column[batch, n].clamp(0, width - 1)]
    return picked
