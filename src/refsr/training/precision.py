"""In which numbers a run computes: bf16 where the device has instructions for it, the network alone."""

from typing import Any

import torch
from lightning_fabric.plugins.precision.amp import MixedPrecision

from refsr.device import computes_bf16


def choose_precision(wanted: str, accelerator: str) -> str:
    """Resolve "auto": bf16 where the device that is trained on has instructions for it, else fp32.

    Args:
        wanted: Of the recipe.
        accelerator: Of the run: auto, cpu, cuda or mps.
    """
    if wanted != "auto":
        return wanted
    return "bf16-mixed" if computes_bf16(torch.device(_device(accelerator))) else "32-true"


def fabric_precision(wanted: str, accelerator: str) -> dict[str, Any]:
    """How fabric is told of the precision. See `choose_precision`."""
    chosen = choose_precision(wanted, accelerator)
    if chosen == "32-true":
        return {"precision": chosen}
    return {"plugins": ExactInputs(chosen, _device(accelerator))}  # type: ignore[arg-type]


def _device(accelerator: str) -> str:
    """The kind of device that fabric takes."""
    if accelerator != "auto":
        return accelerator
    kinds = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return next((kind for kind, here in kinds.items() if here), "cpu")


class ExactInputs(MixedPrecision):
    """Mixed precision that leaves photographs as they are; fabric's own rounds them to bf16 before the first layer."""

    def convert_input(self, data: Any) -> Any:
        return data
