"""Parallax and occlusion in synthetic pairs: planes in front of each other, and relief.

    reference pixel ── homography of a plane ──> place in the crop frame ── relief ──> displaced place

The crop frame is the pixel grid of the HR crop. A plane covers the places where its mask is positive. A reference pixel
shows the front-most plane that covers its place; a cell of the crop is visible in the reference where its plane is the
front-most one there too.
"""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from refsr.data.geometry import Matrix, about, linear, pixel_grid, project_many, rotation, translation
from refsr.data.sample import Crop
from refsr.device import moved

MAXIMUM_PLANES: Final = 2
"""Maximum number of planes in front of the photo."""
_RELIEF_NODES: Final = 24
_INVERSION_STEPS: Final = 8  # fixed-point iterations that invert the relief; each at least halves the error


@dataclass(frozen=True, kw_only=True)
class Planes:
    """The planes in front of a pair's photo, the front-most last.

    Attributes:
        masks: Positive where a plane covers; nodes span three crops a side, the HR crop in the middle.
        cutouts: Texture of each plane: a crop of another photo, or None for the pair's own photo.
        fill_px: Offset (x, y) of the texture that fills what planes of the pair's own photo uncover.
    """

    masks: Float[np.ndarray, "planes nodes nodes"]
    cutouts: tuple[Crop | None, ...]
    fill_px: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Relief:
    """A smooth height field that displaces the content of a reference.

    Attributes:
        shift_px: Displacement at nodes that span the reference, in pixels of the crop.
        direction: Unit vector (x, y) of the displacement.
    """

    shift_px: Float[np.ndarray, "nodes nodes"]
    direction: tuple[float, float]


def smooth_nodes(rng: np.random.Generator, coarse: int, fine: int) -> NDArray[np.float32]:
    """(fine, fine) values of a smooth random function of about unit variance, from (coarse, coarse) normal ones."""
    values = rng.standard_normal((coarse, coarse), dtype=np.float32)
    return np.array(Image.fromarray(values).resize((fine, fine), Image.Resampling.BICUBIC))


def random_plane_motion(size: int, rng: np.random.Generator) -> Matrix:
    """Motion of a plane relative to the photo behind it."""
    angle, length = rng.uniform(0, 2 * math.pi), size * rng.uniform(0.03, 0.3)
    zoomed = linear(2 ** rng.uniform(-0.15, 0.15) * rotation(rng.uniform(-5, 5)))
    offset = length * np.array((math.cos(angle), math.sin(angle)))
    return translation(offset) @ about(zoomed, np.full(2, (size - 1) / 2))


def random_relief(size: int, rng: np.random.Generator) -> Relief:
    """Relief of a reference of a side of `size` pixels."""
    angle = rng.uniform(0, 2 * math.pi)
    heights = smooth_nodes(rng, 5, _RELIEF_NODES) * size * rng.uniform(0.005, 0.03)
    return Relief(shift_px=heights, direction=(math.cos(angle), math.sin(angle)))


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """`Planes` and `Relief` of a batch of references, as tensors on the device; missing planes have a mask of -1.

    Attributes:
        motions: Homographies of the photo and each plane, from reference pixels to the crop frame.
        inverses: Their inverses.
        own: 1 for planes of the pair's own photo, else 0.
        shift_px: None if no reference has a relief.
    """

    motions: Float[Tensor, "n planes1 3 3"]
    inverses: Float[Tensor, "n planes1 3 3"]
    masks: Float[Tensor, "n planes nodes nodes"]
    own: Float[Tensor, "n planes"]
    fill_px: Float[Tensor, "n 2"]
    shift_px: Float[Tensor, "n nodes2 nodes2"] | None
    direction: Float[Tensor, "n 2"]

    def crop_places(self, points: Float[Tensor, "n h w 2"], size_px: int) -> Float[Tensor, "n planes1 h w 2"]:
        """Places of reference pixels in the crop frame, (x, y), by the homography of each plane."""
        count, planes = self.motions.shape[:2]
        repeated = points[:, None].expand(-1, planes, -1, -1, -1).flatten(0, 1)
        places = project_many(self.motions.flatten(0, 1), repeated)
        return rearrange(places, "(n p) h w xy -> n p h w xy", n=count) + self._displacement(points, size_px)[:, None]

    def mask_values(self, places: Float[Tensor, "n planes h w 2"], size_px: int) -> Float[Tensor, "n planes h w"]:
        """The planes' masks at places of the crop frame."""
        if places.shape[1] == 0:
            return places[..., 0]
        values = mask_at(self.masks.flatten(0, 1), places.flatten(0, 1), size_px)
        return rearrange(values, "(n p) h w -> n p h w", n=len(places))

    def fill_uncovered(self, background: Float[Tensor, "n h w 2"], size_px: int) -> Float[Tensor, "n h w 2"]:
        """Places of the photo, offset by `fill_px` where its own planes hide it and its texture is unknown."""
        count, planes = self.masks.shape[:2]
        if planes == 0:
            return background
        covered = self.mask_values(background[:, None].expand(count, planes, -1, -1, -1), size_px)
        hidden = ((covered > 0) & (self.own[..., None, None] > 0)).any(1)
        return background + hidden[..., None] * self.fill_px[:, None, None]

    def true_cells(self, size_px: int) -> Float[Tensor, "n 2 h w"]:
        """Position of each LR cell in the reference, (y, x) in cells; NaN where hidden or outside."""
        count, planes = self.motions.shape[:2]
        centres = _cell_centres(count, size_px, self.masks.device)
        found = []
        for plane in range(planes):
            points = project_many(self.inverses[:, plane], centres)
            for _ in range(_INVERSION_STEPS if self.shift_px is not None else 0):
                points = project_many(self.inverses[:, plane], centres - self._displacement(points, size_px))
            masks = self.mask_values(self.crop_places(points, size_px)[:, 1:], size_px)
            found.append(points.masked_fill((masks[:, plane:] > 0).any(1)[..., None], torch.nan))
        owners = self.mask_values(centres[:, None].expand(count, planes - 1, -1, -1, -1), size_px) > 0
        seen = found[0]
        for plane in range(1, planes):
            seen = torch.where(owners[:, plane - 1, ..., None], found[plane], seen)
        return _in_cells(seen, size_px)

    def _displacement(self, points: Float[Tensor, "n h w 2"], size_px: int) -> Float[Tensor, "n h w 2"]:
        """Displacement by the relief, (x, y), at reference pixels."""
        if self.shift_px is None:
            return torch.zeros_like(points)
        amount = _at_nodes(self.shift_px, points, 0, size_px - 1)
        return amount[..., None] * self.direction[:, None, None]


