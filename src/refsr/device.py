"""Device, precision, and transfers to the device that do not synchronise.

A plain copy to the GPU waits for all work in its queue; so does indexing by a list or a mask. `moved` and the functions
after it copy through pinned memory, and index by tensors that were copied in the same way.
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
    """The device that is meant; "auto" is CUDA, then MPS, then the CPU.

    Raises:
        UsageError: The device is not available.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(name for name, there in available.items() if there))
    chosen = torch.device(device)
    if not available.get(chosen.type, False):
        raise UsageError(f"the device {chosen.type!r} is not available on this machine: use --device auto")
    return chosen


def computes_bf16(device: torch.device) -> bool:
    """Whether the device has bf16 instructions; emulated, bf16 takes ten times as long as fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(bool(getattr(torch.cpu, name, bool)()) for name in checks)


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Context in which convolutions and matrix products have this precision; weights and images stay in float32."""
    enabled = precision == "bf16" or (precision == "auto" and computes_bf16(device))
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def moved(numbers: Tensor, like: Tensor) -> Tensor:
    """Copy of a CPU tensor on the device of another tensor."""
    if like.is_cuda:
        numbers = numbers.pin_memory()
    return numbers.to(like.device, non_blocking=True)


def constant(numbers: Sequence[Any], like: Tensor) -> Tensor:
    """Tensor of (nested) numbers on the device of another tensor, and of its type."""
    return moved(torch.tensor(numbers, dtype=like.dtype), like)


def per_picture(numbers: Sequence[float], like: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 1 1"]:
    """One number for each picture of a batch, shaped for broadcasting."""
    return constant(numbers, like).view(-1, 1, 1, 1)


def pick(values: Shaped[Tensor, "..."], rows: Sequence[int]) -> Shaped[Tensor, "..."]:
    """Rows of a batch, in rising order; the batch itself if these are all."""
    if len(rows) == len(values):
        return values
    return values.index_select(0, moved(torch.tensor(rows), values))


def put(values: Float[Tensor, "..."], rows: Sequence[int], part: Float[Tensor, "..."]) -> None:
    """Overwrite rows of a batch."""
    values.index_copy_(0, moved(torch.tensor(rows), values), part)
