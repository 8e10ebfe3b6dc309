"""Matches: for each cell of the picture, a position in a reference, refined to a fraction of a cell.

A cell is one pixel of the LR image, 4x4 pixels of the output.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

_CELLS_AT_ONCE: Final = 2**17


@dataclass(frozen=True, kw_only=True)
class Match:
    """For each query cell, the reference cell whose texture fits best.

    Attributes:
        position_cells: (y, x) of the matched patch's centre on its reference's own grid.
        reference: Index of that reference in the pool.
        score: Cosine of the two patches, -1..1.
        among: Indices of the references that cells may be matched in; None where nobody has looked.
    """

    position_cells: Float[Tensor, "b 2 h w"]
    reference: Int[Tensor, "b h w"]
    score: Float[Tensor, "b 1 h w"]
    among: Sequence[int] | None = None

    @property
    def offset_cells(self) -> Float[Tensor, "b 2 h w"]:
        """(y, x) from each cell to its match."""
        return self.position_cells - cell_grid(self.score.shape[-2:], self.position_cells)

    def crop(self, rows: slice, columns: slice) -> "Match":
        """The same match over a part of the query's grid; positions stay absolute in the references."""
        return Match(
            position_cells=self.position_cells[..., rows, columns],
            reference=self.reference[..., rows, columns],
            score=self.score[..., rows, columns],
            among=self.among,
        )


@dataclass(frozen=True, kw_only=True)
class Found:
    """Result of an engine, for the patches that lie wholly inside the query's grid.

    Attributes:
        corner: (y, x) of the matched patch's first cell on its reference's grid, whole cells.
        reference: Index of that reference in the pool.
        score: Cosine of the two patches.
    """

    corner: Int[Tensor, "2 h w"]
    reference: Int[Tensor, "h w"]
    score: Float[Tensor, "h w"]


def strongest(matches: Sequence[Match]) -> Match:
    """Each cell's candidate with the highest score; of equal ones the first."""
    best = matches[0]
    for match in matches[1:]:
        better = match.score > best.score
        best = Match(
            position_cells=torch.where(better, match.position_cells, best.position_cells),
            reference=torch.where(better[:, 0], match.reference, best.reference),
            score=torch.where(better, match.score, best.score),
        )
    return best


def cell_grid(size: tuple[int, int] | torch.Size, like: Tensor) -> Num[Tensor, "2 h w"]:
    """Each cell's own (y, x)."""
    y = torch.arange(size[0], dtype=like.dtype, device=like.device)
    x = torch.arange(size[1], dtype=like.dtype, device=like.device)
    return torch.stack(torch.meshgrid(y, x, indexing="ij"))


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
