"""Runs that resume after a kill: figures of finished samples are kept in a journal beside the result."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from refsr.bench.datasets import Sample
from refsr.bench.results import Skipped
from refsr.errors import RefSRError, UsageError
from refsr.io.files import check_writable
from refsr.io.journal import Journal
from refsr.io.progress import Progress
from refsr.io.records import parse_record


@contextmanager
def journaled(out: Path | None, settings: dict[str, Any], samples: Sequence[Sample]) -> Iterator[Journal | None]:
    """Journal beside a result's file, deleted when the block has written the result; None without a file.

    Args:
        settings: Everything the figures depend on apart from the samples, in JSON's types.

    Raises:
        OutputError: The file cannot be written, or a journal of another run is in its place.
    """
    if out is None:
        yield None
        return
    check_writable(out)
    journal = Journal(out, settings | {"samples": [sample.name for sample in samples]})
    yield journal
    journal.close()


def measure_each(
    dataset: str,
    samples: Sequence[Sample],
    measure: Callable[[Sample], dict[str, Any]],
    journal: Journal | None,
    progress: Progress,
) -> tuple[list[dict[str, Any]], tuple[Skipped, ...]]:
    """Measure the samples that the journal does not hold yet.

    Args:
        measure: Gives a sample's figures in JSON's types, its "name" among them; a `RefSRError` skips the sample.

    Returns:
        Figures of the measured samples, and the skipped samples, both in order.

    Raises:
        UsageError: No sample could be measured.
    """
    finished = {} if journal is None else {part["name"]: part for part in journal.done}
    parts = []
    for count, sample in enumerate(samples, 1):
        part = finished.get(sample.name)
        if part is None:
            try:
                part = measure(sample)
            except RefSRError as error:
                part = asdict(Skipped(name=sample.name, reason=str(error)))
            if journal is not None:
                journal.add(part)
        parts.append(part)
        progress(count, len(samples))
    measured = [part for part in parts if "reason" not in part]
    skipped = tuple(parse_record(part, Skipped) for part in parts if "reason" in part)
    if not measured:
        raise UsageError(
            f"no picture of {dataset} could be measured; the first: {skipped[0].name}: {skipped[0].reason}"
        )
    return measured, skipped
