"""Plan of a memory budget: parts, tiles and search as large as it allows."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isqrt, prod
from pathlib import Path
from typing import Final

import psutil

from refsr.device import GIB, MIB
from refsr.errors import MemoryBudgetError
from refsr.models import RefSRModel
from refsr.restore.tiles import PART_HALO_CELLS, REDUCING_HALO_CELLS
from refsr.wording import counted

_MINIMUM_TILE_CELLS: Final = 32
_MAXIMUM_TILE_CELLS: Final = 256
_PART_SIDES: Final = (1024, 768, 512, 384, 256, 128)
_MINIMUM_SEARCH_BYTES: Final = 4 * MIB
_MAP_BYTES: Final = 24
"""Of the provenance map, per cell."""

_CONTAINER: Final = Path("/sys/fs/cgroup")


def spare_bytes(processes: int = 1) -> int:
    """What the machine can spare for one of so many processes: a third of the free memory for all, at least 2 GiB for
    each."""
    free = int(psutil.virtual_memory().available)
    try:  # a container may have less than its machine
        limit, used = (int((_CONTAINER / name).read_text()) for name in ("memory.max", "memory.current"))
        free = min(free, limit - used)
    except (OSError, ValueError):
        pass
    return max(2 * GIB, free // 3 // processes)


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """Use of a memory budget.

    Attributes:
        part: Maximum side of a part in cells, without those around it.
        tile: Maximum side of a tile in cells, without its halo.
        search_bytes: Working memory left for the search.
    """

    part: int
    tile: int
    search_bytes: int


def plan_memory(
    model: RefSRModel,
    lr_px: Sequence[int],
    ref_px: Sequence[Sequence[int]],
    memory_bytes: int,
    out_px: Sequence[int] | None = None,
) -> MemoryPlan:
    """Plan the largest parts, tiles and search that a budget allows; the whole picture is one part if it can be.

    Args:
        model: Model, which knows its `costs`.
        lr_px: Height and width of the LR image.
        ref_px: Height and width of each reference as searched.
        memory_bytes: The budget.
        out_px: Height and width of the result; by default that of the network.

    Raises:
        MemoryBudgetError: Not even the smallest part, tile or search fits.
    """
    size = (lr_px[0], lr_px[1])
    sides = [side for side in _PART_SIDES if side < max(size)]
    for side in (max(size), *sides):
        needed, plan = _plan(model, size, ref_px, memory_bytes, out_px, side)
        if plan is not None:
            return plan
    raise too_little(lr_px, len(ref_px), needed, memory_bytes)


def _plan(
    model: RefSRModel,
    lr_px: tuple[int, int],
    ref_px: Sequence[Sequence[int]],
    memory_bytes: int,
    out_px: Sequence[int] | None,
    part: int,
) -> tuple[int, MemoryPlan | None]:
    """Bytes needed at the least with parts of such a side, and the plan if these are allowed."""
    costs = model.costs
    in_parts = part < max(lr_px)
    seen_px = min(lr_px[0], part + 2 * PART_HALO_CELLS), min(lr_px[1], part + 2 * PART_HALO_CELLS)
    refs_px = [(ceil(height / model.cell_px), ceil(width / model.cell_px)) for height, width in ref_px]
    cells, ref_cells = prod(seen_px), sum(prod(each) for each in refs_px)
    full_px = (lr_px[0] * model.scale, lr_px[1] * model.scale)
    out_bytes = 4 * 3 * prod(out_px or full_px)
    whole_bytes = prod(lr_px) * _MAP_BYTES + out_bytes if in_parts else 0  # beside those of the part
    matching = search_bytes = 0
    if refs_px:
        at_once = max(model.cells_at_once(*each) for each in (seen_px, *refs_px))
        encoded = whole_bytes + cells * (costs.query + 12) + ref_cells * costs.reference
        searching = encoded + (cells + ref_cells) * costs.search
        search_bytes = memory_bytes - searching
        smoothing = encoded + model.cells_at_once(*seen_px) * costs.smooth
        matching = max(encoded + at_once * costs.encode, searching + _MINIMUM_SEARCH_BYTES, smoothing)
    share = min(1.0, part**2 / prod(lr_px)) if in_parts else 1.0
    held = ceil(whole_bytes + ref_cells * costs.reference + cells * 4 * 14 + prod(lr_px) * 4 * 3 + out_bytes * share)
    around = 2 * (model.halo_cells + (REDUCING_HALO_CELLS if out_px and tuple(out_px) != full_px else 0))
    tile_px = [min(_MINIMUM_TILE_CELLS + around, side) for side in lr_px]
    needed = max(matching, held + prod(tile_px) * costs.transfer)
    if needed > memory_bytes:
        return needed, None
    side = isqrt((memory_bytes - held) // costs.transfer) - around
    tile = max(_MINIMUM_TILE_CELLS, min(side, _MAXIMUM_TILE_CELLS))
    return needed, MemoryPlan(part=part, tile=tile, search_bytes=search_bytes)


def too_little(lr_px: Sequence[int], references: int, needed: int, memory_bytes: int) -> MemoryBudgetError:
    """The error of a budget that is too small.

    Args:
        lr_px: Height and width of the LR image.
        references: Number of references.
        needed: The smallest sufficient budget in bytes.
        memory_bytes: The budget.
    """
    asked = f"{lr_px[1]}x{lr_px[0]} pixels with {counted(references, 'reference')}"
    return MemoryBudgetError(
        f"{asked} need {ceil(needed / MIB)} MiB of working memory, and {memory_bytes // MIB} are allowed: allow more"
        f" (--memory {ceil(needed / MIB)}MiB), or use smaller pictures"
    )
