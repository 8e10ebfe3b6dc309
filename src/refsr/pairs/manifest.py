"""What the sets say of themselves: one line a group or a pair, and the files that it needs.

    test/manifest.jsonl   {"name", "truth", "source", "licence", "references": [{"file", "level", "matches", "source", "licence"}]}
    train/manifest.jsonl  {"name", "input": {"file", "source", "licence", "box"}, "ref": {...}, "matches", "level"}

A box is in pixels of the photo's working copy, whose height and width stand in `of_px`.
"""  # noqa: E501

from collections.abc import Sequence
from typing import Any

from refsr.pairs.selection import AlbumPhoto, CropPair, Group, Square, other

Record = dict[str, Any]


def group_records(
    groups: Sequence[Group], photos: Sequence[AlbumPhoto], licence: str
) -> tuple[list[Record], dict[str, int]]:
    """Lines of the test set, and by file name the photo that it shows.

    Args:
        groups: In order of their numbers.
        photos: Of the album.
        licence: Of photos whose EXIF says none.
    """
    records, files = [], {}
    for number, group in enumerate(groups):
        truth = f"{number:03}_0.png"
        files[truth] = group.truth
        references = []
        for level, overlap in group.references.items():
            index = other(overlap, group.truth)
            name = f"{number:03}_{level}.png"
            files[name] = index
            known = {"file": name, "level": level, "matches": overlap.matches}
            references.append(known | _origin(photos[index], licence))
        record = {"name": f"{number:03}", "truth": truth, **_origin(photos[group.truth], licence)}
        records.append(record | {"references": references})
    return records, files


def crop_records(
    crops: Sequence[CropPair], photos: Sequence[AlbumPhoto], licence: str
) -> tuple[list[Record], dict[str, Square]]:
    """Lines of the training set, and by file name the square that it shows. See `group_records`."""
    records, files = [], {}
    for number, crop in enumerate(crops):
        record: Record = {"name": f"{number:06}"}
        for kind, square in (("input", crop.first), ("ref", crop.second)):
            name = f"{kind}/{number:06}.png"
            files[name] = square
            photo = photos[square.photo]
            box = {
                "centre_px": [round(x, 1) for x in square.centre_px],
                "side_px": round(square.side_px, 1),
                "degrees": round(square.degrees, 1),
                "of_px": list(photo.size_px),
            }
            record[kind] = {"file": name, **_origin(photo, licence), "box": box}
        overlap = crop.overlap
        records.append(record | {"matches": overlap and overlap.matches, "level": overlap and overlap.level})
    return records, files


def _origin(photo: AlbumPhoto, licence: str) -> Record:
    return {"source": photo.path, "licence": photo.licence or licence or None}
