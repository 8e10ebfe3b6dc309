"""References' texture brought into the LR image's order.

    values, one per reference (B, C, s*H, s*W) ──┐
                                                 ├──> texture (B, C, s*h, s*w) on the query's grid
    Match over cells (h, w) ─────────────────────┘

`swap` pastes whole cells (the paper's equation 3), `warp` samples between pixels. The scale s is the side of a cell in
pixels of the value: 4 at the output's size, 1 at the size of the LR image.
"""

from collections.abc import Sequence
from itertools import product

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from refsr.search import Match, cell_grid


def swap(
    values: Sequence[Float[Tensor, "b c _ _"]], match: Match, *, scale: int, patch: int = 3
) -> Float[Tensor, "b c h2 w2"]:
    """Replace each query patch by the value patch at its match; where patches overlap, average them.

    Computed without cutting out patches: each cell's result is the mean of the value cells that the patches covering
    it put there.

    Args:
        values: Feature maps of the sharp references, one per reference of the searched pool.
        match: Whole-cell positions, as `search` finds them with the same patch. Where a patch overhangs its
            reference's border, the border cells are repeated.
        scale: Side of a cell in pixels of the value.
        patch: Side of the patch in cells, odd.

    Source: Zhang et al., CVPR 2019, equation 3; ZZUTK/SRNTT for the average.
    """
    batch, _, height, width = match.score.shape
    reach = patch // 2
    # A row for each cell of each reference, and one for "nothing"; for each query cell, the rows that cover it.
    counts = [value[:, 0].numel() // scale**2 for value in values]
    table = values[0].new_zeros(sum(counts) + 1, values[0].shape[1] * scale**2)
    nothing = len(table) - 1
    covering = torch.full((batch, height, width, patch**2), nothing, device=table.device)
    centres = match.crop(slice(reach, height - reach), slice(reach, width - reach))
    position = centres.position_cells.round().long()
    for index, (value, rows) in enumerate(zip(values, torch.split(table[:-1], counts), strict=True)):
        cells = rearrange(value, "b c (h i) (w j) -> b h w c i j", i=scale, j=scale)
        rows.view(cells.shape).copy_(cells)
        down, across = cells.shape[1:3]
        first = sum(counts[:index]) + torch.arange(batch, device=table.device).view(-1, 1, 1) * down * across
        here = centres.reference == index
        for number, (dy, dx) in enumerate(product(range(-reach, reach + 1), repeat=2)):
            row, column = (position[:, 0] + dy).clamp(0, down - 1), (position[:, 1] + dx).clamp(0, across - 1)
            # The patch centred at a cell covers the cell at (dy, dx) from it with the one at (dy, dx) from its match.
            top, left = reach + dy, reach + dx
            covered = covering[:, top : top + here.shape[1], left : left + here.shape[2], number]
            covered.copy_(torch.where(here, first + row * across + column, covered))
    swapped = F.embedding_bag(covering.flatten(0, 2), table, mode="mean", padding_idx=nothing)
    return rearrange(swapped, "(b h w) (c i j) -> b c (h i) (w j)", b=batch, h=height, w=width, i=scale, j=scale)


def warp(values: Sequence[Float[Tensor, "b c _ _"]], match: Match, *, scale: int) -> Float[Tensor, "b c h2 w2"]:
    """Sample the references between pixels, bicubically (bilinearly at a scale of 1).

    Offsets are interpolated bilinearly between the cells that are matched in the same reference, so that texture
    follows rotation, scale and perspective.

    Args:
        values: Images or feature maps of the references, one per reference of the searched pool.
        match: Positions, which may lie between cells.
        scale: Side of a cell in pixels of the value.
    """
    among = range(1) if len(values) == 1 else matched_references(match)
    if len(among) == 1:
        return _sample(values[among[0]], _place_px(_enlarged(match.offset_cells, scale), scale), scale)
    if match.score.device.type != "cpu":
        return _warp_everywhere(values, match, scale)
    batch, _, height, width = match.score.shape
    warped = values[0].new_empty(batch, values[0].shape[1], height * scale, width * scale)
    for index in among:
        value, place = values[index], _place_of(match, index, scale)
        for number, here in enumerate(_pixels_of(match, index, scale)[:, 0]):
            if here.any():
                sampled = _sample(value[number, None], place[number, None, :, None, here], scale)
                warped[number, :, here] = sampled[0, :, 0]
    return warped


def _warp_everywhere(
    values: Sequence[Float[Tensor, "b c _ _"]], match: Match, scale: int
) -> Float[Tensor, "b c h2 w2"]:
    """The same for an accelerator: every reference is sampled everywhere, so that nothing synchronises."""
    batch, _, height, width = match.score.shape
    warped = values[0].new_zeros(batch, values[0].shape[1], height * scale, width * scale)
    for index, value in enumerate(values):
        sampled = _sample(value, _place_of(match, index, scale).nan_to_num(), scale)
        warped = torch.where(_pixels_of(match, index, scale), sampled, warped)
    return warped


def _place_of(match: Match, index: int, scale: int) -> Float[Tensor, "b 2 h2 w2"]:
    """(y, x) of each pixel in one reference, interpolated between the cells matched in it; NaN far from all of them."""
    cells = (match.reference == index)[:, None].to(match.offset_cells.dtype)
    # At the border of these cells, their interpolation weights add up to less than one.
    return _place_px(_enlarged(match.offset_cells * cells, scale) / _enlarged(cells, scale), scale)


def _pixels_of(match: Match, index: int, scale: int) -> Bool[Tensor, "b 1 h2 w2"]:
    """Which pixels lie in cells that are matched in one reference."""
    return F.interpolate((match.reference == index)[:, None].to(match.score), scale_factor=scale) > 0


def matched_references(match: Match) -> Sequence[int]:
    """Indices of the references that cells are matched in; on an accelerator, of all that they may be matched in."""
    if match.among is not None and (len(match.among) == 1 or match.reference.device.type != "cpu"):
        return match.among
    indices: list[int] = torch.unique(match.reference).tolist()
    return indices


def _enlarged(cells: Float[Tensor, "b c h w"], scale: int) -> Float[Tensor, "b c h2 w2"]:
    if scale == 1:
        return cells
    return F.interpolate(cells, scale_factor=scale, mode="bilinear", align_corners=False)


def _place_px(offset_cells: Float[Tensor, "b 2 h w"], scale: int) -> Float[Tensor, "b 2 h w"]:
    return cell_grid(offset_cells.shape[-2:], offset_cells) + offset_cells * scale


def _sample(
    value: Float[Tensor, "b c _ _"], position_px: Float[Tensor, "b 2 h w"], scale: int
) -> Float[Tensor, "b c h w"]:
    """A reference's values at (y, x); beyond its border, the nearest pixel inside."""
    height, width = value.shape[-2:]
    size = position_px.new_tensor((width, height))
    grid = (2 * rearrange(position_px.flip(1), "b xy h w -> b h w xy") + 1) / size - 1
    mode = "bicubic" if scale > 1 else "bilinear"
    return F.grid_sample(value, grid, mode=mode, padding_mode="border", align_corners=False)
