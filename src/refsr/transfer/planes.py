"""Planes of the scene: homographies that many matches agree with.

Two pictures of a plane are related by a homography. Where the views differ so much that only some cells of a facade
are matched well, the homography through these tells the place of the others.

match ──> homography of each square's corners ── the one that most cells agree with ── least squares ──> plane 1
                                                  of the cells that do not, the same again           ──> planes 2 to 4
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from refsr.search import Match, cell_grid
from refsr.transfer.swap import matched_references

MAXIMUM_PLANES: Final = 4
"""Planes of each reference."""

_PLANE_SHARE: Final = 0.01
"""Minimum share of a picture's cells that agree with a plane."""

_WIDTHS: Final = (0.5, 0.25, 0.125, 0.0625)
"""Sides of the squares whose corners are tried, in lengths of the longer side."""

_SMALLEST_SQUARE_CELLS: Final = 6
_SQUARES: Final = 900
_SAMPLED_CELLS: Final = 3000
_TOLERANCE_CELLS: Final = 1.0
_TOLERANCES_CELLS: Final = (3.0, 1.5, 1.0, 1.0)
"""Scale of the residuals in each step of the fit; cells within twice the last one belong to the plane."""

MINIMUM_SUPPORT: Final = 0.3
"""Of cells that tell of planes."""

_RIDGE: Final = 1e-9
_MINIMUM_DEPTH: Final = 1e-3


