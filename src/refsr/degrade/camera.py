"""Steps of a camera: linear light, noise, Bayer mosaic and demosaicing, tone curve, sharpening.

All act on batches; parameters are sequences of one number per picture.
"""

from collections.abc import Sequence
from itertools import product
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from refsr.degrade.blur import blur, gaussian_kernel, mirror
from refsr.device import moved, per_picture

Images = Float[Tensor, "b c h w"]
_CROSS: Final = ((0, 0, -1, 0, 0), (0, 0, 2, 0, 0), (-1, 2, 4, 2, -1), (0, 0, 2, 0, 0), (0, 0, -1, 0, 0))
"""Green at a red or blue pixel."""

_BESIDE: Final = ((0, 0, 0.5, 0, 0), (0, -1, 0, -1, 0), (-1, 4, 5, 4, -1), (0, -1, 0, -1, 0), (0, 0, 0.5, 0, 0))
"""Red or blue at a green pixel whose left and right neighbours have that colour."""

_ABOVE: Final = tuple(zip(*_BESIDE, strict=True))
"""Red or blue at a green pixel whose neighbours above and below have that colour."""

_DIAGONAL: Final = (
    (0, 0, -1.5, 0, 0), (0, 2, 0, 2, 0), (-1.5, 0, 6, 0, -1.5), (0, 2, 0, 2, 0), (0, 0, -1.5, 0, 0),
)  # fmt: skip
"""Red at a blue pixel, blue at a red one."""

_ITSELF: Final = ((0, 0, 0, 0, 0), (0, 0, 0, 0, 0), (0, 0, 8, 0, 0), (0, 0, 0, 0, 0), (0, 0, 0, 0, 0))
_FILTERS: Final = (
    (_ITSELF, _BESIDE, _ABOVE, _DIAGONAL),
    (_CROSS, _ITSELF, _ITSELF, _CROSS),
    (_DIAGONAL, _ABOVE, _BESIDE, _ITSELF),
)
"""Filters of red, green and blue, in units of 1/8, at the pixels R, G / G, B of each 2x2 square."""


def to_linear(images: Images) -> Images:
    """From sRGB 0..1 to linear light 0..1. Source: IEC 61966-2-1."""
    return torch.where(images <= 0.04045, images / 12.92, ((images.clamp_min(0) + 0.055) / 1.055) ** 2.4)


def from_linear(light: Images) -> Images:
    """From linear light 0..1 to sRGB 0..1. Source: IEC 61966-2-1."""
    return torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light.clamp_min(0) ** (1 / 2.4) - 0.055)


def unit_noise(seeds: Sequence[int], like: Images) -> Images:
    """White Gaussian noise of variance 1, drawn on the CPU from one seed per picture, in the shape of `like`."""
    generator = torch.Generator()
    drawn = [torch.randn(like.shape[1:], generator=generator.manual_seed(seed)) for seed in seeds]
    return moved(torch.stack(drawn), like)


def correlate(noise: Images, sigmas_px: Sequence[float]) -> Images:
    """Blur noise of variance 1 by Gaussians and restore its variance: grain, as a camera's processing leaves it.

    A standard deviation of 0 leaves the noise white. Near the border the variance is slightly larger.
    """
    kernels = [gaussian_kernel(sigma) for sigma in sigmas_px]
    return blur(noise, kernels) * per_picture([float(kernel.norm()) ** -1 for kernel in kernels], noise)


def add_noise(light: Images, noise: Images, shots: Sequence[float], reads: Sequence[float]) -> Images:
    """Add shot noise, as a Gaussian of variance shot * light, and read noise; the result is not clipped to 0..1.

    Args:
        light: Linear light 0..1.
        noise: Of variance 1.
        shots: Variance per unit of light, one per picture.
        reads: Standard deviation in the dark, one per picture.

    Source: Foi et al., "Practical Poissonian-Gaussian noise modeling and fitting for single-image raw-data", 2008.
    """
    variance = per_picture(shots, light) * light.clamp_min(0) + per_picture(reads, light) ** 2
    return light + noise * variance.sqrt()


def mosaic(light: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
    """Mosaic of a sensor with an RGGB Bayer pattern: red, green / green, blue."""
    seen = light[:, 1:2].clone()
    seen[..., 0::2, 0::2] = light[:, 0:1, 0::2, 0::2]
    seen[..., 1::2, 1::2] = light[:, 2:3, 1::2, 1::2]
    return seen


def demosaic(seen: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Interpolate an RGGB mosaic to three colours, mirrored at the border; may overshoot 0..1.

    One convolution of stride 2 gives the twelve values of each 2x2 square.

    Source: Malvar, He, Cutler, "High-quality linear interpolation for demosaicing of Bayer-patterned color images",
    ICASSP 2004.
    """
    height, width = seen.shape[-2:]
    kernels = torch.zeros(3, 2, 2, 6, 6, dtype=torch.float64)
    filters = torch.tensor(_FILTERS, dtype=torch.float64) / 8
    for y, x in product(range(2), repeat=2):
        kernels[:, y, x, y : y + 5, x : x + 5] = filters[:, 2 * y + x]
    # float64, since a GPU may round float32 convolutions to 11 bits.
    padded = F.pad(mirror(seen, 2).double(), (0, width % 2, 0, height % 2))
    squares = F.conv2d(padded, moved(kernels.view(12, 1, 6, 6), seen), stride=2)
    return F.pixel_shuffle(squares, 2)[..., :height, :width].to(seen.dtype)


def tone_curve(images: Images, strengths: Sequence[float]) -> Images:
    """Mix pictures 0..1 with their smooth step 3x^2 - 2x^3; strengths -1..1, positive ones add contrast."""
    return images + per_picture(strengths, images) * (images * images * (3 - 2 * images) - images)


def sharpen(images: Images, amounts: Sequence[float], sigmas_px: Sequence[float]) -> Images:
    """Unsharp mask: add `amounts` times the difference to a copy blurred by a Gaussian; may overshoot 0..1."""
    soft = blur(images, [gaussian_kernel(sigma) for sigma in sigmas_px])
    return images + per_picture(amounts, images) * (images - soft)
