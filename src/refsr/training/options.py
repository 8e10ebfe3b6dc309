"""What of a training run is not part of its recipe: where, how long, on what."""

from dataclasses import dataclass
from pathlib import Path

from refsr.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What of a run is not part of its recipe.

    Attributes:
        data: Folders of photographs or of pairs.
        out: Folder of the run; a checkpoint in it is gone on from.
        vgg19: File of VGG19 weights, for models and losses that need them.
        init: Weights to begin with; a checkpoint goes before them.
        validate: Data set to validate on, if any.
        held_out: Folders of pictures that must not be trained on, beside those of `validate`.
        time_limit_s: End of this stretch, in seconds from its begin; 0 for none.
        tensorboard: Write TensorBoard's files as well.
        accelerator: For lightning-fabric: auto, cpu, cuda or mps.
        devices: Processes of this machine, or "auto".
        nodes: Machines.
    """

    data: tuple[Path, ...]
    out: Path
    vgg19: Path | None = None
    init: Path | None = None
    validate: Path | None = None
    held_out: tuple[Path, ...] = ()
    time_limit_s: float = 0.0
    tensorboard: bool = False
    accelerator: str = "auto"
    devices: str = "auto"
    nodes: int = 1


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
