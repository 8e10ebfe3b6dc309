"""A pool of processes that outlives the death of any of them: what one worked on is given to another, once."""

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Final, TypeVar

from refsr.errors import UsageError

_TRIES: Final = 2
_CONTEXT: Final = multiprocessing.get_context("spawn")

_Item = TypeVar("_Item")
_Found = TypeVar("_Found")


@dataclass(frozen=True, kw_only=True)
class _Worker:
    process: Any
    line: Connection

    def end(self) -> None:
        self.process.terminate()
        self.process.join()
        self.line.close()


class Workers:
    """A context that holds some processes, each of which does one piece of work at a time."""

    def __init__(self, processes: int, prepare: Callable[[], None] | None = None) -> None:
        """Nothing is started before there is work.

        Args:
            processes: How many; with none, the work is done in this process.
            prepare: Called once in each of them; can be pickled.
        """
        self._processes, self._prepare = processes, prepare
        self._idle: list[_Worker] = []

    def __enter__(self) -> "Workers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._idle:
            worker.end()

    def spread(
        self,
        task: Callable[[_Item], _Found],
        items: Iterable[_Item],
        killed: Callable[[_Item, int], _Found] | None = None,
    ) -> Iterator[_Found]:
        """The results of a task for all items, in any order.

        Args:
            task: Can be pickled; what it raises is raised here.
            items: What it is called with, each once; again only where its process died.
            killed: Makes the result of an item whose process died twice, of the process's exit code.

        Raises:
            UsageError: A process died twice over one item, and nothing was given to be made of that.
        """
        if not self._processes:
            yield from map(task, items)
            return
        waiting, again = ((item, 1) for item in items), deque[tuple[_Item, int]]()
        busy: dict[Connection, tuple[_Worker, _Item, int]] = {}
        results: list[_Found] = []
        try:
            while True:
                while len(busy) < self._processes:
                    given = again.popleft() if again else next(waiting, None)
                    if given is None:
                        break
                    worker = self._idle.pop() if self._idle else _start(self._prepare)
                    busy[worker.line] = (worker, *given)
                    with suppress(ConnectionError):  # it is dead: that is noticed when it is waited for
                        worker.line.send((task, given[0]))
                yield from results
                if not busy:
                    return
                results = []
                for line in wait(list(busy)):
                    assert isinstance(line, Connection)
                    worker, item, tries = busy.pop(line)
                    try:
                        found, error = line.recv()
                    except (EOFError, ConnectionError):
                        worker.end()
                        if tries < _TRIES:
                            again.append((item, tries + 1))
                        else:
                            results.append((killed or _killed)(item, worker.process.exitcode))
                        continue
                    self._idle.append(worker)
                    if error is not None:
                        raise error
                    results.append(found)
        finally:
            for worker, _, _ in busy.values():
                worker.end()


def _start(prepare: Callable[[], None] | None) -> _Worker:
    ours, theirs = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=_work, args=(prepare, theirs), daemon=True)
    process.start()
    theirs.close()  # so that its end is noticed
    return _Worker(process=process, line=ours)


def _work(prepare: Callable[[], None] | None, line: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that leads
    if prepare is not None:
        prepare()
    while True:
        try:
            task, item = line.recv()
        except (EOFError, ConnectionError):
            return
        answer: tuple[Any, Exception | None]
        try:
            answer = task(item), None
        except Exception as error:
            answer = None, error
        line.send(answer)


def _killed(_: object, code: int) -> Any:
    raise UsageError(f"a process was killed (exit code {code}), perhaps for want of memory: call with --processes 1")
