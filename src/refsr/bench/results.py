"""Results of a benchmark run with their statistics, and their JSON file.

{"kind": "bench", "version": 1, "model": "default", "dataset": "dev", "protocol": {"name": "refsr", ...},
 "mean": {"psnr_db": 30.6, "ssim": 0.85, "gain_db": 0.93}, "median": {...}, "ci95": {...}, "by_level": {...},
 "images": [{"name": "000", "psnr_db": 23.96, "ssim": 0.77, "gain_db": 1.09, "seconds": 1.4, ...}],
 "skipped": [], "versions": {"refsr": "0.1.0", ...}, "commit": "c28e951..."}
"""

import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.table import Table

from refsr.errors import UsageError

_BOOTSTRAP_RESAMPLES: Final = 10_000
_STATISTICS: Final = ("mean", "median", "ci95")
_METRICS: Final = ("psnr_db", "ssim", "gain_db", "bicubic_db", "psnr_rgb_db", "lpips", "colour_levels", "seconds")


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Mean, median, minimum and maximum of one metric over pictures.

    Attributes:
        ci95: Bounds of the 95 % confidence interval of the mean.
    """

    mean: float
    median: float
    least: float
    most: float
    ci95: tuple[float, float]


def summarise(figures: Sequence[float]) -> Summary:
    """Summarise at least one figure; the confidence interval is a percentile bootstrap with a fixed seed.

    Source: Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979.
    """
    values = np.asarray(figures, dtype=np.float64)
    drawn = np.random.default_rng(0).integers(len(values), size=(_BOOTSTRAP_RESAMPLES, len(values)))
    low, high = np.percentile(values[drawn].mean(1), (2.5, 97.5))
    return Summary(
        mean=float(values.mean()),
        median=float(np.median(values)),
        least=float(values.min()),
        most=float(values.max()),
        ci95=(float(low), float(high)),
    )


@dataclass(frozen=True, kw_only=True)
class ImageResult:
    """Figures of one picture.

    Attributes:
        gain_db: PSNR minus the PSNR of the same model without references; 0 where none was given.
        seconds: Time of the enlargement, without reading and measuring.
        psnr_rgb_db: PSNR over the three channels.
        peak_memory_mib: Peak memory of the process during the enlargement.
        size_px: Height and width of the truth.
        references: File names of the references, without folders.
        level: Level of the most similar reference; 0 if unknown or without references.
        score: Mean cosine of the match; None without references.
        colour_levels: See `refsr.bench.metrics`; None in files of earlier versions.
        cropped: Whether rows or columns of the truth were cropped to a multiple of the scale.
        crops: Path of the strip of crops, relative to the JSON file; None if none was asked for.
    """

    name: str
    psnr_db: float
    ssim: float
    gain_db: float
    seconds: float
    bicubic_db: float
    psnr_rgb_db: float
    peak_memory_mib: float
    size_px: tuple[int, int]
    references: tuple[str, ...] = ()
    level: int = 0
    score: float | None = None
    lpips: float | None = None
    colour_levels: float | None = None
    cropped: bool = False
    crops: str | None = None


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A sample that could not be measured, with the reason."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Result:
    """Result of a benchmark run.

    Attributes:
        protocol: Settings of the measurement: name, about, border_px, scale, references, search, precision, lr, lpips.
        images: Figures of each measured picture, sorted by name.
        versions: Versions of software, weights and processor.
        commit: Commit of the source code; None outside of a checkout.
    """

    model: str
    dataset: str
    protocol: dict[str, Any]
    images: tuple[ImageResult, ...]
    skipped: tuple[Skipped, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    commit: str | None = None

    def summary(self, metric: str) -> Summary | None:
        """Summary of a metric over all pictures; None where no picture has it."""
        figures = self.figures(metric)
        return summarise(list(figures.values())) if figures else None

    @property
    def summaries(self) -> dict[str, Summary]:
        """Summaries of all metrics that any picture has."""
        return {metric: found for metric in _METRICS if (found := self.summary(metric)) is not None}

    def figures(self, metric: str) -> dict[str, float]:
        """Metric by name of picture, without the pictures that lack it."""
        found = {image.name: getattr(image, metric) for image in self.images}
        return {name: figure for name, figure in found.items() if figure is not None}

    @property
    def label(self) -> str:
        """Name in tables: "default, references 1"."""
        references = self.protocol.get("references", "none")
        return self.model if references == "none" else f"{self.model}, references {references}"

    def record(self) -> dict[str, Any]:
        """Content of the JSON file; see the top of this module."""
        summaries = self.summaries
        by_level = {}
        for level in sorted({image.level for image in self.images}):
            images = [image for image in self.images if image.level == level]
            part = {metric: summarise([getattr(image, metric) for image in images]).mean for metric in _METRICS[:3]}
            by_level[str(level)] = {"images": len(images), **part}
        brief = {name: {metric: getattr(found, name) for metric, found in summaries.items()} for name in _STATISTICS}
        figures: dict[str, Any] = rounded({**brief, "by_level": by_level, "images": [asdict(i) for i in self.images]})
        return asdict(self) | figures


def software_versions() -> dict[str, str]:
    """Versions of Python and the computing packages, and the processor's name."""
    versions = {name: metadata.version(name) for name in ("refsr", "torch", "numpy", "pillow")}
    return versions | {"python": platform.python_version(), "cpu": f"{_processor()}, {os.cpu_count()} cores"}


