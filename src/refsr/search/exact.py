"""Exact search: the product of all patches with all patches, streamed."""

import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from refsr.errors import MemoryBudgetError
from refsr.io.progress import Progress, silent
from refsr.search.match import Found
from refsr.search.patches import patch_grid_size, unit_columns

_LARGEST_CHUNK = 512
"""Patches a side of one score tile: 1 MiB, which stays in the cache of the core that computed it."""

_FEW = 2048
"""So few patches are in one tile: what many small tiles save in the cache, they cost in calls."""


def find_exact(
    query: Float[Tensor, "c h w"],
    keys: Sequence[Float[Tensor, "c _ _"]],
    patch: int,
    memory_bytes: int,
    progress: Progress = silent,
) -> Found:
    """The best of all patches. No score matrix is held: tiles of it are streamed within the budget.

    Args:
        query: Feature map of the upsampled LR image.
        keys: Feature maps of the blurred references, one pool.
        patch: Side of a patch in cells.
        memory_bytes: Bound on the working memory.
        progress: Told of each finished part.

    Raises:
        MemoryBudgetError: Not even one patch against one patch fits the budget.

    Source: Zhang et al., "Image Super-Resolution by Neural Texture Transfer", CVPR 2019, equations 1 and 2.
    """
    numbers_per_patch = query.shape[0] * patch**2
    height, width = patch_grid_size(query, patch)
    count = height * width
    key_bytes = 4 * numbers_per_patch * sum(math.prod(patch_grid_size(key, patch)) for key in keys)
    # Where they fit, the references' patches are cut out once, not again for each part of the query.
    held = count > _FEW and key_bytes <= memory_bytes // 2
    chunk = _chunk_size(numbers_per_patch, memory_bytes - key_bytes * held, _FEW if count <= _FEW else _LARGEST_CHUNK)
    cut = list(_cut(keys, patch, chunk)) if held else None
    best = query.new_full((count,), -math.inf)
    best_index = torch.zeros(count, dtype=torch.long, device=query.device)
    best_reference = torch.zeros_like(best_index)
    for q0 in range(0, count, chunk):
        q1 = min(q0 + chunk, count)
        rows = unit_columns(query, patch, torch.arange(q0, q1, device=query.device)).T
        for reference, k0, columns in cut or _cut(keys, patch, chunk):
            scores = rows @ columns
            # The maximum is cheap, the arg max is not: ask for it only where this tile beats all before.
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
    """The references' patches, so many at once: which reference, the number of the first, and they."""
    for reference, key in enumerate(keys):
        count = math.prod(patch_grid_size(key, patch))
        for start in range(0, count, chunk):
            numbers = torch.arange(start, min(start + chunk, count), device=key.device)
            yield reference, start, unit_columns(key, patch, numbers)


def _chunk_size(numbers_per_patch: int, memory_bytes: int, largest: int) -> int:
    """Largest n, up to a bound, for which n query patches, n key patches and n x n scores fit.

    Patches are there twice: cut out and normalised.
    """
    numbers = memory_bytes / 4
    chunk = int(math.sqrt(4 * numbers_per_patch**2 + numbers) - 2 * numbers_per_patch)
    if chunk < 1:
        raise MemoryBudgetError.of_search(memory_bytes, 16 * numbers_per_patch + 16)
    return min(chunk, largest)
