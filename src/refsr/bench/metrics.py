"""PSNR and SSIM per picture, of 8-bit pictures without their border.

PSNR is clamped to `_MAXIMUM_PSNR_DB`, since identical pictures would make every mean infinite.
"""

from typing import Final, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from refsr.errors import UsageError
from refsr.resize import stored

Channel = Literal["y", "rgb"]
"""Channels to compare: luma of BT.601, or R, G and B (SSIM: the mean of the three)."""

_MAXIMUM_PSNR_DB: Final = 100.0
_WINDOW_PX: Final = 11
_SIGMA_PX: Final = 1.5
_SQUARE_PX: Final = 16


def luma(rgb: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
    """Luma of BT.601 of RGB in 0..1; its range is 16/255 to 235/255, as in MATLAB's rgb2ycbcr."""
    weights = rgb.new_tensor((65.481, 128.553, 24.966)).view(1, 3, 1, 1) / 255
    return (rgb * weights).sum(1, keepdim=True) + 16 / 255


def psnr_db(
    sr: Float[Tensor, "b 3 _ _"], hr: Float[Tensor, "b 3 _ _"], border_px: int = 4, channel: Channel = "y"
) -> Float[Tensor, " b"]:
    """Peak signal-to-noise ratio of each picture in dB, at most 100.

    Args:
        sr: Results, 0..1; rounded to 8 bits here.
        hr: Truths, 0..1; rounded to 8 bits here.
        border_px: Width of the border left out on each side.

    Raises:
        UsageError: The sizes differ, or nothing is left inside the border.
    """
    first, second = _prepared(sr, hr, border_px, channel)
    return (-10 * (first - second).square().flatten(1).mean(1).log10()).clamp_max(_MAXIMUM_PSNR_DB)


def ssim(
    sr: Float[Tensor, "b 3 _ _"], hr: Float[Tensor, "b 3 _ _"], border_px: int = 4, channel: Channel = "y"
) -> Float[Tensor, " b"]:
    """Structural similarity of each picture, at most 1; arguments and errors as for `psnr_db`.

    Source: Wang et al., "Image Quality Assessment", 2004, equation 13: 11x11 Gaussian window of deviation 1.5.
    """
    first, second = _prepared(sr, hr, border_px, channel)
    if min(first.shape[-2:]) < _WINDOW_PX:
        raise UsageError(f"SSIM needs at least {_WINDOW_PX} pixels a side inside the border: use larger pictures")
    return structural_similarity(first, second)


def structural_similarity(first: Float[Tensor, "b c h w"], second: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """SSIM of pictures in 0..1 as they are, of 11 pixels a side or more; the mean of their channels.

    Source: as for `ssim`.
    """
    axis = torch.arange(_WINDOW_PX, dtype=first.dtype, device=first.device) - _WINDOW_PX // 2
    weights = (-axis.square() / (2 * _SIGMA_PX**2)).exp()
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


def colour_levels(sr: Float[Tensor, "b 3 _ _"], hr: Float[Tensor, "b 3 _ _"]) -> Float[Tensor, " b"]:
    """Colour error of each picture in levels of 255: mean absolute difference of red, green and blue in squares of 16
    pixels, each averaged first, so that texture does not count.

    Raises:
        UsageError: The sizes differ, or are smaller than 16 pixels.
    """
    first, second = _prepared(sr, hr, 0, "rgb")
    if min(first.shape[-2:]) < _SQUARE_PX:
        raise UsageError(f"the colour error needs at least {_SQUARE_PX} pixels a side: use larger pictures")
    return 255 * F.avg_pool2d(first - second, _SQUARE_PX).abs().flatten(1).mean(1)


def _prepared(sr: Tensor, hr: Tensor, border_px: int, channel: Channel) -> tuple[Tensor, Tensor]:
    if sr.shape != hr.shape:
        raise UsageError(f"cannot compare pictures of shapes {tuple(sr.shape)} and {tuple(hr.shape)}: give equal ones")
    if min(sr.shape[-2:]) <= 2 * border_px:
        raise UsageError(f"nothing is left of {tuple(sr.shape[-2:])} pixels inside a border of {border_px}: use more")
    inside = slice(border_px, -border_px or None)
    rounded = (stored(image.double()) for image in (sr, hr))
    first, second = ((luma(x) if channel == "y" else x)[..., inside, inside] for x in rounded)
    return first, second
