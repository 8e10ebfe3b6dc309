"""Files of the sets: pictures as PNG, a manifest of each set in JSON lines, and a web page to check them by eye.

test    {"name": "000", "truth": "000_0.png", "source": "a/1.jpg", "licence": null, "references":
         [{"file": "000_1.png", "level": 1, "matches": 230, "source": "a/2.jpg", "licence": "CC0"}, ...]}
train   {"name": "000000", "input": CROP, "ref": CROP, "matches": 230, "level": 1}
CROP    {"file": "input/000000.png", "source": "b/1.jpg", "licence": null,
         "box": {"centre_px": [x, y], "side_px": 160.0, "degrees": 0.0, "of_px": [height, width]}}

Files are relative to the manifest, sources to the album; boxes are in pixels of the photo's working copy, whose size is
`of_px`. Level 1 is the most similar, 5 the least; matches and level are null if both crops are of one photo.
"""

import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from refsr.data.geometry import linear, rotation, translation
from refsr.data.sample import sample_view
from refsr.io.files import write_atomically
from refsr.io.photo import read_preview
from refsr.pairs.selection import AlbumPhoto, BuildPlan, CropPair, Group, Square
from refsr.wording import counted

Record = dict[str, Any]
"""A line of a manifest."""
HEAD = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Pairs</title>
<style>
body { font: 14px sans-serif; margin: 1em; background: #fff; color: #222 }
section { gap: 8px; margin: 0 0 1.2em; border-top: 1px solid #ccc; padding-top: 8px }
section.group { display: grid; grid-template-columns: repeat(6, minmax(0, 210px)) }
section.crops { display: inline-grid; grid-template-columns: repeat(2, 120px); margin-right: 16px; vertical-align: top }
figure { margin: 0 }
img { width: 100%; height: auto; display: block }
figcaption { overflow-wrap: anywhere; color: #555; font-size: 12px }
b { color: #222 }
</style>
"""


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
    write_png(path, read_preview(photo, long_side_px).image)


def write_crops(work_px: int, crop_px: int, item: tuple[Path, Sequence[tuple[Path, Square]]]) -> None:
    """Write crops of `crop_px` from a working copy of `work_px`; `item` is the photo, and the output of each square."""
    photo, squares = item
    copy = read_preview(photo, work_px).image
    for path, square in squares:
        write_png(path, _cut(copy, square, crop_px))


def _cut(copy: Image.Image, square: Square, crop_px: int) -> Image.Image:
    x, y = square.centre_px
    if square.degrees == 0 and square.side_px == crop_px:
        left, top = round(x - crop_px / 2), round(y - crop_px / 2)
        return copy.crop((left, top, left + crop_px, top + crop_px))
    turn = linear(square.side_px / crop_px * rotation(-square.degrees))
    view = translation(np.array((x - 0.5, y - 0.5))) @ turn @ translation(np.full(2, -(crop_px - 1) / 2))
    pixels = sample_view(np.asarray(copy), view, crop_px)
    return Image.fromarray((pixels * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())


def write_png(path: Path, image: Image.Image) -> None:
    """Write a picture as PNG, atomically."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())


def contact_sheet(out: Path, photos: Sequence[AlbumPhoto], plan: BuildPlan) -> None:
    """Write OUT/index.html: all test groups and training pairs, with sources, levels and matches.

    Raises:
        OutputError: It cannot be written.
    """
    parts = [HEAD, f"<h1>{counted(len(plan.groups), 'test group')}, {counted(len(plan.crops), 'training pair')}</h1>"]
    for number, group in enumerate(plan.groups):
        figures = [figure(f"test/{number:03}_0.png", f"{number:03} truth", photos[group.truth].path)]
        figures += [
            figure(
                f"test/{number:03}_{level}.png", f"level {level}, {overlap.matches} matches",
                photos[overlap.partner(group.truth)].path,
            )
            for level, overlap in group.references.items()
        ]  # fmt: skip
        parts += section(figures)
    parts.append("<h2>Training: input, reference</h2>")
    for number, crop in enumerate(plan.crops):
        origin = f"{crop.overlap.matches} matches" if crop.overlap else "one photo"
        parts += section(
            (
                figure(f"train/input/{number:06}.png", f"{number:06}", photos[crop.first.photo].path),
                figure(f"train/ref/{number:06}.png", origin, photos[crop.second.photo].path),
            ),
            "crops",
        )
    if plan.duplicates:
        parts.append("<h2>Left out as near-duplicates</h2><ul>")
        parts += [
            f"<li>{escape(photos[index].path)} (kept: {escape(photos[kept].path)})</li>"
            for index, kept in plan.duplicates.items()
        ]
        parts.append("</ul>")
    write_atomically(out / "index.html", "\n".join(parts).encode())


def section(figures: Iterable[str], kind: str = "group") -> list[str]:
    """Part of a contact sheet: what belongs together, a `kind` of `HEAD`'s style."""
    return [f'<section class="{kind}">', *figures, "</section>"]


def figure(file: str, title: str, source: str) -> str:
    """A picture of a contact sheet, by its file, relative to the sheet; its title, and the photo that it is of."""
    return (
        f'<figure><a href="{file}"><img loading="lazy" src="{file}" alt="{escape(source)}"></a>'
        f"<figcaption><b>{escape(title)}</b><br>{escape(source)}</figcaption></figure>"
    )