def source_commit() -> str | None:
    """Commit of this code's checkout, with "+" for changed files; None outside of a checkout."""
    folder = Path(__file__).parents[1]
    try:
        inside = _git(folder, "ls-files", "--error-unmatch", "bench/results.py")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ".") if inside else ""
        return _git(folder, "rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def rounded(value: Any) -> Any:
    """Nested JSON values with every float rounded to four digits."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(part) for part in value]
    return round(value, 4) if isinstance(value, float) else value


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Difference of one metric, second result minus first, over the pictures that both have.

    Attributes:
        difference: Summary of the pairwise differences; significant where its confidence interval excludes zero.
        higher: Count of pictures in which the second is higher.
    """

    metric: str
    first: float
    second: float
    difference: Summary
    higher: int
    count: int


def compare(first: Result, second: Result) -> list[Difference]:
    """Compare two results in every metric that both have.

    Raises:
        UsageError: The results share no picture, or differ in data set, protocol, scale or LR images.
    """
    _check_comparable(first, second)
    found = []
    for metric in ("psnr_db", "ssim", "gain_db", "lpips", "colour_levels", "seconds"):
        a, b = first.figures(metric), second.figures(metric)
        names = sorted(a.keys() & b.keys())
        if not names:
            continue
        pairs = [b[name] - a[name] for name in names]
        found.append(
            Difference(
                metric=metric,
                first=sum(a[name] for name in names) / len(names),
                second=sum(b[name] for name in names) / len(names),
                difference=summarise(pairs),
                higher=sum(pair > 0 for pair in pairs),
                count=len(names),
            )
        )
    if not found:
        raise UsageError("the two results share no picture: measure the same data set")
    return found


def _check_comparable(first: Result, second: Result) -> None:
    """Refuse results that differ in data set, protocol, scale or LR images."""
    settings = [{"data set": result.dataset} | result.protocol for result in (first, second)]
    for name in ("data set", "name", "scale", "lr"):
        a, b = (each.get(name) for each in settings)
        if a != b:
            raise UsageError(f"the results differ in their {name}, {a!r} and {b!r}: measure both alike")


def comparison_table(first: Result, second: Result) -> Table:
    """Comparison of two results for a terminal, one row per metric; raises as `compare`."""
    title = f"{first.dataset}, protocol {first.protocol['name']}: A = {first.label}; B = {second.label}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("", "A", "B", "B - A", "95 %", "least", "most", "B higher"):
        table.add_column(column, justify="left" if not column else "right", no_wrap=True)
    for row in compare(first, second):
        digits = 4 if row.metric in ("ssim", "lpips") else 3
        found = row.difference
        mean, low, high, least, most = (
            f"{figure:+.{digits}f}" for figure in (found.mean, *found.ci95, found.least, found.most)
        )
        means = (f"{row.first:.{digits}f}", f"{row.second:.{digits}f}")
        table.add_row(row.metric, *means, mean, f"{low}..{high}", least, most, f"{row.higher} of {row.count}")
    return table
