"""One request of the page: a job that reports its progress and can be stopped.

photo, references ── limits checked ──> enlarged without, then with references ──> files to show and to download
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
from refsr.models import RefSRModel
from refsr.resize import upscale_bicubic
from refsr.restore.upscale import RestoreConfig, Upscaled

Format = Literal["PNG", "JPEG"]

_MAXIMUM_SHOWN_PX: Final = 2048
"""Long side of the pictures on the page; the download has full size."""

_WITHOUT_SHARE: Final = 0.3
"""Share of a job's time for the enlargement without references."""

_MATCHING_SHARE: Final = 0.3
"""Share of a job's time for matching; the rest is restoring."""

_COMPUTING: Final = threading.Lock()
"""Held by the job that computes: a stopped job goes on until it next reports its progress."""


@dataclass(frozen=True, kw_only=True)
class WebConfig(RestoreConfig):
    """Settings of the server, among them the limits of a request.

    Attributes:
        max_file_mib: Maximum size of one uploaded file in MiB.
        max_megapixels: Maximum size of a result, and of a reference, in megapixels.
        max_references: Maximum count of references for one photo.
        max_waiting: Maximum count of jobs in the queue; further ones are refused.
        max_seconds: Maximum time of one job in seconds.
        keep_seconds: Time in seconds after which uploads and results are deleted.
    """

    max_file_mib: float = 50.0
    max_megapixels: float = 64.0
    max_references: int = 8
    max_waiting: int = 8
    max_seconds: float = 600.0
    keep_seconds: float = 900.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, int | float) and value <= 0:
                limit = name.removeprefix("max_").replace("_", " ")
                raise UsageError(f"the limit {limit} is {value}: give more than 0")


@dataclass(frozen=True, kw_only=True)
class Status:
    """Progress of a job: current step, finished share (0..1), and estimated time left, unknown in the beginning."""

    text: str
    share: float
    seconds_left: float | None


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """Files of a finished job; all but the download are reduced to the page's size.

    Attributes:
        download: Result in full size, with the photo's EXIF.
        before: Photo enlarged by bicubic interpolation.
        overlay: Provenance map: which detail is real.
        summary: Size, and the share of real detail, in a sentence.
    """

    download: Path
    before: Path
    without: Path
    after: Path
    overlay: Path
    summary: str


class StoppedError(RefSRError):
    """The job was stopped; raised where the work reports its progress."""


def run_job(
    photo: Path,
    references: Sequence[Path],
    kind: Format,
    folder: Path,
    model: RefSRModel,
    config: WebConfig,
    stop: threading.Event,
) -> Iterator[Status | JobResult]:
    """Yield the status of a job again and again, and its result at last; closing the iterator stops the job.

    Args:
        photo: File of the blurry photo.
        references: Files of sharp photos, in any order.
        folder: Existing folder for the files of the result.
        stop: Event that stops the job.

    Raises:
        StoppedError: The job was stopped.
        RefSRError: A picture cannot be used, or exceeds a limit.
    """
    _check_files(photo, references, model.scale, config)
    reports: queue.Queue[tuple[str, float] | JobResult | BaseException] = queue.Queue()
    begun = time.monotonic()

    def report(text: str, share: float) -> None:
        if stop.is_set():
            raise StoppedError("stopped")
        if time.monotonic() - begun > config.max_seconds:
            raise UsageError(
                f"the job took more than {config.max_seconds:g} seconds, which is the limit here: use smaller pictures"
            )
        reports.put((text, share))

    def work() -> None:
        try:
            with _COMPUTING:
                reports.put(_restore(photo, references, kind, folder, model, config, report))
        except BaseException as error:  # raised in the waiting thread
            reports.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        while True:
            found = reports.get()
            if isinstance(found, JobResult):
                yield found
                return
            if isinstance(found, BaseException):
                raise found
            text, share = found
            spent = time.monotonic() - begun
            left = spent * (1 - share) / share if share > 0.05 else None
            yield Status(text=text, share=share, seconds_left=left)
    finally:
        stop.set()  # obeyed at the next report; the page need not wait for it