def true_cells(inverses: Float[Tensor, "n 3 3"], size_px: int) -> Float[Tensor, "n 2 h w"]:
    """Position of each LR cell in references through one homography each, (y, x) in cells; NaN outside.

    Args:
        inverses: Homographies from the HR crop's pixels to the reference's.
        size_px: Side of both.
    """
    centres = _cell_centres(len(inverses), size_px, inverses.device)
    return _in_cells(project_many(inverses, centres), size_px)


def mask_at(
    masks: Float[Tensor, "n nodes nodes"], points: Float[Tensor, "n h w 2"], size_px: int
) -> Float[Tensor, "n h w"]:
    """Masks of planes at places (x, y) of the crop frame."""
    return _at_nodes(masks, points, -size_px, 2 * size_px)


def coverage(mask: Float[Tensor, "n h w"]) -> Float[Tensor, "n 1 h w"]:
    """Share of each pixel that a mask covers: 1 inside, 0 outside, a ramp of one pixel at the edge."""
    across, down = (
        F.pad(mask.diff(dim=axis), pad, mode="replicate") for axis, pad in ((-1, (0, 1)), (-2, (0, 0, 0, 1)))
    )
    slope = (across.square() + down.square()).sqrt().clamp_min(1e-6)
    return (mask / slope + 0.5).clamp(0, 1)[:, None]


def stack_geometry(
    motions: list[tuple[NDArray[Any], ...]], planes: list[Planes | None], reliefs: list[Relief | None], like: Tensor
) -> Geometry:
    """Stack the homographies (of the photo, then of each plane), planes and reliefs of a batch of references."""
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
    arrays["inverses"] = np.linalg.inv(arrays["motions"])
    tensors = {name: moved(torch.from_numpy(array).float(), like) for name, array in arrays.items()}
    return Geometry(**tensors if heights else tensors | {"shift_px": None})


def _at_nodes(
    values: Float[Tensor, "n nodes nodes"], points: Float[Tensor, "n h w 2"], low: int, high: int
) -> Float[Tensor, "n h w"]:
    """Bilinear values between nodes that span `low` to `high` pixels, constant beyond."""
    grid = 2 * (points - low) / (high - low) - 1
    return F.grid_sample(values[:, None], grid, padding_mode="border", align_corners=True)[:, 0]


def _cell_centres(count: int, size_px: int, device: torch.device) -> Float[Tensor, "n h w 2"]:
    """Centres of LR cells, (x, y) in pixels of the HR crop."""
    cells = size_px // 4
    return (pixel_grid(cells, cells, device) * 4 + 1.5).expand(count, cells, cells, 2)


def _in_cells(points: Float[Tensor, "n h w 2"], size_px: int) -> Float[Tensor, "n 2 h w"]:
    """Reference pixels (x, y) as cells (y, x), NaN outside."""
    cells = (points - 1.5) / 4
    outside = ((cells < 0) | (cells > size_px // 4 - 1)).any(-1)
    return cells.masked_fill(outside[..., None], torch.nan).flip(-1).permute(0, 3, 1, 2)
