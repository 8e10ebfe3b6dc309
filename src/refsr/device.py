"""Parts of a batch, and small numbers on its device, without waiting for the device.

A copy that is not asked to run ahead waits for all that the GPU still has to do; so does an index that is a list or a
mask. Here numbers go through pinned memory, and indices are tensors that went the same way.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor


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
