"""What is done to a picture, in numbers: the settings that they are drawn from, and the numbers of one picture."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

import numpy as np

from refsr.degrade.checks import check_ranges, check_shares

Blur = Literal["none", "gaussian", "anisotropic", "disc", "line", "curve"]
Reduction = Literal["bicubic", "area", "lanczos", "camera"]
Codec = Literal["none", "jpeg", "webp"]
Range = tuple[float, float]

_Kind = TypeVar("_Kind", bound=str)
_NUMBERS: Final = 28
_BLURS: Final = ("gaussian", "anisotropic", "disc", "line", "curve")
_REDUCTIONS: Final = ("area", "lanczos", "camera")
_SHARES: Final = (
    *("clean", *_BLURS, *_REDUCTIONS, "noise", "grain", "sharpen", "tone"),
    *("compress", "subsampled", "twice", "webp"),
)
_LIMITS: Final[dict[str, Range]] = {
    "gaussian_px": (0.1, 50),
    "ratio": (0.05, 1),
    "disc_px": (0.1, 100),
    "motion_px": (0.1, 200),
    "bend_degrees": (-360, 360),
    "sway_degrees": (-180, 180),
    "optics_px": (0.05, 10),
    "shot": (1e-7, 1),
    "read": (1e-7, 1),
    "grain_px": (0.05, 10),
    "sharpen_amount": (0, 10),
    "sharpen_px": (0.05, 20),
    "tone_strength": (-1, 1),
    "quality": (1, 100),
}


@dataclass(frozen=True, kw_only=True)
class DegradeConfig:
    """How pictures are degraded: for each kind its share of the pictures, and between what limits its values lie.

    Sizes in pixels and levels of noise are log-uniform: a small one is as likely as one of twice the size.

    Attributes:
        clean: Share of pictures that are reduced by bicubic interpolation and not harmed otherwise.
        gaussian: Share with a round Gaussian blur; the shares of blurs exclude each other, the rest has none.
        anisotropic: Share with an elliptic Gaussian blur.
        disc: Share out of focus.
        line: Share with straight motion.
        curve: Share with curved motion, as of a hand that shakes.
        gaussian_px: Standard deviation in HR pixels, of an ellipse along its longer axis.
        ratio: Of an ellipse's shorter axis to its longer one.
        disc_px: Radius in HR pixels.
        motion_px: Length of the path in HR pixels.
        bend_degrees: By how much a curved path turns from end to end.
        sway_degrees: By how much its heading swings to and fro besides.
        area: Share reduced by the mean of each square; the shares of reductions exclude each other, the rest is
            bicubic.
        lanczos: Share reduced by Lanczos's kernel.
        camera: Share seen through optics and a mosaic of coloured pixels.
        optics_px: Standard deviation of the optics' blur in LR pixels.
        noise: Share with noise.
        shot: Variance for each unit of light, of linear light 0..1: 1e-4 is a phone by day, 2e-2 a bad night.
        read: Standard deviation in the dark, of linear light; goes with `shot`, give or take a sixth of its range.
        grain: Share of the noise that is correlated; that of a camera becomes so by itself.
        grain_px: Standard deviation in LR pixels of the blur that correlates it.
        sharpen: Share that is sharpened.
        sharpen_amount: How much of the difference to a blurred copy is added.
        sharpen_px: Standard deviation of that blur in LR pixels.
        tone: Share with a tone curve.
        tone_strength: Above zero an S, more contrast; below, less.
        compress: Share that is compressed.
        quality: Of JPEG and WebP, whole numbers, both ends included.
        subsampled: Share of JPEG with colour at half the resolution, 4:2:0.
        twice: Share of the compressed that had been a JPEG before, of another quality and on another grid.
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
        check_shares(self, _SHARES, (_BLURS, _REDUCTIONS))
        check_ranges(self, _LIMITS)


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """All that is done to one picture; what is not done has the value that changes nothing.

    Attributes:
        blur: Kind of blur.
        blur_px: Standard deviation, radius or length in HR pixels.
        blur_ratio: Of an ellipse's shorter axis to its longer one.
        blur_degrees: Where the longer axis or the motion points, from rightwards to downwards.
        blur_bend_degrees: By how much the motion turns from end to end.
        blur_sway_degrees: By how much its heading swings besides.
        reduction: Kind of reduction.
        optics_px: Standard deviation of the camera's blur in LR pixels.
        shot: Variance of the noise for each unit of linear light.
        read: Its standard deviation in the dark.
        grain_px: Standard deviation in LR pixels of the blur that correlates it; 0 for white noise.
        noise_seed: Start of its random numbers.
        sharpen: Amount.
        sharpen_px: Standard deviation of the blurred copy in LR pixels.
        tone: Strength of the tone curve, -1..1.
        first_quality: Of the JPEG that the picture had been before; 0 for none.
        first_y_px: By how much that JPEG's grid lay above, 0..7.
        first_x_px: And to the left.
        codec: What it ends as.
        quality: Of that codec; 0 for none.
        subsampled: Whether JPEG keeps colour at half the resolution; of both JPEGs.
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
"""Bicubic reduction alone, rounded to 8 bits."""


class Numbers:
    """Random numbers that were drawn all at once, taken one after the other."""

    def __init__(self, rng: np.random.Generator, count: int) -> None:
        """Draw.

        Args:
            rng: Gives all.
            count: How many can be taken.
        """
        self._numbers: Iterator[float] = iter(rng.random(count).tolist())

    def one(self) -> float:
        """Between 0 and 1."""
        return next(self._numbers)

    def happens(self, share: float) -> bool:
        """Whether something does that befalls so many."""
        return next(self._numbers) < share

    def uniform(self, limits: Range) -> float:
        """Any number between the limits."""
        return limits[0] + (limits[1] - limits[0]) * next(self._numbers)

    def octaves(self, limits: Range) -> float:
        """One whose logarithm may be any."""
        return octaves(limits, next(self._numbers))

    def whole(self, limits: tuple[int, int]) -> int:
        """A whole number, both limits included."""
        return limits[0] + int((limits[1] - limits[0] + 1) * next(self._numbers))

    def seed(self) -> int:
        """A start for other random numbers."""
        return int(2**31 * next(self._numbers))


def draw(config: DegradeConfig, rng: np.random.Generator) -> Degradation:
    """Choose the values of one picture.

    Args:
        config: Shares and limits.
        rng: Gives the same number of random numbers each time, whatever is chosen.
    """
    numbers = Numbers(rng, _NUMBERS)
    clean = numbers.happens(config.clean)
    blur = choose(numbers.one(), _blur_shares(config), "none")
    sizes = {"gaussian": config.gaussian_px, "anisotropic": config.gaussian_px, "disc": config.disc_px}
    blur_px = numbers.octaves(sizes.get(blur, config.motion_px))
    ratio, turn = numbers.uniform(config.ratio), numbers.one()
    bend, sway = numbers.uniform(config.bend_degrees), numbers.uniform(config.sway_degrees)
    reduction = choose(numbers.one(), _reduction_shares(config), "bicubic")
    optics_px = numbers.octaves(config.optics_px)
    noisy, light, apart = numbers.happens(config.noise), numbers.one(), numbers.one()
    grainy, grain_px, seed = numbers.happens(config.grain), numbers.octaves(config.grain_px), numbers.seed()
    sharp, amount = numbers.happens(config.sharpen), numbers.uniform(config.sharpen_amount)
    sharpen_px = numbers.octaves(config.sharpen_px)
    toned, tone = numbers.happens(config.tone), numbers.uniform(config.tone_strength)
    packed, quality = numbers.happens(config.compress), numbers.whole(config.quality)
    half, again = numbers.happens(config.subsampled), numbers.happens(config.twice)
    first, y, x = (numbers.whole(limits) for limits in (config.quality, (0, 7), (0, 7)))
    webp = numbers.happens(config.webp)
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
        shot=octaves(config.shot, light) if noisy else 0.0,
        read=octaves(config.read, min(1.0, max(0.0, light + (apart - 0.5) / 3))) if noisy else 0.0,
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


def _blur_shares(config: DegradeConfig) -> dict[Blur, float]:
    return {
        "gaussian": config.gaussian,
        "anisotropic": config.anisotropic,
        "disc": config.disc,
        "line": config.line,
        "curve": config.curve,
    }


def _reduction_shares(config: DegradeConfig) -> dict[Reduction, float]:
    return {"area": config.area, "lanczos": config.lanczos, "camera": config.camera}


def choose(number: float, shares: Mapping[_Kind, float], rest: _Kind) -> _Kind:
    """The kind that a number of 0..1 falls on, when kinds that exclude each other are laid out by their shares."""
    for kind, share in shares.items():
        if number < share:
            return kind
        number -= share
    return rest


def octaves(limits: Range, number: float) -> float:
    """From the lower limit at 0 to the upper one at 1, by equal factors."""
    return limits[0] * math.exp(number * math.log(limits[1] / limits[0]))
