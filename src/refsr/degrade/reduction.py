"""Reduction of pictures by an integer factor."""

from typing import Final, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from refsr.device import moved
from refsr.errors import UsageError
from refsr.resize import downscale_bicubic

_LOBES: Final = 3


def reduce(
    images: Float[Tensor, "b c h w"], kind: Literal["bicubic", "area", "lanczos"], scale: int
) -> Float[Tensor, "b c h2 w2"]:
    """Reduce pictures.

    Args:
        images: 0..1.
        kind: "bicubic", "area" (mean of each square, Pillow's BOX), or "lanczos" (three lobes, antialiased).
        scale: Integer factor.

    Raises:
        UsageError: A side is not a multiple of `scale`.
    """
    height, width = images.shape[-2:]
    if height % scale or width % scale:
        raise UsageError(f"{width}x{height} is no multiple of {scale}: crop or pad the image first")
    if kind == "bicubic":
        return downscale_bicubic(images, scale)
    if kind == "area":
        return F.avg_pool2d(images, scale)
    return _lanczos_rows(_lanczos_rows(images, scale).mT, scale).mT.contiguous()


def _lanczos_rows(images: Float[Tensor, "b c h w"], scale: int) -> Float[Tensor, "b c h w2"]:
    """Reduce the width. With an integer factor all windows have equal weights; at the border, as in Pillow, the weights
    outside are left out and the others normalised."""
    margin = 5 * scale // 2
    offset = (torch.arange(-margin, margin + scale, dtype=torch.float64) + 0.5) / scale - 0.5
    weights = torch.sinc(offset) * torch.sinc(offset / _LOBES)
    total = _windows(torch.ones(images.shape[-1], dtype=torch.float64), margin, scale) @ weights
    windows = _windows(images, margin, scale)
    product = (windows.reshape(-1, len(weights)) @ moved(weights.to(images.dtype), images)).view(windows.shape[:-1])
    return (product / moved(total.to(images.dtype), images)).clamp(0, 1)


def _windows(rows: Float[Tensor, "*n w"], margin: int, scale: int) -> Float[Tensor, "*n w2 k"]:
    return F.pad(rows, (margin, margin)).unfold(-1, 2 * margin + scale, scale)
