"""Work spread over processes, a few pieces at a time, so that memory does not grow with the work."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from types import TracebackType
from typing import Final, TypeVar

from refsr.errors import UsageError
from refsr.extras import import_extra

_WAITING: Final = 16
"""Pieces handed out for each process."""

_Item = TypeVar("_Item")
_Found = TypeVar("_Found")


class Processes:
    """A context that holds so many processes; with one, the work is done in this one."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Processes":
        if self._jobs > 1:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._jobs, mp_context=context, initializer=_prepare)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def spread(self, task: Callable[[_Item], _Found], work: Iterable[_Item]) -> Iterator[_Found]:
        """The results of the work, in any order.

        Args:
            task: A function that can be pickled.
            work: What it is called with.

        Raises:
            UsageError: A process was killed.
        """
        if self._pool is None:
            yield from map(task, work)
            return
        items = iter(work)
        try:
            pending: set[Future[_Found]] = {
                self._pool.submit(task, item) for item in islice(items, _WAITING * self._jobs)
            }
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                pending |= {self._pool.submit(task, item) for item in islice(items, len(done))}
                for future in done:
                    yield future.result()
        except BrokenProcessPool as error:
            raise UsageError(
                "a process was killed, perhaps for want of memory: call again with --processes 1"
            ) from error


def _prepare() -> None:
    """The processes share the cores already, and Ctrl-C is for the one that leads them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"
    import_extra("cv2", "finding pairs").setNumThreads(1)
