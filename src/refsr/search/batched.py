"""Exact search of small pictures on an accelerator, as in training: a whole batch at once, without synchronisation.

cosines of all cells with all ──> each averaged with the eight around ──> best place ──> fraction of a cell
"""

from collections.abc import Sequence
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from refsr.search.candidates import CANDIDATES, choose_references
from refsr.search.match import Match
from refsr.search.patches import mean_with_neighbours

MAXIMUM_CELLS: Final = 2048
"""Coarse search is faster above this many cells of a picture or reference; on a CPU, at any size."""

_PAIR_BYTES: Final = 16
"""Memory for each pair of cells: cosine, sum and their copies."""


def is_small(query: Float[Tensor, "b c h w"], keys: Sequence[Float[Tensor, "b c _ _"]]) -> bool:
    """Whether picture and references have at most `MAXIMUM_CELLS` each."""
    return all(grid[0, 0].numel() <= MAXIMUM_CELLS for grid in (query, *keys))


def find_small(
    query: Float[Tensor, "b c h w"], keys: Sequence[Float[Tensor, "b c _ _"]], memory_bytes: int
) -> list[Match]:
    """The same as `refsr.search.search_candidates`, for unit descriptors.

    The budget bounds how many pictures are searched at once; a single one may exceed it.
    """
    found = [_find(query, key, memory_bytes) for key in keys]
    if len(keys) <= CANDIDATES:
        batch, _, height, width = query.shape
        numbers = torch.arange(len(keys), device=query.device)
        return [
            Match(position_cells=position, reference=number.expand(batch, height, width), score=score, among=(index,))
            for index, (number, (position, score, _)) in enumerate(zip(numbers, found, strict=True))
        ]
    positions, scores, fits = (torch.stack(values) for values in zip(*found, strict=True))
    chosen = torch.stack([choose_references(fits[:, b]) for b in range(len(query))], 1)
    return [_of_chosen(positions, scores, reference) for reference in chosen]


def _of_chosen(
    positions: Float[Tensor, "n b 2 h w"], scores: Float[Tensor, "n b 1 h w"], reference: Int[Tensor, "b h w"]
) -> Match:
    """Each cell's match in the reference that is chosen for it."""
    index = reference[None, :, None]
    return Match(
        position_cells=positions.gather(0, index.expand(-1, -1, 2, -1, -1))[0],
        reference=reference,
        score=scores.gather(0, index)[0],
        among=range(len(scores)),
    )


def _find(
    query: Float[Tensor, "b c h w"], key: Float[Tensor, "b c h2 w2"], memory_bytes: int
) -> tuple[Float[Tensor, "b 2 h w"], Float[Tensor, "b 1 h w"], Float[Tensor, "b h w"]]:
    """Positions in one reference, the cosines there, and the mean cosines that were maximal there."""
    height, width = query.shape[-2:]
    at_once = max(1, memory_bytes // (_PAIR_BYTES * query[0, 0].numel() * key[0, 0].numel()))
    parts = [
        _find_at_once(asking.flatten(2).transpose(1, 2) @ there.flatten(2), (height, width), key.shape[-2:])
        for asking, there in zip(torch.split(query, at_once), torch.split(key, at_once), strict=True)
    ]
    position, score, fit = (torch.cat(values) for values in zip(*parts, strict=True))
    return position.view(-1, 2, height, width), score.view(-1, 1, height, width), fit.view(-1, height, width)


def _find_at_once(
    cosines: Float[Tensor, "b n m"], size: tuple[int, int], key_size: Sequence[int]
) -> tuple[Float[Tensor, "b 2 n"], Float[Tensor, "b n"], Float[Tensor, "b n"]]:
    fit, best = mean_with_neighbours(cosines.view(-1, *size, *key_size)).flatten(3).flatten(1, 2).max(2)
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
