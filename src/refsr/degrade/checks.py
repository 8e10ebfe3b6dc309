"""Checks of settings that are shares or ranges."""

from collections.abc import Mapping, Sequence
from typing import Any

from refsr.errors import UsageError


def check_shares(config: Any, names: Sequence[str], exclusive: Sequence[Sequence[str]] = ()) -> None:
    """Check attributes that are shares, and groups of them that exclude each other.

    Raises:
        UsageError: A share is not in 0..1, or a group adds up to more than 1.
    """
    for name in names:
        if not 0 <= getattr(config, name) <= 1:
            raise UsageError(f"{name} is {getattr(config, name)}: give a share between 0 and 1")
    for group in exclusive:
        total = sum(getattr(config, name) for name in group)
        if total > 1 + 1e-9:
            raise UsageError(f"{', '.join(group)} add up to {total:g}: give shares that add up to 1 at most")


def check_ranges(config: Any, limits: Mapping[str, tuple[float | int, float | int]]) -> None:
    """Check attributes that are ranges (low, high), by the minimum and maximum of each.

    Raises:
        UsageError: A range exceeds its limits, or its lower end comes last.
    """
    for name, (least, most) in limits.items():
        low, high = getattr(config, name)
        if not least <= low <= high <= most:
            raise UsageError(f"{name} is {low}..{high}: give the lower limit first, both in {least:g}..{most:g}")
