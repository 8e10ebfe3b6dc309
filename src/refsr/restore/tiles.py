"""Transfer in tiles within a memory budget."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, isqrt, prod
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from refsr.device import MIB
from refsr.errors import MemoryBudgetError
from refsr.io.progress import Progress, silent
from refsr.models import RefSRModel
from refsr.restore.pipeline import Matched, transfer

_MINIMUM_TILE_CELLS: Final = 32
_MAXIMUM_TILE_CELLS: Final = 256
_MINIMUM_SEARCH_BYTES: Final = 4 * MIB


def transfer_tiled(
    model: RefSRModel, matched: Matched, tile: int, *, measure: bool = False, progress: Progress = silent
) -> tuple[Float[Tensor, "1 3 h2 w2"], Float[Tensor, "h w"] | None]:
    """Restore an image in tiles, each computed with a halo around it.

    Args:
        model: Model of `match`.
        matched: From `match`.
        tile: Maximum side of a tile in cells, without its halo.
        measure: Restore each tile a second time without references, to compare.
        progress: Told the finished share.

    Returns:
        The result, 0..1; and if measured, the RMS change in grey levels that the references made to each cell.
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


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """Use of a memory budget.

    Attributes:
        tile: Maximum side of a tile in cells, without its halo.
        search_bytes: Working memory left for the search.
    """

    tile: int
    search_bytes: int


def plan_memory(
    model: RefSRModel, lr_px: Sequence[int], ref_px: Sequence[Sequence[int]], memory_bytes: int
) -> MemoryPlan:
    """Plan the largest tiles and the largest search that a budget allows.

    Args:
        model: Model, which knows its `costs`.
        lr_px: Height and width of the LR image.
        ref_px: Height and width of each reference as searched.
        memory_bytes: The budget.

    Raises:
        MemoryBudgetError: Not even the smallest tile or the smallest search fits.
    """
    costs = model.costs
    size = (lr_px[0], lr_px[1])
    sizes = [(ceil(height / model.cell_px), ceil(width / model.cell_px)) for height, width in ref_px]
    cells, ref_cells = prod(size), sum(prod(each) for each in sizes)
    matching = search_bytes = 0
    if sizes:
        at_once = max(model.cells_at_once(*each) for each in (size, *sizes))
        encoded = cells * (costs.query + 12) + ref_cells * costs.reference
        searching = encoded + (cells + ref_cells) * costs.search
        search_bytes = memory_bytes - searching
        smoothing = encoded + model.cells_at_once(*size) * costs.smooth
        matching = max(encoded + at_once * costs.encode, searching + _MINIMUM_SEARCH_BYTES, smoothing)
    held = ref_cells * costs.reference + cells * 4 * (3 + 14 + 3 * model.scale**2)
    around = 2 * model.halo_cells
    seen = [min(_MINIMUM_TILE_CELLS + around, side) for side in size]
    needed = max(matching, held + seen[0] * seen[1] * costs.transfer)
    if needed > memory_bytes:
        raise too_little(lr_px, len(ref_px), needed, memory_bytes)
    side = isqrt((memory_bytes - held) // costs.transfer) - around
    return MemoryPlan(tile=max(_MINIMUM_TILE_CELLS, min(side, _MAXIMUM_TILE_CELLS)), search_bytes=search_bytes)


def too_little(lr_px: Sequence[int], references: int, needed: int, memory_bytes: int) -> MemoryBudgetError:
    """The error of a budget that is too small.

    Args:
        lr_px: Height and width of the LR image.
        references: Number of references.
        needed: The smallest sufficient budget in bytes.
        memory_bytes: The budget.
    """
    count = f"{references} reference{'' if references == 1 else 's'}"
    return MemoryBudgetError(
        f"{lr_px[1]}x{lr_px[0]} pixels with {count} need {ceil(needed / MIB)} MiB of working memory, and"
        f" {memory_bytes // MIB} are allowed: allow more (--memory {ceil(needed / MIB)}MiB), or use smaller pictures"
    )


def _spans(length: int, tile: int) -> Iterator[slice]:
    """Spans of nearly equal length, none longer than a tile."""
    count = ceil(length / tile)
    edges = [round(index * length / count) for index in range(count + 1)]
    return (slice(start, stop) for start, stop in pairwise(edges))
