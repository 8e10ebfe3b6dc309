"""Files of the sets: test pictures and training crops as PNG, and the manifest of each set, in JSON lines.

test    {"name": "000", "truth": "000_0.png", "source": "a/1.jpg", "licence": null, "references":
         [{"file": "000_1.png", "level": 1, "matches": 230, "source": "a/2.jpg", "licence": "CC0"}, ...]}
train   {"name": "000000", "input": CROP, "ref": CROP, "matches": 230, "level": 1}
CROP    {"file": "input/000000.png", "source": "b/1.jpg", "licence": null,
         "box": {"centre_px": [x, y], "side_px": 160.0, "degrees": 0.0, "of_px": [height, width]}}

Files are relative to the manifest, sources to the album; boxes are in pixels of the photo's working copy, whose size is
`of_px`. Level 1 is the most similar, 5 the least; matches and level are null if both crops are of one photo.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from refsr.data.geometry import linear, rotation, translation
from refsr.data.sample import sample_view
from refsr.io.files import write_atomically
from refsr.io.photo import read_preview
from refsr.pairs.selection import AlbumPhoto, CropPair, Group, Square

Record = dict[str, Any]
"""A line of a manifest."""


def group_records(groups: Sequence[Group], photos: Sequence[AlbumPhoto]) -> tuple[list[Record], dict[str, int]]:
    """Records of the test set, and the index of the photo in each picture file."""
    records: list[Record] = []
    files: dict[str, int] = {}
    for number, group in enumerate(groups):
        truth = f"{number:03}_0.png"
        files[truth] = group.truth
        references = []
        for level, overlap in group.references.items():
            index, file = overlap.partner(group.truth), f"{number:03}_{level}.png"
            files[file] = index
            references.append({"file": file, "level": level, "matches": overlap.matches, **_origin(photos[index])})
        origin = _origin(photos[group.truth])
        records.append({"name": f"{number:03}", "truth": truth, **origin, "references": references})
    return records, files


def crop_records(crops: Sequence[CropPair], photos: Sequence[AlbumPhoto]) -> tuple[list[Record], dict[str, Square]]:
    """Records of the training set, and the square in each picture file."""
    records: list[Record] = []
    files: dict[str, Square] = {}
    for number, pair in enumerate(crops):
        record: Record = {"name": f"{number:06}"}
        for kind, square in (("input", pair.first), ("ref", pair.second)):
            photo, file = photos[square.photo], f"{kind}/{number:06}.png"
            files[file] = square
            centre_px = [round(place, 1) for place in square.centre_px]
            box = {"centre_px": centre_px, "side_px": round(square.side_px, 1), "degrees": round(square.degrees, 1)}
            record[kind] = {"file": file, **_origin(photo), "box": {**box, "of_px": photo.size_px}}
        overlap = pair.overlap
        found = (None, None) if overlap is None else (overlap.matches, overlap.level)
        records.append(record | dict(zip(("matches", "level"), found, strict=True)))
    return records, files


def _origin(photo: AlbumPhoto) -> Record:
    return {"source": photo.path, "licence": photo.licence}


def write_whole(long_side_px: int, item: tuple[Path, Path]) -> None:
    """Write a photo, reduced to a long side of `long_side_px` at most; `item` is the output and the photo."""
    path, photo = item
    _write_png(path, read_preview(photo, long_side_px).image)


def write_crops(work_px: int, crop_px: int, item: tuple[Path, Sequence[tuple[Path, Square]]]) -> None:
    """Write crops of `crop_px` from a working copy of `work_px`; `item` is the photo, and the output of each square."""
    photo, squares = item
    copy = read_preview(photo, work_px).image
    for path, square in squares:
        _write_png(path, _cut(copy, square, crop_px))


def _cut(copy: Image.Image, square: Square, crop_px: int) -> Image.Image:
    x, y = square.centre_px
    if square.degrees == 0 and square.side_px == crop_px:
        left, top = round(x - crop_px / 2), round(y - crop_px / 2)
        return copy.crop((left, top, left + crop_px, top + crop_px))
    turn = linear(square.side_px / crop_px * rotation(-square.degrees))
    view = translation(np.array((x - 0.5, y - 0.5))) @ turn @ translation(np.full(2, -(crop_px - 1) / 2))
    pixels = sample_view(np.asarray(copy), view, crop_px)
    return Image.fromarray((pixels * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())


def _write_png(path: Path, image: Image.Image) -> None:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())
