"""PSNR and SSIM, one figure a picture, of 8-bit pictures with a border left out.

Identical pictures have no finite PSNR; they count as `HIGHEST_DB`, so that a mean stays a number.
"""

from typing import Final, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from refsr.errors import UsageError
from refsr.resize import stored

Channel = Literal["y", "rgb"]
"""What is compared: luma of BT.601, or all three channels (SSIM: the mean of their figures)."""

HIGHEST_DB: Final = 100.0
_WINDOW = 11
_SIGMA = 1.5


def luma(rgb: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
    """Luma of BT.601 in its studio range, 16/255 to 235/255, as MATLAB's rgb2ycbcr gives it.

    Args:
        rgb: 0..1.
    """
    weights = rgb.new_tensor((65.481, 128.553, 24.966)).view(1, 3, 1, 1) / 255
    return (rgb * weights).sum(1, keepdim=True) + 16 / 255


def psnr_db(
    sr: Float[Tensor, "b 3 _ _"], hr: Float[Tensor, "b 3 _ _"], border_px: int = 4, channel: Channel = "y"
) -> Float[Tensor, " b"]:
    """Peak signal-to-noise ratio, one figure a picture, at most `HIGHEST_DB`.

    Args:
        sr: The result, 0..1; rounded to 8 bits here.
        hr: The truth, 0..1.
        border_px: Left out on each side.
        channel: What is compared.

    Raises:
        UsageError: The sizes differ, or nothing is left inside the border.
    """
    first, second = _prepared(sr, hr, border_px, channel)
    return (-10 * (first - second).square().flatten(1).mean(1).log10()).clamp_max(HIGHEST_DB)


def ssim(
    sr: Float[Tensor, "b 3 _ _"], hr: Float[Tensor, "b 3 _ _"], border_px: int = 4, channel: Channel = "y"
) -> Float[Tensor, " b"]:
    """Structural similarity, one figure a picture, at most 1. See `psnr_db`.

    Source: Wang et al., "Image Quality Assessment", 2004, equation 13: 11x11 Gaussian window of deviation 1.5.
    """
    first, second = _prepared(sr, hr, border_px, channel)
    if min(first.shape[-2:]) < _WINDOW:
        raise UsageError(f"SSIM needs at least {_WINDOW} pixels a side inside the border")
    axis = torch.arange(_WINDOW, dtype=first.dtype) - _WINDOW // 2
    weights = (-axis.square() / (2 * _SIGMA**2)).exp()
    weights = (weights / weights.sum()).expand(first.shape[1], 1, 1, -1)

    def blur(x: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(x, weights, groups=x.shape[1]), weights.mT, groups=x.shape[1])

    mean1, mean2 = blur(first), blur(second)
    variance1 = blur(first.square()) - mean1.square()
    variance2 = blur(second.square()) - mean2.square()
    covariance = blur(first * second) - mean1 * mean2
    c1, c2 = 0.01**2, 0.03**2
    similarity = ((2 * mean1 * mean2 + c1) * (2 * covariance + c2)) / (
        (mean1.square() + mean2.square() + c1) * (variance1 + variance2 + c2)
    )
    return similarity.flatten(1).mean(1)


def _prepared(sr: Tensor, hr: Tensor, border_px: int, channel: Channel) -> tuple[Tensor, Tensor]:
    if sr.shape != hr.shape:
        raise UsageError(f"cannot compare pictures of shapes {tuple(sr.shape)} and {tuple(hr.shape)}")
    if min(sr.shape[-2:]) <= 2 * border_px:
        raise UsageError(f"nothing is left of {tuple(sr.shape[-2:])} pixels inside a border of {border_px}")
    inside = slice(border_px, -border_px or None)
    rounded = (stored(image.double()) for image in (sr, hr))
    first, second = ((luma(x) if channel == "y" else x)[..., inside, inside] for x in rounded)
    return first, second
