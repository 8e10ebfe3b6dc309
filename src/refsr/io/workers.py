"""A pool of worker processes that survives the death of any of them: its item goes to another worker, once."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Final, TypeVar

from refsr.errors import UsageError
from refsr.signals import without_ctrl_c

MAXIMUM_TRIES: Final = 2
"""How often an item is begun whose process or machine dies."""

_CONTEXT: Final = multiprocessing.get_context("spawn")

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True, kw_only=True)
class _Worker:
    process: Any
    line: Connection

    def end(self) -> None:
        self.process.terminate()
        self.process.join()
        self.line.close()


class Workers(AbstractContextManager["Workers"]):
    """A pool of worker processes, used as a context manager; each does one item at a time."""

    def __init__(self, processes: int, prepare: Callable[[], None] | None = None) -> None:
        """Start nothing yet: workers start with the first items.

        Args:
            processes: Number of workers; with 0, items are done in this process.
            prepare: Called once in each worker; must be picklable.
        """
        self._processes, self._prepare = processes, prepare
        self._idle: list[_Worker] = []

    def __exit__(self, *_: object) -> None:
        for worker in self._idle:
            worker.end()

    def map_unordered(
        self,
        task: Callable[[_Item], _Result],
        items: Iterable[_Item],
        killed: Callable[[_Item, int], _Result] | None = None,
    ) -> Iterator[_Result]:
        """Call a task for each item, and yield the results in any order.

        Args:
            task: Picklable; its exceptions are raised here.
            items: Each is done once, and again only if its worker died.
            killed: Gives the result of an item whose worker died twice, from the item and the worker's exit code.

        Raises:
            UsageError: A worker died twice over one item, and `killed` is None.
        """
        if not self._processes:
            yield from map(task, items)
            return
        waiting, again = ((item, 1) for item in items), deque[tuple[_Item, int]]()
        busy: dict[Connection, tuple[_Worker, _Item, int]] = {}
        results: list[_Result] = []
        try:
            while True:
                while len(busy) < self._processes:
                    item_and_try = again.popleft() if again else next(waiting, None)
                    if item_and_try is None:
                        break
                    worker = self._idle.pop() if self._idle else _start(self._prepare)
                    busy[worker.line] = (worker, *item_and_try)
                    with suppress(ConnectionError):  # the worker is dead, which `wait` will notice
                        worker.line.send((task, item_and_try[0]))
                yield from results
                if not busy:
                    return
                results = []
                for line in wait(list(busy)):
                    assert isinstance(line, Connection)
                    worker, item, tries = busy.pop(line)
                    try:
                        result, error = line.recv()
                    except (EOFError, ConnectionError):
                        worker.end()
                        if tries < MAXIMUM_TRIES:
                            again.append((item, tries + 1))
                        else:
                            results.append((killed or _raise_killed)(item, worker.process.exitcode))
                        continue
                    self._idle.append(worker)
                    if error is not None:
                        raise error
                    results.append(result)
        finally:
            for worker, _, _ in busy.values():
                worker.end()


def _start(prepare: Callable[[], None] | None) -> _Worker:
    ours, theirs = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=_work, args=(prepare, theirs), daemon=True)
    with without_ctrl_c():  # which the parent process handles
        process.start()
    theirs.close()  # so that the pipe breaks when the worker dies
    return _Worker(process=process, line=ours)


def _work(prepare: Callable[[], None] | None, line: Connection) -> None:
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


def _raise_killed(_: object, code: int) -> Any:
    raise UsageError(
        f"a worker process was killed (exit code {code}), perhaps out of memory: allow less (--memory, --processes 1)"
    )
