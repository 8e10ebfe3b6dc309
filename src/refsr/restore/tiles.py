"""A large picture restored tile by tile, within a memory budget; each tile sees a halo of its surroundings."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import ceil, isqrt
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from refsr.errors import MemoryBudgetError
from refsr.io.progress import Progress, silent
from refsr.models import RefSRModel
from refsr.restore.pipeline import Matched, transfer
from refsr.search import DEFAULT_SEARCH_BYTES

GIB: Final = 2**30
_SMALLEST_TILE_CELLS: Final = 32
_LARGEST_TILE_CELLS: Final = 256


def transfer_tiled(
    model: RefSRModel, matched: Matched, tile: int, *, measure: bool = False, progress: Progress = silent
) -> tuple[Float[Tensor, "1 3 h2 w2"], Float[Tensor, "h w"] | None]:
    """Restore a picture tile by tile; each tile sees a halo of its surroundings, of which only the inside is kept.

    Args:
        model: That matched.
        matched: From `match`.
        tile: Longest side of a tile in cells, without its halo.
        measure: Restore each tile a second time, without references.
        progress: Told of the share that is done.

    Returns:
        The result, 0..1, and by how many grey levels the references changed each of its cells, if that is measured.
    """
    height, width = matched.lr.shape[-2:]
    scale = model.scale
    sr = torch.empty(1, 3, height * scale, width * scale)
    used = torch.zeros(height, width) if measure else None
    tiles = [(rows, columns) for rows in _spans(height, tile) for columns in _spans(width, tile)]
    for done, (rows, columns) in enumerate(tiles, 1):
        seen_rows, seen_columns = (
            slice(max(0, span.start - model.halo_cells), min(length, span.stop + model.halo_cells))
            for span, length in ((rows, height), (columns, width))
        )
        inside = (
            ...,
            slice((rows.start - seen_rows.start) * scale, (rows.stop - seen_rows.start) * scale),
            slice((columns.start - seen_columns.start) * scale, (columns.stop - seen_columns.start) * scale),
        )
        seen = matched.crop(seen_rows, seen_columns)
        restored = transfer(model, seen)[inside].clamp(0, 1)
        sr[..., rows.start * scale : rows.stop * scale, columns.start * scale : columns.stop * scale] = restored.cpu()
        if used is not None and matched.matches:
            alone = transfer(model, Matched(lr=seen.lr))[inside].clamp(0, 1)
            change = F.avg_pool2d((restored - alone).square().mean(1, keepdim=True), scale).sqrt() * 255
            used[rows, columns] = change[0, 0].cpu()
        progress(done / len(tiles))
    return sr, used


def tile_cells(model: RefSRModel, lr_px: tuple[int, int], ref_px: Sequence[tuple[int, ...]], memory_bytes: int) -> int:
    """Side of the largest tile that fits beside all that is held meanwhile.

    Raises:
        MemoryBudgetError: Not even the smallest does.
    """
    sizes = [(ceil(h / model.cell_px), ceil(w / model.cell_px)) for h, w in ref_px]
    lr_cells = lr_px[0] * lr_px[1]
    references = sum(h * w for h, w in sizes) * model.reference_bytes_per_cell
    matching = 0
    if sizes:
        encoding = max(model.cells_at_once(*size) for size in ((lr_px[0], lr_px[1]), *sizes))
        query = lr_cells * 4 * (3 + 64)
        matching = references + query + max(encoding * model.encode_bytes_per_cell, search_bytes(memory_bytes))
    held = references + lr_cells * 4 * (3 + 8 + 3 * model.scale**2)
    around = 2 * model.halo_cells

    def restoring(side: int) -> int:
        seen = min(side + around, lr_px[0]) * min(side + around, lr_px[1])
        return held + seen * model.transfer_bytes_per_cell

    needed = max(matching, restoring(_SMALLEST_TILE_CELLS))
    if needed > memory_bytes:
        count = f"{len(ref_px)} reference{'' if len(ref_px) == 1 else 's'}"
        raise MemoryBudgetError(
            f"{lr_px[1]}x{lr_px[0]} pixels with {count} need {needed / GIB:.1f} GiB of working memory,"
            f" {memory_bytes / GIB:.1f} GiB are allowed: allow more (--memory), or use smaller pictures"
        )
    side = isqrt((memory_bytes - held) // model.transfer_bytes_per_cell) - around
    return max(_SMALLEST_TILE_CELLS, min(side, _LARGEST_TILE_CELLS))


def search_bytes(memory_bytes: int) -> int:
    """What of a budget the search may use.

    Args:
        memory_bytes: The budget.
    """
    return min(DEFAULT_SEARCH_BYTES, memory_bytes // 4)


def _spans(length: int, tile: int) -> Iterator[slice]:
    """Parts of nearly equal length, none longer than a tile."""
    count = ceil(length / tile)
    edges = [round(index * length / count) for index in range(count + 1)]
    return (slice(start, stop) for start, stop in pairwise(edges))
