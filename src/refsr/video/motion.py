"""What moves from one video frame to the next: matches, which are carried along, and added detail, whose flicker is
measured."""

from itertools import product
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from refsr.resize import resize, upscale_bicubic
from refsr.search import Match, cell_grid
from refsr.transfer.flow import dense_flow
from refsr.transfer.swap import warp

_RADIUS_CELLS: Final = 2
_MINIMUM_GAIN: Final = 0.02
"""Smallest gain in cosine for which a cell leaves its carried position; it damps flicker."""


def carry(query: Float[Tensor, "b c h w"], key: Float[Tensor, "b c h2 w2"], before: Match) -> Match:
    """Carry the last frame's match of single cells to this frame.

    The candidates of a cell are 5x5 positions around its match in the last frame, and the positions at its eight
    neighbours' offsets. A match therefore follows motion of up to two cells per frame.

    Args:
        query: L2-normalised descriptors of this frame.
        key: L2-normalised descriptors of the reference.
        before: Match of the last frame in that reference.

    Returns:
        Match with whole positions and their cosines, without `_MINIMUM_GAIN`.

    Source: propagation and local search of Barnes et al., "PatchMatch", SIGGRAPH 2009, applied over time.
    """
    height, width = query.shape[-2:]
    grid = cell_grid((height, width), query)
    offset = before.offset_cells.round()
    last = torch.tensor((key.shape[-2] - 1, key.shape[-1] - 1)).to(query).view(1, 2, 1, 1)
    batch = torch.arange(query.shape[0], device=query.device)[:, None, None]
    by_cell = key.permute(0, 2, 3, 1)

    def at(candidate: Float[Tensor, "b 2 h w"]) -> tuple[Tensor, Tensor]:
        """Position and cosine of each cell's match at an offset."""
        position = torch.minimum((grid + candidate).clamp_min(0), last)
        row, column = position.long().unbind(1)
        return position, (query.permute(0, 2, 3, 1) * by_cell[batch, row, column]).sum(-1)

    best, score = at(offset)
    score = score + _MINIMUM_GAIN
    around = F.pad(offset, (1, 1, 1, 1), mode="replicate")
    reach = range(-_RADIUS_CELLS, _RADIUS_CELLS + 1)
    steps = [step for step in product(reach, reach) if step != (0, 0)]
    nearby = [offset + torch.tensor(step).to(query).view(1, 2, 1, 1) for step in steps]
    propagated = [
        around[..., y : y + height, x : x + width] for y, x in product(range(3), range(3)) if (y, x) != (1, 1)
    ]
    for candidate in (*nearby, *propagated):
        position, cosine = at(candidate)
        better = cosine > score
        best = torch.where(better[:, None], position, best)
        score = torch.where(better, cosine, score)
    _, cosine = at(best - grid)
    return Match(position_cells=best, reference=torch.zeros_like(before.reference), score=cosine[:, None])


class Flicker:
    """Mean change of the added detail from frame to frame, after motion compensation."""

    def __init__(self) -> None:
        self._before: tuple[Tensor, Tensor] | None = None
        self._total, self._count = 0.0, 0

    @property
    def levels(self) -> float:
        """Flicker in grey levels of 0..255; zero before the second frame."""
        return self._total / self._count if self._count else 0.0

    def add(self, frame: Float[Tensor, "1 3 h w"], sr: Float[Tensor, "1 3 h2 w2"]) -> None:
        """Compare the detail of an LR frame and its enlargement, both 0..1, with the last frame's, warped by flow."""
        grey = frame.mean(1, keepdim=True)
        scale = max(1, round(sr.shape[-2] / frame.shape[-2]))
        bicubic = upscale_bicubic(frame, scale)
        detail = resize(sr, (bicubic.shape[-2], bicubic.shape[-1])) - bicubic
        if self._before is not None:
            grey_before, detail_before = self._before
            flow = dense_flow(grey, grey_before, "measuring flicker")
            match = Match(
                position_cells=cell_grid(grey.shape[-2:], grey) + flow,
                reference=torch.zeros_like(flow[:, 0], dtype=torch.long),
                score=torch.ones_like(flow[:, :1]),
            )
            moved = warp([detail_before], match, scale=scale)
            self._total += (detail - moved).abs().mean().item() * 255
            self._count += 1
        self._before = grey, detail
