"""What a batch is to do: read from a folder, a CSV file or JSON lines."""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePath
from typing import Any, Final, get_args

from refsr.device import Precision
from refsr.errors import UsageError
from refsr.io.listing import list_photos
from refsr.io.records import read_lines
from refsr.restore.upscale import DEFAULT_MEMORY_BYTES
from refsr.search import Engine

_KEYS: Final = ("input", "references", "output", "album", "search", "precision", "provenance")


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """How a photo is enlarged.

    Attributes:
        references: Sharp photos.
        album: Folder in which references are found, beside those named.
        search: See `refsr.search`.
        precision: See `refsr.device`.
        memory_bytes: Budget of one photo.
        provenance: Also write the map, as NAME.map.png beside the result.
    """

    references: tuple[Path, ...] = ()
    album: Path | None = None
    search: Engine = "auto"
    precision: Precision = "auto"
    memory_bytes: int = DEFAULT_MEMORY_BYTES
    provenance: bool = False


@dataclass(frozen=True, kw_only=True)
class Job:
    """One photo.

    Attributes:
        image: The blurry photo.
        output: Its result, within the folder of results.
        options: How.
    """

    image: Path
    output: PurePath
    options: JobOptions

    def digest(self, model: str) -> str:
        """What the result depends on, but for the contents of the files.

        Args:
            model: Digest of the model's weights.
        """
        told = {"image": self.image, "options": asdict(self.options), "model": model}
        text = json.dumps(told, sort_keys=True, default=lambda path: str(path.resolve()))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_jobs(source: Path, options: JobOptions, out: Path, suffix: str | None = None) -> list[Job]:
    """The jobs of a folder of photos, or of a list.

    Args:
        source: Folder (of all photos in it, and in folders in it, one job each); .csv with a head, in which several
            references are separated by semicolons; or .jsonl with an object a line. Keys: input, references, output,
            album, search, precision, provenance. Paths are relative to the list.
        options: For all that a list leaves open.
        out: Folder of the results, which is no source.
        suffix: Of the results, such as .png; without it, as the inputs have.

    Raises:
        UsageError: No such source, a line of it is wrong, it is empty, or two jobs have one output.
    """
    if source.is_dir():
        jobs = _of_folder(source, options, out)
    elif not source.is_file():
        raise UsageError(f"{source}: no such folder or list: check the name")
    elif source.suffix.lower() == ".csv":
        jobs = _of_records(source, _csv(source), options)
    elif source.suffix.lower() == ".jsonl":
        jobs = _of_records(source, read_lines(source), options)
    else:
        raise UsageError(f"{source}: give a folder, a .csv file or a .jsonl file")
    if suffix is not None:
        jobs = [replace(job, output=job.output.with_suffix(suffix)) for job in jobs]
    if not jobs:
        raise UsageError(f"{source}: holds no job: a folder needs photos, a list needs lines")
    seen: dict[str, Job] = {}
    for job in jobs:
        other = seen.setdefault(str(job.output).casefold(), job)
        if other is not job:
            raise UsageError(
                f"{source}: {other.image} and {job.image} would both be written to {job.output}: name their outputs"
            )
    return jobs


def _of_folder(source: Path, options: JobOptions, out: Path) -> list[Job]:
    found = list_photos(source, without=out)
    return [Job(image=path, output=path.relative_to(source), options=options) for path in found]


def _of_records(source: Path, records: Iterable[tuple[int, Mapping[str, Any]]], options: JobOptions) -> list[Job]:
    jobs = []
    for line, record in records:
        try:
            jobs.append(_of_record(source.parent, record, options))
        except (ValueError, TypeError) as error:
            raise UsageError(f"{source}: line {line} is wrong: {error}") from error
    return jobs


def _of_record(folder: Path, record: Mapping[str, Any], options: JobOptions) -> Job:
    unknown = sorted(record.keys() - set(_KEYS))
    if unknown:
        raise ValueError(f"{unknown[0]!r} is none of {', '.join(_KEYS)}")
    given = {key: value for key, value in record.items() if value not in (None, "", [])}
    if not isinstance(given.get("input"), str):
        raise TypeError("it has no input")
    image = folder / given["input"]
    output = PurePath(given.get("output", image.name))
    if output.is_absolute() or ".." in output.parts:
        raise ValueError(f"output {output} leads out of the folder of results")
    references = given.get("references", [])
    if isinstance(references, str):
        references = [name.strip() for name in references.split(";")]
    changed: dict[str, Any] = {}
    if references:
        changed["references"] = tuple(folder / name for name in references)
    if "album" in given:
        changed["album"] = folder / given["album"]
    for key, allowed in (("search", get_args(Engine)), ("precision", get_args(Precision))):
        if key in given:
            if given[key] not in allowed:
                raise ValueError(f"{key} {given[key]!r} is none of {', '.join(allowed)}")
            changed[key] = given[key]
    if "provenance" in given:
        changed["provenance"] = _truth(given["provenance"])
    return Job(image=image, output=output, options=replace(options, **changed))


def _truth(value: object) -> bool:
    told = str(value).lower()
    if told not in ("true", "false", "yes", "no", "1", "0"):
        raise ValueError(f"provenance {value!r} is neither true nor false")
    return told in ("true", "yes", "1")


def _csv(source: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        reader = csv.DictReader(io.StringIO(source.read_text(encoding="utf-8-sig")), strict=True)
        for record in reader:
            if None in record or None in record.values():
                raise UsageError(f"{source}: line {reader.line_num} has not as many fields as the head")
            yield reader.line_num, record
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{source}: cannot be read as UTF-8 text ({error})") from error
    except csv.Error as error:
        raise UsageError(f"{source}: line {reader.line_num} is no CSV ({error})") from error
