"""Samples one by one: references are chosen, pictures read, LR images made by a protocol, figures kept in a journal."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from torch import Tensor

from refsr.bench.datasets import Dataset, LevelledReference, Sample
from refsr.bench.protocol import PROTOCOLS, Prepared, ProtocolName
from refsr.bench.results import Skipped
from refsr.data.degraded import DegradationName, degraded
from refsr.data.leaks import find_leaks
from refsr.errors import ImageError, RefSRError, UsageError
from refsr.io.photo import Photo, read_photo
from refsr.io.progress import Progress
from refsr.io.records import Journal, parse_record
from refsr.models import RefSRModel
from refsr.references.choose import FoundReference, find_references
from refsr.references.index import read_library


def spread(samples: Sequence[Sample], limit: int) -> list[Sample]:
    """At most `limit` samples, evenly spaced; all of them for a limit of 0.

    Raises:
        UsageError: The limit is negative.
    """
    if limit < 0:
        raise UsageError(f"--limit {limit}: give a count of pictures, or 0 for all")
    if not limit or limit >= len(samples):
        return list(samples)
    return [samples[index * len(samples) // limit] for index in range(limit)]


def choose_references(sample: Sample, dataset: Dataset, mode: str) -> tuple[LevelledReference, ...]:
    """References of a sample in a mode of `BenchConfig.references`; none for "none", "self" and "album".

    Raises:
        ImageError: The sample has no reference of that mode.
    """
    if mode in ("none", "self", "album"):
        return ()
    if mode == "wrong":
        others = [other for other in dataset.samples if other.references or not dataset.has_references]
        place = (dataset.samples.index(sample) + len(dataset.samples) // 2) % len(others)
        own = {sample.truth, sample.lr, *(reference.path for reference in sample.references)}
        for other in (*others[place:], *others[:place]):
            path = other.references[0].path if other.references else other.truth
            if other is not sample and path not in own:
                return (LevelledReference(path=path, level=0),)
        raise ImageError("has no other sample to take a wrong reference from: use another --references")
    if not sample.references:
        raise ImageError("has no reference: measure it with --references none, self or wrong")
    if mode == "all":
        return sample.references
    if mode == "1":
        return sample.references[:1]
    level = int(mode.partition(":")[2])
    chosen = tuple(reference for reference in sample.references if reference.level == level)
    if not chosen:
        raise ImageError(f"has no reference of level {level}: use another --references")
    return chosen[:1]


def prepare_sample(
    sample: Sample,
    references: Sequence[LevelledReference],
    protocol: ProtocolName,
    scale: int,
    degradation: DegradationName = "none",
) -> Prepared:
    """Read a sample's pictures and prepare them.

    Raises:
        ImageError: A picture cannot be read or used.
    """
    truth, lr = _read(sample, scale, degradation)
    return PROTOCOLS[protocol].prepare(truth, [read_photo(ref.path).pixels for ref in references], scale, lr)


class Album:
    """Library of all samples' references, in which those of one sample are found by content."""

    def __init__(self, dataset: Dataset, model: RefSRModel) -> None:
        self.model = model
        files = list(dict.fromkeys(ref.path for sample in dataset.samples for ref in sample.references))
        self.library = read_library(files, model)
        # One sample's reference may be another's truth.
        leaks = find_leaks(files, [sample.truth for sample in dataset.samples])
        self.shows_truth = {files[number]: truth for number, truth in leaks.items()}

    def prepare(
        self, sample: Sample, protocol: ProtocolName, degradation: DegradationName = "none"
    ) -> tuple[Prepared, list[FoundReference]]:
        """Prepare a sample with the references found for its LR image; pictures that show its truth are left out.

        Raises:
            ImageError: A picture cannot be read or used.
        """
        truth, lr = _read(sample, self.model.scale, degradation)
        prepare = partial(PROTOCOLS[protocol].prepare, truth, scale=self.model.scale, lr=lr)
        leaked = [path for path, shown in self.shows_truth.items() if shown == sample.truth]
        found = find_references(Photo(pixels=prepare(()).lr), self.library, self.model, apart_from=leaked)
        return prepare([one.photo.pixels for one in found]), found


def _read(sample: Sample, scale: int, degradation: DegradationName) -> tuple[Tensor, Tensor | None]:
    """Truth, and the LR image if it is a real or a degraded one."""
    truth = read_photo(sample.truth).pixels
    if sample.lr is not None:
        if degradation != "none":
            raise UsageError(f"{sample.lr.name} is given: leave out --degrade {degradation}, or the LR images")
        return truth, read_photo(sample.lr).pixels
    return truth, None if degradation == "none" else degraded(truth, degradation, sample.name, scale)


def measure_each(
    dataset: str,
    samples: Sequence[Sample],
    measure: Callable[[Sample], dict[str, Any]],
    journal: Journal,
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
    finished = {part["name"]: part for part in journal.done}
    parts = []
    for count, sample in enumerate(samples, 1):
        part = finished.get(sample.name)
        if part is None:
            try:
                part = measure(sample)
            except RefSRError as error:
                part = asdict(Skipped(name=sample.name, reason=str(error)))
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
