"""Matches made smooth: each position is replaced by that of an affine map through its neighbours.

The best match of a single cell is noisy. Over a few cells, corresponding surfaces are related by an affine map: one
fitted to all neighbours that agree is more accurate than any of them.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from refsr.search import Match, cell_grid
from refsr.transfer.stripes import stripes
from refsr.transfer.swap import matched_references

NEAR_CELLS: Final = 3
"""Radius of the neighbourhood of the near map, 7x7 cells."""

_NEIGHBOURS: Final = (2 * NEAR_CELLS + 1) ** 2
_AGREEMENT_CELLS: Final = 1.5
_MINIMUM_AGREEING: Final = 6
_RIDGE: Final = 1e-2
_COHERENT_SHARE: Final = 0.6
_MAXIMUM_CELLS_AT_ONCE: Final = 2**18
"""An accelerator holds the neighbours of up to this many cells side by side."""

_FAR_CELLS: Final = 10
"""Radius of the neighbourhood of the far map, 21x21 cells."""

_FAR_RIDGE: Final = 1e-6
_TOLERANCES_CELLS: Final = (4.0, 2.0, 1.0)
"""Scale of the residuals in each step of the robust fit."""

_SUPPORT_POWER: Final = 6
"""The far map weighs cells by this power of their support."""

_MAXIMUM_DOUBTFUL_SUPPORT: Final = 0.8
_SUPPORT_MARGIN: Final = 0.2
"""The far map replaces a support below 0.8 if its own is at most 0.2 lower. On pairs with a known field this puts 0.918
of the cells of real views within a cell of the truth, 0.761 where planes move apart; 0.904 and 0.729 without it."""

SMOOTHING_HALO_CELLS: Final = 48
"""Distance at which other cells still matter: near map, four far fits one after the other, support of the last."""

_MINIMUM_WEIGHT: Final = 1e-3


def smooth(match: Match) -> Match:
    """Replace each position by that of an affine map through its neighbours.

    match ── median of 3x3 ── affine map through those of 7x7 that agree with it ──> near ──┬─> the likelier
                              affine map through 21x21, weighed by their support ──> far ───┘

    A neighbour agrees if it is matched in the same reference and its offset lies within 1.5 cells of the median; the
    support of a cell is the share of its neighbours that agree. Where fewer than six agree, the median is taken. Low
    support means a match by accident, or the border of an object that moves by itself: there the far map is taken, if
    nearly as many neighbours agree with it.

    Large pictures are smoothed in stripes, with the same result.

    Args:
        match: In whole cells or fractions.

    Returns:
        The match with smooth positions, which may lie slightly outside the reference.
    """
    return replace(match, position_cells=_in_stripes(match, _likelier))


def near_and_far(
    match: Match,
) -> tuple[Float[Tensor, "b 2 h w"], Float[Tensor, "b 2 h w"], Float[Tensor, "b 1 h w"]]:
    """Positions by the near and by the far map of all cells, the near one's where the far map knows nothing; and the
    support of the near ones, 0..1."""

    def together(part: Match) -> Float[Tensor, "b 5 h w"]:
        near, far, support = _maps(part)
        grid = cell_grid(near.shape[-2:], near)
        return torch.cat((grid + near, grid + far, support), 1)

    found = _in_stripes(match, together)
    return found[:, :2], found[:, 2:4], found[:, 4:]


def _in_stripes(match: Match, maps_of: Callable[[Match], Float[Tensor, "b c h w"]]) -> Float[Tensor, "b c h w"]:
    with torch.autocast(match.score.device.type, enabled=False):
        if torch.compiler.is_compiling():
            return maps_of(match)
        height, width = match.score.shape[-2:]
        parts = []
        for inside, seen in stripes(height, width, SMOOTHING_HALO_CELLS):
            found = maps_of(match.crop(seen, slice(None)))
            parts.append(found[..., inside.start - seen.start : inside.stop - seen.start, :])
        return torch.cat(parts, 2)


def _maps(
    match: Match,
) -> tuple[Float[Tensor, "b 2 h w"], Float[Tensor, "b 2 h w"], Float[Tensor, "b 1 h w"]]:
    """Near and far offsets, and the support of the near ones."""
    centre = _median_3x3(match.offset_cells)
    moments = _moments(match, centre)
    moved = _at_the_centre(moments[:, :, :3], moments[:, :, 3:])
    agreeing = moments[:, :1, 0]
    near = centre + torch.where(agreeing >= _MINIMUM_AGREEING, moved, torch.zeros_like(moved))
    support, far = agreeing / _NEIGHBOURS, near
    for reference in matched_references(match):
        here = (match.reference == reference)[:, None]
        found, weight = _through(near, support**_SUPPORT_POWER * here)
        far = torch.where(here & (weight > _MINIMUM_WEIGHT), found, far)
    return near, far, support


def _likelier(match: Match) -> Float[Tensor, "b 2 h w"]:
    """Positions by the near map; by the far one where the near one has little support."""
    near, far, support = _maps(match)
    grid = cell_grid(near.shape[-2:], near)
    far_support = _moments(match, far)[:, :1, 0] / _NEIGHBOURS
    doubtful = support < _MAXIMUM_DOUBTFUL_SUPPORT
    return grid + torch.where(doubtful & (far_support > support - _SUPPORT_MARGIN), far, near)


def _through(
    offset: Float[Tensor, "b 2 h w"], weight: Float[Tensor, "b 1 h w"]
) -> tuple[Float[Tensor, "b 2 h w"], Float[Tensor, "b 1 h w"]]:
    """Robust affine maps through the weighed offsets of 21x21 cells, evaluated at their centres; and the mean weight.

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
    """The same by ordinary least squares."""
    sums = _sums(torch.cat((weight, weight * offset), 1))
    rows = ((0, 0), (1, 0), (0, 1))  # 1, y and x
    squares = [torch.stack([sums[:, 0, a + c, b + d] for c, d in rows], 1) for a, b in rows]
    # Relative to the offset at the centre, which the ridge then pulls towards.
    explained = torch.stack([sums[:, 1:, a, b] - offset * sums[:, :1, a, b] for a, b in rows], 1)
    return offset + _at_the_centre(torch.stack(squares, 1), explained, _FAR_RIDGE), sums[:, :1, 0, 0]


