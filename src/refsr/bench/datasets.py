"""Data sets to measure: a folder of groups, a folder of truths, or a manifest.

NNN_0.png, NNN_1.png ... NNN_5.png     groups in CUFED5 naming: truth, references by level, 1 is the most similar;
                                       lr/NNN_0.png is a real LR image
HR/NAME.png, LR/NAME.png, Ref/NAME.png  truths, real LR images, and references where there are any
NAME_HR.png, NAME_LR4.png              the same in one folder, as in RealSR
test_HR/NAME_x4.png, test_LR/NAME_x1.png    as in DRealSR
anything.png                           truths alone
manifest.jsonl                         one JSON object per line; paths are relative to the manifest's folder:
                                       {"name": "a", "truth": "a.png", "references": [{"file": "b.png", "level": 1}]}
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from refsr.errors import UsageError
from refsr.io.decode import READABLE_SUFFIXES
from refsr.io.listing import list_photos
from refsr.io.records import parse_record, read_lines

_GROUP = re.compile(r"(.+)_([0-9])")
_KIND = re.compile(r"(.+)_(HR|LR4)")
_SIZE = re.compile(r"_x[14]$")


@dataclass(frozen=True, kw_only=True)
class LevelledReference:
    """A reference with its level of similarity.

    Attributes:
        level: 1 (most similar) to 5 (least similar); 0 if unknown.
    """

    path: Path
    level: int


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A truth and its references.

    Attributes:
        name: Name, unique in the data set.
        truth: File of the truth (HR image).
        references: References, most similar first; may be empty.
        lr: File of a real LR image; None where the protocol makes it from the truth.
    """

    name: str
    truth: Path
    references: tuple[LevelledReference, ...] = ()
    lr: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """At least one sample, sorted by name; the data set has the name of its folder or manifest."""

    name: str
    samples: tuple[Sample, ...]

    @property
    def has_references(self) -> bool:
        """Whether any sample has a reference."""
        return any(sample.references for sample in self.samples)

    @property
    def pictures(self) -> tuple[Path, ...]:
        """Files of all truths, references and LR images, without repetition."""
        files: dict[Path | None, None] = {}
        for sample in self.samples:
            files |= dict.fromkeys((sample.truth, *(reference.path for reference in sample.references), sample.lr))
        return tuple(file for file in files if file is not None)


def open_dataset(path: Path, lr_folder: Path | None = None) -> Dataset:
    """List the samples of a folder or a manifest without reading a picture.

    Args:
        path: Folder, or manifest ending in .jsonl.
        lr_folder: Folder of real LR images, named like the truths (the suffix may differ).

    Raises:
        UsageError: The data set is missing or empty, or a line of the manifest is wrong.
    """
    if path.is_dir():
        samples = _from_folder(path)
    elif path.is_file():
        samples = _from_manifest(path)
    else:
        raise UsageError(f"{path}: no such folder or manifest: check the name")
    if not samples:
        raise UsageError(f"{path}: holds no picture ({', '.join(READABLE_SUFFIXES)}): name another folder")
    if lr_folder is not None:
        samples = _with_lr(samples, lr_folder)
    name = path.resolve().name if path.is_dir() else path.stem
    return Dataset(name=name, samples=tuple(sorted(samples, key=lambda sample: sample.name)))


def _from_folder(folder: Path) -> list[Sample]:
    """Real pairs or groups if pictures are placed or named so; otherwise every picture is a truth."""
    pairs = _real_pairs(folder)
    if pairs:
        return pairs
    pictures = list_photos(folder, deep=False)
    numbered = [(found, p) for p in pictures if (found := _GROUP.fullmatch(p.stem))]
    truths = {found[1]: p for found, p in numbered if found[2] == "0"}
    if not truths:
        return [Sample(name=p.stem, truth=p) for p in pictures]
    references: dict[str, list[LevelledReference]] = {name: [] for name in truths}
    for found, p in numbered:
        if found[2] != "0" and found[1] in references:
            references[found[1]].append(LevelledReference(path=p, level=int(found[2])))
    real_lr = {p.stem: p for p in list_photos(folder / "lr", deep=False)}
    return [
        Sample(name=name, truth=truth, references=_by_level(references[name]), lr=real_lr.get(truth.stem))
        for name, truth in truths.items()
    ]


def _real_pairs(folder: Path) -> list[Sample]:
    """Truths that have a real LR image, in folders HR, LR and Ref, or as NAME_HR and NAME_LR4; else none."""
    kinds: dict[str, dict[str, Path]] = {"hr": {}, "lr": {}, "ref": {}}
    for place in (path for path in sorted(folder.iterdir()) if path.is_dir()):
        kind = place.name.lower().removeprefix("test_")
        if kind in kinds:
            kinds[kind] |= {_SIZE.sub("", p.stem): p for p in list_photos(place, deep=False)}
    for picture in list_photos(folder, deep=False):
        if found := _KIND.fullmatch(picture.stem):
            kinds["hr" if found[2] == "HR" else "lr"][found[1]] = picture
    truths, lr, references = kinds.values()
    if not truths.keys() & lr.keys():
        return []
    return [
        Sample(
            name=name,
            truth=truth,
            references=(LevelledReference(path=references[name], level=1),) if name in references else (),
            lr=lr.get(name, folder / "LR" / f"{name}.png"),
        )
        for name, truth in truths.items()
    ]


@dataclass(frozen=True, kw_only=True)
class _Reference:
    file: str
    level: int | None = None


@dataclass(frozen=True, kw_only=True)
class _Line:
    """Line of a manifest."""

    name: str | int
    truth: str
    references: tuple[_Reference, ...] = ()
    lr: str | None = None


def _from_manifest(path: Path) -> list[Sample]:
    samples: dict[str, Sample] = {}
    for number, record in read_lines(path):
        try:
            sample = _from_line(parse_record(record, _Line), path.parent)
        except ValueError as error:
            raise UsageError(
                f'{path}: line {number} is wrong ({error}): write {{"name": ..., "truth": FILE, "references": '
                f'[{{"file": FILE, "level": 1}}]}}'
            ) from error
        if sample.name in samples:
            raise UsageError(f"{path}: line {number} names {sample.name!r} again: names must differ")
        samples[sample.name] = sample
    return list(samples.values())


def _from_line(line: _Line, folder: Path) -> Sample:
    if PurePath(str(line.name)).name != str(line.name):
        raise ValueError(f"the name {line.name!r} is no file name, which crops are written under")
    references = [
        LevelledReference(path=folder / ref.file, level=place if ref.level is None else ref.level)
        for place, ref in enumerate(line.references, 1)
    ]
    return Sample(
        name=str(line.name),
        truth=folder / line.truth,
        references=_by_level(references),
        lr=None if line.lr is None else folder / line.lr,
    )


def _by_level(references: Sequence[LevelledReference]) -> tuple[LevelledReference, ...]:
    return tuple(sorted(references, key=lambda reference: (reference.level, reference.path.name)))


def _with_lr(samples: Sequence[Sample], folder: Path) -> list[Sample]:
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder of LR images: check the name")
    files = {p.stem: p for p in list_photos(folder, deep=False)}

    def lr_of(sample: Sample) -> Path:
        missing = folder / f"{sample.truth.stem}.png"
        return files.get(sample.truth.stem) or files.get(sample.name) or missing

    return [replace(sample, lr=lr_of(sample)) for sample in samples]