def _check_files(photo: Path, references: Sequence[Path], scale: int, config: WebConfig) -> None:
    """Refuse files beyond the limits before they are decoded."""
    if len(references) > config.max_references:
        raise UsageError(f"{len(references)} references: no more than {config.max_references} are allowed here")
    for path, factor in ((photo, scale), *((reference, 1) for reference in references)):
        if path.stat().st_size > config.max_file_mib * 2**20:
            most = f"{config.max_file_mib:g} MiB"
            raise UsageError(f"{path.name}: is larger than {most}, which is the limit here: shrink it")
        try:
            with Image.open(path) as image:
                width, height = image.size
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise ImageError(f"{path.name}: is no picture that can be read, or is damaged: choose another") from error
        megapixels = width * height * factor**2 / 1e6
        if megapixels > config.max_megapixels:
            what = "its result would have" if factor > 1 else "it has"
            allowed = f"{config.max_megapixels:g} are allowed here: shrink it"
            raise UsageError(f"{path.name}: {what} {megapixels:.3g} megapixels, {allowed}")


def _restore(
    photo_file: Path,
    references: Sequence[Path],
    kind: Format,
    folder: Path,
    model: RefSRModel,
    config: WebConfig,
    report: Callable[[str, float], None],
) -> JobResult:
    report("reading the pictures", 0.0)
    photo = as_photo(photo_file)
    refs = [as_photo(reference) for reference in references]

    def without_progress(done: int | float, total: int | float = 1, *, stage: str = "") -> None:  # noqa: ARG001
        report("enlarging without references", _WITHOUT_SHARE * done / total)

    def with_progress(done: int | float, total: int | float = 1, *, stage: str = "") -> None:
        if stage == "matching":
            report("matching the references", _WITHOUT_SHARE + _MATCHING_SHARE * done / total)
        else:
            before = _WITHOUT_SHARE + _MATCHING_SHARE
            report("restoring", before + (1 - before) * done / total)

    without = config.upscale(photo, model=model, progress=without_progress)
    result = config.upscale(photo, refs, model=model, progress=with_progress) if refs else without
    names = tuple(reference.name for reference in references)
    report("writing the pictures", 1.0)
    download = folder / f"{photo_file.stem}_x{model.scale}{'.png' if kind == 'PNG' else '.jpg'}"
    result.save(download)
    bicubic = Photo(pixels=upscale_bicubic(photo.pixels, model.scale))
    overlay = replace(result.provenance, names=names).to_image(result.to_pil())
    return JobResult(
        download=download,
        before=_save_reduced(bicubic.to_pil(), folder / "before.webp"),
        without=_save_reduced(without.to_pil(), folder / "without.webp"),
        after=_save_reduced(result.to_pil(), folder / "after.webp"),
        overlay=_save_reduced(overlay, folder / "map.webp"),
        summary=_summary(result, names),
    )


def _save_reduced(image: Image.Image, path: Path) -> Path:
    image = image.convert("RGB")
    image.thumbnail((_MAXIMUM_SHOWN_PX, _MAXIMUM_SHOWN_PX))
    image.save(path, quality=92)
    return path


def _summary(result: Upscaled, names: tuple[str, ...]) -> str:
    height, width = result.photo.size_px
    used = result.provenance.used_levels
    unfit = [name for name, own in zip(names, result.provenance.names, strict=False) if own in result.unfit]
    unused = f" Not used, since they show other things: {', '.join(unfit)}." if unfit else ""
    if used is None or len(unfit) == len(names):
        return f"{width} x {height} pixels. Without a reference: all detail is guessed.{unused}"
    real = f"Detail of {(used > 1).float().mean().item():.0%} of the picture comes from the references"
    return f"{width} x {height} pixels. {real}; the rest is guessed.{unused}"
