"""What one homography cannot show: planes in front of each other, and relief.

    crop frame: the pixels of the HR crop; planes in front of the photograph are where their mask is positive
    reference pixel p ── motion of a plane ──> its place in the crop frame, moved on by the relief
A reference pixel shows the front-most plane whose mask covers its place. A cell of the crop is visible in the reference
where the plane that it belongs to is the front-most one there too.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from refsr.data.geometry import pixel_grid, project_many
from refsr.data.sample import Crop
from refsr.device import moved

PLANES: Final = 2
"""Maximum number of planes in front of the photograph."""
_STEPS: Final = 8
"""Steps of the fixed point that inverts the relief; each at least halves the error."""


@dataclass(frozen=True, kw_only=True)
class Planes:
    """The planes in front of a pair's photograph.

    Attributes:
        masks: One for each plane, the front-most last, at nodes that reach from one crop before the crop to one behind
            it; positive where the plane covers.
        cutouts: What each shows: a square of another photograph, or None: the pair's own, which it was split from.
        fill_px: How far off, (x, y), texture is taken for what the own photograph's planes uncover.
    """

    masks: Float[np.ndarray, "planes nodes nodes"]
    cutouts: tuple[Crop | None, ...]
    fill_px: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Relief:
    """A smooth height field that moves what a reference shows.

    Attributes:
        shift_px: At nodes that reach over the reference, in pixels of the crop.
        direction: Unit vector (x, y).
    """

    shift_px: Float[np.ndarray, "nodes nodes"]
    direction: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Several references of one batch, as tensors on the device; planes that are missing have a mask of -1.

    Attributes:
        motions: For the photograph and each plane, from reference pixels to the crop frame.
        backwards: Their inverses.
        masks: Of the planes.
        own: Whether a plane was split from the pair's own photograph.
        fill_px: See `Planes`.
        shift_px: See `Relief`; None if no reference has one.
        direction: See `Relief`.
    """

    motions: Float[Tensor, "n planes1 3 3"]
    backwards: Float[Tensor, "n planes1 3 3"]
    masks: Float[Tensor, "n planes nodes nodes"]
    own: Float[Tensor, "n planes"]
    fill_px: Float[Tensor, "n 2"]
    shift_px: Float[Tensor, "n nodes2 nodes2"] | None
    direction: Float[Tensor, "n 2"]

    def places(self, points: Float[Tensor, "n h w 2"], size_px: int) -> Float[Tensor, "n planes1 h w 2"]:
        """Where reference pixels lie on each plane, in the crop frame."""
        count, planes = self.motions.shape[:2]
        moved = self._relief(points, size_px)[:, None]
        many = points[:, None].expand(-1, planes, -1, -1, -1).flatten(0, 1)
        placed = project_many(self.motions.flatten(0, 1), many)
        return rearrange(placed, "(n p) h w xy -> n p h w xy", n=count) + moved

    def covers(self, places: Float[Tensor, "n planes h w 2"], size_px: int) -> Float[Tensor, "n planes h w"]:
        """The planes' masks at places of the crop frame, positive where they cover."""
        if places.shape[1] == 0:
            return places[..., 0]
        values = mask_at(self.masks.flatten(0, 1), places.flatten(0, 1), size_px)
        return rearrange(values, "(n p) h w -> n p h w", n=len(places))

    def filled(self, background: Float[Tensor, "n h w 2"], size_px: int) -> Float[Tensor, "n h w 2"]:
        """Places of the photograph; those under its own planes, which cannot be known, are taken from elsewhere."""
        count, planes = self.masks.shape[:2]
        if planes == 0:
            return background
        covered = self.covers(background[:, None].expand(count, planes, -1, -1, -1), size_px)
        hidden = ((covered > 0) & (self.own[..., None, None] > 0)).any(1)
        return background + hidden[..., None] * self.fill_px[:, None, None]

    def true_cells(self, size_px: int) -> Float[Tensor, "n 2 h w"]:
        """Where each LR cell lies in the reference, (y, x) in cells; NaN where it is hidden or outside."""
        count, planes = self.motions.shape[:2]
        centres = _cell_centres(count, size_px, self.masks.device)
        found = []
        for plane in range(planes):
            there = project_many(self.backwards[:, plane], centres)
            for _ in range(_STEPS if self.shift_px is not None else 0):
                there = project_many(self.backwards[:, plane], centres - self._relief(there, size_px))
            covers = self.covers(self.places(there, size_px)[:, 1:], size_px)
            found.append(there.masked_fill((covers[:, plane:] > 0).any(1)[..., None], torch.nan))
        owners = self.covers(centres[:, None].expand(count, planes - 1, -1, -1, -1), size_px) > 0
        seen = found[0]
        for plane in range(1, planes):
            seen = torch.where(owners[:, plane - 1, ..., None], found[plane], seen)
        return _in_cells(seen, size_px)

    def _relief(self, points: Float[Tensor, "n h w 2"], size_px: int) -> Float[Tensor, "n h w 2"]:
        """By how much the relief moves what is seen at reference pixels."""
        if self.shift_px is None:
            return torch.zeros_like(points)
        amount = _at_nodes(self.shift_px, points, 0, size_px - 1)
        return amount[..., None] * self.direction[:, None, None]


