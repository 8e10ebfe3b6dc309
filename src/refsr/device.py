"""Where and how exactly tensors are computed.

A copy that is not asked to run ahead waits for all that the GPU still has to do; so does an index that is a list or a
mask. In `moved` and what follows it, numbers go through pinned memory, and indices are tensors that went the same way.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from refsr.errors import UsageError

MIB: Final = 2**20
GIB: Final = 2**30

Device = Literal["auto", "cpu", "cuda", "mps"]
"""auto is CUDA, then MPS, then the CPU."""

Precision = Literal["auto", "fp32", "bf16"]
"""auto is bf16 where the device has instructions for it, else fp32."""


def choose_device(device: Device | torch.device) -> torch.device:
    """Resolve "auto", and refuse a device that is not there.

    Raises:
        UsageError: The device is not there.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(name for name, there in available.items() if there))
    chosen = torch.device(device)
    if not available.get(chosen.type, False):
        raise UsageError(f"the device {chosen.type!r} is not available on this machine: use --device auto")
    return chosen


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


def moved(numbers: Tensor, like: Tensor) -> Tensor:
    """Numbers of the CPU on the device of others."""
    if like.is_cuda:
        numbers = numbers.pin_memory()
    return numbers.to(like.device, non_blocking=True)


def constant(numbers: Sequence[Any], like: Tensor) -> Tensor:
    """Numbers, nested or not, on the device of others and of their type."""
    return moved(torch.tensor(numbers, dtype=like.dtype), like)


def per_picture(numbers: Sequence[float], like: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 1 1"]:
    """One number a picture, to be multiplied with the pictures."""
    return constant(numbers, like).view(-1, 1, 1, 1)


def pick(values: Shaped[Tensor, "..."], rows: Sequence[int]) -> Shaped[Tensor, "..."]:
    """Some of a batch, in rising order; of all of it no copy is made."""
    if len(rows) == len(values):
        return values
    return values.index_select(0, moved(torch.tensor(rows), values))


def put(values: Float[Tensor, "..."], rows: Sequence[int], part: Float[Tensor, "..."]) -> None:
    """Overwrite some of a batch."""
    values.index_copy_(0, moved(torch.tensor(rows), values), part)
