"""Small pictures on an accelerator, as in training: all cells with all, a whole batch at once, and nothing waits.

cosines of all cells with all ──> each averaged with the eight around, moved alike ──> best place ──> between cells
"""

from collections.abc import Sequence
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from refsr.search.candidates import CANDIDATES, choose_references
from refsr.search.match import Match

MAXIMUM_CELLS: Final = 2048
"""Of the picture and of each reference; for more, coarse to fine is quicker. On a CPU it is so at any size: it takes
half the time for 40x40 cells."""

_BYTES: Final = 16
"""For each pair of cells: cosines, sums and their copies."""


def is_small(query: Float[Tensor, "b c h w"], keys: Sequence[Float[Tensor, "b c _ _"]]) -> bool:
    """Whether picture and references have few enough cells."""
    return all(grid[0, 0].numel() <= MAXIMUM_CELLS for grid in (query, *keys))


def find_small(
    query: Float[Tensor, "b c h w"], keys: Sequence[Float[Tensor, "b c _ _"]], memory_bytes: int
) -> list[Match]:
    """The best place in each reference; of more than two, in the two that fit best around each place.

    Args:
        query: Unit descriptors of the LR images.
        keys: Unit descriptors of the references.
        memory_bytes: Bound on the working memory, as far as a single picture fits it.

    Returns:
        A candidate for each reference, two of more than two, between cells; scores are those of single cells.
    """
    found = [_find(query, key, memory_bytes) for key in keys]
    if len(keys) <= CANDIDATES:
        batch, _, height, width = query.shape
        numbers = torch.arange(len(keys), device=query.device)
        return [
            Match(position_cells=position, reference=number.expand(batch, height, width), score=score, alone=place)
            for place, (number, (position, score, _)) in enumerate(zip(numbers, found, strict=True))
        ]
    positions, scores, fits = (torch.stack(values) for values in zip(*found, strict=True))
    chosen = torch.stack([choose_references(fits[:, b]) for b in range(len(query))], 1)
    return [_of_chosen(positions, scores, reference) for reference in chosen]


def _of_chosen(
    positions: Float[Tensor, "n b 2 h w"], scores: Float[Tensor, "n b 1 h w"], reference: Int[Tensor, "b h w"]
) -> Match:
    """Place by place the match in one reference."""
    index = reference[None, :, None]
    return Match(
        position_cells=positions.gather(0, index.expand(-1, -1, 2, -1, -1))[0],
        reference=reference,
        score=scores.gather(0, index)[0],
    )


def _find(
    query: Float[Tensor, "b c h w"], key: Float[Tensor, "b c h2 w2"], memory_bytes: int
) -> tuple[Float[Tensor, "b 2 h w"], Float[Tensor, "b 1 h w"], Float[Tensor, "b h w"]]:
    """Places in one reference, the cosines there, and the mean cosines that decided."""
    height, width = query.shape[-2:]
    at_once = max(1, memory_bytes // (_BYTES * query[0, 0].numel() * key[0, 0].numel()))
    parts = [
        _find_at_once(asking.flatten(2).transpose(1, 2) @ there.flatten(2), (height, width), key.shape[-2:])
        for asking, there in zip(torch.split(query, at_once), torch.split(key, at_once), strict=True)
    ]
    position, score, fit = (torch.cat(values) for values in zip(*parts, strict=True))
    return position.view(-1, 2, height, width), score.view(-1, 1, height, width), fit.view(-1, height, width)


def _find_at_once(
    cosines: Float[Tensor, "b n m"], size: tuple[int, int], key_size: Sequence[int]
) -> tuple[Float[Tensor, "b 2 n"], Float[Tensor, "b n"], Float[Tensor, "b n"]]:
    """Of a part of the batch."""
    fit, best = _with_neighbours(cosines.view(-1, *size, *key_size)).flatten(3).flatten(1, 2).max(2)
    column, row = best % key_size[1], best // key_size[1]
    centre = cosines.gather(2, best[..., None])[..., 0]
    moved = []
    for place, step, length in ((row, key_size[1], key_size[0]), (column, 1, key_size[1])):
        inside = (place > 0) & (place < length - 1)
        before, after = (
            cosines.gather(2, (best + by).clamp(0, cosines.shape[2] - 1)[..., None])[..., 0] for by in (-step, step)
        )
        vertex = (after - before) / (2 * (2 * centre - before - after).clamp_min(1e-4))
        moved.append(place + vertex.clamp(-0.5, 0.5) * inside)
    return torch.stack(moved, 1), centre, fit


def _with_neighbours(cosines: Float[Tensor, "b h w h2 w2"]) -> Float[Tensor, "b h w h2 w2"]:
    """The mean of each cell's cosine and those of the eight around it, each moved by as much, as far as they are there.

    Source: Scharstein and Szeliski, "A taxonomy and evaluation of dense two-frame stereo correspondence algorithms",
        IJCV 2002, section 3.2 (aggregation of support).
    """
    counts = []
    for axis in (1, 2):
        here, there = cosines.shape[axis], cosines.shape[axis + 2]
        ones = cosines.new_ones(1, here, 1, there, 1) if axis == 1 else cosines.new_ones(1, 1, here, 1, there)
        counts.append(_sum_of_three(ones, axis))
        cosines = _sum_of_three(cosines, axis)
    return cosines / (counts[0] * counts[1])


def _sum_of_three(values: Float[Tensor, "b h w h2 w2"], axis: int) -> Float[Tensor, "b h w h2 w2"]:
    """Each with the one before and the one after, in picture and reference alike."""
    total = values.clone()
    near, far = (
        tuple(part if n in (axis, axis + 2) else slice(None) for n in range(5))
        for part in (slice(None, -1), slice(1, None))
    )
    total[near] += values[far]
    total[far] += values[near]
    return total
