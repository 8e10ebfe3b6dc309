"""Options that verbs share, under the same flags."""

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from refsr.cli.quantities import parse_bytes
from refsr.device import GIB, Device, Precision
from refsr.errors import UsageError
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
