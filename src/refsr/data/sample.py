"""Pixels cut out of photographs: squares along the axes exactly, any other view through a homography.

    photo (uint8) ── slice ── shrink to about the view's resolution ──> patch ┐
                                           where each pixel lies in the photo ┴── bicubic sampling ──> picture
The slices are cut one by one, all else is done for a whole batch, on the photographs' device.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from refsr.data.geometry import Matrix, linear, pixel_grid, project, project_many, shift
from refsr.device import moved

Photo = UInt8[Tensor, "3 _ _"]
_DENSITY: Final = 1.15
"""Patch pixels for each pixel of the view: fewer blur it, more alias."""
_MAXIMUM_PATCH_PX: Final = 512
_BORDER_PX: Final = 2


@dataclass(frozen=True, kw_only=True)
class Crop:
    """A square of a photograph along its axes, shrunk to the size that is wanted, turned and flipped.

    Attributes:
        photo: Its number.
        left: In pixels of the photograph.
        top: In pixels of the photograph.
        side: In pixels of the photograph.
        transposed: Rows and columns are exchanged, first of all.
        flipped: Left and right are, then top and bottom.
    """

    photo: int
    left: int
    top: int
    side: int
    transposed: bool = False
    flipped: tuple[bool, bool] = (False, False)

    def view(self, size_px: int) -> Matrix:
        """From the pixels of the picture that is cut to those of the photograph."""
        signs = np.where(self.flipped, -1.0, 1.0)
        turn = np.diag(signs)[::-1] if self.transposed else np.diag(signs)
        corner = np.array((self.left, self.top))
        middle = np.full(2, (size_px - 1) / 2)
        return shift(corner + self.side / 2 - 0.5) @ linear(self.side / size_px * turn) @ shift(-middle)


def cut(photos: Sequence[Photo], crops: Sequence[Crop], size_px: int) -> Float[Tensor, "n 3 s s"]:
    """Cut squares out, each as exactly as Pillow's bicubic does; 0..1, of 256 steps.

    Args:
        photos: One for each square.
        crops: Where.
        size_px: Side of the results.
    """
    squares = photos[0].new_empty((len(crops), 3, size_px, size_px))
    for place, (photo, crop) in enumerate(zip(photos, crops, strict=True)):
        box = photo[:, crop.top : crop.top + crop.side, crop.left : crop.left + crop.side]
        square = _resize(box, (size_px, size_px))
        if crop.transposed:
            square = square.transpose(1, 2)
        squares[place] = square.flip([2 - axis for axis in (0, 1) if crop.flipped[axis]])
    return squares.float() / 255


@dataclass(frozen=True, kw_only=True)
class View:
    """A square picture of a photograph through a homography.

    Attributes:
        photo: Its number.
        matrix: From the picture's pixels to the photograph's.
        reach_px: By how many pixels of the photograph its pixels may be moved beyond.
    """

    photo: int
    matrix: Matrix
    reach_px: float = 0.0


def warp(
    photos: Sequence[Photo], views: Sequence[View], points_px: Float[Tensor, "n s s 2"]
) -> Float[Tensor, "n 3 s s"]:
    """Sample photographs, as sharp as a photograph of that size would be; what lies beyond an edge is mirrored.

    Args:
        photos: One for each picture.
        views: What part of it is needed, and how finely.
        points_px: (x, y) in the photograph of each pixel: `View.matrix` of its place, moved by `reach_px` at most.

    Returns:
        0..1.
    """
    size = points_px.shape[1]
    patches, places = zip(*(_patch(photo, view, size) for photo, view in zip(photos, views, strict=True)), strict=True)
    side = max(max(patch.shape[-2:]) for patch in patches)
    padded = torch.zeros((len(patches), 3, side, side), device=points_px.device)
    for place, patch in enumerate(patches):
        padded[place, :, : patch.shape[1], : patch.shape[2]] = patch
    limit, origin, factor = (
        part[:, None, None] for part in moved(torch.from_numpy(np.stack(places, 1)).float(), points_px)
    )
    mirrored = (limit - (points_px + 0.5).abs_().neg_().add_(limit).abs_()).clamp_min_(0)
    # From the photograph's pixels to the patch's, and to grid_sample's -1..1.
    grid = torch.addcmul(2 * (_BORDER_PX - origin * factor) / side - 1, mirrored, 2 * factor / side)
    sampled = F.grid_sample(padded, grid, mode="bicubic", align_corners=False)
    return sampled.div_(255).clamp_(0, 1)


def sample_view(photo: NDArray[np.uint8], view: Matrix, size_px: int) -> Float[Tensor, "3 s s"]:
    """One square of one photograph through a homography.

    Args:
        photo: (H, W, 3).
        view: 3x3, from the square's pixels (x, y, 1) to the photo's.
        size_px: Side of the square.
    """
    pixels = torch.from_numpy(np.array(photo)).permute(2, 0, 1)  # a copy: Pillow lends arrays that may not be written
    points = project_many(torch.from_numpy(view)[None].float(), pixel_grid(size_px, size_px, pixels.device)[None])
    return warp([pixels], [View(photo=0, matrix=view)], points)[0]


def _patch(photo: Photo, view: View, size: int) -> tuple[Float[Tensor, "3 _ _"], NDArray[np.float64]]:
    """The part of a photograph that a view shows, 0..255, with a border; and limit, origin and factor, each (x, y)."""
    edge = size - 1
    corners = project(view.matrix, np.array([[0, 0], [edge, 0], [edge, edge], [0, edge]], dtype=np.float64))
    # Photograph pixels for each of the view's, along either axis of the photograph.
    right, down = ((corners[a] - corners[0] + corners[2] - corners[b]) / 2 for a, b in ((1, 3), (3, 1)))
    density = np.hypot(right, down) / edge
    margin = view.reach_px + 3 * np.maximum(1.0, density)
    limit = np.array(photo.shape[:0:-1])
    low, high = corners.min(0) - margin, corners.max(0) + margin
    # What is mirrored at an edge of the photograph comes from as far inside.
    low, high = np.minimum(low, 2 * limit - high), np.maximum(high, -low)
    low = np.clip(np.floor(low), 0, limit - 1).astype(int)
    high = np.clip(np.ceil(high), low + 1, limit).astype(int)
    wanted = np.minimum(_DENSITY / density.clip(1e-6), (_MAXIMUM_PATCH_PX - 2 * _BORDER_PX) / (high - low)).clip(max=1)
    width, height = (int(side) for side in np.maximum(2, np.round((high - low) * wanted)))
    box = _resize(photo[:, low[1] : high[1], low[0] : high[0]], (height, width))
    patch = F.pad(box[None].float(), (_BORDER_PX,) * 4, mode="replicate")[0]
    return patch, np.stack((limit, low, np.array((width, height)) / (high - low)))


def _resize(pixels: Photo, size: tuple[int, int]) -> Photo:
    """Antialiased bicubic; bytes are resized as such where the device can, which is four times as quick."""
    if pixels.shape[1:] == size:
        return pixels
    if pixels.device.type == "cpu":
        return F.interpolate(pixels[None], size=size, mode="bicubic", antialias=True)[0]
    resized = F.interpolate(pixels[None].float(), size=size, mode="bicubic", antialias=True)[0]
    return resized.round().clamp(0, 255).byte()
