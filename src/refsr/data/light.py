"""Another light on a reference, as another day, hour or camera gives.

    ref ── gamma ── exposure, white balance ── shading ── shadow ── haze ── now and then blur, noise or JPEG ──> 8 bits

Everything acts on sRGB values, not on linear light, and on whole batches on their device; random numbers come from the
values.
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

from refsr.degrade.checks import check_ranges, check_shares
from refsr.degrade.jpeg import jpeg
from refsr.degrade.noise import unit_noise
from refsr.degrade.parameters import Numbers, Range, choose
from refsr.device import constant, moved, per_picture, pick, put
from refsr.errors import UsageError
from refsr.resize import stored

Harm = Literal["none", "blur", "noise", "jpeg"]

_NUMBERS: Final = 21
_DARKEST: Final = 1e-4
_BLOB_CELLS: Final = 5
_SRGB_GAMMA: Final = 2.2
_DAY_KELVIN: Final = 6504.0
_SHARES: Final = ("temperature", "shading", "shadow", "blob", "haze", "blur", "noise", "jpeg")
_LIMITS: Final[dict[str, Range]] = {
    "kelvin": (4000, 25000),
    "shading_log2": (0, 8),
    "shadow_depth": (0, 1),
    "shadow_soft": (1e-3, 1),
    "haze_amount": (0, 1),
    "haze_grey": (0, 1),
    "noise_sigma": (0, 1),
    "quality": (1, 100),
}


@dataclass(frozen=True, kw_only=True)
class LightConfig:
    """How the light of references differs.

    Attributes:
        exposure_log2: Standard deviation of the brightness, in octaves.
        gain_log2: Of each channel besides.
        gamma_log2: Of the gamma.
        temperature: Share with a white balance for another colour of daylight.
        kelvin: Of that daylight; 6504 changes nothing.
        shading: Share that grows brighter towards one side.
        shading_log2: By so many octaves from end to end.
        shadow: Share with a cast shadow.
        blob: Share of the shadows that are a blob; the others end at a straight edge.
        shadow_depth: Share of the values that the shadow takes away.
        shadow_soft: Width of its edge, as a share of the picture.
        haze: Share with haze.
        haze_amount: Share of haze at its thickest; at the opposite side there is a half of it at least.
        haze_grey: Its value.
        blur: Share whose pixels are the means of 3x3; the shares of the last three exclude each other.
        noise: Share with white noise.
        noise_sigma: Its standard deviation.
        jpeg: Share that was a JPEG.
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
    """All that is done to one picture; as it stands, it changes nothing but the rounding.

    Attributes:
        gains_log2: Of red, green and blue, exposure included.
        gamma_log2: Of the gamma.
        kelvin: Of the daylight that the white balance suits.
        shading_log2: Octaves from the darkest corner to the brightest.
        shading_degrees: Where it grows brighter, from rightwards to downwards.
        shadow: Share of the values that the shadow takes away.
        shadow_blob: Whether it is a blob.
        shadow_degrees: Where a straight one lies.
        shadow_offset: Moves its edge, -0.5..0.5: at zero half of the picture is dark.
        shadow_soft: Width of its edge.
        shadow_seed: Start of a blob's random numbers.
        haze: Share of haze at its thickest.
        haze_slope: Share of it that is missing on the opposite side.
        haze_degrees: Where it is thickest.
        haze_grey: Its value.
        harm: What befell the file.
        noise: Standard deviation, if that is noise.
        noise_seed: Start of its random numbers.
        quality: If that is JPEG.
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
    harm: Harm = "none"
    noise: float = 0.0
    noise_seed: int = 0
    quality: int = 0


def draw_light(config: LightConfig, rng: np.random.Generator) -> Light:
    """Choose the values of one picture.

    Args:
        config: Shares and limits.
        rng: Always gives the same number of uniform random numbers, and five normal ones.
    """
    numbers = Numbers(rng, _NUMBERS)
    exposure, red, green, blue, gamma = (float(number) for number in rng.normal(size=5))
    warm, mired = numbers.happens(config.temperature), numbers.uniform((1e6 / config.kelvin[1], 1e6 / config.kelvin[0]))
    shaded, octaves, shading_turn = numbers.happens(config.shading), numbers.uniform(config.shading_log2), numbers.one()
    shadowed, depth, blob = (
        numbers.happens(config.shadow),
        numbers.uniform(config.shadow_depth),
        numbers.happens(config.blob),
    )
    shadow_turn, offset, soft = numbers.one(), numbers.uniform((-0.3, 0.3)), numbers.uniform(config.shadow_soft)
    shadow_seed, noise_seed = numbers.seed(), numbers.seed()
    hazy, haze, slope = numbers.happens(config.haze), numbers.uniform(config.haze_amount), numbers.uniform((0.0, 0.5))
    haze_turn, grey = numbers.one(), numbers.uniform(config.haze_grey)
    shares: dict[Harm, float] = {"blur": config.blur, "noise": config.noise, "jpeg": config.jpeg}
    harm = choose(numbers.one(), shares, "none")
    sigma = numbers.uniform(config.noise_sigma)
    quality = numbers.whole(config.quality)
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
        harm=harm,
        noise=sigma if harm == "noise" else 0.0,
        noise_seed=noise_seed if harm == "noise" else 0,
        quality=quality if harm == "jpeg" else 0,
    )


def relight(images: Float[Tensor, "n 3 h w"], lights: Sequence[Light]) -> Float[Tensor, "n 3 h w"]:
    """Put pictures into another light, without gradient. What a picture becomes does not depend on the others.

    Args:
        images: 0..1.
        lights: One a picture.

    Returns:
        0..1, in steps of 8 bits.

    Raises:
        UsageError: The lights are not as many as the pictures.
    """
    if len(lights) != len(images):
        raise UsageError(f"{len(images)} pictures need as many lights, not {len(lights)}")
    if not lights:
        return images
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        gains = constant([_gains(light) for light in lights], images)[..., None, None]
        gamma = per_picture([2**light.gamma_log2 for light in lights], images)
        lit = images.clamp_min(_DARKEST) ** gamma * gains
        if any(light.shading_log2 for light in lights):
            slope = _slope(images, [light.shading_degrees for light in lights])
            lit = lit * 2 ** (per_picture([light.shading_log2 for light in lights], images) * slope)
        if any(light.shadow for light in lights):
            lit = lit * (1 - per_picture([light.shadow for light in lights], images) * _shadow(images, lights))
        if any(light.haze for light in lights):
            thickness = 0.5 - _slope(images, [light.haze_degrees for light in lights])
            share = 1 - per_picture([light.haze_slope for light in lights], images) * thickness
            share = per_picture([light.haze for light in lights], images) * share
            grey = per_picture([light.haze_grey for light in lights], images)
            lit = lit.clamp(0, 1) * (1 - share) + grey * share
        return stored(_harm(lit.clamp(0, 1), lights))


def _gains(light: Light) -> list[float]:
    return [2**octaves * gain for octaves, gain in zip(light.gains_log2, daylight_gains(light.kelvin), strict=True)]


def daylight_gains(kelvin: float) -> tuple[float, float, float]:
    """What daylight does to red, green and blue sRGB values of white; green stays.

    Args:
        kelvin: 4000 to 25000, relative to 6504.

    Source: CIE 015, the daylight locus; IEC 61966-2-1 for the matrix, with a plain gamma of 2.2.
    """
    if kelvin == _DAY_KELVIN:
        return (1.0, 1.0, 1.0)
    here, there = (_daylight(temperature) for temperature in (_DAY_KELVIN, kelvin))
    red, green, blue = ((b / a) ** (1 / _SRGB_GAMMA) for a, b in zip(here, there, strict=True))
    return (red / green, 1.0, blue / green)


def _daylight(kelvin: float) -> tuple[float, float, float]:
    """Linear red, green and blue of daylight."""
    factors = (-4.6070e9, 2.9678e6, 99.11, 0.244063) if kelvin <= 7000 else (-2.0064e9, 1.9018e6, 247.48, 0.237040)
    x = sum(factor / kelvin**power for factor, power in zip(factors, (3, 2, 1, 0), strict=True))
    y = -3.000 * x**2 + 2.870 * x - 0.275
    light = (x / y, 1.0, (1 - x - y) / y)
    rows = ((3.2406, -1.5372, -0.4986), (-0.9689, 1.8758, 0.0415), (0.0557, -0.2040, 1.0570))
    red, green, blue = (sum(a * b for a, b in zip(row, light, strict=True)) for row in rows)
    return red, green, blue


def _slope(images: Float[Tensor, "n 3 h w"], degrees: Sequence[float]) -> Float[Tensor, "n 1 h w"]:
    """Grows from -0.5 to 0.5 from corner to corner, or from side to side, in each picture's direction."""
    height, width = images.shape[-2:]
    y, x = (moved((torch.arange(side) + 0.5) / side - 0.5, images) for side in (height, width))
    turns = [(math.cos(math.radians(angle)), math.sin(math.radians(angle))) for angle in degrees]
    across, down = ([turn[axis] / (abs(turn[0]) + abs(turn[1])) for turn in turns] for axis in (0, 1))
    return per_picture(across, images) * x + per_picture(down, images) * y[:, None]


