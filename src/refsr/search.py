"""Where in the references does each cell's texture lie? Exact search, streamed.

    query (B, C, h, w) ──┐
                         ├── cosine of every patch with every patch, best kept ──> Match on the query's grid
    keys  (B, C, H, W) ──┘
    several, any sizes: one pool

A cell is the unit of these grids: one pixel of the LR image, 4x4 pixels of the output.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Num
from torch import Tensor

from refsr.errors import ImageError, MemoryBudgetError, UsageError

MIB = 2**20
DEFAULT_SEARCH_BYTES = 512 * MIB
_NORM_EPSILON = 1e-6
_LARGEST_CHUNK = 2048
"""Patches a side of one score tile: 16 MiB, which stays in the cache that it was computed in."""


Progress = Callable[[float], None]
"""Called now and then with the share that is done, 0..1."""


@dataclass(frozen=True, kw_only=True)
class Match:
    """For each query cell, the reference cell whose texture fits best.

    Attributes:
        position_cells: (y, x) of the matched patch's centre on its reference's own grid.
        reference: Index of that reference in the pool.
        score: Cosine of the two patches, -1..1.
    """

    position_cells: Float[Tensor, "b 2 h w"]
    reference: Int[Tensor, "b h w"]
    score: Float[Tensor, "b 1 h w"]

    @property
    def offset_cells(self) -> Float[Tensor, "b 2 h w"]:
        """(y, x) from each cell to its match."""
        return self.position_cells - cell_grid(self.score.shape[-2:], self.position_cells)

    def crop(self, rows: slice, columns: slice) -> "Match":
        """The same match over a part of the query's grid; positions stay absolute in the references."""
        return Match(
            position_cells=self.position_cells[..., rows, columns],
            reference=self.reference[..., rows, columns],
            score=self.score[..., rows, columns],
        )


def search(
    query: Float[Tensor, "b c h w"],
    keys: Sequence[Float[Tensor, "b c _ _"]],
    *,
    patch: int = 3,
    memory_bytes: int = DEFAULT_SEARCH_BYTES,
    progress: Progress | None = None,
) -> Match:
    """Find each query patch's best match in a pool of references, exactly.

    Only patches that lie wholly inside their grid take part, as in the paper. A border cell, which centres no such
    patch, takes its nearest neighbour's match, moved along by the same step. Ties go to the first reference, then to
    the first position in reading order. No score matrix is held: tiles of it are streamed within the budget.

    Args:
        query: Feature map of the upsampled LR image.
        keys: Feature maps of the blurred references, one pool; sizes may differ.
        patch: Side of a patch in cells, odd.
        memory_bytes: Bound on the search's own working memory.
        progress: Told of each finished part.

    Returns:
        A match on the query's whole grid, without gradient.

    Raises:
        UsageError: An even patch or an empty pool.
        ImageError: The query or a key is smaller than the patch.
        MemoryBudgetError: Not even one patch against one patch fits the budget.

    Source: Zhang et al., "Image Super-Resolution by Neural Texture Transfer", CVPR 2019, equations 1 and 2.
    """
    if patch < 1 or patch % 2 == 0:
        raise UsageError(f"patch is {patch}: it must be odd")
    if not keys:
        raise UsageError("search needs at least one reference")
    for name, grid in (("the image", query), *((f"reference {i + 1}", key) for i, key in enumerate(keys))):
        if min(grid.shape[-2:]) < patch:
            height, width = grid.shape[-2:]
            raise ImageError(
                f"{name} is too small: {width}x{height} cells, the search compares patches of {patch}x{patch}"
            )

    chunk = _chunk_size(query.shape[1] * patch**2, memory_bytes)
    with torch.no_grad():
        found = [_search_one(query[b], [key[b] for key in keys], patch, chunk, progress) for b in range(query.shape[0])]
    reach = patch // 2
    position, reference, score = (torch.stack(part) for part in zip(*found, strict=True))
    return Match(
        position_cells=_extend_positions(position, reach),
        reference=_extend(reference[:, None].to(query.dtype), reach)[:, 0].long(),
        score=_extend(score[:, None], reach),
    )


def strongest(matches: Sequence[Match]) -> Match:
    """Of several candidates, cell by cell the one with the highest score; of equal ones the first."""
    best = matches[0]
    for match in matches[1:]:
        better = match.score > best.score
        best = Match(
            position_cells=torch.where(better, match.position_cells, best.position_cells),
            reference=torch.where(better[:, 0], match.reference, best.reference),
            score=torch.where(better, match.score, best.score),
        )
    return best


