"""Matches in several references: the best of one pool, or candidates in the two references that fit best locally.

    each key ── coarse search of a sample of the cells ──> mean score around each cell
                                                                  │
                       the two references that fit best there ────┴──> search of their cells ──> two candidates
A single cell finds something alike in any reference; which reference fits shows in a wide neighbourhood. Searching
only two of them for each cell makes a further reference cost a fraction of the first.
"""

from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from refsr.io.progress import Progress, part_of, silent
from refsr.search.coarse import CoarseSearch
from refsr.search.exact import find_exact
from refsr.search.match import Found

CANDIDATES: Final = 2
PATCH: Final = 3
"""Side in cells of the neighbourhood that a cell is scored with."""

_SQUARE_CELLS: Final = 16
"""Side of the squares that references are chosen for."""

_SAMPLE_CELLS: Final = 4
"""Side of the sample of a square's cells that decides."""

_POOLED_SQUARES: Final = 5
"""Side of the neighbourhood of squares whose scores are averaged."""


def find_coarse(
    query: Float[Tensor, "c h w"],
    keys: Sequence[Float[Tensor, "c _ _"]],
    patch: int,
    memory_bytes: int,
    progress: Progress = silent,
) -> Found:
    """The best patches of a pool, coarse to fine (`refsr.search.coarse`); arguments as for `refsr.search.search`.

    Raises:
        MemoryBudgetError: Not even one window fits the budget.
    """
    each = []
    for index, key in enumerate(keys):
        search = CoarseSearch(query, key, patch, memory_bytes)
        search.look(progress=part_of(progress, index, len(keys)))
        each.append(search.found())
    return _pick(each, torch.stack([score for _, score in each]).argmax(0))


def find_candidates(
    query: Float[Tensor, "c h w"],
    keys: Sequence[Float[Tensor, "c _ _"]],
    coarse: bool,
    memory_bytes: int,
    progress: Progress = silent,
) -> list[Found]:
    """The best match in each reference; with more than two, in the two that fit best around each cell.

    Arguments as for `refsr.search.search_candidates`, but for:

    Args:
        coarse: Search coarse to fine, for every cell; else exactly, for patches that lie wholly inside.

    Raises:
        MemoryBudgetError: The budget is too small for the least part of the work.
    """
    told = [part_of(progress, index, len(keys)) for index in range(len(keys))]
    chosen: Tensor | None = None
    if coarse:
        searches = [CoarseSearch(query, key, 1, memory_bytes, with_neighbours=True) for key in keys]
        if len(keys) > CANDIDATES:
            sample = _sample(query.shape[-2:], query.device)
            for search in searches:
                search.look(sample)
            chosen = choose_references(torch.stack([search.found()[1] for search in searches]))
        for index, search in enumerate(searches):
            search.look(None if chosen is None else (chosen == index).any(0), told[index])
        each = [search.found() for search in searches]
    else:
        exact = (find_exact(query, [key], PATCH, memory_bytes, tell) for key, tell in zip(keys, told, strict=True))
        each = [(found.corner, found.score) for found in exact]
        if len(keys) > CANDIDATES:
            chosen = choose_references(torch.stack([score for _, score in each]))
    if chosen is None:
        chosen = torch.arange(len(keys), device=query.device).view(-1, 1, 1).expand(-1, *each[0][1].shape)
    return [_pick(each, reference) for reference in chosen]


def choose_references(scores: Float[Tensor, "n h w"]) -> Int[Tensor, "k h w"]:
    """Indices of the references that fit best around each cell: by the mean score of 5x5 squares of 16x16 cells.

    Args:
        scores: Of each reference; minus infinity at cells that were not searched, the same in all references.

    Returns:
        One index map for each candidate, the best first.
    """
    known = scores.isfinite()
    total, count = (
        F.avg_pool2d(
            F.avg_pool2d(grid[:, None], _SQUARE_CELLS, ceil_mode=True), _POOLED_SQUARES, 1, _POOLED_SQUARES // 2
        )[:, 0]
        for grid in (scores.masked_fill(~known, 0), known.to(scores))
    )
    best = (total / count).topk(min(CANDIDATES, len(scores)), dim=0).indices
    height, width = (torch.arange(n, device=scores.device) // _SQUARE_CELLS for n in scores.shape[-2:])
    return best[:, height][:, :, width]


def _sample(size: Sequence[int], device: torch.device) -> Bool[Tensor, "h w"]:
    """The cells near the middle of each square that are one block of the coarse search."""
    low = _SQUARE_CELLS // 2 - _SAMPLE_CELLS
    places = (torch.arange(length, device=device) % _SQUARE_CELLS for length in size)
    rows, columns = ((place >= low) & (place < low + _SAMPLE_CELLS) for place in places)
    return rows[:, None] & columns


def _pick(each: Sequence[tuple[Int[Tensor, "2 h w"], Float[Tensor, "h w"]]], reference: Int[Tensor, "h w"]) -> Found:
    """Corner and score of each cell's match in the reference that is given for it."""
    corner, score = torch.zeros_like(each[0][0]), torch.zeros_like(each[0][1])
    for index, (its_corner, its_score) in enumerate(each):
        here = reference == index
        corner, score = torch.where(here, its_corner, corner), torch.where(here, its_score, score)
    return Found(corner=corner, reference=reference, score=score)
