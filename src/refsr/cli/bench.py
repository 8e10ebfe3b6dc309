"""refsr bench: measure models, compare results, write a report."""

import os
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from refsr.bench.compare import comparison_table
from refsr.bench.datasets import open_dataset
from refsr.bench.lpips import load_lpips
from refsr.bench.measure import BenchConfig, run_benchmark
from refsr.bench.plots import plot_robustness, plot_speed
from refsr.bench.protocol import ProtocolName
from refsr.bench.report import write_report
from refsr.bench.results import Result
from refsr.bench.robust import run_robust
from refsr.bench.speed import SpeedConfig, run_speed, speed_table
from refsr.cli.console import complain, progress_bar
from refsr.cli.options import MemoryOptions, ModelOptions, Output, RestoreOptions
from refsr.device import Device, Precision
from refsr.errors import RefSRError, UsageError
from refsr.io.records import read_record
from refsr.search import Engine

_EXAMPLES = """**Examples**

    refsr bench DATASET -o a.json
    refsr bench DATASET --model RUN/default.safetensors --references all -o b.json
    refsr bench compare a.json b.json
    refsr bench robust DATASET -o turned.json
    refsr bench report a.json b.json turned.json -o report
    refsr bench speed --sizes 2.4 --references 1
"""
bench = App(
    name="bench", help="Measure models on data sets, in a way that others can reproduce.", help_epilogue=_EXAMPLES
)
OutputFile = Annotated[Path | None, Parameter(name=("--output", "-o"))]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class MeasureOptions(RestoreOptions):
    """Options of restoring, with a precision that is the same on every processor."""

    precision: Precision = "fp32"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SpeedOptions(MemoryOptions):
    """Model, device and memory budget; the CPU is the default, since its threads are varied.

    Attributes:
        device: Device of the model; auto takes CUDA, then MPS, then the CPU.
    """

    device: Device = "cpu"


@bench.default
def measure(
    dataset: Path,
    /,
    *,
    output: OutputFile = None,
    references: str = "auto",
    protocol: ProtocolName = "refsr",
    lr: Path | None = None,
    lpips: list[Path] | None = None,
    crops: Path | None = None,
    limit: int = 0,
    strict: bool = False,
    options: MeasureOptions = MeasureOptions(),
) -> None:
    """Measure a model on a data set: PSNR, SSIM, gain over no reference, seconds, memory.

    Args:
        dataset: Folder of groups (NNN_0 the truth, NNN_1 to NNN_5 its references), folder of truths, or manifest.jsonl.
        output: JSON file for all figures; a killed run resumes where it stopped.
        references: 1 (the most similar), all, level:1 to level:5, self (the LR image), none, wrong (another sample's),
            or album (found among the references of all samples); auto is 1 where there are references, else none.
        protocol: Preparation and comparison as in the paper's own code: refsr, ttsr, masa or c2.
        lr: Folder of real LR images, named like the truths; by default, truths are reduced by bicubic interpolation.
        lpips: Weights of AlexNet or VGG19, to measure LPIPS too; repeat the option for the learned ones of AlexNet.
        crops: Folder for crops, which `refsr bench report` shows.
        limit: Maximum count of pictures, evenly spread; 0 for all.
        strict: End with an error if a picture was left out.
    """
    config = BenchConfig(
        references=references,
        protocol=protocol,
        limit=limit,
        memory_bytes=options.memory_bytes,
        engine=options.search,
        precision=options.precision,
    )
    samples = open_dataset(dataset, lr)
    distance = load_lpips(lpips) if lpips else None
    loaded = options.load()
    with progress_bar(f"{samples.name}, {options.model}") as progress:
        result = run_benchmark(
            samples,
            loaded,
            Path(options.model).name,
            config,
            out=output,
            crops=crops,
            lpips=distance,
            progress=progress,
        )
    for skipped in result.skipped:
        complain(f"left out {skipped.name}: {skipped.reason}")
    cropped = sum(image.cropped for image in result.images)
    if cropped:
        complain(f"{cropped} of {len(result.images)} truths are no multiple of {loaded.scale} pixels: cropped")
    if distance is None:
        complain("LPIPS is not measured: give weights of AlexNet or VGG19 with --lpips")
    Console().print(_summary(result))
    if result.skipped and strict:
        raise UsageError(f"{len(result.skipped)} pictures were left out, and --strict was given")


