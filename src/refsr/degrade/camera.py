"""Steps of a camera: linear light, Bayer mosaic and demosaicing, tone curve, sharpening."""

from collections.abc import Sequence
from itertools import product
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from refsr.degrade.blur import blur, gaussian_kernel, mirror
from refsr.device import moved, per_picture

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


def to_linear(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """From sRGB 0..1 to linear light 0..1. Source: IEC 61966-2-1."""
    return torch.where(images <= 0.04045, images / 12.92, ((images.clamp_min(0) + 0.055) / 1.055) ** 2.4)


def from_linear(light: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """From linear light 0..1 to sRGB 0..1. Source: IEC 61966-2-1."""
    return torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light.clamp_min(0) ** (1 / 2.4) - 0.055)


def mosaic(light: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
    """What a sensor with an RGGB Bayer pattern records: red, green / green, blue."""
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


def tone_curve(images: Float[Tensor, "b c h w"], strengths: Sequence[float]) -> Float[Tensor, "b c h w"]:
    """Mix each picture with its smooth step 3x^2 - 2x^3; 0, 0.5 and 1 stay.

    Args:
        images: 0..1.
        strengths: One per picture, -1..1; positive values add contrast, negative ones reduce it.
    """
    return images + per_picture(strengths, images) * (images * images * (3 - 2 * images) - images)


def sharpen(
    images: Float[Tensor, "b c h w"], amounts: Sequence[float], sigmas_px: Sequence[float]
) -> Float[Tensor, "b c h w"]:
    """Unsharp mask: add a multiple of the difference to a blurred copy; may overshoot 0..1.

    Args:
        images: 0..1.
        amounts: Factor of the difference, one per picture.
        sigmas_px: Standard deviation of the Gaussian blur, one per picture.
    """
    soft = blur(images, [gaussian_kernel(sigma) for sigma in sigmas_px])
    return images + per_picture(amounts, images) * (images - soft)
