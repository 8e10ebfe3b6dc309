"""Matches refined to fractions of a cell."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from refsr.search.match import Match

_CELLS_AT_ONCE: Final = 2**17


def refine_subpixel(query: Float[Tensor, "b c h w"], keys: Sequence[Float[Tensor, "b c _ _"]], match: Match) -> Match:
    """Move each match by up to half a cell to the maximum of the score around it.

    In y and in x, the vertex of the parabola through the scores of the matched cell and its two neighbours. Across a
    reference's border nothing moves. Scores become those of single cells.

    Args:
        query: L2-normalised descriptors.
        keys: L2-normalised descriptors of the references that were searched.
        match: In whole cells.
    """
    position, score = match.position_cells.clone(), match.score.clone()
    by_cell = query.permute(0, 2, 3, 1)
    for index, key in enumerate(keys):
        for cells in torch.split((match.reference == index).nonzero(), _CELLS_AT_ONCE):
            batch, y, x = cells.unbind(1)
            there = position[batch, :, y, x]
            shift, cosine = _shift(by_cell[batch, y, x], key, batch, there.round().long())
            position[batch, :, y, x] = there + shift
            score[batch, 0, y, x] = cosine
    return replace(match, position_cells=position, score=score)


def _shift(
    asking: Float[Tensor, "n c"],
    key: Float[Tensor, "b c h w"],
    batch: Int[Tensor, " n"],
    position: Int[Tensor, "n 2"],
) -> tuple[Float[Tensor, "n 2"], Float[Tensor, " n"]]:
    """Shift of cells that are matched in one reference, and the scores at the matched cells."""
    by_cell = key.permute(0, 2, 3, 1)
    centre = (asking * by_cell[batch, position[:, 0], position[:, 1]]).sum(1)
    shift = torch.zeros_like(position, dtype=centre.dtype)
    for axis in (0, 1):
        last = key.shape[-2:][axis] - 1
        side = []
        for step in (-1, 1):
            moved = position.clone()
            moved[:, axis] = (moved[:, axis] + step).clamp(0, last)
            side.append((asking * by_cell[batch, moved[:, 0], moved[:, 1]]).sum(1))
        curvature = (2 * centre - side[0] - side[1]).clamp_min(1e-4)
        vertex = ((side[1] - side[0]) / (2 * curvature)).clamp(-0.5, 0.5)
        inside = (position[:, axis] > 0) & (position[:, axis] < last)
        shift[:, axis] = torch.where(inside, vertex, torch.zeros_like(vertex))
    return shift, centre
