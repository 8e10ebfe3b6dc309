"""Size of the result, and the passes that lead to it.

photo ── shrunk, where it is soft ──> lr ── x4, reduced ──> up to 4 times the lr, interpolated if more is asked for
                                      └── x4, reduced to x2 ── x4, reduced ──> up to 8 times, where it is sharp
"""

from dataclasses import dataclass
from typing import Final

from refsr.errors import UsageError
from refsr.io.photo import MINIMUM_SIDE_PX

MAXIMUM_SCALE: Final = 8.0
_LEAST_SHRINKING: Final = 1.25
"""Shrinking by less is not worth a resampling."""

_FIRST_OF_TWO: Final = 2
"""Scale of the first of two passes: the second one restores detail from twice the photo's size."""


def asked_px(
    photo_px: tuple[int, int], model_scale: int, scale: int | float | None, fit_px: tuple[int, int] | None
) -> tuple[int, int]:
    """Height and width of the result for a scale or a size, or for the model's scale.

    Raises:
        UsageError: See `check_asked` and `result_px`.
    """
    check_asked(scale, fit_px)
    return result_px(photo_px, model_scale if scale is None else scale, fit_px)


def check_asked(scale: int | float | None, fit_px: tuple[int, int] | None) -> None:
    """Refuse what no photo could become.

    Raises:
        UsageError: A scale and a size are given, or the scale is below 1 or above 8.
    """
    if scale is not None and fit_px is not None:
        raise UsageError(f"--scale {scale:g} and --size {fit_px[0]}x{fit_px[1]}: give one of them, not both")
    if scale is not None and not 1 <= scale <= MAXIMUM_SCALE:
        raise UsageError(f"--scale {scale:g}: give a number from 1 to {MAXIMUM_SCALE:g}, such as 2")


def result_px(photo_px: tuple[int, int], scale: int | float, fit_px: tuple[int, int] | None = None) -> tuple[int, int]:
    """Height and width of the result.

    Args:
        photo_px: Height and width of the photo.
        scale: Factor of size, 1 to 8.
        fit_px: Width and height into which the result must fit, in place of the scale; the photo's proportions are
            kept, and it may become smaller.

    Raises:
        UsageError: The scale is below 1 or above 8, or the size is too small or more than 8 times the photo's.
    """
    height, width = photo_px
    if fit_px is None:
        check_asked(scale, fit_px)
        return round(height * scale), round(width * scale)
    scale = min(fit_px[0] / width, fit_px[1] / height)
    found = round(height * scale), round(width * scale)
    asked = f"--size {fit_px[0]}x{fit_px[1]}"
    if scale > MAXIMUM_SCALE:
        largest = f"{round(width * MAXIMUM_SCALE)}x{round(height * MAXIMUM_SCALE)}"
        raise UsageError(f"{asked}: {width}x{height} pixels become {largest} at the most: ask for less")
    if min(found) < MINIMUM_SIDE_PX:
        raise UsageError(f"{asked}: is too small: at least {MINIMUM_SIDE_PX} pixels a side are needed")
    return found


@dataclass(frozen=True, kw_only=True)
class Pass:
    """Restoration of one picture at a size.

    Attributes:
        lr_px: Height and width of what the network gets.
        out_px: Height and width of what it makes.
    """

    lr_px: tuple[int, int]
    out_px: tuple[int, int]


def passes(photo_px: tuple[int, int], out_px: tuple[int, int], model_scale: int, soft: int | float) -> list[Pass]:
    """Passes from a photo to the result; none if it is sharp already at that size, or at a smaller one.

    The last pass of a soft photo may end below the size that is asked for: what lies between is interpolation.

    Args:
        photo_px: Height and width of the photo.
        out_px: Height and width of the result.
        model_scale: Scale of the network.
        soft: Factor by which the photo can be shrunk without loss: `refsr.restore.condition`.
    """
    scale = out_px[0] / photo_px[0]
    if soft * min(scale, 1) >= _LEAST_SHRINKING:
        height, width = (max(1, round(side / soft)) for side in photo_px)
        largest = height * model_scale, width * model_scale
        fits = out_px[0] <= largest[0] and out_px[1] <= largest[1]
        return [Pass(lr_px=(height, width), out_px=out_px if fits else largest)]
    if scale <= 1:
        return []
    if out_px[0] <= photo_px[0] * model_scale and out_px[1] <= photo_px[1] * model_scale:
        return [Pass(lr_px=photo_px, out_px=out_px)]
    middle = (photo_px[0] * _FIRST_OF_TWO, photo_px[1] * _FIRST_OF_TWO)
    return [Pass(lr_px=photo_px, out_px=middle), Pass(lr_px=middle, out_px=out_px)]
