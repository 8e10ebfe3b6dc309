"""Flags renamed since the last release; their old names work for one more release."""

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
"""Old flag to new flag, by verb."""


def with_new_names(arguments: Sequence[str]) -> list[str]:
    """Replace old flags by new ones, with a hint for each on standard error.

    Args:
        arguments: Command line, beginning with the verb.
    """
    renamed = _RENAMED.get(arguments[0], {}) if arguments else {}
    found = []
    for argument in arguments:
        flag, *value = argument.split("=", 1)
        if flag in renamed:
            complain(f"{flag} is called {renamed[flag]} now: the old name works in this release only")
        found.append("=".join((renamed.get(flag, flag), *value)))
    return found
