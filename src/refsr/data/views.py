"""Real views of one place, with verified correspondences between them."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from refsr.data.geometry import Matrix
from refsr.data.shards import NODE_PX, Field


@dataclass(frozen=True, kw_only=True)
class Partner:
    """Another photo of the same place.

    Attributes:
        photo: Number of the photo.
        field_px: (y, x) in it of each node of the view, NaN where not verified (see `refsr.data.shards`); None for a
            pair of crops of one place and size, without known correspondences.
    """

    photo: int
    field_px: Field | None = None


@dataclass(frozen=True, kw_only=True)
class RealView:
    """A photo, by number, with at least one partner."""

    photo: int
    partners: tuple[Partner, ...]


def interpolate_field(field_px: Field, points_px: Matrix) -> Matrix:
    """Points (x, y) of a view in its partner, bilinear between nodes; NaN where a node around is unknown."""
    size = torch.tensor(field_px.shape[:0:-1], dtype=torch.float32)
    nodes = torch.from_numpy(points_px).float() / NODE_PX
    grid = 2 * nodes / (size - 1).clamp_min(1) - 1
    found = F.grid_sample(torch.from_numpy(field_px)[None], grid[None, None], align_corners=True)[0, :, 0]
    inside = ((nodes >= 0) & (nodes <= size - 1)).all(1)
    return np.asarray(found.masked_fill(~inside, torch.nan).flip(0).T.double().numpy())


def verified_points(field_px: Field, left: int, top: int, side: int) -> Matrix:
    """(x, y) in the partner of the verified nodes in a square of a view."""
    y, x = np.nonzero(np.isfinite(field_px[0]))
    places = np.stack((x, y), 1) * float(NODE_PX)
    inside = ((places >= (left, top)) & (places < (left + side, top + side))).all(1)
    return field_px[::-1, y[inside], x[inside]].T.astype(np.float64)
