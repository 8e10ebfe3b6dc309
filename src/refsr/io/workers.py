"""Processes that do one piece of work at a time, and may be killed: the piece is given to another, once."""

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Final, Generic, TypeVar

_TRIES: Final = 2
_CONTEXT: Final = multiprocessing.get_context("spawn")

_Item = TypeVar("_Item")
_Found = TypeVar("_Found")


@dataclass(kw_only=True)
class _Worker(Generic[_Item]):
    process: Any
    line: Connection
    item: _Item | None = field(default=None)


def spread(
    task: Callable[[_Item], _Found], items: Sequence[_Item], processes: int, killed: Callable[[_Item, int], _Found]
) -> Iterator[_Found]:
    """The results of a task for all items, in any order, from so many processes.

    Args:
        task: Can be pickled, and raises nothing.
        items: What it is called with, each once; again only where its process died.
        processes: How many.
        killed: Makes the result of an item whose process died twice, of the process's exit code.
    """
    waiting = deque((item, 0) for item in items)
    workers: list[_Worker[tuple[_Item, int]]] = []
    try:
        workers += [_start(task) for _ in range(min(processes, len(waiting)))]
        for worker in workers:
            _hand_out(worker, waiting)
        while busy := [worker for worker in workers if worker.item is not None]:
            ready = wait([worker.line for worker in busy])
            for worker in [worker for worker in busy if worker.line in ready]:
                assert worker.item is not None
                item, tries = worker.item
                try:
                    found = worker.line.recv()
                except (EOFError, ConnectionError):
                    worker.process.join()
                    code = worker.process.exitcode
                    workers.remove(worker)
                    if tries + 1 < _TRIES:
                        waiting.appendleft((item, tries + 1))
                    else:
                        yield killed(item, code)
                    if waiting:
                        workers.append(_start(task))
                        _hand_out(workers[-1], waiting)
                else:
                    _hand_out(worker, waiting)
                    yield found
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join()
            worker.line.close()


def _start(task: Callable[[Any], Any]) -> _Worker[Any]:
    ours, theirs = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=_work, args=(task, theirs), daemon=True)
    process.start()
    theirs.close()  # so that its end is noticed
    return _Worker(process=process, line=ours)


def _hand_out(worker: _Worker[Any], waiting: deque[Any]) -> None:
    worker.item = waiting.popleft() if waiting else None
    if worker.item is not None:
        with suppress(ConnectionError):  # it is dead: that is noticed when it is waited for
            worker.line.send(worker.item[0])


def _work(task: Callable[[Any], Any], line: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that leads
    while True:
        try:
            item = line.recv()
        except (EOFError, ConnectionError):
            return
        line.send(task(item))
