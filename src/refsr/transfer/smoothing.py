"""A match as a smooth field, where neighbours agree.

A cell's own best place is noisy. What shows one thing in both pictures moves by one affine map, over a few cells: a map
through the places of all neighbours that agree lies nearer to the truth than any of them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import product
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from refsr.search import Match, cell_grid
from refsr.transfer.stripes import stripes

REACH_CELLS: Final = 3
"""How far from a cell its neighbours count; the median looks one cell further."""

_NEIGHBOURS: Final = (2 * REACH_CELLS + 1) ** 2
_AGREE_CELLS: Final = 1.5
_FEWEST: Final = 6
_RIDGE: Final = 1e-2
_MOST: Final = 0.6
_MAXIMUM_AT_ONCE: Final = 2**18
"""Cells whose neighbours an accelerator holds side by side."""

_FAR_CELLS: Final = 10
_FAR_RIDGE: Final = 1e-6
_TOLERANCES_CELLS: Final = (4.0, 2.0, 1.0)
_SUPPORT_POWER: Final = 6
"""A map through cells farther around counts each by this power of its support."""

_DOUBTFUL: Final = 0.8
_MARGIN: Final = 0.2
"""Where less than 0.8 of the neighbours agree, a map that up to 0.2 fewer agree with is taken. Of pairs whose true
field is known, 0.918 of the cells of real views are then found within a cell, 0.761 where planes move apart; without,
0.904 and 0.729."""

SMOOTHING_HALO_CELLS: Final = 48
"""Reach of what decides about a cell: its support, four maps one after the other, the support of the last."""

_LEAST_WEIGHT: Final = 1e-3
_MAXIMUM_REFERENCES: Final = 5


def smooth(match: Match) -> Match:
    """Replace each position by that of an affine map through its neighbours.

    match ── median of 3x3 ──> centre ── map through the 7x7 that agree with it ──> near ──┐
                                          map through the 21x21 whose neighbours agree ──> far ──┴─> the likelier

    Neighbours are the 7x7 cells around, as far as they are matched in the same reference and their offsets lie within
    one and a half cells of the median of the 3x3 cells around. Where fewer than six agree, the median itself counts.
    Where many disagree, the match is a chance one, or the border of something that moves by itself: the map through the
    cells farther around replaces it, if nearly as many of the neighbours agree with that.

    Large pictures are smoothed stripe by stripe, with a halo, to the same result.

    Args:
        match: Between cells, or of whole ones.

    Returns:
        The match with other positions, which may lie a little outside the reference.
    """
    if torch.compiler.is_compiling():
        return _smooth(match)
    height, width = match.score.shape[-2:]
    smoothed = []
    for inside, seen in stripes(height, width, SMOOTHING_HALO_CELLS):
        positions = _smooth(match.crop(seen, slice(None))).position_cells
        smoothed.append(positions[..., inside.start - seen.start : inside.stop - seen.start, :])
    return replace(match, position_cells=torch.cat(smoothed, 2))


def _smooth(match: Match) -> Match:
    """All of it at once."""
    with torch.autocast(match.score.device.type, enabled=False):
        offset = match.offset_cells
        centre = _median_3x3(offset)
        moments = _moments(match, centre)
        moved = _at_the_centre(moments[:, :, :3], moments[:, :, 3:])
        agreeing = moments[:, :1, 0]
        near = centre + torch.where(agreeing >= _FEWEST, moved, torch.zeros_like(moved))
        grid = cell_grid(offset.shape[-2:], offset)
        return replace(match, position_cells=grid + _likelier(match, near, agreeing / _NEIGHBOURS))


def _likelier(
    match: Match, near: Float[Tensor, "b 2 h w"], support: Float[Tensor, "b 1 h w"]
) -> Float[Tensor, "b 2 h w"]:
    """The offsets; where little supports them, those that the well supported ones farther around continue to."""
    likelier = near
    for reference in _references(match):
        here = (match.reference == reference)[:, None]
        far, weight = _through(near, support**_SUPPORT_POWER * here)
        far_support = _moments(match, far)[:, :1, 0] / _NEIGHBOURS
        instead = here & (support < _DOUBTFUL) & (far_support > support - _MARGIN) & (weight > _LEAST_WEIGHT)
        likelier = torch.where(instead, far, likelier)
    return likelier


def _references(match: Match) -> Iterable[int]:
    """Those that cells are matched in; on accelerators perhaps others as well, so that nothing waits."""
    if match.alone is not None:
        return (match.alone,)
    if match.reference.device.type == "cpu":
        return [int(reference) for reference in torch.unique(match.reference)]
    return range(_MAXIMUM_REFERENCES)


def _through(
    offset: Float[Tensor, "b 2 h w"], weight: Float[Tensor, "b 1 h w"]
) -> tuple[Float[Tensor, "b 2 h w"], Float[Tensor, "b 1 h w"]]:
    """Affine maps through the weighed offsets of 21x21 cells, as they are in the middle; and the mean weight.

    Offsets far from the map that goes through them count less and less.

    Source: iteratively reweighted least squares, as in Holland and Welsch, "Robust regression using iteratively
        reweighted least-squares", 1977.
    """
    far, left = _weighed(offset, weight)
    for tolerance in _TOLERANCES_CELLS:
        beyond = (far - offset).square().sum(1, keepdim=True)
        far, left = _weighed(offset, weight * (-beyond / tolerance**2).exp())
    return far, left


def _weighed(
    offset: Float[Tensor, "b 2 h w"], weight: Float[Tensor, "b 1 h w"]
) -> tuple[Float[Tensor, "b 2 h w"], Float[Tensor, "b 1 h w"]]:
    """The same by plain least squares."""
    sums = _sums(torch.cat((weight, weight * offset), 1))
    rows = ((0, 0), (1, 0), (0, 1))  # 1, y and x
    squares = [torch.stack([sums[:, 0, a + c, b + d] for c, d in rows], 1) for a, b in rows]
    # Beyond the offset in the middle, so that the ridge pulls towards that.
    explained = torch.stack([sums[:, 1:, a, b] - offset * sums[:, :1, a, b] for a, b in rows], 1)
    return offset + _at_the_centre(torch.stack(squares, 1), explained, _FAR_RIDGE), sums[:, :1, 0, 0]


def _sums(values: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c y x h w"]:
    """Means over 21x21 cells around each, times 1, y, y^2 and 1, x, x^2, where y and x are -1..1."""
    batch, channels = values.shape[:2]
    along = torch.linspace(-1, 1, 2 * _FAR_CELLS + 1, dtype=values.dtype, device=values.device)
    kernels = torch.stack((torch.ones_like(along), along, along**2))[:, None] / len(along)
    down = F.conv2d(values.flatten(0, 1)[:, None], kernels[..., None], padding=(_FAR_CELLS, 0))
    both = F.conv2d(down.flatten(0, 1)[:, None], kernels[:, :, None], padding=(0, _FAR_CELLS))
    return both.view(batch, channels, 3, 3, *values.shape[-2:])


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


def _moments(match: Match, centre: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b 3 5 h w"]:
    """Sums over the neighbours: (1, y, x) times each of (1, y, x, the offset (y, x) beyond the centre's)."""
    if torch.compiler.is_compiling() or (centre.device.type != "cpu" and match.score.numel() <= _MAXIMUM_AT_ONCE):
        return _moments_at_once(match, centre)
    moments = centre.new_zeros(*centre.shape[:1], 3, 5, *centre.shape[-2:])
    for dy, dx, _, agrees, beyond in _neighbours(match, centre):
        row = torch.cat((agrees, agrees * dy, agrees * dx, agrees * beyond), 1)
        moments += torch.stack((row, row * dy, row * dx), 1)
    return moments


def _moments_at_once(match: Match, centre: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b 3 5 h w"]:
    """The same with all neighbours side by side: more memory, but fifty times fewer calls of the device."""
    side = 2 * REACH_CELLS + 1
    size = centre.shape[-2:]

    def around(values: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c n h w"]:
        return F.unfold(values, side, padding=REACH_CELLS).view(values.shape[0], -1, side**2, *size)

    reference = match.reference[:, None].to(centre)
    inside = around(torch.ones_like(reference[:1]))
    beyond = around(match.offset_cells) - centre[:, :, None]
    near = beyond.square().sum(1, keepdim=True) < _AGREE_CELLS**2
    agrees = inside * (near & (around(reference) == reference[:, :, None]))
    dy, dx = (cell_grid((side, side), centre) - REACH_CELLS).flatten(1)
    ones = torch.ones_like(dy)
    known = torch.stack((ones, dy, dx))
    row = torch.cat((agrees * known[:, :, None, None], agrees * beyond), 1)
    return torch.einsum("kn,bmnhw->bkmhw", known, row)


def _at_the_centre(
    squares: Float[Tensor, "b 3 3 h w"], explained: Float[Tensor, "b 3 yx h w"], ridge: float = _RIDGE
) -> Float[Tensor, "b yx h w"]:
    """The value at (0, 0) of the plane of least squares, with a slight ridge; by the first row of the inverse."""
    a, d, f = (squares[:, n, n] + ridge for n in range(3))
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
