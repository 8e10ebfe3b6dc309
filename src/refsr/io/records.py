"""JSON on disk. A kind of file has one schema, a dataclass, and one version.

result.json    {"kind": "speed", "version": 1, ...}    files of earlier releases lack the version, and are read as well
list.jsonl     {...}                                   one object a line
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from refsr.errors import UsageError
from refsr.io.files import write_atomically

VERSION: Final = 1
_Schema = TypeVar("_Schema")


def write_record(path: Path, kind: str, content: Mapping[str, Any]) -> None:
    """Write a file of a kind.

    Raises:
        OutputError: It cannot be written.
    """
    whole = {"kind": kind, "version": VERSION, **content}
    write_atomically(path, (json.dumps(whole, indent=1) + "\n").encode())


def read_record(path: Path, schemas: Mapping[str, type[_Schema]]) -> _Schema:
    """Read a file of one of some kinds; what its schema does not know is left aside.

    Args:
        path: From `write_record`.
        schemas: Dataclass of each kind; a file that names no kind is of the first.

    Raises:
        UsageError: The file is missing, damaged, of another kind or of a newer version.
    """
    first = next(iter(schemas))
    wanted = f"{path}: not a result of refsr bench ({' or '.join(schemas)})"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file: check the name") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: not a JSON file ({error}): run the benchmark again") from error
    kind = str(content.get("kind", first)) if isinstance(content, dict) else ""
    if kind not in schemas:
        raise UsageError(f"{wanted}: name another file")
    if content.get("version", 0) > VERSION:
        raise UsageError(f"{path}: was written by a newer refsr: update this one")
    try:
        return parse_record(content, schemas[kind])
    except ValueError as error:
        raise UsageError(f"{wanted}: {error}: run the benchmark again") from error


def parse_record(content: Any, schema: type[_Schema]) -> _Schema:
    """Values of JSON's types as a dataclass.

    Raises:
        ValueError: They do not fit it.
    """
    return msgspec.convert(content, schema)


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and object of each line that is not empty.

    Raises:
        UsageError: The file cannot be read, or a line is no object.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as UTF-8 text ({error}): write an object of JSON a line") from error
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise UsageError(f"{path}: line {number} is no JSON ({error})") from error
        if not isinstance(record, dict):
            raise UsageError(f'{path}: line {number} is no object, such as {{"name": ...}}')
        yield number, record