def true_cells(backwards: Float[Tensor, "n 3 3"], size_px: int) -> Float[Tensor, "n 2 h w"]:
    """Where LR cells lie in references that see them through one homography each, (y, x) in cells; NaN outside.

    Args:
        backwards: From the crop's pixels to the reference's.
        size_px: Side of both.
    """
    centres = _cell_centres(len(backwards), size_px, backwards.device)
    return _in_cells(project_many(backwards, centres), size_px)


def mask_at(
    masks: Float[Tensor, "n nodes nodes"], points: Float[Tensor, "n h w 2"], size_px: int
) -> Float[Tensor, "n h w"]:
    """Masks of planes at places of the crop frame."""
    return _at_nodes(masks, points, -size_px, 2 * size_px)


def coverage(mask: Float[Tensor, "n h w"]) -> Float[Tensor, "n 1 h w"]:
    """Share of each pixel that a mask covers: one within, zero outside, a pixel of ramp at the edge."""
    across, down = (
        F.pad(mask.diff(dim=axis), pad, mode="replicate") for axis, pad in ((-1, (0, 1)), (-2, (0, 0, 0, 1)))
    )
    slope = (across.square() + down.square()).sqrt().clamp_min(1e-6)
    return (mask / slope + 0.5).clamp(0, 1)[:, None]


def stack_geometry(
    motions: list[tuple[NDArray[Any], ...]],
    planes: list[Planes | None],
    reliefs: list[Relief | None],
    like: Tensor,
) -> Geometry:
    """Put several references together.

    Args:
        motions: Of each: one for the photograph, one for each of its planes.
        planes: Of each.
        reliefs: Of each.
        like: On their device.
    """
    nodes = next((p.masks.shape[-1] for p in planes if p is not None), 2)
    count, most = len(motions), max(len(every) for every in motions) - 1
    heights = [relief.shift_px.shape for relief in reliefs if relief is not None]
    arrays = {
        "motions": np.tile(np.eye(3), (count, most + 1, 1, 1)),
        "masks": np.full((count, most, nodes, nodes), -1.0),
        "own": np.zeros((count, most)),
        "fill_px": np.zeros((count, 2)),
        "shift_px": np.zeros((count, *(heights[0] if heights else (2, 2)))),
        "direction": np.zeros((count, 2)),
    }
    for place, (every, front, relief) in enumerate(zip(motions, planes, reliefs, strict=True)):
        arrays["motions"][place, : len(every)] = np.stack(every)
        if front is not None:
            arrays["masks"][place, : len(front.masks)] = front.masks
            arrays["own"][place, : len(front.masks)] = [cutout is None for cutout in front.cutouts]
            arrays["fill_px"][place] = front.fill_px
        if relief is not None:
            arrays["shift_px"][place] = relief.shift_px
            arrays["direction"][place] = relief.direction
    arrays["backwards"] = np.linalg.inv(arrays["motions"])
    tensors = {name: moved(torch.from_numpy(array).float(), like) for name, array in arrays.items()}
    return Geometry(**tensors if heights else tensors | {"shift_px": None})


def _at_nodes(
    values: Float[Tensor, "n nodes nodes"], points: Float[Tensor, "n h w 2"], low: int, high: int
) -> Float[Tensor, "n h w"]:
    """Values between nodes that reach from `low` to `high` pixels; the outermost ones hold beyond."""
    grid = 2 * (points - low) / (high - low) - 1
    return F.grid_sample(values[:, None], grid, padding_mode="border", align_corners=True)[:, 0]


def _cell_centres(count: int, size_px: int, device: torch.device) -> Float[Tensor, "n h w 2"]:
    """(x, y) in pixels of the crop, for each of several pairs."""
    cells = size_px // 4
    return (pixel_grid(cells, cells, device) * 4 + 1.5).expand(count, cells, cells, 2)


def _in_cells(there: Float[Tensor, "n h w 2"], size_px: int) -> Float[Tensor, "n 2 h w"]:
    """Pixels (x, y) of references as cells (y, x), NaN outside."""
    cells = (there - 1.5) / 4
    outside = ((cells < 0) | (cells > size_px // 4 - 1)).any(-1)
    return cells.masked_fill(outside[..., None], torch.nan).flip(-1).permute(0, 3, 1, 2)
