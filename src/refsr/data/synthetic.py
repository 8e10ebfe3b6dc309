"""Training pairs from single photographs: a crop, and other views of the same place by known homographies.

    photo ──┬── crop ──────────────────> hr (3, S, S) ── down ──> lr
            └── homography, light ─────> each ref (3, S, S)    truth: where each LR cell lies in ref

A pair is a function of its random numbers alone, so that a resumed run sees what an unbroken one would have seen.
"""

import io
import math
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image as PILImage
from torch import Tensor

from refsr.resize import resize

Matrix = NDArray[np.floating[Any]]
_OVERSAMPLED: Final = 2


@runtime_checkable
class Photos(Protocol):
    """Photographs by number: a list, or `refsr.data.photos.PhotoSource`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> NDArray[np.uint8]: ...


@dataclass(frozen=True, kw_only=True)
class PairConfig:
    """How pairs are made.

    Attributes:
        absent: Share of pairs that have no reference.
        second: Share of the others that have two.
        unrelated: Share of references that show another photo.
        elsewhere: Share of references that are cut elsewhere in the same photo.
        rotation_degrees: Usual limit of the reference's rotation; a tenth of all pairs may turn fully.
        log2_scale: Usual limit of the reference's scale in octaves; a fifth of all pairs goes twice as far.
    """

    absent: float = 0.20
    second: float = 0.25
    unrelated: float = 0.18
    elsewhere: float = 0.08
    rotation_degrees: float = 20.0
    log2_scale: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Pair:
    """An input and its references: none, one or two.

    Attributes:
        hr: RGB 0..1, with the photo's 8-bit grain.
        refs: RGB 0..1.
        truth_cells: (y, x) in each reference of each LR cell, NaN where it lies outside or is not known.
    """

    hr: Float[Tensor, "3 s s"]
    refs: Float[Tensor, "n 3 s s"]
    truth_cells: Float[Tensor, "n 2 h w"]


def synthetic_pair(photos: Photos, config: PairConfig, size: int, rng: np.random.Generator) -> Pair:
    """Make a pair of one photograph; unrelated references are of others.

    Args:
        photos: (H, W, 3) each.
        config: How.
        size: Side of all in pixels, a multiple of 4.
        rng: Decides everything.
    """
    photo = photos[int(rng.integers(len(photos)))]
    hr, view = _random_crop(photo, size, rng)
    made = [_reference(photos, photo, view, config, size, rng) for _ in range(reference_count(config, rng))]
    return Pair(
        hr=hr,
        refs=torch.stack([ref for ref, _ in made]) if made else torch.zeros(0, 3, size, size),
        truth_cells=torch.stack([truth for _, truth in made]) if made else torch.zeros(0, 2, size // 4, size // 4),
    )


def reference_count(config: PairConfig, rng: np.random.Generator) -> int:
    """How many references a pair gets: none, one or two."""
    if rng.random() < config.absent:
        return 0
    return 2 if rng.random() < config.second else 1


def _reference(
    photos: Photos, photo: NDArray[np.uint8], view: Matrix, config: PairConfig, size: int, rng: np.random.Generator
) -> tuple[Float[Tensor, "3 s s"], Float[Tensor, "2 h w"]]:
    """A reference for a view of a photo, and its truth."""
    kind = rng.random()
    if kind < config.unrelated:
        other = photos[int(rng.integers(len(photos)))]
        return change_light(_random_crop(other, size, rng)[0], rng), unknown_cells(size)
    reach_px = size * (1.5 if kind < config.unrelated + config.elsewhere else 0.25)
    homography = _random_homography(config, size, rng, reach_px)
    return change_light(sample_view(photo, view @ homography, size), rng), true_cells(homography, size)


def sample_view(photo: NDArray[np.uint8], view: Matrix, size_px: int) -> Float[Tensor, "3 s s"]:
    """Cut a square out of a photo through a homography: bicubic at twice the size, then shrunk, as sharp as a photo.

    Args:
        photo: (H, W, 3).
        view: 3x3, from the square's pixels (x, y, 1), centres at whole numbers, to the photo's.
        size_px: Side of the square.
    """
    edge = size_px - 1
    corners = _project(view, np.array([[0, 0], [edge, 0], [edge, edge], [0, edge]], dtype=np.float64))
    shrink = max(1.0, math.sqrt(_area(corners)) / edge / _OVERSAMPLED)
    margin = 4 * shrink + 2
    limit = np.array(photo.shape[1::-1])
    low = np.clip(np.floor(corners.min(0) - margin), 0, limit - 8).astype(int)
    high = np.clip(np.ceil(corners.max(0) + margin), low + 8, limit).astype(int)
    patch = PILImage.fromarray(photo[low[1] : high[1], low[0] : high[0]])
    factor = np.ones(2)
    if shrink > 1.05:
        width, height = (max(1, round(float(n) / shrink)) for n in high - low)
        factor = np.array((width, height)) / (high - low)
        patch = patch.resize((width, height), PILImage.Resampling.BICUBIC)
    side = _OVERSAMPLED * size_px
    x, y = np.meshgrid(*[(np.arange(side) + 0.5) / _OVERSAMPLED - 0.5] * 2)
    points = _project(view, np.stack((x.ravel(), y.ravel()), 1))
    points = (points - low + 0.5) * factor - 0.5
    pixels = torch.from_numpy(np.array(patch)).permute(2, 0, 1)[None].float() / 255
    grid = torch.from_numpy((2 * points + 1) / np.array(patch.size) - 1).float().view(1, side, side, 2)
    sampled = F.grid_sample(pixels, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    return resize(sampled, (size_px, size_px))[0].clamp(0, 1)


def true_cells(homography: Matrix, size_px: int) -> Float[Tensor, "2 h w"]:
    """Where each LR cell lies in the reference, (y, x) in cells; NaN outside.

    Args:
        homography: From the reference's pixels to the HR crop's.
        size_px: Side of both.
    """
    cells = size_px // 4
    x, y = np.meshgrid(np.arange(cells), np.arange(cells))
    centres_px = np.stack((x.ravel(), y.ravel()), 1) * 4 + 1.5
    there = (_project(np.linalg.inv(homography), centres_px) - 1.5) / 4
    there[((there < 0) | (there > cells - 1)).any(1)] = math.nan
    return torch.from_numpy(there[:, ::-1].T.copy()).float().view(2, cells, cells)


def unknown_cells(size_px: int) -> Float[Tensor, "2 h w"]:
    """The truth of a pair of which none is known."""
    return torch.full((2, size_px // 4, size_px // 4), math.nan)


def _random_crop(
    photo: NDArray[np.uint8], size: int, rng: np.random.Generator
) -> tuple[Float[Tensor, "3 s s"], Matrix]:
    """A square, mostly shrunk by up to 2.2 so that compression artefacts go, flipped or turned; and its view."""
    height, width = photo.shape[:2]
    zoom = 1.0
    if rng.random() > 0.25:
        zoom = rng.uniform(1.0, max(1.0, min(2.2, min(height, width) / size)))
    corner = np.array([rng.uniform(0, width - zoom * size), rng.uniform(0, height - zoom * size)])
    if zoom == 1:
        corner = np.floor(corner)
    box = (*corner, *(corner + zoom * size))
    square = PILImage.fromarray(photo).resize((size, size), PILImage.Resampling.BICUBIC, box=box)
    pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1).float() / 255
    quarter, flips = bool(rng.integers(2)), rng.choice((-1.0, 1.0), size=2)
    if quarter:
        pixels = pixels.transpose(1, 2)
    pixels = pixels.flip([2 - axis for axis in (0, 1) if flips[axis] < 0])
    turn = np.diag(flips)[::-1] if quarter else np.diag(flips)
    middle = np.full(2, (size - 1) / 2)
    return pixels.contiguous(), _shift(corner + zoom * size / 2 - 0.5) @ _linear(zoom * turn) @ _shift(-middle)


def _random_homography(config: PairConfig, size: int, rng: np.random.Generator, reach_px: float) -> Matrix:
    """From the reference's pixels to the HR crop's."""
    degrees = rng.uniform(-180, 180) if rng.random() < 0.1 else rng.uniform(-1, 1) * config.rotation_degrees
    octaves = rng.uniform(-1, 1) * config.log2_scale * (2 if rng.random() < 0.2 else 1)
    angle = math.radians(degrees)
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    shear = np.eye(2) + rng.uniform(-0.06, 0.06, (2, 2))
    perspective = np.eye(3)
    perspective[2, :2] = rng.uniform(-0.15, 0.15, 2) / size
    centre = np.full(2, (size - 1) / 2)
    shift = rng.uniform(-reach_px, reach_px, 2)
    return _shift(centre + shift) @ _linear(2**octaves * rotation @ shear) @ perspective @ _shift(-centre)


def change_light(ref: Float[Tensor, "3 s s"], rng: np.random.Generator) -> Float[Tensor, "3 s s"]:
    """Another exposure, white balance and gamma; now and then a little blur, noise or JPEG."""
    gain = torch.from_numpy(2 ** (rng.normal(0, 0.25) + rng.normal(0, 0.06, 3))).float()[:, None, None]
    ref = (ref.clamp_min(1e-4) ** float(2 ** rng.normal(0, 0.2)) * gain).clamp(0, 1)
    harm = rng.random()
    if harm < 0.06:
        ref = F.avg_pool2d(ref[None], 3, stride=1, padding=1, count_include_pad=False)[0]
    elif harm < 0.12:
        ref = ref + torch.from_numpy(rng.normal(0, rng.uniform(0.005, 0.03), ref.shape)).float()
    elif harm < 0.20:
        buffer = io.BytesIO()
        image = PILImage.fromarray((ref * 255).round().byte().permute(1, 2, 0).numpy())
        image.save(buffer, "JPEG", quality=int(rng.integers(40, 92)))
        ref = torch.from_numpy(np.array(PILImage.open(buffer))).permute(2, 0, 1).float() / 255
    return (ref.clamp(0, 1) * 255).round() / 255


def _project(matrix: Matrix, points: Matrix) -> Matrix:
    # Written out: as a matrix product, it wakes all of BLAS's threads, which then keep the network's cores busy.
    x, y = points.T
    across, down, depth = (row[0] * x + row[1] * y + row[2] for row in matrix)
    return np.stack((across / depth, down / depth), 1)


def _area(corners: Matrix) -> float:
    x, y = corners.T
    return 0.5 * abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))


def _linear(matrix: NDArray[Any]) -> Matrix:
    full = np.eye(3)
    full[:2, :2] = matrix
    return full


def _shift(by: NDArray[Any]) -> Matrix:
    full = np.eye(3)
    full[:2, 2] = by
    return full
