"""Sizes and times as the user writes them."""

import os
import re
from math import inf

from refsr.errors import UsageError


def parse_bytes(text: str) -> int:
    """Bytes of a size such as 800MiB, 2GiB, 1.5GB, 1TiB or 1000000.

    Raises:
        UsageError: The text is not a size.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([KMGT])(I?))?B?\s*", text.upper())
    if not found or float(found[1]) == 0:
        raise UsageError(f"--memory {text!r} is not a size: write it like 800MiB or 2GiB")
    power = "KMGT".index(found[2]) + 1 if found[2] else 0
    return int(float(found[1]) * (1024 if found[3] else 1000) ** power)


def parse_memory(text: str) -> int:
    """Bytes of a memory budget.

    Raises:
        UsageError: The text is not a size, or more than this machine has.
    """
    size, whole = parse_bytes(text), _machine_bytes()
    if size > whole:
        raise UsageError(f"--memory {text}: this machine has {whole / 2**30:.3g}GiB: allow less")
    return size


def _machine_bytes() -> float:
    """Memory of this machine; infinite where the system does not tell."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):  # Windows
        return inf


def parse_scale(text: str) -> float:
    """A factor of size such as 2 or 1.5.

    Raises:
        UsageError: The text is not a number.
    """
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--scale {text!r} is not a number: write it like 2 or 1.5") from None


def parse_size(text: str) -> tuple[int, int]:
    """Width and height of a size such as 1920x1080.

    Raises:
        UsageError: The text is not a size.
    """
    found = re.fullmatch(r"\s*(\d+)\s*[xX]\s*(\d+)\s*", text)
    if not found:
        raise UsageError(f"--size {text!r} is not a size: write it like 1920x1080")
    return int(found[1]), int(found[2])


def parse_duration(text: str) -> float:
    """Seconds of a time such as 150min, 2h, 90s or 1.5h.

    Raises:
        UsageError: The text is not a time.
    """
    for unit, seconds in (("min", 60), ("h", 3600), ("s", 1)):
        number = text.strip().removesuffix(unit)
        if number != text.strip():
            try:
                found = float(number) * seconds
            except ValueError:
                break
            if found > 0:
                return found
    raise UsageError(f"--time-limit {text!r} is not a time: write it like 150min or 2h")
