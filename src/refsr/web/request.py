"""One request of the page: checked, restored in its turn, and finished; or a result compared with one without them.

photo, references ── limits ── turn awaited ──> restored with the references ──> to show, to download, and kept
result kept ────────────────── turn awaited ──> restored without them, where someone wants to compare
"""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from refsr.errors import OutputError, UsageError
from refsr.io.photo import Photo, as_photo
from refsr.models import Blend
from refsr.restore.condition import measure_condition
from refsr.restore.upscale import Upscaled
from refsr.web.estimate import Speed, Work
from refsr.web.finished import JobResult, finish
from refsr.web.kept_results import Kept
from refsr.web.limits import check_room, check_work
from refsr.web.line import Line
from refsr.web.turns import Report, Status, in_turn
from refsr.web.uploads import Order, check_files
from refsr.web.web_config import WebConfig
from refsr.web.words import Words


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """What all requests share.

    Attributes:
        folder: The server's folder.
        blend: What restores.
        config: The limits.
        speed: This machine's.
        line: The queue.
    """

    folder: Path
    blend: Blend
    config: WebConfig
    speed: Speed
    line: Line = field(init=False)
    _measuring: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        object.__setattr__(self, "line", Line(self.config.max_waiting))

    def softness_of(self, order: Order) -> float:
        """Factor by which the photo can be shrunk without loss; read for it at once, since a refusal must not wait.

        Raises:
            ImageError: It cannot be read.
        """
        with self._measuring:
            pixels = order.photo.photo().pixels
            return measure_condition(pixels).softness(pixels)


def run_job(
    order: Order, folder: Path, keep: Path, shop: Workshop, words: Words, stop: threading.Event
) -> Iterator[Status | JobResult]:
    """Yield the status of a job again and again, and its result at last; closing the iterator stops the job.

    Args:
        order: What is asked for.
        folder: Existing folder for the files of the result.
        keep: Existing folder for what is kept to be looked at.
        shop: What all requests share.
        words: Language of all that is said.
        stop: Event that stops the job.

    Raises:
        StoppedError: The job was stopped.
        RefSRError: A picture cannot be used, or exceeds a limit.
        OSError: A file cannot be read or written.
    """
    shapes = check_files(order.photo, order.references, shop.config, words)
    work = _work_of(order, shapes if shop.blend.clean.uses_references else shapes[:1], shop, words)
    check_room(work, shop.folder, shop.config, words)

    def make(report: Report) -> JobResult:
        begun = time.monotonic()
        report("reading", 0.0)
        pictures = _read(order, words)
        result = _restore(order, pictures, work, shop, report)
        report("writing", 1.0)
        if result.is_restored and not result.unfit:  # else less was done than was expected
            shop.speed.learn(work, time.monotonic() - begun)
        return finish(order, work, result, pictures, folder, keep, words, begun)

    yield from in_turn(make, shop.speed.seconds(work), shop.line, shop.config, words, stop)


def compare_seconds(kept: Kept, shop: Workshop) -> float:
    """Time that `run_comparison` will take."""
    return 0.0 if kept.work is None else shop.speed.seconds(replace(kept.work, reference_px=()))


def run_comparison(kept: Kept, shop: Workshop, words: Words, stop: threading.Event) -> Iterator[Status | float]:
    """Restore a kept result's photo without references; yields statuses, and at last the time that it took.

    Args:
        kept: The result, to which the other one is added.
        shop: What all requests share.
        words: Language of all that is said.
        stop: Event that stops the job.

    Raises:
        StoppedError: The job was stopped.
        RefSRError: It takes too long or too much.
        OSError: The result was deleted.
    """

    def make(report: Report) -> float:
        begun = time.monotonic()
        pixels = kept.read("before")
        if pixels is None:
            raise UsageError(words("expired"))

        def progress(done: int | float, total: int | float = 1, *, stage: str = "") -> None:  # noqa: ARG001
            report("comparing", done / total)

        photo = as_photo(torch.from_numpy(pixels.copy()).permute(2, 0, 1))
        how: dict[str, Any] = {"model": shop.blend, "denoise": kept.denoise, "texture": kept.texture}
        how |= {"provenance": False, "progress": progress}
        kept.write("without", enlarge(shop.config, photo, [], kept.scale, **how).to_pil())
        return time.monotonic() - begun

    yield from in_turn(make, compare_seconds(kept, shop), shop.line, shop.config, words, stop)


def enlarge(
    config: WebConfig,
    photo: Photo,
    refs: list[Photo],
    scale: float,
    *,
    model: Blend,
    denoise: float | None,
    texture: float,
    **others: Any,
) -> Upscaled:
    """Restore a photo: `RestoreConfig.upscale` at a scale, and with a visitor's shares where there is one to choose."""
    if model.is_single or denoise is not None:
        others |= {"quality": "auto", "denoise": None if model.is_single else denoise}
    others["texture"] = 0 if model.is_single else texture
    return config.upscale(photo, refs, scale=scale, size=None, model=model, **others)


def _work_of(order: Order, shapes: Sequence[tuple[int, int]], shop: Workshop, words: Words) -> Work:
    """The work of a job, refused if it is too much; how soft the photo is is measured only where that matters."""
    limits = (shapes, order.scale, shop.config, shop.speed, words)
    if order.scale >= shop.speed.scale:
        try:
            return check_work(*limits)
        except UsageError:  # the same again, with a remedy that fits the photo
            return check_work(*limits, softness=shop.softness_of(order))
    return check_work(*limits, softness=shop.softness_of(order))


def _read(order: Order, words: Words) -> list[Photo]:
    """The photo and its references, refused where the result could not be written as is wanted."""
    photo = order.photo.photo()
    if photo.alpha is not None and order.kind == "JPEG":
        raise OutputError(words("transparent", name=order.photo.name))
    return [photo, *(reference.photo() for reference in order.references)]


def _restore(order: Order, pictures: list[Photo], work: Work, shop: Workshop, report: Report) -> Upscaled:
    expected_s = max(shop.speed.seconds(work), 1e-6)
    matching = shop.speed.matching_s(work) / expected_s if work.reference_px else 0.0

    shares = {"matching": 0.0, "restoring": 0.0}  # of all passes and parts, which take turns

    def progress(done: int | float, total: int | float = 1, *, stage: str = "") -> None:
        shares[stage] = done / total
        matched = max(shares.values())  # without fitting references, nothing is matched
        report(stage, matching * matched + (1 - matching) * shares["restoring"])

    how: dict[str, Any] = {"model": shop.blend, "denoise": order.denoise, "texture": order.texture}
    how |= {"provenance": True, "progress": progress}
    return enlarge(shop.config, pictures[0], pictures[1:], order.scale, **how)
