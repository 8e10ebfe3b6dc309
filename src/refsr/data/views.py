"""Real views of one place: which photographs show it as well, and where, as far as that was verified."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from refsr.data.geometry import Matrix
from refsr.data.pack import NODE_PX, Field


@dataclass(frozen=True, kw_only=True)
class Partner:
    """Another photograph of the same place.

    Attributes:
        photo: Its number.
        field_px: (y, x) in it of the view's nodes, NaN where not verified (see `refsr.data.pack`); None if nothing is
            known of where the two match: they are crops of one place and one size.
    """

    photo: int
    field_px: Field | None = None


@dataclass(frozen=True, kw_only=True)
class RealView:
    """A photograph that has partners.

    Attributes:
        photo: Its number.
        partners: At least one.
    """

    photo: int
    partners: tuple[Partner, ...]


def look_up(field_px: Field, points_px: Matrix) -> Matrix:
    """Where points (x, y) of a view lie in its partner; NaN where one of the nodes around is not known."""
    size = torch.tensor(field_px.shape[:0:-1], dtype=torch.float32)
    nodes = torch.from_numpy(points_px).float() / NODE_PX
    grid = 2 * nodes / (size - 1).clamp_min(1) - 1
    found = F.grid_sample(torch.from_numpy(field_px)[None], grid[None, None], align_corners=True)[0, :, 0]
    inside = ((nodes >= 0) & (nodes <= size - 1)).all(1)
    return np.asarray(found.masked_fill(~inside, torch.nan).flip(0).T.double().numpy())


def seen_of(field_px: Field, left: int, top: int, side: int) -> Matrix:
    """Where the verified nodes in a square of a view lie in its partner, (x, y)."""
    y, x = np.nonzero(np.isfinite(field_px[0]))
    places = np.stack((x, y), 1) * float(NODE_PX)
    inside = ((places >= (left, top)) & (places < (left + side, top + side))).all(1)
    return field_px[::-1, y[inside], x[inside]].T.astype(np.float64)
