"""How long a picture takes, and how much memory, by size, references, engine, precision and threads.

Each case runs in a process of its own, so that its peak memory is its own; beside it, in the same process, plain
bicubic and a matrix product, so that figures of different machines can be compared as ratios.
"""

import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import product
from math import log
from pathlib import Path
from statistics import linear_regression, median
from typing import Final, Literal

import torch
from torch.utils.flop_counter import FlopCounterMode

from refsr.assets import sample_path
from refsr.bench.memory import peak_mib, reset_peak
from refsr.bench.results import software_versions, source_commit
from refsr.device import Precision
from refsr.errors import MemoryBudgetError, UsageError
from refsr.io.files import check_writable
from refsr.io.photo import Photo, as_photo
from refsr.io.progress import Progress, silent
from refsr.io.records import read_record, write_record
from refsr.models import load_model
from refsr.resize import downscale_bicubic, resize, upscale_bicubic
from refsr.restore.upscale import DEFAULT_MEMORY_BYTES, upscale
from refsr.search import Engine

_ASPECT: Final = 1.5
_PRODUCT_SIDE: Final = 1024
_RUNS: Final = 3
_LONG_S: Final = 20.0
"""A case that takes longer is not run again."""


@dataclass(frozen=True, kw_only=True)
class SpeedConfig:
    """What is measured: every combination.

    Attributes:
        megapixels: Sizes of the output; references have that size too.
        references: Counts of references.
        engines: Of the search.
        precisions: Of the network.
        threads: Counts of threads.
        memory_bytes: Budget of each picture.
    """

    megapixels: tuple[float, ...] = (0.15, 0.6, 2.4, 12.0, 24.0)
    references: tuple[int, ...] = (1, 5)
    engines: tuple[Engine, ...] = ("auto",)
    precisions: tuple[Precision, ...] = ("auto",)
    threads: tuple[int, ...] = (1, 2)
    memory_bytes: int = DEFAULT_MEMORY_BYTES

    def __post_init__(self) -> None:
        if any(size < 0.01 for size in self.megapixels):
            raise UsageError(f"sizes of {self.megapixels} megapixels: give 0.01 or more")
        if any(count < 0 for count in self.references):
            raise UsageError(f"counts of references {self.references}: give 0 or more")
        if any(count < 1 for count in self.threads):
            raise UsageError(f"counts of threads {self.threads}: give 1 or more")


@dataclass(frozen=True, kw_only=True)
class SpeedCase:
    """One combination.

    Attributes:
        megapixels: Of the output, nearly.
        references: How many, each of the output's size.
        engine: Of the search.
        precision: Of the network.
        threads: Of the process.
    """

    megapixels: float
    references: int
    engine: Engine
    precision: Precision
    threads: int


@dataclass(frozen=True, kw_only=True)
class SpeedMeasurement:
    """What was found.

    Attributes:
        case: Which.
        size_px: Height and width of the output.
        seconds: A picture in a warm process, the median of up to three.
        bicubic_seconds: The same size by bicubic interpolation.
        operations: Floating-point operations of its convolutions and matrix products.
        product_seconds: As many in one matrix product after another, 1024 x 1024, on the same threads.
        peak_mib: Largest memory of the process.
        refused: Why there are no figures, if the budget did not suffice.
    """

    case: SpeedCase
    size_px: tuple[int, int]
    seconds: float = float("nan")
    bicubic_seconds: float = float("nan")
    operations: float = float("nan")
    product_seconds: float = float("nan")
    peak_mib: float = float("nan")
    refused: str | None = None

    @property
    def seconds_per_megapixel(self) -> float:
        """Of the output."""
        return self.seconds / (self.size_px[0] * self.size_px[1] / 1e6)


@dataclass(frozen=True, kw_only=True)
class SpeedResult:
    """All cases of a model.

    Attributes:
        model: As it was named.
        measurements: In the order of their cases.
        versions: Of the software.
        commit: Of the checkout, or none.
    """

    model: str
    measurements: tuple[SpeedMeasurement, ...]
    versions: dict[str, str]
    commit: str | None

    def slope(self, references: int, engine: str, precision: str, threads: int) -> float:
        """The exponent with which time grows with size: 1 where twice the pixels take twice the time.

        Source: least squares through the logarithms.
        """
        points = [
            (m.size_px[0] * m.size_px[1], m.seconds)
            for m in self.measurements
            if (m.case.references, m.case.engine, m.case.precision, m.case.threads)
            == (references, engine, precision, threads)
            and not m.refused
        ]
        if len({size for size, _ in points}) < 2:
            return float("nan")
        sizes, seconds = zip(*points, strict=True)
        return linear_regression([log(size) for size in sizes], [log(s) for s in seconds]).slope

    def save(self, path: Path) -> None:
        """Write as JSON."""
        write_record(path, "speed", asdict(self))


def load_speed(path: Path) -> SpeedResult:
    """Read what `SpeedResult.save` wrote.

    Raises:
        UsageError: It is no such file.
    """
    return read_record(path, {"speed": SpeedResult})


