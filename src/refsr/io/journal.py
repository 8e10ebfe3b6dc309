"""A run's finished parts, line by line beside its result, so that a killed run goes on and counts nothing twice.

OUT.json.part:  {"settings": {...}}        what is measured; another run's journal is refused
                {"name": "000", ...}       one line a finished part
"""

import json
from pathlib import Path
from typing import Any

from refsr.errors import OutputError
from refsr.io.files import write_atomically


class Journal:
    """The journal of one result file. Nothing is written before the first part is done."""

    def __init__(self, result: Path, settings: dict[str, Any]) -> None:
        """Open, and read what an earlier run finished.

        Args:
            result: The file that the run will write.
            settings: All that the figures depend on, of JSON's types.

        Raises:
            OutputError: The journal there is of a run with other settings.
        """
        self.path = result.with_name(f"{result.name}.part")
        self._settings = settings
        self.done: list[dict[str, Any]] = []
        if not self.path.exists():
            return
        lines = self.path.read_text(encoding="utf-8").splitlines()
        entries = [entry for line in lines if (entry := _parsed(line)) is not None]
        if not entries or entries[0].get("settings") != json.loads(json.dumps(settings)):
            raise OutputError(
                f"{self.path}: is left from a run with other settings: finish that one, delete the file, or choose"
                " another output"
            )
        self.done = entries[1:]
        self._write_all()  # a line that the kill cut short is gone now

    def add(self, part: dict[str, Any]) -> None:
        """Keep a finished part."""
        if not self.done:
            self.done.append(part)
            self._write_all()
            return
        self.done.append(part)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(part) + "\n")

    def close(self) -> None:
        """The result is written: the journal has done its work."""
        self.path.unlink(missing_ok=True)

    def _write_all(self) -> None:
        entries = [{"settings": self._settings}, *self.done]
        write_atomically(self.path, "".join(json.dumps(entry) + "\n" for entry in entries).encode())


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
