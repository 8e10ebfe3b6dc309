"""Sizes and times as the user writes them."""

import re

from refsr.errors import UsageError


def parse_bytes(text: str) -> int:
    """Bytes of a size such as 800MiB, 2GiB, 1.5GB or 1000000.

    Raises:
        UsageError: The text is not a size.
    """
    units = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]I?)?B?\s*", text.upper())
    if not found or float(found[1]) == 0:
        raise UsageError(f"--memory {text!r} is not a size: write it like 800MiB or 2GiB")
    return int(float(found[1]) * units[found[2] or ""])


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
