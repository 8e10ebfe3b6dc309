"""What verbs share: options under the same flags, sizes and times as people write them, bars and complaints."""

import inspect
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from refsr.device import GIB, Device, Precision
from refsr.errors import UsageError
from refsr.io.progress import Progress
from refsr.models import RefSRModel, load_model
from refsr.restore.upscale import DEFAULT_MEMORY_BYTES, RestoreConfig
from refsr.search import Engine

Output = Annotated[Path, Parameter(name=("--output", "-o"))]
Processes = Literal["auto"] | int


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Model and its device.

    Attributes:
        model: Name listed by `refsr models`, or a weights file.
        device: Device of the model; auto takes CUDA, then MPS, then the CPU.
        vgg19: File of VGG19 weights, for the model srntt.
    """

    model: str = "default"
    device: Device = "auto"
    vgg19: Path | None = None

    def load(self) -> RefSRModel:
        """Load the model onto its device."""
        return load_model(self.model, device=self.device, vgg19=self.vgg19)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class MemoryOptions(ModelOptions):
    """Model, device and memory budget.

    Attributes:
        memory_bytes: Maximum working memory of each process, such as 800MiB or 2GiB.
    """

    memory_bytes: Annotated[
        int,
        Parameter(
            name="--memory",
            converter=lambda _, tokens: parse_bytes(tokens[0].value),
            show_default=lambda size: f"{size // GIB}GiB",
        ),
    ] = DEFAULT_MEMORY_BYTES


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RestoreOptions(MemoryOptions, RestoreConfig):
    """Model, device, memory budget, search engine and precision.

    Attributes:
        engine: Search engine: exact compares all pairs of patches; coarse compares blocks first; faiss suits very many
            references; auto chooses by size.
        precision: Precision of the network; bf16 halves its time on devices with bf16 instructions, which auto detects.
    """

    engine: Annotated[Engine, Parameter(name="--search")] = "auto"
    precision: Precision = "auto"


def count_processes(asked: Processes) -> int:
    """Count of processes: one per core for "auto" and 0.

    Raises:
        UsageError: The count is negative.
    """
    if asked in ("auto", 0):
        return os.cpu_count() or 1
    if int(asked) < 0:
        raise UsageError(f"--processes {asked}: give a count, or auto for one per core")
    return int(asked)


def examples_of(verb: Callable[..., object]) -> str:
    """Section "Examples" of a verb's docstring, for the end of its help."""
    return "**Examples**\n\n" + (inspect.getdoc(verb) or "").partition("Examples:\n")[2]


def parse_bytes(text: str) -> int:
    """Read a size such as 800MiB, 2GiB, 1.5GB or 1000000.

    Raises:
        UsageError: It is none.
    """
    units = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]I?)?B?\s*", text.upper())
    if not found or float(found[1]) == 0:
        raise UsageError(f"--memory {text!r} is no size: write it like 800MiB or 2GiB")
    return int(float(found[1]) * units[found[2] or ""])


def parse_duration(text: str) -> float:
    """Seconds of a time such as 150min, 2h, 90s or 1.5h.

    Raises:
        UsageError: It is none.
    """
    for unit, seconds in (("min", 60), ("h", 3600), ("s", 1)):
        number = text.strip().removesuffix(unit)
        if number != text.strip():
            try:
                found = float(number) * seconds
            except ValueError:
                break
            if found > 0:
                return found
    raise UsageError(f"--time-limit {text!r} is no time: write it like 150min or 2h")


@contextmanager
def progress_bar(name: str = "") -> Iterator[Progress]:
    """A bar for each stage, or one by a name; on a terminal only."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:>9}"), BarColumn(), TextColumn("{task.fields[count]}"))
    with Bar(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def show(done: int | float, total: int | float = 1, *, stage: str = "") -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage or name, count="")
            bar.update(tasks[stage], completed=done, total=total, count=f"{done}/{total}" if total > 1 else "")

        yield show


def complain(text: str) -> None:
    """One line, whatever the message holds."""
    line = " ".join(text.split())
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"refsr: {escape(line)}")
