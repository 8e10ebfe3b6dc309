"""Condition of a photo, measured: how blurred, noisy and compressed it is, and which weights that calls for.

up to 16 squares ─┬─ Y, Cb, Cr ── DCT of 8x8 pixels, on JPEG's grid ──┬─ log ── convolutions ─┬─ values ──┐
                  └─ Y, half the size ── DCT of 8x8, every 4 pixels ──┘                       └─ weights ─┴─ mean
mean of all places: blur, noise, JPEG
"""

import math
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from refsr.errors import UsageError
from refsr.models import Blend
from refsr.restore.sharpness import MAXIMUM_SHRINKING, shrinkable, squares_of

Quality = Literal["auto", "clean", "real"]

_WIDTH: Final = 64
_YCBCR: Final = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
"""JPEG's colours (JFIF 1.02)."""

_FLOOR: Final = 0.3
"""Added to magnitudes in levels before their logarithm: rounding to 8 bits makes about as much."""

_NOISE_OFFSET: Final = 0.3
_QUALITY_UNIT: Final = 20.0
_GRID_PX: Final = 8
"""Side of JPEG's blocks, and of the squares at which the network looks."""

_MINIMUM_SIDE_PX: Final = 32
_BLOCK_PX: Final = 256
_FLAT: Final = 1 / 255  # deviation below which a picture says nothing
_VISIBLE_QUALITY: Final = 90.0
_BLUR_PX, _NOISE, _QUALITY_LOSS = 0.58, 1.6, 10.0
"""Blur, noise, and loss of JPEG quality, each of which alone calls for the weights for real photographs. Fitted, so
that 222 LR images of the training lose least against always the better weights, clean ones at most 0.1 dB."""

_RESTORED_BLUR_PX: Final = 0.8
"""Blur of a shrunk photo from which the network restores most: 0.7 to 0.9 for blurs of 1.2 to 3 pixels."""

_SPECTRUM_NOISE: Final = 1.0
"""Noise from which on a spectrum tells no longer where the photo's own detail ends."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """How a photo was harmed.

    Attributes:
        blur_px: Standard deviation of its blur in its own pixels, of all directions; 3 and more reads as about 3.
        noise: Standard deviation of its noise in levels of luma, of 255.
        jpeg: Quality of its compression, about; 100 for none that shows.
    """

    blur_px: float
    noise: float
    jpeg: float

    @property
    def is_real(self) -> bool:
        """Whether weights for real photographs restore it better than those for clean ones."""
        loss = (100 - self.jpeg) / _QUALITY_LOSS
        return math.hypot(self.blur_px / _BLUR_PX, self.noise / _NOISE, loss) > 1

    def softness(self, image: Float[Tensor, "1 3 h w"], most: float = MAXIMUM_SHRINKING) -> float:
        """Factor, 1 to 4, by which the photo is shrunk before it is restored.

        By its blur; or to the end of its spectrum, where neither noise nor JPEG hides that.

        Args:
            image: The photo, 0..1.
            most: Maximum factor of the second kind, which costs size where the photo is hardly soft.
        """
        by_blur = min(MAXIMUM_SHRINKING, max(1.0, self.blur_px / _RESTORED_BLUR_PX))
        if self.noise > _SPECTRUM_NOISE or self.shows_jpeg:
            return by_blur
        return max(by_blur, min(most, shrinkable(image)))

    @property
    def shows_jpeg(self) -> bool:
        """Whether compression left traces."""
        return self.jpeg < _VISIBLE_QUALITY

    def __str__(self) -> str:
        compressed = f"JPEG about {self.jpeg:.0f}" if self.shows_jpeg else "no JPEG"
        return f"noise {self.noise:.1f}, blur {self.blur_px:.1f} px, {compressed}"


CLEAN: Final = Condition(blur_px=0.0, noise=0.0, jpeg=100.0)


class ConditionNet(nn.Module):
    """Blur, noise and compression of a picture, each a mean of local values, weighted by how much each place tells.

    What blur takes from a spectrum, noise adds to it and JPEG rounds off shows in the magnitudes of DCT coefficients;
    fine texture, unlike noise, has the same colour nearly everywhere.
    """

    dct: Tensor
    ycbcr: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("dct", _dct_filters(), persistent=False)
        self.register_buffer("ycbcr", torch.tensor(_YCBCR), persistent=False)
        self.layers = nn.Sequential(
            nn.Conv2d(4 * _GRID_PX**2, _WIDTH, 1), nn.ReLU(),
            nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1), nn.ReLU(),
            nn.Conv2d(_WIDTH, _WIDTH, 1), nn.ReLU(),
            nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1), nn.ReLU(),
            nn.Conv2d(_WIDTH, 6, 1),
        )  # fmt: skip

    def forward(self, rgb: Float[Tensor, "n 3 h w"]) -> tuple[Float[Tensor, "n 3 m"], Float[Tensor, "n 3 m"]]:
        """Local values and the logits of their weights.

        Args:
            rgb: Pictures 0..1 that begin at JPEG's grid; sides are cropped to multiples of 8.

        Returns:
            At each of the m squares: blur in pixels, log(noise + 0.3), (100 - quality) / 20; and logits.
        """
        height, width = (side // _GRID_PX * _GRID_PX for side in rgb.shape[-2:])
        levels = torch.einsum("cd,ndhw->nchw", self.ycbcr, 255 * rgb[..., :height, :width] - 128)
        half = F.pad(F.avg_pool2d(levels[:, :1], 2), (2, 2, 2, 2), mode="reflect")
        own = F.conv2d(levels, self.dct.repeat(3, 1, 1, 1), stride=8, groups=3)
        spectra = torch.cat((own, F.conv2d(half, self.dct, stride=4)), 1)
        found: Tensor = self.layers((spectra.abs() + _FLOOR).log())
        values, logits = found.flatten(2).chunk(2, 1)
        return values, logits


def _dct_filters() -> Float[Tensor, "64 1 8 8"]:
    """Basis of the orthonormal DCT of 8x8 pixels."""
    frequency, place = torch.arange(8.0)[:, None], torch.arange(8.0)
    basis = 0.5 * torch.cos(math.pi * (place + 0.5) * frequency / 8)
    basis[0] /= math.sqrt(2)
    return torch.einsum("iy,jx->ijyx", basis, basis).reshape(64, 1, 8, 8)


def pooled(values: Float[Tensor, "n 3 m"], logits: Float[Tensor, "n 3 m"]) -> Float[Tensor, "n 3"]:
    """The weighted mean of a picture's local values."""
    return (values * logits.softmax(2)).sum(2)


