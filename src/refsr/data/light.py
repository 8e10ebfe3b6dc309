"""Photometric augmentation of references: the light of another day, hour or camera.

    ref ── gamma ── exposure, white balance ── shading ── shadow ── haze ── blur, noise, JPEG or none ──> 8 bits

All steps act on sRGB values, not on linear light, and on a whole batch on its device. Noise and shadows are drawn on
the CPU from seeds among the parameters.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from refsr.degrade.camera import unit_noise
from refsr.degrade.jpeg import jpeg
from refsr.degrade.parameters import RandomNumbers, Range, check_ranges, check_shares, choose_kind
from refsr.device import constant, moved, per_picture, pick, put
from refsr.errors import UsageError
from refsr.resize import stored
from refsr.wording import counted

Artefact = Literal["none", "blur", "noise", "jpeg"]

_NUMBERS: Final = 21
_MINIMUM_VALUE: Final = 1e-4
_BLOB_NODES: Final = 5
_SRGB_GAMMA: Final = 2.2
_DAY_KELVIN: Final = 6504.0
_SHARES: Final = ("temperature", "shading", "shadow", "blob", "haze", "blur", "noise", "jpeg")
_LIMITS: Final[dict[str, Range]] = {
    "kelvin": (4000, 25000), "shading_log2": (0, 8), "shadow_depth": (0, 1), "shadow_soft": (1e-3, 1),
    "haze_amount": (0, 1), "haze_grey": (0, 1), "noise_sigma": (0, 1), "quality": (1, 100),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LightConfig:
    """Share of each change of light among the references, 0..1, and the ranges of its parameters.

    Attributes:
        exposure_log2: Standard deviation of the brightness, in octaves.
        gain_log2: Standard deviation of each channel's gain, in octaves.
        gamma_log2: Standard deviation of the gamma, in octaves.
        temperature: Share with the white balance of another daylight.
        kelvin: Colour temperature of that daylight; 6504 changes nothing.
        shading: Share with a linear gradient of brightness.
        shading_log2: Octaves of brightness from end to end.
        shadow: Share with a cast shadow.
        blob: Share of the shadows that are blobs; the others have a straight edge.
        shadow_depth: Share of the values that the shadow takes away.
        shadow_soft: Width of its edge, as a share of the picture.
        haze: Share with haze.
        haze_amount: Opacity of the haze at its thickest; it is at least half of that on the opposite side.
        haze_grey: Value of the haze.
        blur: Share blurred by the mean of 3x3 pixels; blur, noise and jpeg exclude each other.
        noise: Share with white noise.
        noise_sigma: Its standard deviation.
        jpeg: Share compressed as JPEG.
        quality: Its quality, both ends included.
    """

    exposure_log2: float = 0.25
    gain_log2: float = 0.06
    gamma_log2: float = 0.2
    temperature: float = 0.0
    kelvin: Range = (4000.0, 12000.0)
    shading: float = 0.0
    shading_log2: Range = (0.2, 1.0)
    shadow: float = 0.0
    blob: float = 0.5
    shadow_depth: Range = (0.3, 0.8)
    shadow_soft: Range = (0.005, 0.1)
    haze: float = 0.0
    haze_amount: Range = (0.1, 0.5)
    haze_grey: Range = (0.7, 0.95)
    blur: float = 0.06
    noise: float = 0.06
    noise_sigma: Range = (0.005, 0.03)
    jpeg: float = 0.08
    quality: tuple[int, int] = (40, 91)

    def __post_init__(self) -> None:
        for name in ("exposure_log2", "gain_log2", "gamma_log2"):
            if not 0 <= getattr(self, name) <= 4:
                raise UsageError(f"{name} is {getattr(self, name)}: give a standard deviation of 0 to 4 octaves")
        check_shares(self, _SHARES, (("blur", "noise", "jpeg"),))
        check_ranges(self, _LIMITS)


@dataclass(frozen=True, kw_only=True)
class Light:
    """Parameters of one reference's light; the defaults change nothing but the rounding to 8 bits.

    Values without a description are drawn from the ranges of `LightConfig` and have their units. All directions are
    clockwise from rightwards.

    Attributes:
        gains_log2: Of red, green and blue in octaves, exposure included.
        shading_degrees: Direction of rising brightness.
        shadow: Share of the values that the shadow takes away.
        shadow_degrees: Direction from a straight edge into the shadow.
        shadow_offset: Shift of the edge, -0.5..0.5: at 0 half of the picture is dark.
        haze: Opacity at its thickest, 0..1.
        haze_slope: Share of the opacity that is missing on the opposite side, 0..1.
        haze_degrees: Direction in which it is thickest.
    """

    gains_log2: tuple[float, float, float] = (0.0, 0.0, 0.0)
    gamma_log2: float = 0.0
    kelvin: float = _DAY_KELVIN
    shading_log2: float = 0.0
    shading_degrees: float = 0.0
    shadow: float = 0.0
    shadow_blob: bool = False
    shadow_degrees: float = 0.0
    shadow_offset: float = 0.0
    shadow_soft: float = 0.1
    shadow_seed: int = 0
    haze: float = 0.0
    haze_slope: float = 0.0
    haze_degrees: float = 0.0
    haze_grey: float = 0.0
    artefact: Artefact = "none"
    noise: float = 0.0
    noise_seed: int = 0
    quality: int = 0


def draw_light(config: LightConfig, rng: np.random.Generator) -> Light:
    """Draw the light of one reference; every call takes the same count of numbers from `rng`."""
    numbers = RandomNumbers(rng, _NUMBERS)
    exposure, red, green, blue, gamma = (float(number) for number in rng.normal(size=5))
    warm, mired = numbers.chance(config.temperature), numbers.uniform((1e6 / config.kelvin[1], 1e6 / config.kelvin[0]))
    shaded, octaves, shading_turn = numbers.chance(config.shading), numbers.uniform(config.shading_log2), numbers.unit()
    shadowed, depth = numbers.chance(config.shadow), numbers.uniform(config.shadow_depth)
    blob = numbers.chance(config.blob)
    shadow_turn, offset, soft = numbers.unit(), numbers.uniform((-0.3, 0.3)), numbers.uniform(config.shadow_soft)
    shadow_seed, noise_seed = numbers.seed(), numbers.seed()
    hazy, haze, slope = numbers.chance(config.haze), numbers.uniform(config.haze_amount), numbers.uniform((0.0, 0.5))
    haze_turn, grey = numbers.unit(), numbers.uniform(config.haze_grey)
    shares: dict[Artefact, float] = {"blur": config.blur, "noise": config.noise, "jpeg": config.jpeg}
    artefact = choose_kind(numbers.unit(), shares, "none")
    sigma, quality = numbers.uniform(config.noise_sigma), numbers.integer(config.quality)
    gains = [config.exposure_log2 * exposure + config.gain_log2 * channel for channel in (red, green, blue)]
    return Light(
        gains_log2=(gains[0], gains[1], gains[2]),
        gamma_log2=config.gamma_log2 * gamma,
        kelvin=1e6 / mired if warm else _DAY_KELVIN,
        shading_log2=octaves if shaded else 0.0,
        shading_degrees=360 * shading_turn if shaded else 0.0,
        shadow=depth if shadowed else 0.0,
        shadow_blob=shadowed and blob,
        shadow_degrees=360 * shadow_turn if shadowed and not blob else 0.0,
        shadow_offset=offset if shadowed else 0.0,
        shadow_soft=soft if shadowed else 0.1,
        shadow_seed=shadow_seed if shadowed and blob else 0,
        haze=haze if hazy else 0.0,
        haze_slope=slope if hazy else 0.0,
        haze_degrees=360 * haze_turn if hazy else 0.0,
        haze_grey=grey if hazy else 0.0,
        artefact=artefact,
        noise=sigma if artefact == "noise" else 0.0,
        noise_seed=noise_seed if artefact == "noise" else 0,
        quality=quality if artefact == "jpeg" else 0,
    )


def relight(images: Float[Tensor, "n 3 h w"], lights: Sequence[Light]) -> Float[Tensor, "n 3 h w"]:
    """Change the light of pictures, without gradient; each result is independent of the rest of the batch.

    Args:
        images: RGB 0..1.
        lights: One per picture.

    Returns:
        RGB 0..1, quantised to 8 bits.

    Raises:
        UsageError: The counts of pictures and lights differ.
    """
    if len(lights) != len(images):
        raise UsageError(
            f"{counted(len(lights), 'light')} for {counted(len(images), 'picture')}: give one for each picture"
        )
    if not lights:
        return images
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        gains = constant([_gains(light) for light in lights], images)[..., None, None]
        gamma = per_picture([2**light.gamma_log2 for light in lights], images)
        lit = images.clamp_min(_MINIMUM_VALUE) ** gamma * gains
        if any(light.shading_log2 for light in lights):
            slope = _slope(images, [light.shading_degrees for light in lights])
            lit = lit * 2 ** (_values("shading_log2", lights, images) * slope)
        if any(light.shadow for light in lights):
            lit = lit * (1 - _values("shadow", lights, images) * _shadow(images, lights))
        if any(light.haze for light in lights):
            thickness = 0.5 - _slope(images, [light.haze_degrees for light in lights])
            opacity = _values("haze", lights, images) * (1 - _values("haze_slope", lights, images) * thickness)
            lit = lit.clamp(0, 1) * (1 - opacity) + _values("haze_grey", lights, images) * opacity
        return stored(_add_artefacts(lit.clamp(0, 1), lights))


def _values(name: str, lights: Sequence[Light], images: Tensor) -> Float[Tensor, "n 1 1 1"]:
    return per_picture([getattr(light, name) for light in lights], images)


def _gains(light: Light) -> list[float]:
    return [2**octaves * gain for octaves, gain in zip(light.gains_log2, daylight_gains(light.kelvin), strict=True)]


def daylight_gains(kelvin: float) -> tuple[float, float, float]:
    """Factors of red, green and blue sRGB values of white under another daylight; that of green is 1.

    Args:
        kelvin: 4000..25000; 6504 gives three times 1.

    Source: CIE 015, the daylight locus; IEC 61966-2-1 for the matrix, with a plain gamma of 2.2.
    """
    if kelvin == _DAY_KELVIN:
        return (1.0, 1.0, 1.0)
    here, there = (_daylight(temperature) for temperature in (_DAY_KELVIN, kelvin))
    red, green, blue = ((b / a) ** (1 / _SRGB_GAMMA) for a, b in zip(here, there, strict=True))
    return (red / green, 1.0, blue / green)


def _daylight(kelvin: float) -> tuple[float, float, float]:
    """Linear RGB of daylight."""
    factors = (-4.6070e9, 2.9678e6, 99.11, 0.244063) if kelvin <= 7000 else (-2.0064e9, 1.9018e6, 247.48, 0.237040)
    x = sum(factor / kelvin**power for factor, power in zip(factors, (3, 2, 1, 0), strict=True))
    y = -3.000 * x**2 + 2.870 * x - 0.275
    light = (x / y, 1.0, (1 - x - y) / y)
    rows = ((3.2406, -1.5372, -0.4986), (-0.9689, 1.8758, 0.0415), (0.0557, -0.2040, 1.0570))
    red, green, blue = (sum(a * b for a, b in zip(row, light, strict=True)) for row in rows)
    return red, green, blue


def _slope(images: Float[Tensor, "n 3 h w"], degrees: Sequence[float]) -> Float[Tensor, "n 1 h w"]:
    """Linear ramp from -0.5 to 0.5 over each picture, in its own direction."""
    height, width = images.shape[-2:]
    y, x = (moved((torch.arange(side) + 0.5) / side - 0.5, images) for side in (height, width))
    turns = [(math.cos(math.radians(angle)), math.sin(math.radians(angle))) for angle in degrees]
    across, down = ([turn[axis] / (abs(turn[0]) + abs(turn[1])) for turn in turns] for axis in (0, 1))
    return per_picture(across, images) * x + per_picture(down, images) * y[:, None]


def _shadow(images: Float[Tensor, "n 3 h w"], lights: Sequence[Light]) -> Float[Tensor, "n 1 h w"]:
    """Share of the shadow on each pixel, 0..1."""
    field = _slope(images, [light.shadow_degrees for light in lights])
    rows = [row for row, light in enumerate(lights) if light.shadow_blob]
    if rows:
        generator = torch.Generator()
        shape = (1, _BLOB_NODES, _BLOB_NODES)
        cells = [torch.rand(shape, generator=generator.manual_seed(lights[row].shadow_seed)) for row in rows]
        smooth = F.interpolate(
            moved(torch.stack(cells), images), size=images.shape[-2:], mode="bicubic", align_corners=True
        )
        low, high = smooth.amin((2, 3), keepdim=True), smooth.amax((2, 3), keepdim=True)
        put(field, rows, (smooth - low) / (high - low).clamp_min(1e-6) - 0.5)
    offset, soft = (_values(name, lights, images) for name in ("shadow_offset", "shadow_soft"))
    # The factor 8 makes the sigmoid rise from 0.02 to 0.98 within the width of the edge.
    return torch.sigmoid(8 * (field - offset) / soft)


def _add_artefacts(images: Float[Tensor, "n 3 h w"], lights: Sequence[Light]) -> Float[Tensor, "n 3 h w"]:
    changed = images.clone()
    groups: dict[Artefact, list[int]] = {}
    for row, light in enumerate(lights):
        groups.setdefault(light.artefact, []).append(row)
    for artefact, rows in groups.items():
        part, chosen = pick(images, rows), [lights[row] for row in rows]
        if artefact == "blur":
            put(changed, rows, F.avg_pool2d(part, 3, stride=1, padding=1, count_include_pad=False))
        elif artefact == "noise":
            noise = unit_noise([light.noise_seed for light in chosen], part)
            put(changed, rows, part + _values("noise", chosen, part) * noise)
        elif artefact == "jpeg":
            put(changed, rows, jpeg(part, [light.quality for light in chosen], [True] * len(chosen)))
    return changed
