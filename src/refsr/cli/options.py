"""Options that verbs share, under the same flags."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from refsr.cli.quantities import parse_memory, parse_scale, parse_size
from refsr.device import Device, Precision
from refsr.errors import UsageError
from refsr.models import AUTO, Blend, RefSRModel, load_blend, load_model
from refsr.restore.condition import Quality
from refsr.restore.passes import PassConfig
from refsr.restore.upscale import RestoreConfig
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
        memory_bytes: Maximum working memory of each process, such as 800MiB or 2GiB; by default a third of the free
            memory, shared by the processes, but at least 2GiB for each.
    """

    memory_bytes: Annotated[
        int | None,
        Parameter(
            name="--memory",
            converter=lambda _, tokens: parse_memory(tokens[0].value),
            show_default=False,
        ),
    ] = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ComputeOptions(MemoryOptions, PassConfig):
    """Model, device, memory budget, search engine and precision.

    Attributes:
        engine: Search engine: exact compares all pairs of patches; coarse compares blocks first; faiss suits very many
            references; auto chooses by size.
        precision: Precision of the network; bf16 halves its time on devices with bf16 instructions, which auto detects.
    """

    engine: Annotated[Engine, Parameter(name="--search")] = "auto"
    precision: Precision = "auto"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RestoreOptions(ComputeOptions, RestoreConfig):
    """Size of the result, quality of the photo, model, device, memory budget, search engine and precision.

    Attributes:
        model: auto for default and default-real, chosen or mixed to suit the photo; or a name listed by `refsr models`,
            or a weights file.
        scale: Size of the result as a multiple of the picture's, 1 to 8; by default 4. 1 sharpens a soft picture.
        size: Width and height into which the result must fit, such as 1920x1080, in place of a scale.
        quality: What the photo is taken for: clean; real, that is blurred, noisy or compressed; auto measures it.
        denoise: Share of the weights for real photos, 0 to 1, in place of a quality: 0 keeps all grain, 1 removes it.
        texture: Share of crisp weights, 0 to 1: 0 stays faithful, 1 looks sharper and errs more where nothing is known.
    """

    model: str = AUTO

    scale: Annotated[
        float | None,
        Parameter(converter=lambda _, tokens: parse_scale(tokens[0].value), n_tokens=1),
    ] = None
    size: Annotated[
        tuple[int, int] | None,
        Parameter(converter=lambda _, tokens: parse_size(tokens[0].value), n_tokens=1),
    ] = None
    quality: Quality = "auto"
    denoise: float | None = None
    texture: float = 0.0

    def load_blend(self) -> Blend:
        """Load the model, or the blend, onto its device."""
        return load_blend(self.model, device=self.device, vgg19=self.vgg19)


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