@bench.command
def compare(first: Path, second: Path, /) -> None:
    """Compare two results picture by picture, with the confidence interval of the difference.

    Args:
        first: JSON file of `refsr bench`.
        second: JSON file of `refsr bench`; differences are second minus first.
    """
    Console().print(comparison_table(*(read_record(file, {"bench": Result}) for file in (first, second))))


@bench.command
def report(results: list[Path], /, *, output: Output) -> None:
    """Write a report in Markdown with tables, plots and contact sheets.

    Args:
        results: JSON files of `refsr bench` and `refsr bench robust`.
        output: Output folder; made if missing.
    """
    print(write_report(results, output))


@bench.command
def speed(
    *,
    output: OutputFile = None,
    sizes: list[float] | None = None,
    references: list[int] | None = None,
    search: list[Engine] | None = None,
    precision: list[Precision] | None = None,
    threads: list[int] | None = None,
    options: SpeedOptions = SpeedOptions(),
) -> None:
    """Measure seconds and peak memory by size, references, search and threads, beside bicubic and a matrix product.

    Args:
        output: JSON file for all figures; the plot is written beside it.
        sizes: Size of the output in megapixels, such as 2.4; repeat the option for more. By default, 0.15 to 24.
        references: Count of references; repeat the option for more. By default, 1 and 5.
        search: Search engine; repeat the option for more. By default, auto.
        precision: Precision of the network; repeat the option for more. By default, auto.
        threads: Count of CPU threads; repeat the option for more. By default, one and all.
    """
    plain = SpeedConfig()
    config = SpeedConfig(
        megapixels=tuple(sizes or plain.megapixels),
        references=tuple(references or plain.references),
        engines=tuple(search or plain.engines),
        precisions=tuple(precision or plain.precisions),
        threads=tuple(threads or sorted({1, os.cpu_count() or 1})),
        device=options.device,
        memory_bytes=options.memory_bytes,
    )
    with progress_bar(f"{options.model}, speed") as progress:
        result = run_speed(options.model, config, vgg19=options.vgg19, out=output, progress=progress)
    Console().print(speed_table(result))
    for count in config.references:
        for engine, number in product(config.engines, config.precisions):
            slope = result.slope(count, engine, number, max(config.threads))
            print(f"{count} references, {engine}, {number}: time grows with the size to the power of {slope:.2f}")
    if output is not None:
        plot_speed(result, output.with_suffix(".png"))


@bench.command
def robust(dataset: Path, /, *, output: Output, limit: int = 0, options: ModelOptions = ModelOptions()) -> None:
    """Measure the gain left when the reference is rotated, scaled, shifted, relit, blurred, compressed or wrong.

    Args:
        dataset: Data set as for `refsr bench`.
        output: JSON file for all figures; the plot is written beside it. A killed run resumes where it stopped.
        limit: Maximum count of pictures, evenly spread; 0 for all.
    """
    samples = open_dataset(dataset)
    loaded = options.load()
    with progress_bar(f"{samples.name}, {options.model}, changed references") as progress:
        result = run_robust(samples, loaded, Path(options.model).name, limit=limit, out=output, progress=progress)
    for name, reason in result.skipped.items():
        complain(f"left out {name}: {reason}")
    table = Table("change", "strength", "mean gain dB", "least", box=None, pad_edge=False)
    for change, strength in result.gains_db:
        found = result.summary(change, strength)
        table.add_row(change, f"{strength:g}", f"{found.mean:+.3f}", f"{found.least:+.3f}")
    Console().print(table)
    mean, worst, name = result.unrelated_loss()
    print(f"an unrelated reference costs {mean:.3f} dB against none, at worst {worst:.3f} dB ({name})")
    try:
        plot_robustness([result], output.with_suffix(".png"))
    except RefSRError as error:
        complain(f"no plot: {error}")


def _summary(result: Result) -> Table:
    title = (
        f"{result.model} on {result.dataset}, references {result.protocol['references']}: {len(result.images)} pictures"
    )
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("", "mean", "95 % interval", "median", "least", "most"):
        table.add_column(column, justify="left" if not column else "right")
    for metric, found in result.summaries.items():
        if metric != "psnr_rgb_db":
            digits = 4 if metric in ("ssim", "lpips") else 2
            low, high, *others = (f"{x:.{digits}f}" for x in (*found.ci95, found.median, found.least, found.most))
            table.add_row(metric, f"{found.mean:.{digits}f}", f"{low} .. {high}", *others)
    return table
