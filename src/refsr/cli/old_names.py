"""Flags as an earlier release called them; they work for one release more."""

from collections.abc import Sequence
from typing import Final

from refsr.cli.console import complain

_RENAMED: Final = {
    "batch": {"--engine": "--where"},
    "bench": {"--json": "--output", "--refs": "--references"},
    "demo": {"--out": "--output"},
    "pairs": {"--jobs": "--processes"},
    "train": {"--out": "--output", "--accelerator": "--device", "--devices": "--processes"},
}
"""By verb, the names of now."""


def with_new_names(arguments: Sequence[str]) -> list[str]:
    """A command line with the names of now; each old one is told on standard error.

    Args:
        arguments: The verb first.
    """
    renamed = _RENAMED.get(arguments[0], {}) if arguments else {}
    found = []
    for argument in arguments:
        flag, *value = argument.split("=", 1)
        if flag in renamed:
            complain(f"{flag} is called {renamed[flag]} now: the old name works in this release only")
        found.append("=".join((renamed.get(flag, flag), *value)))
    return found
