"""Approximate search of many references with FAISS: an inverted file with short codes, re-ranked exactly.

    keys ── k-means on a sample ──> inverted lists of short codes ──┐
    query patches ── their nearest lists ──> four candidates each ──┴──> exact cosines ──> the best
The time of a query grows with the number of lists probed, not with the number of references.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from refsr.errors import MemoryBudgetError
from refsr.extras import import_extra
from refsr.io.progress import Progress, silent
from refsr.search.match import Found
from refsr.search.patches import patch_grid_size, unit_columns

_ROWS_AT_ONCE: Final = 16384
_TRAINING_ROWS: Final = 40
"""Patches that each list is trained on; FAISS warns below 39."""

_PROBED_LISTS: Final = 16
_CANDIDATES: Final = 4
_ID_BYTES: Final = 8


def find_ivf(
    query: Float[Tensor, "c h w"],
    keys: Sequence[Float[Tensor, "c _ _"]],
    patch: int,
    memory_bytes: int,
    progress: Progress = silent,
) -> Found:
    """The best of the candidates that an inverted file proposes; arguments as for `refsr.search.search`.

    Raises:
        MissingExtraError: FAISS is not installed.
        MemoryBudgetError: Not even the shortest codes fit the budget.

    Source: Jégou et al., "Product Quantization for Nearest Neighbor Search", PAMI 2011; Douze et al., "The Faiss
        library", 2024.
    """
    faiss = import_extra("faiss", "searching many references together")
    ends = np.cumsum([math.prod(patch_grid_size(key, patch)) for key in keys])
    height, width = patch_grid_size(query, patch)
    count, done = height * width, 0
    index = _index(faiss, query.shape[0] * patch**2, int(ends[-1]), count, memory_bytes)
    index.train(_sample(keys, patch, ends, index.nlist * _TRAINING_ROWS))
    for key in keys:
        for _, rows in _rows(key, patch):
            index.add(rows)
            done += len(rows)
            progress(done / (int(ends[-1]) + count))
    best = torch.zeros(count, dtype=torch.long)
    score = query.new_zeros(count)
    for start, rows in _rows(query, patch):
        _, found = index.search(rows, _CANDIDATES)
        stop = start + len(rows)
        best[start:stop], score[start:stop] = _compared(rows, found, keys, patch, ends)
        progress((int(ends[-1]) + stop) / (int(ends[-1]) + count))
    reference, number = _place(best.numpy(), ends)
    widths = np.array([patch_grid_size(key, patch)[1] for key in keys])[reference]
    corner = torch.from_numpy(np.stack((number // widths, number % widths)))
    return Found(
        corner=corner.view(2, height, width).to(query.device),
        reference=torch.from_numpy(reference).view(height, width).to(query.device),
        score=score.view(height, width),
    )


def _index(faiss: Any, depth: int, count: int, queries: int, memory_bytes: int) -> Any:
    """An empty index with the longest codes that fit: 16 or 8 bits a number, or a byte for 4 or 8 numbers.

    Adding costs count x lists, searching queries x count x probed / lists: this number of lists makes them equal.
    """
    lists = max(1, min(round((queries * _PROBED_LISTS) ** 0.5), count // _TRAINING_ROWS))
    fixed = lists * depth * 4 * (1 + _TRAINING_ROWS) + _ROWS_AT_ONCE * depth * 4 * (2 + _CANDIDATES)
    codes = {"SQfp16": 2 * depth, "SQ8": depth}
    codes |= {f"PQ{depth // part}": depth // part for part in (4, 8) if depth % part == 0 and count >= 256 * 39}
    for code, code_bytes in codes.items():
        if fixed + count * (code_bytes + _ID_BYTES) <= memory_bytes:
            index = faiss.index_factory(depth, f"IVF{lists},{code}", faiss.METRIC_INNER_PRODUCT)
            index.nprobe = _PROBED_LISTS
            return index
    least = fixed + count * (min(codes.values()) + _ID_BYTES)
    raise MemoryBudgetError.of_search(memory_bytes, least)


def _sample(
    keys: Sequence[Float[Tensor, "c _ _"]], patch: int, ends: Int[np.ndarray, " n"], count: int
) -> Float[np.ndarray, "m d"]:
    """Patches spread evenly over the pool."""
    chosen = np.linspace(0, ends[-1] - 1, min(max(count, 256 * 39), int(ends[-1]))).astype(np.int64)
    return _cut(keys, patch, *_place(chosen, ends))


def _compared(
    rows: Float[np.ndarray, "n d"],
    found: Int[np.ndarray, "n k"],
    keys: Sequence[Float[Tensor, "c _ _"]],
    patch: int,
    ends: Int[np.ndarray, " m"],
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """Number and cosine of each row's best candidate; number 0 where FAISS found none."""
    candidates = np.maximum(found, 0)
    patches = _cut(keys, patch, *_place(candidates.reshape(-1), ends)).reshape(*candidates.shape, -1)
    scores = np.einsum("nd,nkd->nk", rows, patches)
    first = scores.argmax(1)[:, None]
    return torch.from_numpy(np.take_along_axis(candidates, first, 1)[:, 0]), torch.from_numpy(
        np.take_along_axis(scores, first, 1)[:, 0]
    )


def _place(numbers: Int[np.ndarray, " n"], ends: Int[np.ndarray, " m"]) -> tuple[Int[np.ndarray, " n"], ...]:
    """Index of the reference of each patch of the pool, and the patch's number in that reference."""
    reference = np.searchsorted(ends, numbers, side="right")
    return reference, numbers - np.concatenate(([0], ends))[reference]


def _cut(
    keys: Sequence[Float[Tensor, "c _ _"]], patch: int, reference: Int[np.ndarray, " n"], number: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "n d"]:
    rows = np.empty((len(number), keys[0].shape[0] * patch**2), np.float32)
    for index in np.unique(reference):
        here = np.flatnonzero(reference == index)
        rows[here] = unit_columns(keys[index], patch, torch.from_numpy(number[here])).T.cpu().numpy()
    return rows


def _rows(grid: Float[Tensor, "c h w"], patch: int) -> Iterator[tuple[int, Float[np.ndarray, "n d"]]]:
    """Chunks of all patches in reading order, each with the number of its first patch."""
    count = math.prod(patch_grid_size(grid, patch))
    for start in range(0, count, _ROWS_AT_ONCE):
        numbers = torch.arange(start, min(start + _ROWS_AT_ONCE, count), device=grid.device)
        yield start, np.ascontiguousarray(unit_columns(grid, patch, numbers).T.cpu().numpy())
