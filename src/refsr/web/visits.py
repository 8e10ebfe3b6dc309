"""What the page does when a visitor presses something: each method is one of its events.

Uploads of a running job are linked into a folder of its own, since those of gradio are deleted by their age.
"""

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from refsr.errors import RefSRError, UsageError
from refsr.web import show
from refsr.web.finished import SHOWN_PX, JobResult
from refsr.web.kept_results import Results
from refsr.web.request import Workshop, compare_seconds, run_comparison, run_job
from refsr.web.turns import Status, StoppedError
from refsr.web.uploads import Order, Upload, reason_of, size_of, with_own_names
from refsr.web.web_config import Format
from refsr.web.words import Words, words_for

_LOUPE_PX: Final = 520
_LARGE_PX: Final = 3_000_000

Failure = (RefSRError, OSError, MemoryError)


@dataclass(frozen=True, kw_only=True)
class Visits:
    """All visitors of a server.

    Attributes:
        shop: What does the work.
        results: What visitors may look at.
    """

    shop: Workshop
    results: Results = field(default_factory=Results)
    _running: dict[str, threading.Event] = field(default_factory=dict)

    def restore(
        self,
        photo: Upload | None,
        references: list[Upload],
        kind: Format,
        scale: float,
        texture: float,
        denoise: float | None,
        visitor: Any,
    ) -> Iterator[Status | JobResult]:
        """A job of a visitor.

        Args:
            photo: The blurry photo.
            references: Sharp photos.
            kind: Format of the download.
            scale: How many times as large the result shall be.
            texture: Share of the crisp weights, 0..1.
            denoise: Share of the weights for real photographs, 0..1; None to measure the photo.
            visitor: The request, as gradio gives it.

        Raises:
            UsageError: In one line that fits the page, whatever the reason.
            StoppedError: It was cancelled.
        """
        words = words_of(visitor)
        if photo is None:
            raise UsageError(words("no_photo"))
        references = list(with_own_names(references))
        keep = Path(tempfile.mkdtemp(prefix="kept-", dir=self.shop.folder))
        found: JobResult | None = None
        try:
            with self._job(visitor) as (job, stop):
                order = Order(
                    photo=photo,
                    references=tuple(references),
                    kind=kind,
                    scale=float(scale),
                    texture=float(texture),
                    denoise=denoise,
                )
                for told in run_job(_linked(order, job), job, keep, self.shop, words, stop):
                    if isinstance(told, JobResult):
                        found = told
                        self.results.keep(visitor.session_hash, told.kept)
                    yield told
        except StoppedError:
            raise
        except Failure as error:
            raise UsageError(reason_of(error, photo, references, words)) from error
        finally:
            if found is None:
                shutil.rmtree(keep, ignore_errors=True)

    def first_scale(self, photo: Upload | None, visitor: Any) -> float:
        """The scale that is offered first: a large photo is sharpened, a small one is enlarged."""
        asked = self.shop.config.scale or 4.0
        try:
            height, width = (0, 0) if photo is None else size_of(photo, words_of(visitor))
        except (RefSRError, OSError):  # which will be told when it is restored
            return asked
        return 1.0 if height * width > _LARGE_PX else asked

    def compare(self, visitor: Any) -> Iterator[tuple[str, str | None]]:
        """A note, and at last the loupe with one more picture: the visitor's last result without references."""
        words, kept = words_of(visitor), self.results.of(visitor.session_hash)
        try:
            if kept is None:
                raise UsageError(words("expired"))
            with self._job(visitor) as (_, stop):
                for told in run_comparison(kept, self.shop, words, stop):
                    if isinstance(told, Status):
                        yield show.step(told), None
                    else:
                        layers = kept.crops(_LOUPE_PX)
                        yield show.note(words("compared", seconds=max(1, round(told)))), show.loupe(layers, words)
        except StoppedError:
            yield show.note(words("cancelled")), None
        except UsageError as error:
            yield show.problem(str(error)), None
        except FileNotFoundError:
            yield show.problem(words("expired")), None

    def look(self, place_px: list[float] | None, visitor: Any) -> str:
        """The loupe at a place, as (x, y) in the reduced result; without one, where the references gave most."""
        words, kept = words_of(visitor), self.results.of(visitor.session_hash)
        after = None if kept is None else kept.read("after")
        if kept is None or after is None:
            return show.problem(words("expired"))
        if place_px is not None:
            height, width = after.shape[:2]
            shrink = min(1.0, SHOWN_PX / max(height, width))
            x, y = place_px
            kept.place = (x / (width * shrink), y / (height * shrink))
        return show.loupe(kept.crops(_LOUPE_PX), words)

    def compare_note(self, visitor: Any) -> str:
        """How long a comparison takes."""
        words, kept = words_of(visitor), self.results.of(visitor.session_hash)
        return "" if kept is None else show.note(words("compare_in", time=words.time(compare_seconds(kept, self.shop))))

    def cancel(self, visitor: Any) -> None:
        """Stop what the visitor has begun."""
        if visitor.session_hash in self._running:
            self._running[visitor.session_hash].set()

    def end(self) -> None:
        """Stop everything."""
        for stop in list(self._running.values()):
            stop.set()

    @contextmanager
    def _job(self, visitor: Any) -> Iterator[tuple[Path, threading.Event]]:
        """Folder of a job, and the event that stops it."""
        job = Path(tempfile.mkdtemp(prefix="job-", dir=self.shop.folder))
        stop = self._running[visitor.session_hash] = threading.Event()
        try:
            yield job, stop
        finally:
            if self._running.get(visitor.session_hash) is stop:
                del self._running[visitor.session_hash]
            shutil.rmtree(job, ignore_errors=True)


def words_of(visitor: Any) -> Words:
    """Words in a visitor's language."""
    return words_for(visitor.headers.get("accept-language"))


def _linked(order: Order, job: Path) -> Order:
    """The same order, with files that stay while the job does."""
    uploads = []
    for number, upload in enumerate((order.photo, *order.references)):
        path = job / f"{number}.upload"
        try:
            os.link(upload.path, path)
        except OSError:  # on a file system without links
            with suppress(shutil.SameFileError):
                shutil.copyfile(upload.path, path)
        uploads.append(replace(upload, path=path))
    return replace(order, photo=uploads[0], references=tuple(uploads[1:]))