def _sums(values: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c y x h w"]:
    """Means over 21x21 cells of the values times {1, y, y^2} x {1, x, x^2}, with y and x in -1..1."""
    batch, channels = values.shape[:2]
    along = torch.linspace(-1, 1, 2 * _FAR_CELLS + 1, dtype=values.dtype, device=values.device)
    kernels = torch.stack((torch.ones_like(along), along, along**2))[:, None] / len(along)
    down = F.conv2d(values.flatten(0, 1)[:, None], kernels[..., None], padding=(_FAR_CELLS, 0))
    both = F.conv2d(down.flatten(0, 1)[:, None], kernels[:, :, None], padding=(0, _FAR_CELLS))
    return both.view(batch, channels, 3, 3, *values.shape[-2:])


def coherence(match: Match) -> float:
    """Share of cells that at least 60 % of their neighbours agree with: near 1 for a reference that fits, else near 0.

    Args:
        match: In a single reference.
    """
    count, agreeing = torch.zeros_like(match.score), torch.zeros_like(match.score)
    for _, _, inside, agrees, _ in _neighbours(match, _median_3x3(match.offset_cells)):
        count += inside
        agreeing += agrees
    return (agreeing > _COHERENT_SHARE * count).float().mean().item()


def _moments(match: Match, centre: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b 3 5 h w"]:
    """Sums over agreeing neighbours of (1, y, x) times (1, y, x, and the offset (y, x) relative to the centre's)."""
    if torch.compiler.is_compiling() or (centre.device.type != "cpu" and match.score.numel() <= _MAXIMUM_CELLS_AT_ONCE):
        return _moments_at_once(match, centre)
    moments = centre.new_zeros(*centre.shape[:1], 3, 5, *centre.shape[-2:])
    for dy, dx, _, agrees, beyond in _neighbours(match, centre):
        row = torch.cat((agrees, agrees * dy, agrees * dx, agrees * beyond), 1)
        moments += torch.stack((row, row * dy, row * dx), 1)
    return moments


def _moments_at_once(match: Match, centre: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b 3 5 h w"]:
    """The same with all neighbours side by side, which takes more memory and a fiftieth of the device's calls."""
    side = 2 * NEAR_CELLS + 1
    size = centre.shape[-2:]

    def around(values: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c n h w"]:
        return F.unfold(values, side, padding=NEAR_CELLS).view(values.shape[0], -1, side**2, *size)

    reference = match.reference[:, None].to(centre)
    inside = around(torch.ones_like(reference[:1]))
    beyond = around(match.offset_cells) - centre[:, :, None]
    near = beyond.square().sum(1, keepdim=True) < _AGREEMENT_CELLS**2
    agrees = inside * (near & (around(reference) == reference[:, :, None]))
    dy, dx = (cell_grid((side, side), centre) - NEAR_CELLS).flatten(1)
    ones = torch.ones_like(dy)
    known = torch.stack((ones, dy, dx))
    row = torch.cat((agrees * known[:, :, None, None], agrees * beyond), 1)
    return torch.einsum("kn,bmnhw->bkmhw", known, row)


def _at_the_centre(
    squares: Float[Tensor, "b 3 3 h w"], explained: Float[Tensor, "b 3 yx h w"], ridge: float = _RIDGE
) -> Float[Tensor, "b yx h w"]:
    """Value at (0, 0) of the plane fitted by ridge regression; only the first row of the inverse is needed."""
    a, d, f = (squares[:, n, n] + ridge for n in range(3))
    b, c, e = squares[:, 0, 1], squares[:, 0, 2], squares[:, 1, 2]
    cofactors = torch.stack((d * f - e * e, c * e - b * f, b * e - c * d), 1)
    determinant = (torch.stack((a, b, c), 1) * cofactors).sum(1, keepdim=True)
    return (cofactors[:, :, None] * explained).sum(1) / determinant


def _neighbours(
    match: Match, centre: Float[Tensor, "b 2 h w"]
) -> Iterator[tuple[int, int, Float[Tensor, "1 1 h w"], Float[Tensor, "b 1 h w"], Float[Tensor, "b 2 h w"]]]:
    """Each (dy, dx) of 7x7: is the neighbour inside, does it agree, and what is its offset relative to the centre's?"""
    height, width = centre.shape[-2:]
    inside = F.pad(centre.new_ones(1, 1, height, width), (NEAR_CELLS,) * 4)
    around = F.pad(match.offset_cells, (NEAR_CELLS,) * 4)
    reference = match.reference[:, None]
    others = F.pad(reference, (NEAR_CELLS,) * 4)
    for top, left in product(range(2 * NEAR_CELLS + 1), repeat=2):
        there = (..., slice(top, top + height), slice(left, left + width))
        beyond = around[there] - centre
        near = beyond.square().sum(1, keepdim=True) < _AGREEMENT_CELLS**2
        agrees = inside[there] * (near & (others[there] == reference))
        yield top - NEAR_CELLS, left - NEAR_CELLS, inside[there], agrees, beyond


def _median_3x3(field: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Median of nine, as the median of three: the largest column minimum, the median of the column medians and the
    smallest column maximum."""
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
