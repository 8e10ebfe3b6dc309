"""Seconds and peak memory of one picture, by size, references, search engine, precision and threads.

Each case runs in a process of its own, which makes its peak memory its own. Bicubic interpolation and a matrix product
are measured in the same process, so that ratios can be compared across machines.
"""

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import product
from math import log, nan
from pathlib import Path
from statistics import linear_regression, median
from typing import Final, Literal

import torch
from rich.table import Table
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from refsr.assets import sample_path
from refsr.bench.measure import peak_mib, reset_peak
from refsr.bench.protocol import PROTOCOLS
from refsr.bench.results import software_versions, source_commit
from refsr.device import Device, Precision, choose_device
from refsr.errors import MemoryBudgetError, UsageError
from refsr.io.files import check_writable
from refsr.io.photo import Photo, as_photo
from refsr.io.progress import Progress, silent
from refsr.io.records import write_record
from refsr.io.workers import Workers
from refsr.models import load_model
from refsr.resize import resize, upscale_bicubic
from refsr.restore.upscale import RestoreConfig
from refsr.search import Engine
from refsr.wording import counted

_ASPECT_RATIO: Final = 1.5
_MATRIX_SIDE: Final = 1024
_REPETITIONS: Final = 3
_MAXIMUM_REPEATED_S: Final = 20.0
"""Longest run that is repeated for the median."""


@dataclass(frozen=True, kw_only=True)
class SpeedConfig:
    """Settings of a speed run; every combination of sizes, references, engines, precisions and threads is a case.

    Attributes:
        megapixels: Size of the output in megapixels, such as 2.4; references have the output's size.
        references: Count of references.
        engines: Search engine.
        precisions: Precision of the network.
        threads: Count of CPU threads; by default, one and all.
    """

    megapixels: tuple[float, ...] = (0.15, 0.6, 2.4, 12.0, 24.0)
    references: tuple[int, ...] = (1, 5)
    engines: tuple[Engine, ...] = ("auto",)
    precisions: tuple[Precision, ...] = ("auto",)
    threads: tuple[int, ...] = field(default_factory=lambda: tuple(sorted({1, os.cpu_count() or 1})))
    device: Device = "cpu"
    memory_bytes: int | None = None

    def __post_init__(self) -> None:
        if any(size < 0.01 for size in self.megapixels):
            raise UsageError(f"sizes of {self.megapixels} megapixels: give 0.01 or more")
        if any(count < 0 for count in self.references):
            raise UsageError(f"counts of references {self.references}: give 0 or more")
        if any(count < 1 for count in self.threads):
            raise UsageError(f"counts of threads {self.threads}: give 1 or more")


@dataclass(frozen=True, kw_only=True)
class SpeedCase:
    """One combination of settings, with the approximate size of the output."""

    megapixels: float
    references: int
    engine: Engine
    precision: Precision
    threads: int


@dataclass(frozen=True, kw_only=True)
class SpeedMeasurement:
    """Figures of one case.

    Attributes:
        size_px: Height and width of the output.
        seconds: Time of one picture in a warm process, the median of up to three.
        bicubic_seconds: Time of bicubic interpolation to the same size, on the CPU.
        operations: Floating-point operations of all convolutions and matrix products.
        product_seconds: Time of as many operations in products of 1024x1024 matrices, on the same threads and device.
        peak_mib: Peak host memory of the process.
        refused: Reason why the case has no figures: the memory budget is too small.
    """

    case: SpeedCase
    size_px: tuple[int, int]
    seconds: float = nan
    bicubic_seconds: float = nan
    operations: float = nan
    product_seconds: float = nan
    peak_mib: float = nan
    refused: str | None = None

    @property
    def megapixels(self) -> float:
        """Exact size of the output."""
        return self.size_px[0] * self.size_px[1] / 1e6

    @property
    def series(self) -> tuple[int, str, str, int]:
        """All settings but the size: references, engine, precision, threads."""
        return self.case.references, self.case.engine, self.case.precision, self.case.threads


@dataclass(frozen=True, kw_only=True)
class SpeedResult:
    """Figures of all cases of a model, with versions and commit of the software."""

    model: str
    measurements: tuple[SpeedMeasurement, ...]
    versions: dict[str, str]
    commit: str | None

    def slope(self, references: int, engine: str, precision: str, threads: int) -> float:
        """Exponent of time over size: 1 where twice the pixels take twice the time; NaN for fewer than two sizes.

        Source: least squares on logarithms.
        """
        series = (references, engine, precision, threads)
        points = [(m.megapixels, m.seconds) for m in self.measurements if m.series == series and not m.refused]
        if len({size for size, _ in points}) < 2:
            return nan
        sizes, seconds = zip(*points, strict=True)
        return linear_regression([log(size) for size in sizes], [log(s) for s in seconds]).slope


