"""Jobs of a batch, read from a folder, a CSV file or JSON lines."""

import csv
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path, PurePath
from typing import Any, Final, get_args

from refsr.device import Precision
from refsr.errors import UsageError
from refsr.io.encode import FORMATS
from refsr.io.listing import list_folder
from refsr.io.photo import is_result_file
from refsr.io.records import parse_record, read_lines
from refsr.restore.upscale import RestoreConfig
from refsr.search import Engine
from refsr.wording import cause, counted

_MAXIMUM_NAME_BYTES: Final = 255
_BOOLEANS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True, kw_only=True)
class JobOptions(RestoreConfig):
    """Settings of a job.

    Attributes:
        album: Folder in which further references are found.
        provenance: Whether to write the provenance map NAME.map.png beside the result.
    """

    references: tuple[Path, ...] = ()
    album: Path | None = None
    provenance: bool = False


@dataclass(frozen=True, kw_only=True)
class Job:
    """Enlargement of one photo.

    Attributes:
        output: Path of the result, relative to the folder of results.
    """

    image: Path
    output: PurePath
    options: JobOptions

    @property
    def map_file(self) -> PurePath | None:
        """Path of the provenance map, relative to the folder of results."""
        return self.output.with_suffix(".map.png") if self.options.provenance else None

    @property
    def files(self) -> tuple[PurePath, ...]:
        """All files that the job writes."""
        return (self.output, *([] if self.map_file is None else [self.map_file]))

    def digest(self, model: str) -> str:
        """Digest of everything the result depends on, except for the contents of the files."""
        options = asdict(self.options)
        options["search"] = options.pop("engine")  # as earlier releases named it
        content = {"image": self.image, "options": options, "model": model}
        text = json.dumps(content, sort_keys=True, default=lambda path: str(path.resolve()))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_jobs(
    source: Path,
    options: JobOptions,
    out: Path,
    suffix: str | None = None,
    tell: Callable[[str], None] = lambda _line: None,
) -> list[Job]:
    """Jobs of a folder of photos, or of a list.

    Args:
        source: Folder, searched recursively, of one job per photo; .csv with a head, in which semicolons separate
            references; or .jsonl with one object per line. Keys: input, references, output, album, search, precision,
            provenance. Paths are relative to the list. Results of refsr that lie in a folder are left out.
        options: Defaults for what a list leaves open.
        out: Folder of results, which is left out of the search.
        suffix: Suffix of results, such as .png; None for the suffix of each input, or .png if that is not written.
        tell: Told a line about each kind of pictures of the folder that is left out.

    Raises:
        UsageError: The source is missing, empty or in the folder of results, a line of it is wrong, or two jobs write
            the same file.
    """
    if source.is_dir():
        if source.resolve().is_relative_to(out.resolve()):
            raise UsageError(f"{source}: lies in the folder of results, {out}: choose another folder for them")
        photos = _photos_of(source, out, tell)
        jobs = [Job(image=path, output=path.relative_to(source), options=options) for path in photos]
    elif not source.is_file():
        raise UsageError(f"{source}: no such folder or list: check the name")
    elif source.suffix.lower() == ".csv":
        jobs = _jobs_of_list(source, _read_csv(source), options)
    elif source.suffix.lower() == ".jsonl":
        jobs = _jobs_of_list(source, read_lines(source), options)
    else:
        raise UsageError(f"{source}: give a folder, a .csv file or a .jsonl file")
    if suffix is not None:
        jobs = [replace(job, output=job.output.with_suffix(suffix)) for job in jobs]
    else:  # what is read but not written, such as HEIC, becomes PNG
        jobs = [
            job if job.output.suffix.lower() in FORMATS else replace(job, output=job.output.with_suffix(".png"))
            for job in jobs
        ]
    if not jobs:
        raise UsageError(f"{source}: holds no job: a folder needs photos, a list needs lines")
    seen: dict[str, Job] = {}
    for job in jobs:
        for path in job.files:
            other = seen.setdefault(str(path).casefold(), job)
            if other is not job:
                raise UsageError(
                    f"{source}: {other.image} and {job.image} would both write {path}: name their outputs, or leave"
                    " out the maps"
                )
    return jobs