def run_speed(
    model: str,
    config: SpeedConfig,
    *,
    vgg19: Path | None = None,
    out: Path | None = None,
    progress: Progress = silent,
) -> SpeedResult:
    """Measure every case, the small ones first.

    Args:
        model: Name or weights file.
        config: What is measured.
        vgg19: File of VGG19 weights, for models that need them.
        out: JSON file to write.
        progress: Told of each finished case.

    Raises:
        UsageError: More threads are asked for than there are.
        OutputError: The file cannot be written.
    """
    if max(config.threads) > (os.cpu_count() or 1):
        raise UsageError(f"{max(config.threads)} threads: this machine has {os.cpu_count()}")
    if out is not None:
        check_writable(out)
    cases = [
        SpeedCase(megapixels=size, references=count, engine=engine, precision=precision, threads=threads)
        for size, count, engine, precision, threads in product(
            sorted(config.megapixels), config.references, config.engines, config.precisions, config.threads
        )
    ]
    context = multiprocessing.get_context("spawn")
    found = []
    for done, case in enumerate(cases, 1):
        with context.Pool(1) as pool:
            found.append(pool.apply(measure_case, (model, vgg19, case, config.memory_bytes)))
        progress(done, len(cases))
    result = SpeedResult(model=model, measurements=tuple(found), versions=software_versions(), commit=source_commit())
    if out is not None:
        result.save(out)
    return result


def measure_case(model: str, vgg19: Path | None, case: SpeedCase, memory_bytes: int) -> SpeedMeasurement:
    """One case, in this process.

    Args:
        model: Name or weights file.
        vgg19: File of VGG19 weights, for models that need them.
        case: Which.
        memory_bytes: Budget.
    """
    torch.set_num_threads(case.threads)
    loaded = load_model(model, device="cpu", vgg19=vgg19)
    height = round((case.megapixels * 1e6 / _ASPECT) ** 0.5 / loaded.scale) * loaded.scale
    size = (height, round(height * _ASPECT / loaded.scale) * loaded.scale)
    truth, view = _sample("truth", size), _sample("reference", size)
    lr = Photo(pixels=downscale_bicubic(truth.pixels, loaded.scale).clamp(0, 1))
    del truth
    references = [view] * case.references

    def restore() -> None:
        upscale(
            lr,
            references,
            model=loaded,
            engine=case.engine,
            precision=case.precision,
            memory_bytes=memory_bytes,
            provenance=False,
        )

    reset_peak()
    try:
        seconds = [_seconds(restore)]
        while len(seconds) <= _RUNS and seconds[-1] < _LONG_S:
            seconds.append(_seconds(restore))
    except MemoryBudgetError as error:
        return SpeedMeasurement(case=case, size_px=size, refused=str(error))
    peak = peak_mib()
    with FlopCounterMode(display=False) as counter:
        restore()
    operations = float(counter.get_total_flops())
    return SpeedMeasurement(
        case=case,
        size_px=size,
        seconds=median(seconds[1:] or seconds),
        bicubic_seconds=_seconds(lambda: upscale_bicubic(lr.pixels, loaded.scale)),
        operations=operations,
        product_seconds=operations / product_rate(),
        peak_mib=peak,
    )


def product_rate() -> float:
    """Operations a second of a matrix product on this process's threads, the best of several."""
    a, b = (torch.rand(_PRODUCT_SIDE, _PRODUCT_SIDE) for _ in range(2))
    best = min(_seconds(lambda: a @ b) for _ in range(20))
    return float(2 * _PRODUCT_SIDE**3 / best)


def _sample(name: Literal["truth", "reference"], size: tuple[int, int]) -> Photo:
    """A view of the bundled sample, in another size."""
    return Photo(pixels=resize(as_photo(sample_path(name)).pixels, size).clamp(0, 1))


def _seconds(do: Callable[[], object]) -> float:
    begun = time.perf_counter()
    do()
    return time.perf_counter() - begun


def plain_table(result: SpeedResult) -> list[tuple[str, ...]]:
    """Rows for people: head first."""
    head = ("output", "refs", "search", "numbers", "threads", "s", "s/MP", "x bicubic", "x product", "MiB")
    return [head, *(_row(measurement) for measurement in result.measurements)]


def _row(m: SpeedMeasurement) -> tuple[str, ...]:
    case = (
        f"{m.size_px[1]}x{m.size_px[0]}",
        str(m.case.references),
        m.case.engine,
        m.case.precision,
        str(m.case.threads),
    )
    if m.refused is not None:
        return (*case, "refused", "", "", "", "")
    return (
        *case,
        f"{m.seconds:.2f}",
        f"{m.seconds_per_megapixel:.2f}",
        f"{m.seconds / m.bicubic_seconds:.0f}",
        f"{m.seconds / m.product_seconds:.2f}",
        f"{m.peak_mib:.0f}",
    )
