"""Work in its turn: awaited in the queue, done in a thread, told step by step, and stopped where someone wishes.

visitor ── in_turn ──> Status (place in the queue) ... Status (step, share, time left) ... what was made
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

from refsr.errors import RefSRError, UsageError
from refsr.web.line import FullError, Line, Ticket
from refsr.web.web_config import WebConfig
from refsr.web.words import Words

Report = Callable[[str, float], None]
"""Told a step of `words.SPOKEN` and the finished share; it raises where the job has to end."""

Made = TypeVar("Made")

_KNOWN_SHARE: Final = 0.1
"""Finished share from which a job's own speed is trusted more than the estimate."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """What to tell the visitor while the job waits or runs, and its finished share (0..1)."""

    text: str
    share: float


class StoppedError(RefSRError):
    """The job was stopped; raised where the work reports its progress."""


def in_turn(
    make: Callable[[Report], Made],
    expected_s: float,
    line: Line,
    config: WebConfig,
    words: Words,
    stop: threading.Event,
) -> Iterator[Status | Made]:
    """Do some work in its turn, and yield what it reports, and at last what it made; closing the iterator stops it.

    Args:
        make: The work.
        expected_s: Time that it will take.
        line: The queue.
        config: The limits.
        words: Language of all that is said.
        stop: Event that stops the work.

    Raises:
        StoppedError: The work was stopped.
        UsageError: Too many wait already, or the work took too long.
    """
    try:
        ticket = line.join(expected_s)
    except FullError as error:
        raise UsageError(words("full", count=config.max_waiting)) from error
    reports: queue.Queue[Status | tuple[Made] | BaseException] = queue.Queue()

    def tell_place(ahead: int, seconds: float) -> None:
        if stop.is_set():
            raise StoppedError("stopped")
        reports.put(Status(text=words("waiting", ahead=ahead, time=words.time(seconds)), share=0.0))

    def report(step: str, share: float) -> None:
        if stop.is_set():
            raise StoppedError("stopped")
        if ticket.begun is not None and time.monotonic() - ticket.begun > config.max_seconds:
            raise UsageError(words("took_long", limit=words.time(config.max_seconds)))
        reports.put(_status(ticket, step, share, words))

    def work() -> None:
        try:
            line.wait(ticket, tell_place)
            reports.put((make(report),))
        except BaseException as error:  # raised in the waiting thread
            reports.put(error)
        finally:
            line.leave(ticket)

    threading.Thread(target=work, daemon=True).start()
    try:
        while True:
            found = reports.get()
            if isinstance(found, BaseException):
                raise found
            if isinstance(found, tuple):
                yield found[0]
                return
            yield found
    finally:
        stop.set()  # obeyed at the next report; the page need not wait for it


def _status(ticket: Ticket, step: str, share: float, words: Words) -> Status:
    """Progress in words; those who wait behind are told by the same estimate."""
    if ticket.begun is not None and share >= _KNOWN_SHARE:
        ticket.expected_s = (time.monotonic() - ticket.begun) / share
    left = words.time(ticket.left_s())
    return Status(text=words("left", step=words(step), percent=round(100 * share), time=left), share=share)
