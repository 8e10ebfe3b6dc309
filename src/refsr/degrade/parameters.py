"""Parameters of the degradation: the settings that they are drawn from, and those of one picture."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, TypeVar

import numpy as np

from refsr.errors import UsageError

Blur = Literal["none", "gaussian", "anisotropic", "disc", "line", "curve"]
Reduction = Literal["bicubic", "area", "lanczos", "camera"]
Codec = Literal["none", "jpeg", "webp"]
Range = tuple[float, float]

_Kind = TypeVar("_Kind", bound=str)
_NUMBERS: Final = 28
_BLURS: Final[tuple[Blur, ...]] = ("gaussian", "anisotropic", "disc", "line", "curve")
_REDUCTIONS: Final[tuple[Reduction, ...]] = ("area", "lanczos", "camera")
_LIMITS: Final[dict[str, Range]] = {
    "gaussian_px": (0.1, 50), "ratio": (0.05, 1), "disc_px": (0.1, 100), "motion_px": (0.1, 200),
    "bend_degrees": (-360, 360), "sway_degrees": (-180, 180), "optics_px": (0.05, 10),
    "shot": (1e-7, 1), "read": (1e-7, 1), "grain_px": (0.05, 10),
    "sharpen_amount": (0, 10), "sharpen_px": (0.05, 20), "tone_strength": (-1, 1), "quality": (1, 100),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class DegradeConfig:
    """Share of each degradation among the pictures, 0..1, and the ranges of its parameters.

    Sizes in pixels and noise levels are log-uniform, all else is uniform. The five blurs exclude each other, as do the
    three reductions.

    Attributes:
        clean: Share with bicubic reduction and nothing else.
        gaussian: Share with round Gaussian blur.
        anisotropic: Share with elliptic Gaussian blur.
        disc: Share with defocus blur.
        line: Share with straight motion blur.
        curve: Share with curved motion blur, as from a shaking hand.
        gaussian_px: Standard deviation in HR pixels, of an ellipse along its longer axis.
        ratio: Shorter by longer axis of an ellipse.
        disc_px: Radius in HR pixels.
        motion_px: Length of the path in HR pixels.
        bend_degrees: Uniform turn of a curved path from end to end.
        sway_degrees: Amplitude of the sine in its heading.
        area: Share reduced by the mean of each square; without area, lanczos and camera, reduction is bicubic.
        lanczos: Share reduced by Lanczos's kernel.
        camera: Share seen through optics and a Bayer mosaic.
        optics_px: Standard deviation of the optics' Gaussian PSF in LR pixels.
        noise: Share with noise.
        shot: Variance per unit of linear light 0..1: 1e-4 is a phone by day, 2e-2 a bad night.
        read: Standard deviation in the dark, of linear light; as far along its range as `shot`, plus or minus a sixth.
        grain: Share of the noise that is blurred; a camera's is correlated by demosaicing.
        grain_px: Standard deviation of that blur in LR pixels.
        sharpen: Share with unsharp masking.
        sharpen_amount: Factor of the difference to a blurred copy.
        sharpen_px: Standard deviation of that blur in LR pixels.
        tone: Share with a tone curve.
        tone_strength: -1..1; positive values add contrast, negative ones reduce it.
        compress: Share that is compressed.
        quality: Quality of JPEG and WebP, integers, both ends included.
        subsampled: Share of JPEG with 4:2:0 chroma subsampling.
        twice: Share of the compressed that were JPEG before, of another quality and on a shifted grid of blocks.
        webp: Share of the compressed that end as WebP, by a real codec on the CPU, which is slow.
    """

    clean: float = 1.0
    gaussian: float = 0.20
    anisotropic: float = 0.15
    disc: float = 0.15
    line: float = 0.10
    curve: float = 0.15
    gaussian_px: Range = (0.4, 6.0)
    ratio: Range = (0.2, 0.9)
    disc_px: Range = (1.0, 10.0)
    motion_px: Range = (3.0, 40.0)
    bend_degrees: Range = (-180.0, 180.0)
    sway_degrees: Range = (-60.0, 60.0)
    area: float = 0.20
    lanczos: float = 0.15
    camera: float = 0.30
    optics_px: Range = (0.2, 0.6)
    noise: float = 0.60
    shot: Range = (1e-4, 2e-2)
    read: Range = (1e-4, 2e-2)
    grain: float = 0.40
    grain_px: Range = (0.4, 1.0)
    sharpen: float = 0.30
    sharpen_amount: Range = (0.2, 2.0)
    sharpen_px: Range = (0.5, 1.5)
    tone: float = 0.20
    tone_strength: Range = (-0.3, 0.8)
    compress: float = 0.70
    quality: tuple[int, int] = (20, 95)
    subsampled: float = 0.70
    twice: float = 0.20
    webp: float = 0.0

    def __post_init__(self) -> None:
        check_shares(self, [each.name for each in fields(self) if each.type is float], (_BLURS, _REDUCTIONS))
        check_ranges(self, _LIMITS)


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """Parameters of one picture's degradation; the defaults are bicubic reduction and nothing else.

    Values without a description are drawn from the ranges of `DegradeConfig` and have their units.

    Attributes:
        blur_px: Standard deviation, radius or length of path in HR pixels, by the kind of `blur`.
        blur_degrees: Direction of the longer axis or of the motion, clockwise from rightwards.
        grain_px: Standard deviation in LR pixels of the blur of the noise; 0 for white noise.
        sharpen: Factor of unsharp masking.
        tone: Strength of the tone curve, -1..1.
        first_quality: Quality of an earlier JPEG; 0 for none.
        first_y_px: Shift of its grid of blocks upwards, 0..7; `first_x_px` to the left.
        quality: Quality of the final codec; 0 for none.
        subsampled: Whether both JPEGs have 4:2:0 chroma subsampling.
    """

    blur: Blur = "none"
    blur_px: float = 0.0
    blur_ratio: float = 1.0
    blur_degrees: float = 0.0
    blur_bend_degrees: float = 0.0
    blur_sway_degrees: float = 0.0
    reduction: Reduction = "bicubic"
    optics_px: float = 0.0
    shot: float = 0.0
    read: float = 0.0
    grain_px: float = 0.0
    noise_seed: int = 0
    sharpen: float = 0.0
    sharpen_px: float = 0.0
    tone: float = 0.0
    first_quality: int = 0
    first_y_px: int = 0
    first_x_px: int = 0
    codec: Codec = "none"
    quality: int = 0
    subsampled: bool = False


CLEAN: Final = Degradation()
"""Bicubic reduction alone."""


class RandomNumbers:
    """A fixed count of random numbers, drawn at once and taken one by one."""

    def __init__(self, rng: np.random.Generator, count: int) -> None:
        """Draw `count` numbers, the maximum that can be taken."""
        self._numbers: Iterator[float] = iter(rng.random(count).tolist())

    def unit(self) -> float:
        """Uniform in 0..1."""
        return next(self._numbers)

    def chance(self, share: float) -> bool:
        """True with this probability."""
        return next(self._numbers) < share

    def uniform(self, limits: Range) -> float:
        """Uniform between the limits."""
        return limits[0] + (limits[1] - limits[0]) * next(self._numbers)

    def log_uniform(self, limits: Range) -> float:
        """Log-uniform between the limits."""
        return log_interpolate(limits, next(self._numbers))

    def integer(self, limits: tuple[int, int]) -> int:
        """Uniform integer, both limits included."""
        return limits[0] + int((limits[1] - limits[0] + 1) * next(self._numbers))

    def seed(self) -> int:
        """Seed for another generator."""
        return int(2**31 * next(self._numbers))


def draw(config: DegradeConfig, rng: np.random.Generator) -> Degradation:
    """Draw the parameters of one picture; every call takes the same count of numbers from `rng`."""
    numbers = RandomNumbers(rng, _NUMBERS)
    clean = numbers.chance(config.clean)
    blur = choose_kind(numbers.unit(), _shares(config, _BLURS), "none")
    sizes = {"gaussian": config.gaussian_px, "anisotropic": config.gaussian_px, "disc": config.disc_px}
    blur_px = numbers.log_uniform(sizes.get(blur, config.motion_px))
    ratio, turn = numbers.uniform(config.ratio), numbers.unit()
    bend, sway = numbers.uniform(config.bend_degrees), numbers.uniform(config.sway_degrees)
    reduction = choose_kind(numbers.unit(), _shares(config, _REDUCTIONS), "bicubic")
    optics_px = numbers.log_uniform(config.optics_px)
    noisy, light, apart = numbers.chance(config.noise), numbers.unit(), numbers.unit()
    grainy, grain_px, seed = numbers.chance(config.grain), numbers.log_uniform(config.grain_px), numbers.seed()
    sharp, amount = numbers.chance(config.sharpen), numbers.uniform(config.sharpen_amount)
    sharpen_px = numbers.log_uniform(config.sharpen_px)
    toned, tone = numbers.chance(config.tone), numbers.uniform(config.tone_strength)
    packed, quality = numbers.chance(config.compress), numbers.integer(config.quality)
    half, again = numbers.chance(config.subsampled), numbers.chance(config.twice)
    first, y, x = (numbers.integer(limits) for limits in (config.quality, (0, 7), (0, 7)))
    webp = numbers.chance(config.webp)
    if clean:
        return CLEAN
    twice = packed and again
    return Degradation(
        blur=blur,
        blur_px=blur_px if blur != "none" else 0.0,
        blur_ratio=ratio if blur == "anisotropic" else 1.0,
        blur_degrees={"anisotropic": 180 * turn, "line": 180 * turn, "curve": 360 * turn}.get(blur, 0.0),
        blur_bend_degrees=bend if blur == "curve" else 0.0,
        blur_sway_degrees=sway if blur == "curve" else 0.0,
        reduction=reduction,
        optics_px=optics_px if reduction == "camera" else 0.0,
        shot=log_interpolate(config.shot, light) if noisy else 0.0,
        read=log_interpolate(config.read, min(1.0, max(0.0, light + (apart - 0.5) / 3))) if noisy else 0.0,
        grain_px=grain_px if noisy and grainy and reduction != "camera" else 0.0,
        noise_seed=seed if noisy else 0,
        sharpen=amount if sharp else 0.0,
        sharpen_px=sharpen_px if sharp else 0.0,
        tone=tone if toned else 0.0,
        first_quality=first if twice else 0,
        first_y_px=y if twice else 0,
        first_x_px=x if twice else 0,
        codec=("webp" if webp else "jpeg") if packed else "none",
        quality=quality if packed else 0,
        subsampled=half if packed and (twice or not webp) else False,
    )


def _shares(config: DegradeConfig, kinds: tuple[_Kind, ...]) -> dict[_Kind, float]:
    return {kind: getattr(config, kind) for kind in kinds}


def choose_kind(number: float, shares: Mapping[_Kind, float], rest: _Kind) -> _Kind:
    """The kind that a number in 0..1 falls on, when the shares of exclusive kinds are laid end to end."""
    for kind, share in shares.items():
        if number < share:
            return kind
        number -= share
    return rest


def log_interpolate(limits: Range, share: float) -> float:
    """From the lower limit, at share 0, to the upper one, at share 1, by equal factors."""
    return limits[0] * math.exp(share * math.log(limits[1] / limits[0]))


def check_shares(config: Any, names: Sequence[str], exclusive: Sequence[Sequence[str]] = ()) -> None:
    """Check attributes that are shares, and groups of them that exclude each other.

    Raises:
        UsageError: A share is not in 0..1, or a group adds up to more than 1.
    """
    for name in names:
        if not 0 <= getattr(config, name) <= 1:
            raise UsageError(f"{name} is {getattr(config, name)}: give a share between 0 and 1")
    for group in exclusive:
        total = sum(getattr(config, name) for name in group)
        if total > 1 + 1e-9:
            raise UsageError(f"{', '.join(group)} add up to {total:g}: give shares that add up to 1 at most")


def check_ranges(config: Any, limits: Mapping[str, tuple[float | int, float | int]]) -> None:
    """Check attributes that are ranges (low, high), by the minimum and maximum of each.

    Raises:
        UsageError: A range exceeds its limits, or its lower end comes last.
    """
    for name, (least, most) in limits.items():
        low, high = getattr(config, name)
        if not least <= low <= high <= most:
            raise UsageError(f"{name} is {low}..{high}: give the lower limit first, both in {least:g}..{most:g}")
