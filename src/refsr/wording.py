"""Phrases of messages: counts, paths and causes."""

from pathlib import Path


def counted(count: int, noun: str) -> str:
    """A count with its noun, such as "1 photo" or "2 photos".

    Args:
        count: How many.
        noun: In the singular, with a plural in s.
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def times(count: int) -> str:
    """How often: "once", or "3 times"."""
    return "once" if count == 1 else f"{count} times"


def told(path: Path | str, reason: str) -> str:
    """A path and what is said of it, in one line that names it once."""
    return f"{path}: {reason.removeprefix(f'{path}: ')}"


def cause(error: BaseException) -> str:
    """What went wrong, in one line, without the file that an error of the system names: the message says it already."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