def _photos_of(folder: Path, out: Path, tell: Callable[[str], None]) -> list[Path]:
    """Photos of a folder, without results of refsr."""
    listing = list_folder(folder, without=out)
    photos = [path for path in listing.photos if not is_result_file(path)]
    for line in listing.left_out:
        tell(line)
    if results := len(listing.photos) - len(photos):
        tell(f"left out {counted(results, 'result')} of refsr: name a list to enlarge them once more")
    return photos


@dataclass(frozen=True, kw_only=True)
class _Line:
    """Line of a list; None leaves a setting open."""

    input: str
    references: tuple[str, ...] | None = None
    output: str | None = None
    album: str | None = None
    search: Engine | None = None
    precision: Precision | None = None
    provenance: bool | None = None


def _jobs_of_list(source: Path, records: Iterable[tuple[int, Mapping[str, Any]]], options: JobOptions) -> list[Job]:
    jobs = []
    for number, record in records:
        try:
            jobs.append(_job(source.parent, _line(record), options))
        except ValueError as error:
            raise UsageError(f"{source}: line {number} is wrong: {error}") from error
    return jobs


def _line(record: Mapping[str, Any]) -> _Line:
    """Check a line; empty fields are left open, and text of CSV becomes a list or a boolean where it should."""
    keys = [field.name for field in fields(_Line)]
    if unknown := sorted(record.keys() - set(keys)):
        raise ValueError(f"{unknown[0]!r} is none of {', '.join(keys)}")
    given = {key: value for key, value in record.items() if value not in (None, "", [])}
    for key, allowed in (("search", get_args(Engine)), ("precision", get_args(Precision))):
        if given.get(key, "auto") not in allowed:
            raise ValueError(f"{key} {given[key]!r} is none of {', '.join(allowed)}")
    if isinstance(given.get("references"), str):
        given["references"] = [name.strip() for name in given["references"].split(";")]
    if "provenance" in given:
        text = str(given["provenance"]).lower()
        if text not in _BOOLEANS:
            raise ValueError(f"provenance {given['provenance']!r} is neither true nor false")
        given["provenance"] = _BOOLEANS[text]
    return parse_record(given, _Line)


def _job(folder: Path, line: _Line, options: JobOptions) -> Job:
    image = folder / line.input
    output = PurePath(image.name if line.output is None else line.output)
    if output.is_absolute() or ".." in output.parts:
        raise ValueError(f"output {output} leads out of the folder of results")
    if "\0" in str(output) or any(len(os.fsencode(part)) > _MAXIMUM_NAME_BYTES for part in output.parts):
        raise ValueError(f"output {str(output)[:40]!r}... is no file name: shorten it")
    changed: dict[str, Any] = {
        "references": None if line.references is None else tuple(folder / name for name in line.references),
        "album": None if line.album is None else folder / line.album,
        "engine": line.search,
        "precision": line.precision,
        "provenance": line.provenance,
    }
    options = replace(options, **{key: value for key, value in changed.items() if value is not None})
    return Job(image=image, output=output, options=options)


def _read_csv(source: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        reader = csv.DictReader(io.StringIO(source.read_text(encoding="utf-8-sig")), strict=True)
        for record in reader:
            if None in record or None in record.values():
                raise UsageError(f"{source}: line {reader.line_num} has not as many fields as the head: correct it")
            yield reader.line_num, record
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{source}: cannot be read as UTF-8 text ({cause(error)}): save it as UTF-8") from error
    except csv.Error as error:
        raise UsageError(f"{source}: line {reader.line_num} is no CSV ({error}): check its quotes") from error
