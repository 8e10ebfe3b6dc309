"""In which numbers the network computes."""

from contextlib import AbstractContextManager
from typing import Literal

import torch

Precision = Literal["auto", "fp32", "bf16"]
"""auto is bf16 where the device has instructions for it, else fp32."""


def computes_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bf16: without them it is emulated, ten times as slow as fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(bool(getattr(torch.cpu, name, bool)()) for name in checks)


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Inside, convolutions and matrix products are computed so; weights and pictures stay in float32."""
    enabled = precision == "bf16" or (precision == "auto" and computes_bf16(device))
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)
