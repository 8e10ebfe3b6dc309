"""The losses of baseline JPEG, as tensor operations on a batch.

    RGB ── YCbCr ── chroma halved (4:2:0) ── 8x8 DCT ── divide, round, multiply ── inverse ── chroma doubled ──> RGB

Equal to the bit to libjpeg, which Pillow uses: its quantisation tables, integer arithmetic and rounding, borders, and
"fancy" upsampling. The integers are held in float64, which is exact, so that all devices and batch sizes agree.

Source: ITU-T T.81 (1992), annex K for the tables; jccolor.c, jcsample.c, jfdctint.c, jcparam.c and their inverses
jidctint.c, jdsample.c, jdcolor.c of libjpeg.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from refsr.device import constant, moved, pick, put
from refsr.errors import UsageError
from refsr.resize import pad_to_multiple

_LUMA: Final = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_CHROMA: Final = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99, *[99] * 32,
)  # fmt: skip
_TO_YCC: Final = ((19595, 38470, 7471), (-11059, -21709, 32768), (32768, -27439, -5329))
_TO_YCC_BIAS: Final = (32768, (128 << 16) + 32767, (128 << 16) + 32767)
_FROM_YCC: Final = ((65536, 0, 91881), (65536, -22554, -46802), (65536, 116130, 0))
"""Matrices in units of 2^-16; chroma is centred on 0."""

_DCT: Final = (
    (8192, 8192, 8192, 8192),
    (11363, 9633, 6437, 2260),
    (10703, 4433, -4433, -10703),
    (9633, -2259, -11362, -6436),
    (8192, -8192, -8192, 8192),
    (6437, -11362, 2261, 9633),
    (4433, -10704, 10704, -4433),
    (2260, -6436, 9633, -11363),
)
"""Left half of the DCT matrix, whose rows are even and odd in turn; in units of 2^-13, times sqrt(8)."""


def jpeg(
    images: Float[Tensor, "b 3 h w"], qualities: Sequence[int], subsampled: Sequence[bool]
) -> Float[Tensor, "b 3 h w"]:
    """Compress pictures as JPEG and decode them.

    Args:
        images: RGB 0..1, rounded to 8 bits first.
        qualities: libjpeg's quality, 1..100, one per picture.
        subsampled: Whether each picture has 4:2:0 chroma subsampling, else 4:4:4.

    Returns:
        RGB 0..1, quantised to 8 bits.

    Raises:
        UsageError: A quality is out of range.
    """
    if any(not 1 <= quality <= 100 for quality in qualities):
        raise UsageError(f"qualities of JPEG are {list(qualities)}: give numbers between 1 and 100")
    levels = (images.double().clamp(0, 1) * 255).round()
    coded = torch.empty_like(levels)
    for half in (False, True):
        rows = [row for row, is_half in enumerate(subsampled) if is_half == half]
        if rows:
            put(coded, rows, _code_picture(pick(levels, rows), [qualities[row] for row in rows], half))
    return (coded / 255).to(images.dtype)


def quality_tables(qualities: Sequence[int]) -> Float[Tensor, "b 2 8 8"]:
    """Quantisation tables of luma and chroma. Source: jpeg_quality_scaling of libjpeg."""
    percent = np.array([5000 // q if q < 50 else 200 - 2 * q for q in qualities]).reshape(-1, 1, 1)
    steps = np.clip((np.array((_LUMA, _CHROMA)) * percent + 50) // 100, 1, 255)
    return torch.from_numpy(steps).double().view(-1, 2, 8, 8)


def _code_picture(rgb: Float[Tensor, "b 3 h w"], qualities: Sequence[int], half: bool) -> Float[Tensor, "b 3 h w"]:
    """Compress and decode pictures in levels 0..255, all with or without chroma subsampling."""
    height, width = rgb.shape[-2:]
    tables = moved(quality_tables(qualities), rgb)
    ycc = _convert_colours(rgb, _TO_YCC, _TO_YCC_BIAS)
    luma = _code_planes(ycc[:, :1], tables[:, 0])[..., :height, :width]
    if half:
        small = _code_planes(_halve_chroma(ycc[:, 1:]), tables[:, 1])[..., : (height + 1) // 2, : (width + 1) // 2]
        chroma = _double_chroma(small)[..., :height, :width]
    else:
        chroma = _code_planes(ycc[:, 1:], tables[:, 1])[..., :height, :width]
    return _convert_colours(torch.cat((luma, chroma - 128), 1), _FROM_YCC, (32768,) * 3).clamp(0, 255)


def _convert_colours(
    colours: Float[Tensor, "b 3 h w"], matrix: tuple[tuple[int, ...], ...], bias: tuple[int, ...]
) -> Float[Tensor, "b 3 h w"]:
    weights, start = (constant(numbers, colours) for numbers in (matrix, bias))
    return ((weights @ colours.flatten(2) + start[:, None]) / 2**16).floor().view_as(colours)


def _code_planes(planes: Float[Tensor, "b c h w"], tables: Float[Tensor, "b 8 8"]) -> Float[Tensor, "b c h2 w2"]:
    """DCT, quantisation and inverse DCT of planes in levels, padded to whole blocks."""
    padded = pad_to_multiple(planes, 8) - 128
    half = constant(_DCT, planes)
    sign = constant((1, -1) * 4, planes)[:, None]
    transform = torch.cat((half, half.flip(1) * sign), 1)
    # Rows, then columns, give 8 times the coefficients.
    eightfold = _transform(_transform(padded, transform.T, 11).mT, transform.T, 15).mT
    blocks = rearrange(eightfold, "b c (h y) (w x) -> b c h y w x", y=8, x=8)
    steps = rearrange(tables, "b y x -> b 1 1 y 1 x")
    whole = ((blocks.abs() + 4 * steps) / (8 * steps)).floor().copysign(blocks) * steps
    coefficients = whole.view_as(padded)
    levels = _transform(_transform(coefficients.mT, transform, 11).mT, transform, 18)
    return (levels + 128).clamp(0, 255)


def _transform(planes: Float[Tensor, "b c h w"], matrix: Float[Tensor, "8 8"], bits: int) -> Float[Tensor, "b c h w"]:
    """Multiply each 8 values of a row by a matrix, and round `bits` bits off."""
    product = planes.reshape(-1, 8) @ matrix + 2 ** (bits - 1)
    return torch.floor(product / 2**bits).view(planes.shape)


def _halve_chroma(chroma: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b 2 h2 w2"]:
    """Mean of 2x2; halves are rounded down and up in turn, as in libjpeg, to keep the mean.

    Before the mean, columns are repeated up to whole blocks, rows only to an even count.
    """
    width = chroma.shape[-1]
    padded = F.pad(chroma, (0, -width % 16, 0, chroma.shape[-2] % 2), mode="replicate")
    bias = constant((0.25, 0.5), chroma).repeat(padded.shape[-1] // 4)
    return (F.avg_pool2d(padded, 2) + bias).floor()


def _double_chroma(small: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b 2 h2 w2"]:
    """Triangle filter; sixteenths are rounded up and down in turn. libjpeg repeats pixels of rows of one or two."""
    if small.shape[-1] <= 2:
        return F.interpolate(small, scale_factor=2, mode="nearest")
    large = F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
    return (large + constant((8 / 16, 7 / 16), small).repeat(small.shape[-1])).floor()
