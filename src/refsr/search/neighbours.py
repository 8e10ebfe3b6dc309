"""Scores of cells with their neighbours: one cell matches many places by accident, a neighbourhood rarely does."""

from jaxtyping import Float
from torch import Tensor


def mean_with_neighbours(cosines: Float[Tensor, "b h w h2 w2"]) -> Float[Tensor, "b h w h2 w2"]:
    """Mean cosine of the 3x3 cells around each pair of cells, as far as they lie inside both pictures.

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
