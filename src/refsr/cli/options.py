"""Options that verbs share: the same thing has the same flag everywhere."""

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from refsr.cli.quantities import parse_bytes
from refsr.device import Device, Precision
from refsr.errors import UsageError
from refsr.models import RefSRModel, load_model
from refsr.search import Engine

Output = Annotated[Path, Parameter(name=("--output", "-o"))]
Processes = Literal["auto"] | int


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The network, and the device that computes it.

    Attributes:
        model: A name that `refsr models` lists, or a weights file.
        device: Device that computes; auto takes CUDA, then MPS, then the CPU.
        vgg19: File of VGG19 weights, for the model srntt.
    """

    model: str = "default"
    device: Device = "auto"
    vgg19: Path | None = None

    def load(self) -> RefSRModel:
        """The model on its device."""
        return load_model(self.model, device=self.device, vgg19=self.vgg19)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class MemoryOptions(ModelOptions):
    """The network, and its budget.

    Attributes:
        memory: Working memory allowed, such as 800MiB or 2GiB; of each process, where several work.
    """

    memory: str = "2GiB"

    @property
    def memory_bytes(self) -> int:
        """The budget as a number.

        Raises:
            UsageError: It is no size.
        """
        return parse_bytes(self.memory)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RestoreOptions(MemoryOptions):
    """All that decides how a photo is restored.

    Attributes:
        search: exact compares every place with every place; coarse compares blocks first; faiss is for very many
            references; auto chooses by the size.
        precision: Numbers of the network; bf16 halves its time where the device has instructions for it, which auto
            finds out.
    """

    search: Engine = "auto"
    precision: Precision = "auto"


def count_processes(asked: Processes) -> int:
    """As many as asked for; one for each core for auto, and for 0.

    Raises:
        UsageError: Fewer than none.
    """
    if asked in ("auto", 0):
        return os.cpu_count() or 1
    if int(asked) < 0:
        raise UsageError(f"--processes {asked}: give a count, or auto for one each core")
    return int(asked)


def examples_of(verb: Callable[..., object]) -> str:
    """The last section of a verb's docstring, for the end of its help."""
    return "**Examples**\n\n" + (inspect.getdoc(verb) or "").partition("Examples:\n")[2]
