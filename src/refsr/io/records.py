"""JSON on disk: each kind of file has a schema, a dataclass, and a version.

result.json    {"kind": "speed", "version": 1, ...}    files of earlier releases may lack both
list.jsonl     {...}                                   one object per line
OUT.json.part  {"settings": {...}}                     journal of a run: what it measures, others are refused
               {"name": "000", ...}                    one line per finished part, so that a killed run resumes
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from refsr.errors import OutputError, UsageError
from refsr.io.files import check_writable, write_atomically
from refsr.wording import cause

VERSION: Final = 1
_Schema = TypeVar("_Schema")


@dataclass(frozen=True, kw_only=True)
class _Envelope:
    kind: str | None = None
    version: int = 0


def write_record(path: Path, kind: str, content: Mapping[str, Any]) -> None:
    """Write a JSON file of one kind.

    Raises:
        OutputError: It cannot be written.
    """
    whole = {"kind": kind, "version": VERSION, **content}
    write_atomically(path, (json.dumps(whole, indent=1) + "\n").encode())


def read_record(path: Path, schemas: Mapping[str, type[_Schema]], *, remedy: str = "make it again") -> _Schema:
    """Read a JSON file; fields that its schema lacks are ignored.

    Args:
        path: Written by `write_record`.
        schemas: Dataclass for each accepted kind; a file without a kind is taken for the first.
        remedy: End of the error message for a damaged file.

    Raises:
        UsageError: The file is missing, damaged, of another kind or of a newer version.
    """
    kinds = " or ".join(schemas)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        envelope = parse_record(content, _Envelope)
        kind = envelope.kind or next(iter(schemas))
        if kind in schemas and envelope.version <= VERSION:
            return parse_record(content, schemas[kind])
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file: check the name") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: damaged, or not a file of kind {kinds} ({cause(error)}): {remedy}") from error
    if kind not in schemas:
        raise UsageError(f"{path}: is of kind {kind}, not {kinds}: name another file")
    raise UsageError(f"{path}: was written by a newer refsr: update this one")


def parse_record(content: Any, schema: type[_Schema]) -> _Schema:
    """Convert JSON's types to a dataclass.

    Raises:
        ValueError: The content does not match the schema.
    """
    return msgspec.convert(content, schema, str_keys=True)


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Parse the text of one JSON object.

    Raises:
        ValueError: It is not JSON, or not an object.
    """
    try:
        return msgspec.convert(json.loads(text), dict[str, Any])
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def write_lines(path: Path, records: Iterable[object]) -> None:
    """Write dataclasses or mappings as JSON, one object per line, in UTF-8.

    Raises:
        OutputError: The file cannot be written.
    """
    lines = (json.dumps(msgspec.to_builtins(record), ensure_ascii=False) + "\n" for record in records)
    write_atomically(path, "".join(lines).encode())


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number, from 1, and object of each line that is not empty.

    Raises:
        UsageError: The file cannot be read, or a line is not a JSON object.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path}: cannot be read as UTF-8 text ({cause(error)}): write one JSON object per line"
        ) from error
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise UsageError(f"{path}: line {number} is no JSON ({error}): write one object per line") from error
        if not isinstance(record, dict):
            raise UsageError(f'{path}: line {number} is no object: write one such as {{"name": ...}}')
        yield number, record


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
            raise OutputError(f"{self.path}: damaged ({cause(error)}): delete it") from error
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
