"""One job of the page: it tells how far it is, and stops when nobody waits for it or its time is up.

photo, references ── checked ──> enlarged without, then with the references ──> files to show and to download
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from PIL import Image

from refsr.errors import ImageError, RefSRError, UsageError
from refsr.io.photo import Photo, as_photo
from refsr.io.progress import Progress
from refsr.models import RefSRModel
from refsr.resize import upscale_bicubic
from refsr.restore.upscale import Upscaled, upscale

Format = Literal["PNG", "JPEG"]

_SHOWN_PX: Final = 2048
"""Long side of the pictures on the page; the download has them all."""

_WITHOUT: Final = 0.3
_MATCHING: Final = 0.3
"""Shares of the work: without references, and matching them; the rest is restoring."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a visitor may ask for.

    Attributes:
        file_mib: Size of one file.
        megapixels: Of the result, and of each reference.
        references: How many.
        waiting: Jobs in the queue.
        seconds: One job's time.
        kept_seconds: How long uploads and results are kept.
        memory_bytes: Budget of a job.
    """

    file_mib: float = 50.0
    megapixels: float = 64.0
    references: int = 8
    waiting: int = 8
    seconds: float = 600.0
    kept_seconds: float = 900.0
    memory_bytes: int = 2 * 2**30

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise UsageError(f"the limit {name.replace('_', ' ')} is {value}: give more than 0")


@dataclass(frozen=True, kw_only=True)
class Status:
    """How far a job is.

    Attributes:
        text: What is being done.
        share: Of all, 0..1.
        seconds_left: As far as can be said.
    """

    text: str
    share: float
    seconds_left: float | None


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Files of a finished job.

    Attributes:
        download: The result, in full size, with the photo's EXIF.
        before: The photo, enlarged by bicubic interpolation.
        without: Enlarged without references.
        after: The result.
        overlay: The map of which detail is real.
        summary: For people.
    """

    download: Path
    before: Path
    without: Path
    after: Path
    overlay: Path
    summary: str


_BUSY: Final = threading.Lock()
"""Held by the job that computes: one that was stopped may take a moment to hear it."""


class StoppedError(RefSRError):
    """The job was stopped: raised in the work itself, where it tells how far it is."""


def do_job(
    photo: Path,
    references: Sequence[Path],
    kind: Format,
    folder: Path,
    model: RefSRModel,
    limits: Limits,
    stop: threading.Event,
) -> Iterator[Status | Shown]:
    """Yield how far it is, and at last what can be shown; closing the iterator stops the work.

    Args:
        photo: The blurry one.
        references: Sharp ones, in any order.
        kind: Of the download.
        folder: For the files; made by the caller.
        model: The network.
        limits: To be kept.
        stop: Set it to stop the work.

    Raises:
        StoppedError: It was stopped.
        RefSRError: A picture cannot be used, or a limit is passed.
    """
    check_files(photo, references, model.scale, limits)
    told: queue.Queue[tuple[str, float] | Shown | BaseException] = queue.Queue()
    begun = time.monotonic()

    def report(text: str, share: float) -> None:
        if stop.is_set():
            raise StoppedError("stopped")
        if time.monotonic() - begun > limits.seconds:
            raise UsageError(
                f"the job took more than {limits.seconds:g} seconds, which is the limit here: use smaller pictures"
            )
        told.put((text, share))

    def work() -> None:
        try:
            with _BUSY:
                told.put(_work(photo, references, kind, folder, model, limits, report))
        except BaseException as error:  # handed to the thread that waits
            told.put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            found = told.get()
            if isinstance(found, Shown):
                yield found
                return
            if isinstance(found, BaseException):
                raise found
            text, share = found
            spent = time.monotonic() - begun
            left = spent * (1 - share) / share if share > 0.05 else None
            yield Status(text=text, share=share, seconds_left=left)
    finally:
        stop.set()  # heard at the next report; the page need not wait for that