def refine_subpixel(query: Float[Tensor, "b c h w"], key: Float[Tensor, "b c h2 w2"], match: Match) -> Match:
    """Move each match by up to half a cell to the top of the score around it.

    In y and in x a parabola goes through the scores of the matched cell and its two neighbours; its vertex is the
    better position. Matches at a reference's border stay in that direction. For patches of one cell.

    Args:
        query: L2-normalised descriptors.
        key: L2-normalised descriptors of the reference that was searched.
        match: What `search` found, whole cells.
    """
    centre = match.score[:, 0]
    position = match.position_cells.round().long()
    batch = torch.arange(query.shape[0], device=query.device)[:, None, None]
    by_cell = key.permute(0, 2, 3, 1)
    shift = torch.zeros_like(match.position_cells)
    for axis in (0, 1):
        last = key.shape[-2:][axis] - 1
        side = []
        for step in (-1, 1):
            moved = position.clone()
            moved[:, axis] = (moved[:, axis] + step).clamp(0, last)
            there = by_cell[batch, moved[:, 0], moved[:, 1]]
            side.append((query.permute(0, 2, 3, 1) * there).sum(-1))
        curvature = (2 * centre - side[0] - side[1]).clamp_min(1e-4)
        vertex = ((side[1] - side[0]) / (2 * curvature)).clamp(-0.5, 0.5)
        inside = (position[:, axis] > 0) & (position[:, axis] < last)
        shift[:, axis] = torch.where(inside, vertex, torch.zeros_like(vertex))
    return replace(match, position_cells=match.position_cells + shift)


def _search_one(
    query: Float[Tensor, "c h w"],
    keys: Sequence[Float[Tensor, "c _ _"]],
    patch: int,
    chunk: int,
    progress: Progress | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Best position (2, h', w'), reference (h', w') and score (h', w') of the patches inside the query's grid."""
    height, width = query.shape[-2] - patch + 1, query.shape[-1] - patch + 1
    count = height * width
    best = query.new_full((count,), -math.inf)
    best_index = torch.zeros(count, dtype=torch.long, device=query.device)
    best_reference = torch.zeros_like(best_index)
    for q0 in range(0, count, chunk):
        q1 = min(q0 + chunk, count)
        rows = _patches(query, patch, q0, q1).T
        for reference, key in enumerate(keys):
            key_count = (key.shape[-2] - patch + 1) * (key.shape[-1] - patch + 1)
            for k0 in range(0, key_count, chunk):
                scores = rows @ _patches(key, patch, k0, min(k0 + chunk, key_count))
                # The maximum is cheap, the arg max is not: ask for it only where this tile beats all before.
                top = scores.amax(1)
                better = (top > best[q0:q1]).nonzero()[:, 0]
                best[q0 + better] = top[better]
                best_index[q0 + better] = scores[better].argmax(1) + k0
                best_reference[q0 + better] = reference
        if progress is not None:
            progress(q1 / count)
    widths = torch.tensor([key.shape[-1] - patch + 1 for key in keys], device=query.device)[best_reference]
    position = torch.stack((best_index // widths, best_index % widths)).to(query.dtype)
    return position.view(2, height, width), best_reference.view(height, width), best.view(height, width)


def _patches(grid: Float[Tensor, "c h w"], patch: int, start: int, stop: int) -> Float[Tensor, "d n"]:
    """Patches number start to stop in reading order, as unit columns; a flat (zero) patch stays zero."""
    index = torch.arange(start, stop, device=grid.device)
    width = grid.shape[-1] - patch + 1
    corner = index // width * grid.shape[-1] + index % width
    steps = cell_grid((patch, patch), index)
    within = (steps[0] * grid.shape[-1] + steps[1]).flatten()
    columns = grid.flatten(1)[:, within[:, None] + corner].flatten(0, 1)
    return F.normalize(columns, dim=0, eps=_NORM_EPSILON)


def _chunk_size(numbers_per_patch: int, memory_bytes: int) -> int:
    """Largest n for which n query patches, n key patches (each twice: cut out and normalised) and n x n scores fit."""
    numbers = memory_bytes / 4
    chunk = int(math.sqrt(4 * numbers_per_patch**2 + numbers) - 2 * numbers_per_patch)
    if chunk < 1:
        raise MemoryBudgetError(
            f"a search budget of {memory_bytes} bytes is too small: allow at least {16 * numbers_per_patch + 16} bytes"
        )
    return min(chunk, _LARGEST_CHUNK)


def _extend(grid: Float[Tensor, "b c h w"], reach: int) -> Float[Tensor, "b c h2 w2"]:
    return F.pad(grid, (reach,) * 4, mode="replicate") if reach else grid


def _extend_positions(corner: Float[Tensor, "b 2 h w"], reach: int) -> Float[Tensor, "b 2 h2 w2"]:
    """From the first cells of inner patches to the centres of all: a patch's corner and centre differ alike on both
    sides of a match, so that the offset between query and reference is the same."""
    offset = _extend(corner - cell_grid(corner.shape[-2:], corner), reach)
    return offset + cell_grid(offset.shape[-2:], offset)


def cell_grid(size: tuple[int, int] | torch.Size, like: Tensor) -> Num[Tensor, "2 h w"]:
    """Each cell's own (y, x)."""
    y = torch.arange(size[0], dtype=like.dtype, device=like.device)
    x = torch.arange(size[1], dtype=like.dtype, device=like.device)
    return torch.stack(torch.meshgrid(y, x, indexing="ij"))