@dataclass(frozen=True, kw_only=True)
class Planes:
    """Planes of each reference, as seen from the photo.

    Attributes:
        size: Height and width of the photo in cells.
        found: Of each reference, homographies (b, 4, 3, 3) and whether they are planes (b, 4); between positions from
            the middle, in units of half the photo's longer side.
    """

    size: tuple[int, int]
    found: Mapping[int, tuple[Float[Tensor, "b n 3 3"], Bool[Tensor, "b n"]]]

    @property
    def _most(self) -> int:
        """The most planes of a picture in a reference."""
        return max(int(is_plane.sum(1).max()) for _, is_plane in self.found.values())

    def positions(self, references: Int[Tensor, "b h w"], rows: slice) -> list[Float[Tensor, "b 2 h w"]]:
        """Positions of some rows by each plane of the reference that a cell is matched in; NaN where it has fewer.

        Args:
            references: The references that these rows are matched in.
            rows: Their numbers.
        """
        batch, height, width = references.shape
        offered: list[Tensor] = []
        for index in range(self._most):
            position = torch.full((batch, 2, height, width), torch.nan, device=references.device)
            for reference, (homographies, is_plane) in self.found.items():
                cells = cell_grid(self.size, homographies)[:, rows].expand(batch, -1, -1, -1)
                here = (references == reference)[:, None] & is_plane[:, index].view(-1, 1, 1, 1)
                position = torch.where(here, self.through(reference, index, cells), position)
            offered.append(position)
        return offered

    def through(self, reference: int, index: int, cells: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b 2 h w"]:
        """Places of the photo, (y, x) in cells, mapped into a reference by one of its planes."""
        homographies, _ = self.found[reference]
        unit, middle = _frame(self.size, cells)
        from_middle = (cells.flatten(2).mT - middle) / unit
        return (_project(homographies[:, index], from_middle) * unit + middle).mT.reshape(cells.shape)


def fit_planes(match: Match, support: Float[Tensor, "b 1 h w"]) -> Planes:
    """Planes of each reference that cells are matched in.

    Args:
        match: As searched.
        support: Share of the cells around each that agree with it (`refsr.transfer.smoothing`).

    Source: Fischler and Bolles, "Random sample consensus", CACM 1981, with all squares of a grid in place of random
        samples; Holland and Welsch, 1977, for the fit; the greedy choice of several as in Vincent and Laganiere,
        "Detecting planar homographies in an image pair", ISPA 2001.
    """
    height, width = match.score.shape[-2:]
    trusted = support * (support > MINIMUM_SUPPORT)
    found = {
        reference: _fit(match.position_cells, trusted * (match.reference == reference)[:, None])
        for reference in matched_references(match)
    }
    return Planes(size=(height, width), found=found)


def _fit(
    position: Float[Tensor, "b 2 h w"], support: Float[Tensor, "b 1 h w"]
) -> tuple[Float[Tensor, "b n 3 3"], Bool[Tensor, "b n"]]:
    """Homographies, and whether enough cells agree with each."""
    height, width = support.shape[-2:]
    unit, middle = _frame((height, width), position)
    cells = (cell_grid((height, width), position).flatten(1).T - middle) / unit
    places = (position.flatten(2).mT - middle) / unit
    corners = _corners(height, width).to(position.device)
    hypotheses = _homographies(cells[corners].expand(len(places), -1, -1, -1), places[:, corners])
    some = _sample(height, width, position.device)
    cells, places, left = cells[some], places[:, some], support.flatten(1)[:, some]
    agreement = _agreement(_project(hypotheses, cells) - places[:, None], _TOLERANCE_CELLS / unit)
    found, agreeing = [], []
    for _ in range(MAXIMUM_PLANES):
        most, best = torch.einsum("bnm,bm->bn", agreement, left).max(1)
        plane = hypotheses.take_along_dim(best.view(-1, 1, 1, 1), 1)[:, 0]
        for tolerance in _TOLERANCES_CELLS:
            trusted = left * _agreement(_project(plane, cells) - places, tolerance / unit)
            plane = _homographies(cells.expand(len(places), -1, -1), places, trusted)
        found.append(plane)
        agreeing.append(most)
        left = left * (1 - _agreement(_project(plane, cells) - places, 2 * _TOLERANCES_CELLS[-1] / unit))
    # The planes that enough cells agree with come first.
    return torch.stack(found, 1), (torch.stack(agreeing, 1) > _PLANE_SHARE * len(some)).cummin(1).values


def _frame(size: tuple[int, int], like: Tensor) -> tuple[float, Float[Tensor, " 2"]]:
    """Half the longer side and the middle (y, x), in cells: the unit and the origin in which all numbers of the
    equations are about one."""
    return max(size) / 2, (like.new_tensor(size) - 1) / 2


def _agreement(apart: Float[Tensor, "*n m 2"], tolerance: float) -> Float[Tensor, "*n m"]:
    """One for no distance, falling to zero beyond the tolerance."""
    return (-apart.square().sum(-1) / tolerance**2).exp()


def _sample(height: int, width: int, device: torch.device) -> Int[Tensor, " n"]:
    """Numbers of the cells of a grid, about `_SAMPLED_CELLS`."""
    step = max(1, round((height * width / _SAMPLED_CELLS) ** 0.5))
    return torch.arange(height * width, device=device).view(height, width)[::step, ::step].flatten()


def _corners(height: int, width: int) -> Int[Tensor, "n 4"]:
    """Numbers of the corner cells of squares of several sizes, on grids of half their side."""
    found: list[tuple[int, int, int, int]] = []
    for share in _WIDTHS:
        side = min(max(_SMALLEST_SQUARE_CELLS, round(share * max(height, width))), height - 1, width - 1)
        step = max(1, side // 2)
        while ((height - side) // step + 1) * ((width - side) // step + 1) > _SQUARES:
            step += 1
        for top, left in product(range(0, height - side, step), range(0, width - side, step)):
            first, last = top * width + left, (top + side) * width + left
            found.append((first, first + side, last, last + side))
    return torch.tensor(found)


def _homographies(
    cells: Float[Tensor, "*n k 2"], places: Float[Tensor, "*n k 2"], weights: Float[Tensor, "*n k"] | None = None
) -> Float[Tensor, "*n 3 3"]:
    """Homographies from points (y, x) to others, by least squares of the linear equations.

    Source: Hartley and Zisserman, "Multiple View Geometry", 2nd edition, section 4.1.2.
    """
    y, x = cells.unbind(-1)
    one, zero = torch.ones_like(y), torch.zeros_like(y)
    to_y, to_x = places.unbind(-1)
    down = torch.stack((y, x, one, zero, zero, zero, -to_y * y, -to_y * x), -1)
    right = torch.stack((zero, zero, zero, y, x, one, -to_x * y, -to_x * x), -1)
    rows, wanted = _in_double(torch.cat((down, right), -2)), _in_double(torch.cat((to_y, to_x), -1))
    weighed = rows if weights is None else rows * _in_double(torch.cat((weights, weights), -1))[..., None]
    squares = weighed.mT @ rows + _RIDGE * torch.eye(8, dtype=rows.dtype, device=rows.device)
    solved, _ = torch.linalg.solve_ex(squares, weighed.mT @ wanted[..., None])
    full: Tensor = F.pad(solved[..., 0], (0, 1), value=1.0).nan_to_num(0.0, 0.0, 0.0)
    return full.view(*full.shape[:-1], 3, 3).to(cells)


def _in_double(values: Tensor) -> Tensor:
    """In double precision; on the CPU where the device has none."""
    return values.double() if values.device.type != "mps" else values.cpu().double()


def _project(homographies: Float[Tensor, "*n 3 3"], cells: Float[Tensor, "*#n m 2"]) -> Float[Tensor, "*n m 2"]:
    """Points (y, x) mapped by each homography; far away where the depth is not positive."""
    mapped = homographies @ F.pad(cells, (0, 1), value=1.0).mT
    return (mapped[..., :2, :] / mapped[..., 2:, :].clamp_min(_MINIMUM_DEPTH)).mT
