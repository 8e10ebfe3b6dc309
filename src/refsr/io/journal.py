"""Finished parts of a run, one JSON line each, so that a killed run resumes and counts nothing twice.

OUT.json.part:  {"settings": {...}}        what the run measures; a journal with other settings is refused
                {"name": "000", ...}       one line per finished part
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from refsr.errors import OutputError
from refsr.io.files import check_writable, write_atomically
from refsr.io.records import parse_object


class Journal:
    """The journal of one result file; the first finished part creates it."""

    def __init__(self, result: Path | None, settings: dict[str, Any]) -> None:
        """Read the parts that an earlier run finished into `done`.

        Args:
            result: The file that the run will write; the journal lies beside it. Without one, nothing is kept.
            settings: Everything that the parts depend on, in JSON's types.

        Raises:
            OutputError: There is a journal of a run with other settings, or it cannot be read, or the file be written.
        """
        self.path = None if result is None else result.with_name(f"{result.name}.part")
        self._settings = settings
        self.done: list[dict[str, Any]] = []
        if result is not None:
            check_writable(result)
        if self.path is None or not self.path.exists():
            return
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise OutputError(f"{self.path}: damaged ({error}): delete it") from error
        entries: list[dict[str, Any]] = []
        for line in lines:
            with suppress(ValueError):  # cut short by the kill
                entries.append(parse_object(line))
        if not entries or entries[0].get("settings") != json.loads(json.dumps(settings)):
            raise OutputError(
                f"{self.path}: is left from a run with other settings: finish that run, delete the file, or choose"
                " another output"
            )
        self.done = entries[1:]
        self._write_all()  # without the line that was cut short

    def add(self, part: dict[str, Any]) -> None:
        """Append a finished part."""
        self.done.append(part)
        if self.path is None:
            return
        if len(self.done) == 1:
            self._write_all()
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(part) + "\n")

    def close(self) -> None:
        """Delete the journal, once the result is written."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _write_all(self) -> None:
        assert self.path is not None
        entries = [{"settings": self._settings}, *self.done]
        write_atomically(self.path, "".join(json.dumps(entry) + "\n" for entry in entries).encode())
