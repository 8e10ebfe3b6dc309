"""Matches between cells."""

from dataclasses import replace
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from refsr.search.match import Match

_CELLS_AT_ONCE: Final = 2**17


def refine_subpixel(query: Float[Tensor, "b c h w"], key: Float[Tensor, "b c h2 w2"], match: Match) -> Match:
    """Move each match by up to half a cell to the top of the score around it.

    In y and in x a parabola goes through the scores of the matched cell and its two neighbours; its vertex is the
    better position. Matches at a reference's border stay in that direction. For patches of one cell.

    Args:
        query: L2-normalised descriptors.
        key: L2-normalised descriptors of the reference that was searched.
        match: What `search` found, whole cells.
    """
    height, width = match.score.shape[-2:]
    rows = max(1, _CELLS_AT_ONCE // width)
    shift = torch.cat(
        [_shift(query[..., top : top + rows, :], key, match.crop(slice(top, top + rows), slice(None)))
         for top in range(0, height, rows)], 2,
    )  # fmt: skip
    return replace(match, position_cells=match.position_cells + shift)


def _shift(query: Float[Tensor, "b c h w"], key: Float[Tensor, "b c h2 w2"], match: Match) -> Float[Tensor, "b 2 h w"]:
    centre = match.score[:, 0]
    position = match.position_cells.round().long()
    batch = torch.arange(query.shape[0], device=query.device)[:, None, None]
    by_cell = key.permute(0, 2, 3, 1)
    shift = torch.zeros_like(match.position_cells)
    for axis in (0, 1):
        last = key.shape[-2:][axis] - 1
        side = []
        for step in (-1, 1):
            moved = position.clone()
            moved[:, axis] = (moved[:, axis] + step).clamp(0, last)
            there = by_cell[batch, moved[:, 0], moved[:, 1]]
            side.append((query.permute(0, 2, 3, 1) * there).sum(-1))
        curvature = (2 * centre - side[0] - side[1]).clamp_min(1e-4)
        vertex = ((side[1] - side[0]) / (2 * curvature)).clamp(-0.5, 0.5)
        inside = (position[:, axis] > 0) & (position[:, axis] < last)
        shift[:, axis] = torch.where(inside, vertex, torch.zeros_like(vertex))
    return shift
