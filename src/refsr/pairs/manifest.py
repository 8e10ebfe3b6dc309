"""Manifests of the sets: one JSON line per test group (GroupRecord) or training pair (PairRecord).

Files are relative to the manifest, sources to the album; boxes are in pixels of the photo's working copy.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from refsr.pairs.selection import AlbumPhoto, CropPair, Group, Square


@dataclass(frozen=True, kw_only=True)
class ReferenceRecord:
    """A reference of a test group; level is 1, the most similar, to 5."""

    file: str
    level: int
    matches: int
    source: str
    licence: str | None


@dataclass(frozen=True, kw_only=True)
class GroupRecord:
    """A test group; `truth` is a file."""

    name: str
    truth: str
    source: str
    licence: str | None
    references: tuple[ReferenceRecord, ...]


@dataclass(frozen=True, kw_only=True)
class BoxRecord:
    """A square of a photo; centre (x, y), and (height, width) of the working copy in `of_px`."""

    centre_px: tuple[float, float]
    side_px: float
    degrees: float
    of_px: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class CropRecord:
    """A training crop."""

    file: str
    source: str
    licence: str | None
    box: BoxRecord


@dataclass(frozen=True, kw_only=True)
class PairRecord:
    """A training pair; without matches and level if both crops are of one photo."""

    name: str
    input: CropRecord
    ref: CropRecord
    matches: int | None
    level: int | None


def group_records(groups: Sequence[Group], photos: Sequence[AlbumPhoto]) -> tuple[list[GroupRecord], dict[str, int]]:
    """Records of the test set, and the index of the photo in each picture file."""
    records: list[GroupRecord] = []
    files: dict[str, int] = {}
    for number, group in enumerate(groups):
        name, photo = f"{number:03}", photos[group.truth]
        files[f"{name}_0.png"] = group.truth
        references = []
        for level, overlap in group.references.items():
            index, file = overlap.partner(group.truth), f"{name}_{level}.png"
            files[file] = index
            source, licence = photos[index].path, photos[index].licence
            references.append(
                ReferenceRecord(file=file, level=level, matches=overlap.matches, source=source, licence=licence)
            )
        records.append(
            GroupRecord(
                name=name, truth=f"{name}_0.png", source=photo.path, licence=photo.licence, references=tuple(references)
            )
        )  # fmt: skip
    return records, files


def crop_records(crops: Sequence[CropPair], photos: Sequence[AlbumPhoto]) -> tuple[list[PairRecord], dict[str, Square]]:
    """Records of the training set, and the square in each picture file."""
    records: list[PairRecord] = []
    files: dict[str, Square] = {}
    for number, pair in enumerate(crops):
        inputs, refs = f"input/{number:06}.png", f"ref/{number:06}.png"
        files |= {inputs: pair.first, refs: pair.second}
        records.append(
            PairRecord(
                name=f"{number:06}",
                input=_crop_record(inputs, pair.first, photos[pair.first.photo]),
                ref=_crop_record(refs, pair.second, photos[pair.second.photo]),
                matches=None if pair.overlap is None else pair.overlap.matches,
                level=None if pair.overlap is None else pair.overlap.level,
            )
        )
    return records, files


def _crop_record(file: str, square: Square, photo: AlbumPhoto) -> CropRecord:
    centre_px = round(square.centre_px[0], 1), round(square.centre_px[1], 1)
    side_px, degrees = round(square.side_px, 1), round(square.degrees, 1)
    box = BoxRecord(centre_px=centre_px, side_px=side_px, degrees=degrees, of_px=photo.size_px)
    return CropRecord(file=file, source=photo.path, licence=photo.licence, box=box)
