"""A match as a smooth field, where neighbours agree.

A cell's own best place is noisy. What shows one thing in both pictures moves by one affine map, over a few cells: a map
through the places of all neighbours that agree lies nearer to the truth than any of them.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from refsr.search import Match, cell_grid

REACH_CELLS: Final = 3
"""How far from a cell its neighbours count; the median looks one cell further."""

_AGREE_CELLS: Final = 1.5
_FEWEST: Final = 6
_RIDGE: Final = 1e-2
_MOST: Final = 0.6


def smooth(match: Match) -> Match:
    """Replace each position by that of an affine map through its neighbours.

    Neighbours are the 7x7 cells around, as far as they are matched in the same reference and their offsets lie within
    one and a half cells of the median of the 3x3 cells around. Where fewer than six agree, it is the median itself.

    Args:
        match: Between cells, or of whole ones.

    Returns:
        The match with other positions, which may lie a little outside the reference.
    """
    offset = match.offset_cells
    centre = _median_3x3(offset)
    height, width = offset.shape[-2:]
    # Moments of (1, y, x) and of what they shall explain, the offset (y, x) beyond the centre's, over the neighbours.
    moments = offset.new_zeros(*offset.shape[:1], 3, 5, height, width)
    for dy, dx, _, agrees, beyond in _neighbours(match, centre):
        row = torch.cat((agrees, agrees * dy, agrees * dx, agrees * beyond), 1)
        moments += torch.stack((row, row * dy, row * dx), 1)
    moved = _at_the_centre(moments[:, :, :3], moments[:, :, 3:])
    enough = moments[:, :1, 0] >= _FEWEST
    grid = cell_grid((height, width), offset)
    return replace(match, position_cells=grid + centre + torch.where(enough, moved, torch.zeros_like(moved)))


def coherence(match: Match) -> float:
    """Share of cells with which most of their neighbours agree: near one for a reference that fits, else near zero.

    Args:
        match: Of one reference.
    """
    count, agreeing = torch.zeros_like(match.score), torch.zeros_like(match.score)
    for _, _, inside, agrees, _ in _neighbours(match, _median_3x3(match.offset_cells)):
        count += inside
        agreeing += agrees
    return (agreeing > _MOST * count).float().mean().item()


def _at_the_centre(
    squares: Float[Tensor, "b 3 3 h w"], explained: Float[Tensor, "b 3 yx h w"]
) -> Float[Tensor, "b yx h w"]:
    """The value at (0, 0) of the plane of least squares, with a slight ridge; by the first row of the inverse."""
    a, d, f = (squares[:, n, n] + _RIDGE for n in range(3))
    b, c, e = squares[:, 0, 1], squares[:, 0, 2], squares[:, 1, 2]
    cofactors = torch.stack((d * f - e * e, c * e - b * f, b * e - c * d), 1)
    determinant = (torch.stack((a, b, c), 1) * cofactors).sum(1, keepdim=True)
    return (cofactors[:, :, None] * explained).sum(1) / determinant


def _neighbours(
    match: Match, centre: Float[Tensor, "b 2 h w"]
) -> Iterator[tuple[int, int, Float[Tensor, "1 1 h w"], Float[Tensor, "b 1 h w"], Float[Tensor, "b 2 h w"]]]:
    """Each place (dy, dx) in the 7x7 cells around: is it inside, does its offset agree, and how far is it beyond?"""
    height, width = centre.shape[-2:]
    inside = F.pad(centre.new_ones(1, 1, height, width), (REACH_CELLS,) * 4)
    around = F.pad(match.offset_cells, (REACH_CELLS,) * 4)
    reference = match.reference[:, None]
    others = F.pad(reference, (REACH_CELLS,) * 4)
    for top, left in product(range(2 * REACH_CELLS + 1), repeat=2):
        there = (..., slice(top, top + height), slice(left, left + width))
        beyond = around[there] - centre
        near = beyond.square().sum(1, keepdim=True) < _AGREE_CELLS**2
        agrees = inside[there] * (near & (others[there] == reference))
        yield top - REACH_CELLS, left - REACH_CELLS, inside[there], agrees, beyond


def _median_3x3(field: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """By sorting each column: of the lowest the highest, of the middle ones the median, of the highest the lowest;
    the median of these three is that of all nine."""
    around = F.pad(field, (1, 1, 1, 1), mode="replicate")
    above, at, below = around[..., :-2, :], around[..., 1:-1, :], around[..., 2:, :]
    lowest, highest = (pick(above, pick(at, below)) for pick in (torch.minimum, torch.maximum))
    middle = _median_of_three(above, at, below)

    def across(column: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return column[..., :-2], column[..., 1:-1], column[..., 2:]

    left, centre, right = across(lowest)
    low = torch.maximum(left, torch.maximum(centre, right))
    left, centre, right = across(highest)
    high = torch.minimum(left, torch.minimum(centre, right))
    return _median_of_three(low, _median_of_three(*across(middle)), high)


def _median_of_three(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return torch.maximum(torch.minimum(a, b), torch.minimum(torch.maximum(a, b), c))
