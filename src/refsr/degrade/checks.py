"""What settings with shares and ranges must keep to."""

from collections.abc import Mapping, Sequence
from typing import Any

from refsr.errors import UsageError


def check_shares(config: Any, names: Sequence[str], exclusive: Sequence[Sequence[str]] = ()) -> None:
    """See that shares are shares.

    Args:
        config: Whose attributes they are.
        names: Of the shares.
        exclusive: Groups of which one may happen at the most.

    Raises:
        UsageError: One is not between 0 and 1, or a group adds up to more.
    """
    for name in names:
        if not 0 <= getattr(config, name) <= 1:
            raise UsageError(f"{name} is {getattr(config, name)}: give a share between 0 and 1")
    for group in exclusive:
        total = sum(getattr(config, name) for name in group)
        if total > 1 + 1e-9:
            raise UsageError(f"{', '.join(group)} add up to {total:g}: give shares of 1 at most in all")


def check_ranges(config: Any, limits: Mapping[str, tuple[float | int, float | int]]) -> None:
    """See that ranges begin with their lower limit and lie within what makes sense.

    Args:
        config: Whose attributes they are.
        limits: The least and the most of each range.

    Raises:
        UsageError: One does not.
    """
    for name, (least, most) in limits.items():
        low, high = getattr(config, name)
        if not least <= low <= high <= most:
            raise UsageError(f"{name} is {low}..{high}: give the lower limit first, both in {least:g}..{most:g}")
