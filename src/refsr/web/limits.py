"""What is too much for this server: the size of a result, and the time that it would take on this machine."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from refsr.errors import UsageError
from refsr.restore.size import passes, result_px
from refsr.web.estimate import Speed, Work
from refsr.web.folder import used_bytes
from refsr.web.web_config import SCALES, WebConfig
from refsr.web.words import Words

_HALVINGS: Final = 12
"""Steps of the search for the largest photo; its size is known to a part in 4096 then."""

_BYTES_PER_PX: Final = 10
"""Room that a pixel of a result takes on the disk at most: twice as numbers, and as a PNG and its copy."""


def check_work(
    shapes: Sequence[tuple[int, int]],
    scale: float,
    config: WebConfig,
    speed: Speed,
    words: Words,
    softness: float = 1.0,
) -> Work:
    """The work of a job, if it is within the limits.

    Args:
        shapes: Height and width of the photo, and of each reference.
        scale: How many times as large as the photo the result will be.
        config: The limits.
        speed: This machine's.
        words: Language of the refusals.
        softness: Factor by which the photo can be shrunk without loss: see `refsr.restore.condition`.

    Raises:
        UsageError: The result would be too large, or take too long; the largest sensible scale or size is named.
    """
    photo, references = shapes[0], tuple(height * width for height, width in shapes[1:])

    def work_of(scale: float, shrink: float = 1.0) -> Work:
        height, width = (max(1, round(side * shrink)) for side in photo)
        result = result_px((height, width), scale)
        soft = min(softness * shrink, speed.scale * height / result[0])  # a blurry photo may take less
        steps = passes((height, width), result, speed.scale, max(1.0, soft))
        return Work(result_px=result, lr_px=tuple(step.lr_px for step in steps), reference_px=references)

    def is_possible(scale: float, shrink: float = 1.0) -> bool:
        work = work_of(scale, shrink)
        return _megapixels(work) <= config.max_megapixels and speed.seconds(work) <= config.max_seconds

    def is_sensible(scale: float) -> bool:
        return is_possible(scale) and bool(work_of(scale).lr_px)  # else the photo would stay as it is

    work = work_of(scale)
    if is_possible(scale):
        return work
    remedy = _remedy(photo, scale, is_possible, is_sensible, words)
    if _megapixels(work) > config.max_megapixels:
        values = {"size": f"{_megapixels(work):.3g}", "limit": f"{config.max_megapixels:g}"}
        raise UsageError(words("large_result", remedy=remedy, **values))
    time, limit = words.time(speed.seconds(work)), words.time(config.max_seconds)
    raise UsageError(words("long", time=time, limit=limit, remedy=remedy))


def check_room(work: Work, folder: Path, config: WebConfig, words: Words) -> None:
    """Refuse a job for whose result there is no room on the disk.

    Args:
        work: The job.
        folder: The server's folder.
        config: The limits.
        words: Language of the refusal.

    Raises:
        UsageError: There is none at the moment.
    """
    needed = work.result_px[0] * work.result_px[1] * _BYTES_PER_PX
    if used_bytes(folder) + needed > config.max_total_mib * 2**20:
        raise UsageError(words("disk", minutes=max(1, round(config.keep_seconds / 60))))


def _remedy(
    photo: tuple[int, int],
    scale: float,
    is_possible: Callable[..., bool],
    is_sensible: Callable[[float], bool],
    words: Words,
) -> str:
    """What to do: the largest scale for this photo, and the largest photo for this scale."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_possible(scale, middle) else (low, middle)
    height, width = (int(side * low) for side in photo)
    if min(height, width) < 8:  # even the smallest photo takes too long
        return words("remedy_references")
    smaller = [each for each in SCALES if each < scale and is_sensible(each)]
    if smaller:
        return words("remedy_scale", scale=f"{max(smaller):g}", width=width, height=height)
    return words("remedy_size", width=width, height=height)


def _megapixels(work: Work) -> float:
    return work.result_px[0] * work.result_px[1] / 1e6
