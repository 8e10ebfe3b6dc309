"""In which numbers a run computes: bf16 where the device has instructions for it, the network alone."""

from typing import Any, Final

import torch
from lightning_fabric.plugins.precision.amp import MixedPrecision

from refsr.device import computes_bf16

_FABRIC: Final = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def choose_precision(wanted: str, device: torch.device) -> str:
    """Resolve "auto", bf16 where the device that is trained on has instructions for it, else fp32; in fabric's terms.

    Args:
        wanted: Of the recipe: auto, fp32, bf16, fp16, or a term of fabric's.
        device: The device that is trained on.
    """
    if wanted == "auto":
        wanted = "bf16" if computes_bf16(device) else "fp32"
    return _FABRIC.get(wanted, wanted)


def fabric_precision(wanted: str, device: torch.device) -> dict[str, Any]:
    """How fabric is told of the precision. See `choose_precision`."""
    chosen = choose_precision(wanted, device)
    if chosen == "32-true":
        return {"precision": chosen}
    return {"plugins": ExactInputs(chosen, device.type)}  # type: ignore[arg-type]


class ExactInputs(MixedPrecision):
    """Mixed precision that leaves photographs as they are; fabric's own rounds them to bf16 before the first layer."""

    def convert_input(self, data: Any) -> Any:
        return data