def run_speed(
    model: str,
    config: SpeedConfig,
    *,
    vgg19: Path | None = None,
    out: Path | None = None,
    progress: Progress = silent,
) -> SpeedResult:
    """Measure every case of a model, given by its name or weights file, small sizes first.

    Args:
        vgg19: VGG19 weights, for models that need them.
        out: JSON file to write.

    Raises:
        UsageError: The machine lacks the device, or has fewer threads than asked for.
        OutputError: The file cannot be written.
    """
    if max(config.threads) > (os.cpu_count() or 1):
        raise UsageError(f"{counted(max(config.threads), 'thread')}: this machine has {os.cpu_count()}: ask for fewer")
    device = choose_device(config.device).type
    if out is not None:
        check_writable(out)
    cases = [
        SpeedCase(megapixels=size, references=count, engine=engine, precision=precision, threads=threads)
        for size, count, engine, precision, threads in product(
            sorted(config.megapixels), config.references, config.engines, config.precisions, config.threads
        )
    ]
    measure = partial(measure_case, model, vgg19, memory_bytes=config.memory_bytes, device=config.device)
    measured: list[SpeedMeasurement] = []
    for case in cases:
        with Workers(1) as workers:
            measured += workers.map_unordered(measure, [case])
        progress(len(measured), len(cases))
    versions = software_versions() | ({} if device == "cpu" else {"device": device})
    result = SpeedResult(model=model, measurements=tuple(measured), versions=versions, commit=source_commit())
    if out is not None:
        write_record(out, "speed", asdict(result))
    return result


def measure_case(
    model: str, vgg19: Path | None, case: SpeedCase, memory_bytes: int | None, device: Device = "cpu"
) -> SpeedMeasurement:
    """Measure one case in this process; the arguments are those of `run_speed`."""
    torch.set_num_threads(case.threads)
    loaded = load_model(model, device=device, vgg19=vgg19)
    height = round((case.megapixels * 1e6 / _ASPECT_RATIO) ** 0.5 / loaded.scale) * loaded.scale
    size = (height, round(height * _ASPECT_RATIO / loaded.scale) * loaded.scale)
    lr = PROTOCOLS["refsr"].prepare(_sample("truth", size), (), loaded.scale).lr
    references = [Photo(pixels=_sample("reference", size))] * case.references
    config = RestoreConfig(engine=case.engine, precision=case.precision, memory_bytes=memory_bytes)

    def run() -> None:
        config.upscale(Photo(pixels=lr), references, model=loaded, provenance=False)

    reset_peak()
    try:
        seconds = [_seconds(run)]
        while len(seconds) <= _REPETITIONS and seconds[-1] < _MAXIMUM_REPEATED_S:
            seconds.append(_seconds(run))
    except MemoryBudgetError as error:
        return SpeedMeasurement(case=case, size_px=size, refused=str(error))
    peak = peak_mib()
    with FlopCounterMode(display=False) as counter:
        run()
    operations = float(counter.get_total_flops())
    return SpeedMeasurement(
        case=case,
        size_px=size,
        seconds=median(seconds[1:] or seconds),
        bicubic_seconds=_seconds(lambda: upscale_bicubic(lr, loaded.scale)),
        operations=operations,
        product_seconds=operations / product_rate(loaded.device),
        peak_mib=peak,
    )


def product_rate(device: torch.device | None = None) -> float:
    """Operations per second of a matrix product on this process's threads or another device, the best of 20."""
    a, b = (torch.rand(_MATRIX_SIDE, _MATRIX_SIDE, device=device) for _ in range(2))

    def multiply() -> float:
        return (a @ b)[0, 0].item()  # waits for the device

    return float(2 * _MATRIX_SIDE**3 / min(_seconds(multiply) for _ in range(20)))


def _sample(name: Literal["truth", "reference"], size: tuple[int, int]) -> Tensor:
    """Bundled picture, resized."""
    return resize(as_photo(sample_path(name)).pixels, size).clamp(0, 1)


def _seconds(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def speed_table(result: SpeedResult) -> Table:
    """One row per case, for a terminal."""
    heads = ("output", "refs", "search", "numbers", "threads", "s", "s/MP", "x bicubic", "x product", "MiB")
    table = Table(*heads, box=None, pad_edge=False)
    for m in result.measurements:
        case = (f"{m.size_px[1]}x{m.size_px[0]}", *map(str, m.series))
        if m.refused is not None:
            table.add_row(*case, "refused")
            continue
        ratios = (f"{m.seconds / m.bicubic_seconds:.0f}", f"{m.seconds / m.product_seconds:.2f}")
        table.add_row(*case, f"{m.seconds:.2f}", f"{m.seconds / m.megapixels:.2f}", *ratios, f"{m.peak_mib:.0f}")
    return table
