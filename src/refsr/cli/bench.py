"""refsr bench: measure models, compare results, write a report."""

from dataclasses import dataclass
from itertools import product
from math import isnan
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from refsr.bench.datasets import open_dataset
from refsr.bench.lpips import load_lpips
from refsr.bench.match_figures import matches_lines, matches_table
from refsr.bench.matches import run_matches
from refsr.bench.measure import BenchConfig, run_benchmark
from refsr.bench.plots import plot_robustness, plot_speed
from refsr.bench.report import write_report
from refsr.bench.results import Result, comparison_table
from refsr.bench.robust import run_robust
from refsr.bench.speed import SpeedConfig, run_speed, speed_table
from refsr.cli.console import complain, progress_bar
from refsr.cli.options import ComputeOptions, MemoryOptions, ModelOptions, Output
from refsr.device import Device, Precision
from refsr.errors import RefSRError, UsageError
from refsr.extras import import_extra
from refsr.io.records import read_record
from refsr.models import load_blend
from refsr.search import Engine
from refsr.wording import counted

_EXAMPLES = """**Examples**

    refsr bench DATASET --crops CROPS -o a.json
    refsr bench DATASET --model RUN/default.safetensors --references all -o b.json
    refsr bench compare a.json b.json
    refsr bench robust DATASET -o turned.json
    refsr bench matches DATASET -o matches.json
    refsr bench report a.json b.json turned.json -o report
    refsr bench speed --sizes 2.4 --references 1
"""
bench = App(name="bench", help_epilogue=_EXAMPLES, help_format="markdown")
OutputFile = Output | None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class MeasureOptions(ComputeOptions, BenchConfig):
    """Settings of a benchmark run, with a precision that is the same on every processor.

    Attributes:
        model: Name listed by `refsr models`, or a weights file; auto for the one that suits each photo.
    """

    model: str = "default"
    texture: float = 0.0
    precision: Precision = "fp32"

    @property
    def title(self) -> str:
        """Name of what is measured."""
        return Path(self.model).name + (f", texture {self.texture:g}" if self.texture else "")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RobustOptions(ComputeOptions):
    """Settings of a run with changed references, with a precision that is the same on every processor."""

    precision: Precision = "fp32"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SpeedOptions(MemoryOptions, SpeedConfig):
    """Cases of a speed run, model and memory budget; the CPU is the default, since its threads are varied.

    Attributes:
        device: Device of the model; auto takes CUDA, then MPS, then the CPU.
    """

    megapixels: Annotated[tuple[float, ...], Parameter(name="--sizes")] = SpeedConfig.megapixels
    engines: Annotated[tuple[Engine, ...], Parameter(name="--search")] = SpeedConfig.engines
    precisions: Annotated[tuple[Precision, ...], Parameter(name="--precision")] = SpeedConfig.precisions
    device: Device = "cpu"


