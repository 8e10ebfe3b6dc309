"""How far a photo can be shrunk before it loses detail."""

import math
from functools import cache
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from refsr.resize import resize

MAXIMUM_SHRINKING: Final = 4.0
_STEPS_PER_OCTAVE: Final = 4
_MAXIMUM_RATIO: Final = 0.3
"""Detail finer than a blurred photo's own limit is at most this share of that finer than half as much; in sharp photos,
whose spectrum falls with 1 / frequency, it is 0.4 to 0.8."""

_BLOCK_PX: Final = 32
_LEAST_BLOCK_PX: Final = 8
_SAMPLE_PX: Final = 256
_MAXIMUM_SAMPLES: Final = 16
_NOISE_MARGIN: Final = 1.5
_FLAT, _BUSY = 0.1, 0.95
"""Quantiles of blocks: the flattest show the noise, the busiest the detail."""


def shrinkable(image: Float[Tensor, "1 3 h w"], beyond: int | float = 1.0) -> float:
    """The largest factor, up to 4, by which a photo can be shrunk without losing detail; 1 if it is sharp.

    For each factor, the detail that shrinking by it would lose is compared with the loss at twice the factor. Noise is
    measured where the photo is flattest, and taken off.

    Args:
        image: The photo, 0..1.
        beyond: Look only for factors above this one.
    """
    samples = squares_of(luma(image).cpu())
    smallest = min(samples.shape[-2:])
    steps = range(1, 1 + round(math.log2(MAXIMUM_SHRINKING) * _STEPS_PER_OCTAVE))
    factors = [2 ** (step / _STEPS_PER_OCTAVE) for step in steps]
    lost = cache(lambda factor: _lost(samples, factor))
    allowed = (
        factor
        for factor in reversed(factors)
        if factor > beyond and smallest >= 8 * factor and lost(factor) < _MAXIMUM_RATIO * lost(2 * factor)
    )
    return next(allowed, 1.0)


def luma(image: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1 h w"]:
    """Luma of RGB 0..1, 0..1."""
    return (image * image.new_tensor((0.299, 0.587, 0.114)).view(1, 3, 1, 1)).sum(1, keepdim=True)


def squares_of(image: Float[Tensor, "1 c h w"], grid_px: int = 1) -> Float[Tensor, "n c h2 w2"]:
    """The picture itself, or squares of it, evenly spread, that begin on a grid."""
    height, width = image.shape[-2:]
    if height * width <= _MAXIMUM_SAMPLES * _SAMPLE_PX**2 or min(height, width) < _SAMPLE_PX:
        return image
    rows, columns = (
        (torch.linspace(0, (side - _SAMPLE_PX) // grid_px, min(4, side // _SAMPLE_PX)).round().int() * grid_px).tolist()
        for side in (height, width)
    )
    return torch.cat([image[..., y : y + _SAMPLE_PX, x : x + _SAMPLE_PX] for y in rows for x in columns])


def _lost(samples: Float[Tensor, "n 1 h w"], factor: float) -> float:
    """RMS of what shrinking takes from the busiest blocks, in grey levels, without the noise."""
    height, width = samples.shape[-2:]
    small = resize(samples, (round(height / factor), round(width / factor)))
    change = (samples - resize(small, (height, width))) * 255
    block = max(_LEAST_BLOCK_PX, min(_BLOCK_PX, height // 8, width // 8))
    energies = F.avg_pool2d(change.square(), block).flatten()
    noise, detail = torch.quantile(energies, energies.new_tensor((_FLAT, _BUSY)))
    return float((detail - _NOISE_MARGIN * noise).clamp_min(0).sqrt())
