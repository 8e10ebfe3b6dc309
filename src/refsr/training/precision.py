"""Precision of training: the network alone may be in bf16 or fp16."""

from typing import Any, Final

import torch
from lightning_fabric.plugins.precision.amp import MixedPrecision

from refsr.device import computes_bf16

_FABRIC: Final = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def choose_precision(wanted: str, device: torch.device) -> str:
    """Fabric's name of a precision; auto is bf16 where the device has instructions for it, else fp32.

    Args:
        wanted: auto, fp32, bf16, fp16, or a name of fabric's.
        device: Device to train on.
    """
    if wanted == "auto":
        wanted = "bf16" if computes_bf16(device) else "fp32"
    return _FABRIC.get(wanted, wanted)


def fabric_precision(wanted: str, device: torch.device) -> dict[str, Any]:
    """Fabric's arguments for a precision; see `choose_precision`."""
    chosen = choose_precision(wanted, device)
    if chosen == "32-true":
        return {"precision": chosen}
    return {"plugins": ExactInputs(chosen, device.type)}  # type: ignore[arg-type]


class ExactInputs(MixedPrecision):
    """Mixed precision without fabric's rounding of the inputs, which would be of images too."""

    def convert_input(self, data: Any) -> Any:
        return data
