"""Unit patches of a feature map, and scores of cells with their neighbours."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from refsr.search.match import cell_grid

_NORM_EPSILON = 1e-6
_ROWS_AT_ONCE = 8192
_UNIT = 1e-5


def patch_grid_size(grid: Float[Tensor, "c h w"], patch: int) -> tuple[int, int]:
    """Rows and columns of patches that lie wholly inside."""
    return grid.shape[-2] - patch + 1, grid.shape[-1] - patch + 1


def unit_columns(grid: Float[Tensor, "c h w"], patch: int, numbers: Int[Tensor, " n"]) -> Float[Tensor, "d n"]:
    """Patches as unit columns; a patch of zeros stays zero.

    Args:
        grid: Feature map.
        patch: Side of a patch in cells.
        numbers: Numbers of the patches in reading order.
    """
    width = grid.shape[-1] - patch + 1
    corner = numbers // width * grid.shape[-1] + numbers % width
    steps = cell_grid((patch, patch), numbers)
    within = (steps[0] * grid.shape[-1] + steps[1]).flatten()
    columns = grid.flatten(1).index_select(1, (within[:, None] + corner).flatten()).view(-1, len(corner))
    return F.normalize(columns, dim=0, eps=_NORM_EPSILON)


def unit_rows(grid: Float[Tensor, "c h w"], patch: int) -> Float[Tensor, "n d"]:
    """All patches in reading order as unit rows, each contiguous in memory; see `unit_columns`."""
    if patch == 1:
        rows = rearrange(grid, "c h w -> (h w) c")
        if rows.is_contiguous() and bool(((torch.linalg.vector_norm(rows, dim=1) - 1).abs() < _UNIT).all()):
            return rows  # spares the copy of a large picture's descriptors, which are unit vectors already
    height, width = patch_grid_size(grid, patch)
    rows = grid.new_empty(height * width, grid.shape[0] * patch**2)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        stop = min(start + _ROWS_AT_ONCE, len(rows))
        rows[start:stop] = unit_columns(grid, patch, torch.arange(start, stop, device=grid.device)).T
    return rows


def mean_with_neighbours(cosines: Float[Tensor, "b h w h2 w2"]) -> Float[Tensor, "b h w h2 w2"]:
    """Mean cosine of the 3x3 cells around each pair of cells, as far as they lie inside both pictures.

    One cell matches many places by accident, a neighbourhood rarely does.

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
    """Sums of each value with those one step before and after it, in picture and reference alike."""
    total = values.clone()
    near, far = (
        tuple(part if n in (axis, axis + 2) else slice(None) for n in range(5))
        for part in (slice(None, -1), slice(1, None))
    )
    total[near] += values[far]
    total[far] += values[near]
    return total