def check_files(photo: Path, references: Sequence[Path], scale: int, limits: Limits) -> None:
    """Refuse what passes a limit before it is decoded.

    Args:
        photo: The blurry one.
        references: Sharp ones.
        scale: Of the enlargement.
        limits: To be kept.

    Raises:
        UsageError: A limit is passed.
        ImageError: A file is no picture.
    """
    if len(references) > limits.references:
        raise UsageError(f"{len(references)} references: no more than {limits.references} are allowed here")
    for path, factor in ((photo, scale), *((reference, 1) for reference in references)):
        if path.stat().st_size > limits.file_mib * 2**20:
            raise UsageError(f"{path.name}: is larger than {limits.file_mib:g} MiB, which is the limit here")
        try:
            with Image.open(path) as image:
                width, height = image.size
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise ImageError(f"{path.name}: is no picture that can be read, or is damaged") from error
        megapixels = width * height * factor**2 / 1e6
        if megapixels > limits.megapixels:
            what = "its result would have" if factor > 1 else "it has"
            raise UsageError(
                f"{path.name}: {what} {megapixels:.3g} megapixels, {limits.megapixels:g} are allowed here: shrink it"
            )


def _work(
    photo_file: Path,
    references: Sequence[Path],
    kind: Format,
    folder: Path,
    model: RefSRModel,
    limits: Limits,
    report: Callable[[str, float], None],
) -> Shown:
    report("reading the pictures", 0.0)
    photo = as_photo(photo_file)
    refs = [as_photo(reference) for reference in references]

    def told_alone(done: int | float, total: int | float = 1, *, stage: str = "") -> None:  # noqa: ARG001
        report("enlarging without references", _WITHOUT * done / total)

    def told(done: int | float, total: int | float = 1, *, stage: str = "") -> None:
        if stage == "matching":
            report("matching the references", _WITHOUT + _MATCHING * done / total)
        else:
            report("restoring", _WITHOUT + _MATCHING + (1 - _WITHOUT - _MATCHING) * done / total)

    alone = _upscale(photo, [], model, limits, told_alone)

    helped = _upscale(photo, refs, model, limits, told) if refs else alone
    helped_names = tuple(reference.name for reference in references)
    report("writing the pictures", 1.0)
    download = folder / f"{photo_file.stem}_x{model.scale}{'.png' if kind == 'PNG' else '.jpg'}"
    helped.save(download)
    bicubic = Photo(pixels=upscale_bicubic(photo.pixels, model.scale))
    overlay = _named(helped, helped_names)
    return Shown(
        download=download,
        before=_show(bicubic.to_pil(), folder / "before.webp"),
        without=_show(alone.to_pil(), folder / "without.webp"),
        after=_show(helped.to_pil(), folder / "after.webp"),
        overlay=_show(overlay, folder / "map.webp"),
        summary=_summary(helped, helped_names),
    )


def _upscale(photo: Photo, refs: Sequence[Photo], model: RefSRModel, limits: Limits, progress: Progress) -> Upscaled:
    return upscale(photo, refs, model=model, memory_bytes=limits.memory_bytes, progress=progress)


def _named(result: Upscaled, names: tuple[str, ...]) -> Image.Image:
    """The map with its legend."""
    return replace(result.provenance, names=names).to_image(result.to_pil())


def _show(image: Image.Image, path: Path) -> Path:
    """Small enough for a page."""
    image = image.convert("RGB")
    image.thumbnail((_SHOWN_PX, _SHOWN_PX))
    image.save(path, quality=92)
    return path


def _summary(result: Upscaled, names: tuple[str, ...]) -> str:
    height, width = result.photo.size_px
    size = f"{width} x {height} pixels"
    used = result.provenance.used_levels
    unfit = [name for name, own in zip(names, result.provenance.names, strict=False) if own in result.unfit]
    said = f" Not used, since they show other things: {', '.join(unfit)}." if unfit else ""
    if used is None or len(unfit) == len(names):
        return f"{size}. Without a reference: all detail is guessed.{said}"
    real = (used > 1).float().mean().item()
    return f"{size}. Detail of {real:.0%} of the picture comes from the references; the rest is guessed.{said}"
