"""Blur with one kernel per picture: Gaussian, defocus, motion.

Kernels are made on the CPU; each is square, of the smallest odd side that holds it, and sums to 1.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from refsr.degrade.parameters import Degradation
from refsr.device import moved, pick, put

_TRUNCATION_SIGMAS: Final = 3.0  # radius of Gaussian kernels, in standard deviations
_PATH_STEP_PX: Final = 0.25
_MARGIN_STEP_PX: Final = 8  # kernels whose radii round up to the same multiple share one Fourier transform
_SMALL_PRIMES: Final = 2 * 3 * 5 * 7


def blur_kernel(values: Degradation) -> Float[Tensor, "k k"]:
    """The kernel of a picture's blur; a single 1 for none."""
    if values.blur == "none":
        return torch.ones(1, 1)
    if values.blur in ("gaussian", "anisotropic"):
        return gaussian_kernel(values.blur_px, values.blur_ratio, values.blur_degrees)
    if values.blur == "disc":
        return disc_kernel(values.blur_px)
    return motion_kernel(values.blur_px, values.blur_degrees, values.blur_bend_degrees, values.blur_sway_degrees)


def gaussian_kernel(sigma_px: float, ratio: float = 1.0, degrees: float = 0.0) -> Float[Tensor, "k k"]:
    """A round or elliptic Gaussian; a single 1 for a width of 0.

    Args:
        sigma_px: Standard deviation along the longer axis.
        ratio: Shorter axis by longer axis, 0..1.
        degrees: Direction of the longer axis, clockwise from rightwards.
    """
    if sigma_px == 0:
        return torch.ones(1, 1)
    y, x = _offsets(math.ceil(_TRUNCATION_SIGMAS * sigma_px))
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    along, across = x * cos + y * sin, y * cos - x * sin
    return _normalised(np.exp(-0.5 * (along**2 + (across / ratio) ** 2) / sigma_px**2))


def disc_kernel(radius_px: float) -> Float[Tensor, "k k"]:
    """The PSF of a lens out of focus: a disc with an edge one pixel soft."""
    y, x = _offsets(math.ceil(radius_px - 0.5))
    return _normalised(np.clip(radius_px + 0.5 - np.hypot(y, x), 0, 1))


def motion_kernel(
    length_px: float, degrees: float, bend_degrees: float = 0.0, sway_degrees: float = 0.0
) -> Float[Tensor, "k k"]:
    """The PSF of a camera that moves at constant speed: the path of a point, centred on its mean.

    Args:
        length_px: Length of the path.
        degrees: Mean heading, clockwise from rightwards.
        bend_degrees: Uniform turn of the heading from end to end.
        sway_degrees: Amplitude of a sine of one period that is added to the heading.
    """
    steps = max(1, math.ceil(length_px / _PATH_STEP_PX))
    time = (np.arange(steps) + 0.5) / steps - 0.5
    heading = np.radians(degrees + bend_degrees * time + sway_degrees * np.sin(2 * np.pi * time))
    y, x = (np.cumsum(part) * (length_px / steps) for part in (np.sin(heading), np.cos(heading)))
    y, x = y - y.mean(), x - x.mean()
    radius = math.ceil(max(np.abs(y).max(), np.abs(x).max()))
    side = 2 * radius + 1
    kernel = np.zeros(side * side)
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    for row, weight_y in ((top, top + 1 - y), (top + 1, y - top)):
        for column, weight_x in ((left, left + 1 - x), (left + 1, x - left)):
            # A point on the last pixel has no neighbour beyond it, whose weight would be 0.
            place = np.clip(row + radius, 0, side - 1) * side + np.clip(column + radius, 0, side - 1)
            kernel += np.bincount(place, weight_y * weight_x, side * side)
    return _normalised(kernel.reshape(side, side))


def blur(images: Float[Tensor, "b c h w"], kernels: Sequence[Float[Tensor, "_ _"]]) -> Float[Tensor, "b c h w"]:
    """Convolve each picture with its own kernel, mirrored at the border.

    Pictures with kernels of similar size share a Fourier transform; its size is independent of the rest of the batch.

    Args:
        images: Of any range.
        kernels: One per picture, on the CPU, square with an odd side; a kernel of one pixel changes nothing.
    """
    groups: dict[int, list[int]] = {}
    for row, kernel in enumerate(kernels):
        if len(kernel) > 1:
            groups.setdefault(-(-(len(kernel) // 2) // _MARGIN_STEP_PX) * _MARGIN_STEP_PX, []).append(row)
    blurred = images.clone() if groups else images
    for margin, rows in groups.items():
        stack = torch.zeros(len(rows), 1, 2 * margin + 1, 2 * margin + 1)
        for place, row in enumerate(rows):
            start, end = margin - len(kernels[row]) // 2, margin + len(kernels[row]) // 2 + 1
            stack[place, 0, start:end, start:end] = kernels[row]
        put(blurred, rows, _convolve(pick(images, rows), moved(stack, images), margin))
    return blurred


def _convolve(
    images: Float[Tensor, "b c h w"], kernels: Float[Tensor, "b 1 k k"], margin: int
) -> Float[Tensor, "b c h w"]:
    height, width = images.shape[-2:]
    size = (_fast_length(height + 2 * margin), _fast_length(width + 2 * margin))
    spectrum = torch.fft.rfft2(mirror(images, margin), s=size) * torch.fft.rfft2(kernels, s=size)
    # The kernel's corner, not its centre, lies at the origin, which delays the result by the margin.
    low = 2 * margin
    blurred: Tensor = torch.fft.irfft2(spectrum, s=size)
    return blurred[..., low : low + height, low : low + width]


def _fast_length(length: int) -> int:
    """The next even number without prime factors above 7: other lengths take up to three times as long."""
    length += length % 2
    while _SMALL_PRIMES**30 % length:
        length += 2
    return length


def mirror(images: Float[Tensor, "b c h w"], margin: int) -> Float[Tensor, "b c h2 w2"]:
    """Reflection padding about the outermost pixels, repeated where the margin exceeds the picture."""
    if margin < min(images.shape[-2:]):
        return F.pad(images, (margin,) * 4, mode="reflect")
    for axis in (-2, -1):
        length = images.shape[axis]
        period = max(1, 2 * length - 2)
        places = torch.arange(-margin, length + margin) % period
        images = images.index_select(axis, moved(torch.minimum(places, period - places), images))
    return images


def _offsets(radius: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    line = np.arange(-radius, radius + 1, dtype=np.float64)
    return line[:, None], line[None]


def _normalised(kernel: NDArray[np.float64]) -> Float[Tensor, "k k"]:
    return torch.from_numpy(kernel / kernel.sum()).float()
