"""Tasks on a Ray cluster whose machines see the same files."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from refsr.errors import UsageError
from refsr.extras import import_extra

_MAXIMUM_TRIES: Final = 2

_Item = TypeVar("_Item")
_Found = TypeVar("_Found")


def run_on_cluster(
    task: Callable[[_Item], _Found],
    items: Sequence[_Item],
    killed: Callable[[_Item, int], _Found],
    *,
    address: str | None,
    threads: int,
) -> Iterator[_Found]:
    """Yield the result of a task for each item, in any order; an item whose process or machine dies is tried again.

    Args:
        task: Picklable function of one item that raises nothing.
        killed: Result for an item whose processes died twice, from the item and an exit code.
        address: Address of the cluster; None for the one on this machine, which is started if there is none.
        threads: Cores per item.

    Raises:
        MissingExtraError: Ray is not installed.
        UsageError: No cluster answers at the address.
    """
    ray = import_extra("ray", "a cluster")
    owned = not ray.is_initialized()
    if owned:
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise UsageError(f"no cluster at {address} ({reason}): start one with `ray start`") from error
    try:
        remote = ray.remote(_call).options(num_cpus=threads, max_retries=_MAXIMUM_TRIES - 1)
        pending = {remote.remote(task, item): item for item in items}
        while pending:
            done, _ = ray.wait(list(pending), num_returns=1)
            for reference in done:
                item = pending.pop(reference)
                try:
                    yield ray.get(reference)
                except ray.exceptions.RayError:
                    yield killed(item, -9)
    finally:
        if owned:
            ray.shutdown()


def _call(task: Callable[[_Item], _Found], item: _Item) -> _Found:
    return task(item)
