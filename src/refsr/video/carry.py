"""Matches carried from one frame of a video to the next."""

from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from refsr.search.match import Match, cell_grid

_REACH: Final = 2
_STAYS: Final = 0.02
"""By so much must another place be better than the one that was carried: so the picture stays calm."""


def carry(query: Float[Tensor, "b c h w"], key: Float[Tensor, "b c h2 w2"], before: Match) -> Match:
    """The best place near where the last frame's match, or a neighbour's, leads; for patches of one cell.

    Each cell looks at its own place of the last frame and five by five cells around, and at where its eight neighbours'
    offsets lead. So a match follows what moves by up to two cells a frame.

    Args:
        query: L2-normalised descriptors of this frame.
        key: L2-normalised descriptors of the reference.
        before: The last frame's match in that reference.

    Source: the propagation and the local search of Barnes et al., "PatchMatch", SIGGRAPH 2009, over time.
    """
    height, width = query.shape[-2:]
    grid = cell_grid((height, width), query)
    offset = before.offset_cells.round()
    last = torch.tensor((key.shape[-2] - 1, key.shape[-1] - 1)).to(query).view(1, 2, 1, 1)
    batch = torch.arange(query.shape[0], device=query.device)[:, None, None]
    by_cell = key.permute(0, 2, 3, 1)

    def look(there: Float[Tensor, "b 2 h w"]) -> tuple[Tensor, Tensor]:
        position = torch.minimum((grid + there).clamp_min(0), last)
        row, column = position.long().unbind(1)
        return position, (query.permute(0, 2, 3, 1) * by_cell[batch, row, column]).sum(-1)

    best, score = look(offset)
    score = score + _STAYS
    around = F.pad(offset, (1, 1, 1, 1), mode="replicate")
    steps = [(dy, dx) for dy in range(-_REACH, _REACH + 1) for dx in range(-_REACH, _REACH + 1) if (dy, dx) != (0, 0)]
    moved = [offset + torch.tensor(step).to(query).view(1, 2, 1, 1) for step in steps]
    lent = [around[..., y : y + height, x : x + width] for y in range(3) for x in range(3) if (y, x) != (1, 1)]
    for there in (*moved, *lent):
        position, found = look(there)
        better = found > score
        best = torch.where(better[:, None], position, best)
        score = torch.where(better, found, score)
    _, cosine = look(best - grid)
    return Match(position_cells=best, reference=torch.zeros_like(before.reference), score=cosine[:, None])
