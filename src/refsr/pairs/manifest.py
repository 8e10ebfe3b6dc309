"""Manifests of the sets: one JSON line per test group or training pair, and the picture files that it names.

test/manifest.jsonl   GroupRecord
train/manifest.jsonl  PairRecord
"""

from collections.abc import Sequence
from dataclasses import dataclass

from refsr.pairs.selection import AlbumPhoto, CropPair, Group, Square


@dataclass(frozen=True, kw_only=True)
class ReferenceRecord:
    """A reference of a test group.

    Attributes:
        file: Picture beside the manifest.
        level: 1, the most similar, to 5.
        matches: Verified matches with the truth.
        source: Photo of the album.
        licence: Licence of the photo, if known.
    """

    file: str
    level: int
    matches: int
    source: str
    licence: str | None


@dataclass(frozen=True, kw_only=True)
class GroupRecord:
    """A test group: the picture of the truth, its photo and licence, and its references."""

    name: str
    truth: str
    source: str
    licence: str | None
    references: tuple[ReferenceRecord, ...]


@dataclass(frozen=True, kw_only=True)
class BoxRecord:
    """Square of a crop, in pixels of the photo's working copy; `of_px` is its height and width."""

    centre_px: tuple[float, float]
    side_px: float
    degrees: float
    of_px: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class CropRecord:
    """The picture of a training crop, its photo and licence, and its place there."""

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


def group_records(
    groups: Sequence[Group], photos: Sequence[AlbumPhoto], licence: str
) -> tuple[list[GroupRecord], dict[str, int]]:
    """Records of the test set, and the index of the photo in each picture file.

    Args:
        groups: In order of their numbers.
        photos: Photos of the album.
        licence: Licence of photos without one in their EXIF.
    """
    records: list[GroupRecord] = []
    files: dict[str, int] = {}
    for number, group in enumerate(groups):
        truth = f"{number:03}_0.png"
        files[truth] = group.truth
        references = []
        for level, overlap in group.references.items():
            name, index = f"{number:03}_{level}.png", overlap.partner(group.truth)
            files[name] = index
            source, terms = _origin(photos[index], licence)
            references.append(
                ReferenceRecord(file=name, level=level, matches=overlap.matches, source=source, licence=terms)
            )
        source, terms = _origin(photos[group.truth], licence)
        records.append(
            GroupRecord(
                name=f"{number:03}", truth=truth, source=source, licence=terms, references=tuple(references)
            )
        )  # fmt: skip
    return records, files


def crop_records(
    crops: Sequence[CropPair], photos: Sequence[AlbumPhoto], licence: str
) -> tuple[list[PairRecord], dict[str, Square]]:
    """Records of the training set, and the square in each picture file; arguments as of `group_records`."""
    records: list[PairRecord] = []
    files: dict[str, Square] = {}
    for number, pair in enumerate(crops):
        names = f"input/{number:06}.png", f"ref/{number:06}.png"
        files |= zip(names, (pair.first, pair.second), strict=True)
        records.append(
            PairRecord(
                name=f"{number:06}",
                input=_crop_record(names[0], pair.first, photos, licence),
                ref=_crop_record(names[1], pair.second, photos, licence),
                matches=None if pair.overlap is None else pair.overlap.matches,
                level=None if pair.overlap is None else pair.overlap.level,
            )
        )
    return records, files


def _crop_record(file: str, square: Square, photos: Sequence[AlbumPhoto], licence: str) -> CropRecord:
    photo = photos[square.photo]
    x, y = square.centre_px
    box = BoxRecord(
        centre_px=(round(x, 1), round(y, 1)), side_px=round(square.side_px, 1), degrees=round(square.degrees, 1),
        of_px=photo.size_px,
    )  # fmt: skip
    source, terms = _origin(photo, licence)
    return CropRecord(file=file, source=source, licence=terms, box=box)


def _origin(photo: AlbumPhoto, licence: str) -> tuple[str, str | None]:
    return photo.path, photo.licence or licence or None