@bench.default
def measure(
    dataset: Path,
    /,
    *,
    output: OutputFile = None,
    lr: Path | None = None,
    lpips: list[Path] | None = None,
    crops: Path | None = None,
    write_lr: Path | None = None,
    strict: bool = False,
    options: MeasureOptions = MeasureOptions(),
) -> None:
    """Measure a model on a data set: PSNR, SSIM, gain over no reference, seconds, memory.

    Args:
        dataset: Folder of groups (NNN_0 the truth, NNN_1 to NNN_5 its references), folder of truths, or manifest.jsonl.
        output: JSON file for all figures; a killed run resumes where it stopped.
        lr: Folder of real LR images, named like the truths; by default, truths are reduced by bicubic interpolation.
        lpips: Weights of AlexNet, SqueezeNet 1.1 or VGG19, to measure LPIPS too; repeat the option for learned ones.
        crops: Folder for a strip of crops of each picture, which `refsr bench report` puts on contact sheets.
        write_lr: Folder for the LR images, named like the truths, for other programs or --lr.
        strict: End with an error if a picture was left out.
    """
    samples = open_dataset(dataset, lr)
    distance = load_lpips(lpips) if lpips else None
    loaded = load_blend(options.model, device=options.device, vgg19=options.vgg19)
    with progress_bar(f"{samples.name}, {options.model}") as progress:
        result = run_benchmark(
            samples,
            loaded,
            options.title,
            options,
            out=output,
            crops=crops,
            write_lr=write_lr,
            lpips=distance,
            progress=progress,
        )
    for skipped in result.skipped:
        complain(f"left out {skipped.name}: {skipped.reason}")
    cropped = sum(image.cropped for image in result.images)
    if cropped:
        complain(
            f"cropped to multiples of {loaded.clean.scale} pixels: {cropped} of {counted(len(result.images), 'truth')}"
        )
    if distance is None:
        complain("LPIPS is not measured: give weights of AlexNet, SqueezeNet or VGG19 with --lpips")
    Console().print(_summary(result))
    if result.skipped and strict:
        raise UsageError(f"left out {counted(len(result.skipped), 'picture')}, and --strict was given")


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
    options: SpeedOptions = SpeedOptions(),
) -> None:
    """Measure seconds and peak memory by size, references, search and threads, beside bicubic and a matrix product.

    Options of which every combination is measured may be repeated: --sizes 2.4 --sizes 12.

    Args:
        output: JSON file for all figures; the plot is written beside it.
    """
    if output is not None:
        import_extra("matplotlib", "the plot beside the file")
    with progress_bar(f"{options.model}, speed") as progress:
        result = run_speed(options.model, options, vgg19=options.vgg19, out=output, progress=progress)
    Console().print(speed_table(result))
    for reason in dict.fromkeys(m.refused for m in result.measurements if m.refused is not None):
        complain(f"refused: {reason}")
    for count in options.references:
        for engine, number in product(options.engines, options.precisions):
            slope = result.slope(count, engine, number, max(options.threads))
            if isnan(slope):  # of one size
                continue
            case = f"{counted(count, 'reference')}, {engine}, {number}"
            print(f"{case}: time grows with the size to the power of {slope:.2f}")
    if output is not None:
        plot_speed(result, output.with_suffix(".png"))


@bench.command
def robust(dataset: Path, /, *, output: Output, limit: int = 0, options: RobustOptions = RobustOptions()) -> None:
    """Measure the gain left when the reference is rotated, scaled, shifted, relit, blurred, compressed or wrong.

    Args:
        dataset: Data set as for `refsr bench`.
        output: JSON file for all figures; the plot is written beside it. A killed run resumes where it stopped.
        limit: Maximum count of pictures, evenly spread; 0 for all.
    """
    samples = open_dataset(dataset)
    loaded = options.load()
    with progress_bar(f"{samples.name}, {options.model}, changed references") as progress:
        config = BenchConfig(engine=options.engine, precision=options.precision, memory_bytes=options.memory_bytes)
        result = run_robust(
            samples, loaded, Path(options.model).name, config, limit=limit, out=output, progress=progress
        )
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


@bench.command
def matches(
    dataset: Path, /, *, output: OutputFile = None, limit: int = 0, options: ModelOptions = ModelOptions()
) -> None:
    """Measure how near matches lie to the true positions, and the gain that true positions would bring on top.

    Args:
        dataset: Data set as for `refsr bench`.
        output: JSON file for all figures; a killed run resumes where it stopped.
        limit: Maximum count of pictures, evenly spread; 0 for all.
    """
    samples = open_dataset(dataset)
    loaded = options.load()
    with progress_bar(f"{samples.name}, {options.model}, matches") as progress:
        result = run_matches(samples, loaded, Path(options.model).name, limit=limit, out=output, progress=progress)
    for skipped in result.skipped:
        complain(f"left out {skipped.name}: {skipped.reason}")
    Console().print(matches_table(result))
    for line in matches_lines(result):
        print(line)


def _summary(result: Result) -> Table:
    pictures = counted(len(result.images), "picture")
    title = f"{result.model} on {result.dataset}, references {result.protocol['references']}: {pictures}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("", "mean", "95 % interval", "median", "least", "most"):
        table.add_column(column, justify="left" if not column else "right")
    for metric, found in result.summaries.items():
        if metric != "psnr_rgb_db":
            digits = 4 if metric in ("ssim", "lpips") else 2
            low, high, *others = (f"{x:.{digits}f}" for x in (*found.ci95, found.median, found.least, found.most))
            table.add_row(metric, f"{found.mean:.{digits}f}", f"{low} .. {high}", *others)
    return table
