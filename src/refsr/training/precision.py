"""In which numbers a run computes: bf16 where the device has instructions for it, the network alone."""

from typing import Any

import torch
from lightning_fabric.plugins.precision.amp import MixedPrecision

from refsr.precision import computes_bf16


def choose_precision(wanted: str) -> str:
    """Resolve "auto": bf16 where the device that is trained on has instructions for it, else fp32."""
    if wanted != "auto":
        return wanted
    kinds = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    device = next((kind for kind, here in kinds.items() if here), "cpu")
    return "bf16-mixed" if computes_bf16(torch.device(device)) else "32-true"


def fabric_precision(wanted: str, accelerator: str) -> dict[str, Any]:
    """How fabric is told of the precision.

    Args:
        wanted: Of the recipe.
        accelerator: That the run is on.
    """
    chosen = choose_precision(wanted)
    if chosen == "32-true":
        return {"precision": chosen}
    device = "cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu"
    return {"plugins": ExactInputs(chosen, device)}  # type: ignore[arg-type]


class ExactInputs(MixedPrecision):
    """Mixed precision that leaves photographs as they are; fabric's own rounds them to bf16 before the first layer."""

    def convert_input(self, data: Any) -> Any:
        return data