def _shadow(images: Float[Tensor, "n 3 h w"], lights: Sequence[Light]) -> Float[Tensor, "n 1 h w"]:
    """How much of the shadow lies on each pixel, 0..1."""
    field = _slope(images, [light.shadow_degrees for light in lights])
    rows = [row for row, light in enumerate(lights) if light.shadow_blob]
    if rows:
        generator = torch.Generator()
        shape = (1, _BLOB_CELLS, _BLOB_CELLS)
        cells = [torch.rand(shape, generator=generator.manual_seed(lights[row].shadow_seed)) for row in rows]
        smooth = F.interpolate(
            moved(torch.stack(cells), images), size=images.shape[-2:], mode="bicubic", align_corners=True
        )
        low, high = smooth.amin((2, 3), keepdim=True), smooth.amax((2, 3), keepdim=True)
        put(field, rows, (smooth - low) / (high - low).clamp_min(1e-6) - 0.5)
    offset, soft = (
        per_picture([getattr(light, f"shadow_{n}") for light in lights], images) for n in ("offset", "soft")
    )
    # From 0.02 to 0.98 within the edge's width.
    return torch.sigmoid(8 * (field - offset) / soft)


def _harm(images: Float[Tensor, "n 3 h w"], lights: Sequence[Light]) -> Float[Tensor, "n 3 h w"]:
    harmed = images.clone()
    groups: dict[Harm, list[int]] = {}
    for row, light in enumerate(lights):
        groups.setdefault(light.harm, []).append(row)
    for harm, rows in groups.items():
        part, chosen = pick(images, rows), [lights[row] for row in rows]
        if harm == "blur":
            put(harmed, rows, F.avg_pool2d(part, 3, stride=1, padding=1, count_include_pad=False))
        elif harm == "noise":
            noise = unit_noise([light.noise_seed for light in chosen], part)
            put(harmed, rows, part + per_picture([light.noise for light in chosen], part) * noise)
        elif harm == "jpeg":
            put(harmed, rows, jpeg(part, [light.quality for light in chosen], [True] * len(chosen)))
    return harmed
