"""Several references: one pool, of which the best counts, or a few candidates for each place.

    each key ── blocks, and the cells of every 16th block ──> how well it fits around each place
                                                                  │
                                   the two that fit best there ───┴──> their cells ──> two candidates
Single cells find something alike in any reference; which one fits shows over a wide neighbourhood. So of many
references a place looks through two only, and what one more costs is a fraction of the first. Within a reference, each
cell is looked for together with the eight around it.
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
"""So many references are looked through around each place."""

PATCH: Final = 3
"""Side of the patches that the exact search compares; the coarse one, those of their cells that are in one block."""

_SIDE: Final = 16
"""References are chosen for squares of so many cells."""

_SAMPLED: Final = 4
"""So many cells of a square, down and across, are looked at before it is chosen."""

_AROUND: Final = 5
"""So many squares, down and across, decide together."""


def find_coarse(
    query: Float[Tensor, "c h w"],
    keys: Sequence[Float[Tensor, "c _ _"]],
    patch: int,
    memory_bytes: int,
    progress: Progress = silent,
) -> Found:
    """The best patches of a pool, coarse to fine: see `refsr.search.coarse`.

    Args:
        query: Feature map of the upsampled LR image.
        keys: Feature maps of the blurred references, one pool.
        patch: Side of a patch in cells.
        memory_bytes: Bound on the working memory beside the patches themselves.
        progress: Told of each finished part.

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
    """The best places of each reference; of more than two, of the two that fit best around each place.

    Args:
        query: Descriptors of the LR image.
        keys: Descriptors of the references.
        coarse: Coarse to fine, for each cell; else all patches with all, for those that lie wholly inside.
        memory_bytes: Bound on the working memory.
        progress: Told of each finished part.

    Raises:
        MemoryBudgetError: The budget is too small for the least part of the work.
    """
    told = [part_of(progress, index, len(keys)) for index in range(len(keys))]
    chosen: Tensor | None = None
    if coarse:
        searches = [CoarseSearch(query, key, 1, memory_bytes, together=True) for key in keys]
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
    """The numbers of those that fit best around each place: by the mean score of 5x5 squares of 16x16 cells.

    Args:
        scores: Of each reference; minus infinity where none is known, the same places in all.
    """
    known = scores.isfinite()
    total, count = (
        F.avg_pool2d(F.avg_pool2d(grid[:, None], _SIDE, ceil_mode=True), _AROUND, 1, _AROUND // 2)[:, 0]
        for grid in (scores.masked_fill(~known, 0), known.to(scores))
    )
    best = (total / count).topk(min(CANDIDATES, len(scores)), dim=0).indices
    height, width = (torch.arange(n, device=scores.device) // _SIDE for n in scores.shape[-2:])
    return best[:, height][:, :, width]


def _sample(size: Sequence[int], device: torch.device) -> Bool[Tensor, "h w"]:
    """A few cells near the middle of each square; they are one block of the coarse search."""
    low = _SIDE // 2 - _SAMPLED
    inside = [((n := torch.arange(length, device=device) % _SIDE) >= low) & (n < low + _SAMPLED) for length in size]
    return inside[0][:, None] & inside[1]


def _pick(each: Sequence[tuple[Int[Tensor, "2 h w"], Float[Tensor, "h w"]]], reference: Int[Tensor, "h w"]) -> Found:
    """Place by place the corner and score of one reference."""
    corner, score = torch.zeros_like(each[0][0]), torch.zeros_like(each[0][1])
    for index, (its_corner, its_score) in enumerate(each):
        here = reference == index
        corner, score = torch.where(here, its_corner, corner), torch.where(here, its_score, score)
    return Found(corner=corner, reference=reference, score=score)
