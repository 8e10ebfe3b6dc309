"""What a run of the benchmark found, as a JSON file that others can check.

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

from refsr.bench.statistics import Summary, summarise
from refsr.errors import UsageError
from refsr.io.records import read_record, write_record

_BRIEF: Final = ("mean", "median", "ci95")
METRICS: Final = ("psnr_db", "ssim", "gain_db", "bicubic_db", "psnr_rgb_db", "lpips", "seconds")


@dataclass(frozen=True, kw_only=True)
class ImageResult:
    """The figures of one picture.

    Attributes:
        name: The sample's.
        psnr_db: By the protocol.
        ssim: By the protocol.
        gain_db: PSNR minus that of the same model without references; 0 where none was given.
        seconds: Time of the model's whole work on it, reading and measuring not counted.
        bicubic_db: PSNR of plain interpolation.
        psnr_rgb_db: PSNR over the three channels.
        peak_memory_mib: Largest memory of the process meanwhile.
        size_px: Height and width of the truth.
        references: Files used, relative to nothing: their names alone.
        level: Of the most similar one used; 0 where its likeness is not known, or without any.
        score: Mean cosine of its match; None without a reference.
        lpips: If weights for it were given.
        cropped: Whether rows or columns of the truth were cut off, to a multiple of the scale.
        crops: Picture of crops beside the JSON file, if asked for.
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
    cropped: bool = False
    crops: str | None = None


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A sample that could not be measured, and why."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Result:
    """A run of the benchmark.

    Attributes:
        model: Name of the zoo, or name of the weights file.
        dataset: Its name.
        protocol: How it was measured: name, about, border_px, scale, references, lr, lpips.
        images: One for each picture measured, by name.
        skipped: The others.
        versions: Of what computed it.
        commit: Of the source code; None where it is not a checkout.
    """

    model: str
    dataset: str
    protocol: dict[str, Any]
    images: tuple[ImageResult, ...]
    skipped: tuple[Skipped, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    commit: str | None = None

    def summary(self, metric: str) -> Summary | None:
        """In brief; None where no picture has the figure."""
        figures = self.figures(metric)
        return summarise(list(figures.values())) if figures else None

    def figures(self, metric: str) -> dict[str, float]:
        """By name of picture."""
        found = {image.name: getattr(image, metric) for image in self.images}
        return {name: figure for name, figure in found.items() if figure is not None}

    @property
    def label(self) -> str:
        """What tables call it: "default (references 1)"."""
        references = self.protocol.get("references", "none")
        return self.model if references == "none" else f"{self.model}, references {references}"

    def record(self) -> dict[str, Any]:
        """As described at the top of this module."""
        summaries = {metric: found for metric in METRICS if (found := self.summary(metric)) is not None}
        by_level = {}
        for level in sorted({image.level for image in self.images}):
            images = [image for image in self.images if image.level == level]
            part = {metric: summarise([getattr(image, metric) for image in images]).mean for metric in METRICS[:3]}
            by_level[str(level)] = {"images": len(images), **part}
        brief = {name: {metric: getattr(found, name) for metric, found in summaries.items()} for name in _BRIEF}
        figures: dict[str, Any] = rounded({**brief, "by_level": by_level, "images": [asdict(i) for i in self.images]})
        return asdict(self) | figures

    def save(self, path: Path) -> None:
        """Write the JSON file.

        Raises:
            OutputError: It cannot be written.
        """
        write_record(path, "bench", self.record())


def load_result(path: Path) -> Result:
    """Read what `Result.save` wrote.

    Raises:
        UsageError: The file is missing, or not such a file.
    """
    return read_record(path, {"bench": Result})


def software_versions() -> dict[str, str]:
    """Of Python, of what computes, and of the processor."""
    names = ("refsr", "torch", "numpy", "pillow")
    versions = {name: metadata.version(name) for name in names}
    return versions | {"python": platform.python_version(), "cpu": f"{_processor()}, {os.cpu_count()} cores"}


def source_commit() -> str | None:
    """The commit of the checkout that this code lies in, "+" behind it if files differ; None outside of one."""
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
    """Numbers, nested or not, to a ten-thousandth: enough for every metric."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(part) for part in value]
    return round(value, 4) if isinstance(value, float) else value


def same_measure(results: Sequence[Result]) -> None:
    """Refuse to set figures side by side that were not measured alike.

    Raises:
        UsageError: The data sets or the protocols differ in more than the references.
    """
    first = results[0]
    for other in results[1:]:
        for name, a, b in (
            ("data set", first.dataset, other.dataset),
            *((key, first.protocol.get(key), other.protocol.get(key)) for key in ("name", "scale", "lr")),
        ):
            if a != b:
                raise UsageError(f"the results differ in their {name}, {a!r} and {b!r}: measure both alike")
