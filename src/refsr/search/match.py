"""Matches: for each cell of the picture, a position in a reference.

A cell is one pixel of the LR image, 4x4 pixels of the output.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor


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
