"""Exact search: the products of all patches with all patches, computed in tiles."""

import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from refsr.errors import MemoryBudgetError
from refsr.io.progress import Progress, silent
from refsr.search.match import Found
from refsr.search.patches import patch_grid_size, unit_columns

_TILE_PATCHES = 512
"""Side of a tile of scores: 1 MiB, which stays in the cache of a core."""

_MAXIMUM_SINGLE_TILE_PATCHES = 2048
"""Below this many patches one tile is faster: many small ones cost more in calls than they save in the cache."""


def find_exact(
    query: Float[Tensor, "c h w"],
    keys: Sequence[Float[Tensor, "c _ _"]],
    patch: int,
    memory_bytes: int,
    progress: Progress = silent,
) -> Found:
    """The best of all patches; arguments as for `refsr.search.search`.

    Raises:
        MemoryBudgetError: Not even one patch against one patch fits the budget.

    Source: Zhang et al., "Image Super-Resolution by Neural Texture Transfer", CVPR 2019, equations 1 and 2.
    """
    numbers_per_patch = query.shape[0] * patch**2
    height, width = patch_grid_size(query, patch)
    count = height * width
    key_bytes = 4 * numbers_per_patch * sum(math.prod(patch_grid_size(key, patch)) for key in keys)
    # Cutting out the references' patches once, where they fit, saves cutting them for each part of the query.
    small = count <= _MAXIMUM_SINGLE_TILE_PATCHES
    held = not small and key_bytes <= memory_bytes // 2
    largest = _MAXIMUM_SINGLE_TILE_PATCHES if small else _TILE_PATCHES
    chunk = _chunk_size(numbers_per_patch, memory_bytes - key_bytes * held, largest)
    cut = list(_cut(keys, patch, chunk)) if held else None
    best = query.new_full((count,), -math.inf)
    best_index = torch.zeros(count, dtype=torch.long, device=query.device)
    best_reference = torch.zeros_like(best_index)
    for q0 in range(0, count, chunk):
        q1 = min(q0 + chunk, count)
        rows = unit_columns(query, patch, torch.arange(q0, q1, device=query.device)).T
        for reference, k0, columns in cut or _cut(keys, patch, chunk):
            scores = rows @ columns
            # The maximum is cheap, its index is not: it is computed only for rows whose maximum beats all earlier ones.
            top = scores.amax(1)
            better = (top > best[q0:q1]).nonzero()[:, 0]
            best[q0 + better] = top[better]
            improved = scores if len(better) == len(scores) else scores.index_select(0, better)
            best_index[q0 + better] = improved.argmax(1) + k0
            best_reference[q0 + better] = reference
        progress(q1 / count)
    widths = torch.tensor([patch_grid_size(key, patch)[1] for key in keys], device=query.device)[best_reference]
    corner = torch.stack((best_index // widths, best_index % widths))
    return Found(
        corner=corner.view(2, height, width),
        reference=best_reference.view(height, width),
        score=best.view(height, width),
    )


def _cut(
    keys: Sequence[Float[Tensor, "c _ _"]], patch: int, chunk: int
) -> Iterator[tuple[int, int, Float[Tensor, "d n"]]]:
    """Chunks of the references' patches: index of the reference, number of the first patch, and the patches."""
    for reference, key in enumerate(keys):
        count = math.prod(patch_grid_size(key, patch))
        for start in range(0, count, chunk):
            numbers = torch.arange(start, min(start + chunk, count), device=key.device)
            yield reference, start, unit_columns(key, patch, numbers)


def _chunk_size(numbers_per_patch: int, memory_bytes: int, largest: int) -> int:
    """Largest n, up to a bound, for which n query patches, n key patches and n x n scores fit; patches count twice, as
    cut out and as normalised."""
    numbers = memory_bytes / 4
    chunk = int(math.sqrt(4 * numbers_per_patch**2 + numbers) - 2 * numbers_per_patch)
    if chunk < 1:
        raise MemoryBudgetError.of_search(memory_bytes, 16 * numbers_per_patch + 16)
    return min(chunk, largest)