def as_targets(
    blur_px: Float[Tensor, " n"], noise: Float[Tensor, " n"], jpeg: Float[Tensor, " n"]
) -> Float[Tensor, "n 3"]:
    """Conditions as the network tells them."""
    return torch.stack((blur_px, (noise + _NOISE_OFFSET).log(), (100 - jpeg) / _QUALITY_UNIT), 1)


def share_of_real(condition: Condition, quality: Quality, denoise: int | float | None) -> float:
    """Share of the weights for real photographs, by which a photo in this condition is restored."""
    if denoise is not None:
        return float(denoise)
    return float(condition.is_real if quality == "auto" else quality == "real")


def check_quality(blend: Blend, quality: Quality, denoise: int | float | None, texture: int | float) -> None:
    """Refuse what a blend cannot give; arguments as for `refsr.upscale`.

    Raises:
        UsageError: Both a quality and a share are given, a share is not in 0..1, or there is nothing to mix.
    """
    asked = [f"--denoise {denoise:g}"] if denoise is not None else []
    asked += [f"--quality {quality}"] if quality != "auto" else []
    if len(asked) > 1:
        raise UsageError(f"{' and '.join(asked)}: give one of them, not both")
    for flag, share in (("--denoise", denoise or 0), ("--texture", texture)):
        if not 0 <= share <= 1:
            raise UsageError(f"{flag} {share:g}: give a share between 0 and 1")
    asked += [f"--texture {texture:g}"] if texture else []
    if blend.is_single and asked:
        raise UsageError(f"{asked[0]}: one model's weights are nothing to choose from: use --model auto")


def measure_condition(image: Float[Tensor, "1 3 h w"]) -> Condition:
    """Measure a photo; a flat one, or one of less than 32 pixels a side, says nothing and is taken for clean.

    Args:
        image: The photo, 0..1.
    """
    if min(image.shape[-2:]) < _MINIMUM_SIDE_PX or float(image.std()) < _FLAT:
        return CLEAN
    squares = squares_of(image.cpu(), _GRID_PX)
    height, width = squares.shape[-2:]
    blocks = [
        squares[row : row + 1, :, y : y + _BLOCK_PX, x : x + _BLOCK_PX]
        for row in range(len(squares))
        for y in range(0, height - _GRID_PX + 1, _BLOCK_PX)
        for x in range(0, width - _GRID_PX + 1, _BLOCK_PX)
    ]
    with torch.inference_mode():  # block by block, so that memory does not grow with the photo
        found = [_network()(F.pad(block, _least(block), mode="replicate")) for block in blocks]
        values, logits = (torch.cat(part, 2) for part in zip(*found, strict=True))
        blur_px, log_noise, loss = pooled(values, logits)[0].tolist()
    noise = torch.tensor(log_noise).exp().item() - _NOISE_OFFSET
    return Condition(
        blur_px=max(0.0, blur_px), noise=max(0.0, noise), jpeg=min(100.0, max(1.0, 100 - _QUALITY_UNIT * loss))
    )


def _least(block: Float[Tensor, "1 3 h w"]) -> tuple[int, int, int, int]:
    """Padding of a narrow block, at the right and below, to the least that the network takes."""
    height, width = block.shape[-2:]
    return 0, max(0, 2 * _GRID_PX - width), 0, max(0, 2 * _GRID_PX - height)


@cache
def _network() -> ConditionNet:
    file = Path(str(resources.files("refsr.restore") / "condition.safetensors"))
    network = ConditionNet()
    network.load_state_dict({name: value.float() for name, value in load_file(file).items()})
    return network.eval().requires_grad_(False)
