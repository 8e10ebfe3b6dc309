"""Sampling of photos: axis-aligned crops exactly, all other views through a homography.

    photo (uint8) ── slice ── shrink to about the view's resolution ──> patch ┐
                                         position of each pixel in the photo ─┴── bicubic sampling ──> picture

Patches are cut one by one; sampling is done for a whole batch, on the photos' device.
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

from refsr.data.geometry import Matrix, linear, pixel_grid, project, project_many, translation
from refsr.device import moved

SCALE: Final = 4
"""Factor between LR image and truth, where LR images are real."""

Pixels = UInt8[Tensor, "3 _ _"]
_PATCH_DENSITY: Final = 1.15  # patch pixels per pixel of the view; fewer blur it, more alias
_MAXIMUM_PATCH_PX: Final = 512
_BORDER_PX: Final = 2


@dataclass(frozen=True, kw_only=True)
class Crop:
    """An axis-aligned square of a photo, in its pixels, to be resized, transposed and flipped, in this order.

    `photo` is the number of the photo; `flipped` says whether left and right, and top and bottom, are exchanged.
    """

    photo: int
    left: int
    top: int
    side: int
    transposed: bool = False
    flipped: tuple[bool, bool] = (False, False)

    def view(self, size_px: int) -> Matrix:
        """Homography from the pixels of the resized crop to those of the photo."""
        signs = np.where(self.flipped, -1.0, 1.0)
        turn = np.diag(signs)[::-1] if self.transposed else np.diag(signs)
        corner = np.array((self.left, self.top))
        middle = np.full(2, (size_px - 1) / 2)
        return translation(corner + self.side / 2 - 0.5) @ linear(self.side / size_px * turn) @ translation(-middle)


def cut(photos: Sequence[Pixels], crops: Sequence[Crop], size_px: int) -> Float[Tensor, "n 3 s s"]:
    """Crop photos and resize them to a side of `size_px`, as exactly as Pillow's bicubic; 0..1, quantised to 8 bits."""
    squares = photos[0].new_empty((len(crops), 3, size_px, size_px))
    for place, (photo, crop) in enumerate(zip(photos, crops, strict=True)):
        box = photo[:, crop.top : crop.top + crop.side, crop.left : crop.left + crop.side]
        square = _resize(box, (size_px, size_px))
        if crop.transposed:
            square = square.transpose(1, 2)
        squares[place] = square.flip([2 - axis for axis in (0, 1) if crop.flipped[axis]])
    return squares.float() / 255


def warp(
    photos: Sequence[Pixels], views: Sequence[Matrix], reaches_px: Sequence[float], points_px: Float[Tensor, "n s s 2"]
) -> Float[Tensor, "n 3 s s"]:
    """Sample square views, as sharp as photos of their resolution; beyond their edges photos are mirrored.

    Args:
        photos: One per view.
        views: Homographies from the views' pixels to the photos', which bound the patch and resolution that is needed.
        reaches_px: Maximum offset of the points from the homographies, in pixels of the photos.
        points_px: (x, y) of each pixel in its photo.

    Returns:
        RGB 0..1.
    """
    size = points_px.shape[1]
    cut_out = (_patch(*each, size) for each in zip(photos, views, reaches_px, strict=True))
    patches, places = zip(*cut_out, strict=True)
    side = max(max(patch.shape[-2:]) for patch in patches)
    padded = torch.zeros((len(patches), 3, side, side), device=points_px.device)
    for row, patch in enumerate(patches):
        padded[row, :, : patch.shape[1], : patch.shape[2]] = patch
    limit, origin, factor = (
        part[:, None, None] for part in moved(torch.from_numpy(np.stack(places, 1)).float(), points_px)
    )
    mirrored = (limit - (points_px + 0.5).abs_().neg_().add_(limit).abs_()).clamp_min_(0)
    # From pixels of the photo to grid_sample's -1..1 of the patch.
    grid = torch.addcmul(2 * (_BORDER_PX - origin * factor) / side - 1, mirrored, 2 * factor / side)
    sampled = F.grid_sample(padded, grid, mode="bicubic", align_corners=False)
    return sampled.div_(255).clamp_(0, 1)


def sample_view(photo: NDArray[np.uint8], view: Matrix, size_px: int) -> Float[Tensor, "3 s s"]:
    """One square view of one photo through a homography.

    Args:
        photo: RGB (H, W, 3).
        view: 3x3, from the view's pixels (x, y, 1) to the photo's.
        size_px: Side of the view.

    Returns:
        RGB 0..1.
    """
    pixels = torch.from_numpy(np.array(photo)).permute(2, 0, 1)  # a copy, since arrays of Pillow are read-only
    points = project_many(torch.from_numpy(view)[None].float(), pixel_grid(size_px, size_px, pixels.device)[None])
    return warp([pixels], [view], [0.0], points)[0]


def _patch(
    photo: Pixels, view: Matrix, reach_px: float, size: int
) -> tuple[Float[Tensor, "3 _ _"], NDArray[np.float64]]:
    """The part of a photo that a view shows, 0..255, with a border; and (x, y) each of the photo's size, of the patch's
    origin in it, and of the factor of resizing."""
    edge = size - 1
    corners = project(view, np.array([[0, 0], [edge, 0], [edge, edge], [0, edge]], dtype=np.float64))
    # Photo pixels per pixel of the view, along each axis of the photo.
    right, down = ((corners[a] - corners[0] + corners[2] - corners[b]) / 2 for a, b in ((1, 3), (3, 1)))
    density = np.hypot(right, down) / edge
    margin = reach_px + 3 * np.maximum(1.0, density)
    limit = np.array(photo.shape[:0:-1])
    low, high = corners.min(0) - margin, corners.max(0) + margin
    # Mirrored content comes from as far inside the edge of the photo.
    low, high = np.minimum(low, 2 * limit - high), np.maximum(high, -low)
    low = np.clip(np.floor(low), 0, limit - 1).astype(int)
    high = np.clip(np.ceil(high), low + 1, limit).astype(int)
    largest = (_MAXIMUM_PATCH_PX - 2 * _BORDER_PX) / (high - low)
    zoom = np.minimum(_PATCH_DENSITY / density.clip(1e-6), largest).clip(max=1)
    width, height = (int(side) for side in np.maximum(2, np.round((high - low) * zoom)))
    box = _resize(photo[:, low[1] : high[1], low[0] : high[0]], (height, width))
    patch = F.pad(box[None].float(), (_BORDER_PX,) * 4, mode="replicate")[0]
    return patch, np.stack((limit, low, np.array((width, height)) / (high - low)))


def _resize(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Antialiased bicubic; on the CPU in uint8, which is four times as fast."""
    if pixels.shape[1:] == size:
        return pixels
    if pixels.device.type == "cpu":
        return F.interpolate(pixels[None], size=size, mode="bicubic", antialias=True)[0]
    resized = F.interpolate(pixels[None].float(), size=size, mode="bicubic", antialias=True)[0]
    return resized.round().clamp(0, 255).byte()
