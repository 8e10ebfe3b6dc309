"""Files of triples: groups to measure, crops to train on, and a page to check them by eye."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Final

from PIL import Image

from refsr.data.features import LocalFeatures, describe
from refsr.data.sample import SCALE
from refsr.io.files import write_atomically
from refsr.io.photo import read_photo
from refsr.pairs.captures import Triple, TripleReference
from refsr.pairs.output_folder import WORK
from refsr.pairs.sets import HEAD, Record, figure, section, write_png
from refsr.pairs.verify import level_of, verify
from refsr.wording import counted

CROP_PX: Final = 160
"""Side of training crops."""

_CROPS: Final = 8  # a reference
_LARGEST_PX: Final = 6000


def write_triple(folder: Path, out: Path, triple: Triple) -> tuple[int, list[Record]]:
    """Write a group of the test set, or crops of the training set; their records."""
    lr, truth = (out / WORK / "registered" / f"{triple.pair.name}{end}.png" for end in ("_lr", ""))
    references = {reference: _reduced(folder / reference.path, reference.zoom) for reference in triple.references}
    write = _write_group if triple.is_test else _write_crops
    return triple.number, write(out, triple, Image.open(lr), Image.open(truth), references)


def _reduced(path: Path, factor: float) -> Image.Image:
    """A photo at the truth's scale, if it is larger."""
    image = read_photo(path).to_pil().convert("RGB")
    if factor <= 1:
        return image
    width, height = (max(1, round(side / factor)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def _write_group(
    out: Path, triple: Triple, lr: Image.Image, truth: Image.Image, references: Mapping[TripleReference, Image.Image]
) -> list[Record]:
    name = f"{triple.number:03}"
    write_png(out / "test" / f"{name}_0.png", truth)
    write_png(out / "test" / "lr" / f"{name}_0.png", lr)
    listed = []
    for place, (reference, image) in enumerate(references.items(), 1):
        file = f"{name}_{place}.png"
        write_png(out / "test" / file, image)
        listed.append(
            {"file": file, "level": level_of(reference.matches), "matches": reference.matches, "source": reference.path}
        )
    return [_origin(triple) | {"name": name, "truth": f"{name}_0.png", "lr": f"lr/{name}_0.png", "references": listed}]


def _write_crops(
    out: Path, triple: Triple, lr: Image.Image, truth: Image.Image, references: Mapping[TripleReference, Image.Image]
) -> list[Record]:
    """Crops of truth, LR image and a reference, round the places where truth and reference match."""
    described = _described(truth)
    records: list[Record] = []
    for reference, image in references.items():
        like = _described(image)
        found = None if described is None or like is None else verify(described, like, (0, 1), CROP_PX, _CROPS)
        for x, y, ref_x, ref_y in () if found is None else found.crops:
            name, (left, top) = f"{triple.number:03}_{len(records):02}", (x // SCALE, y // SCALE)
            side = CROP_PX // SCALE
            write_png(out / "train" / "lr" / f"{name}.png", lr.crop((left, top, left + side, top + side)))
            box = (SCALE * left, SCALE * top, SCALE * (left + side), SCALE * (top + side))
            write_png(out / "train" / "input" / f"{name}.png", truth.crop(box))
            crop = image.crop((ref_x, ref_y, ref_x + CROP_PX, ref_y + CROP_PX))
            write_png(out / "train" / "ref" / f"{name}.png", crop)
            files = {kind: f"{kind}/{name}.png" for kind in ("input", "lr", "ref")}
            records.append({"name": name} | files | _origin(triple) | {"reference": reference.path})
    return records


def _described(image: Image.Image) -> LocalFeatures | None:
    """Features; none of a picture so large that they would be too few for crops, and take too much memory."""
    return None if max(image.size) > _LARGEST_PX else describe(image, image.size[::-1])


def _origin(triple: Triple) -> Record:
    pair = triple.pair
    figures = ("detail", "residual_px", "agreed", "colour_levels")
    return {"sharp": pair.sharp, "blurry": pair.blurry} | {key: round(getattr(pair, key), 3) for key in figures}


def triples_sheet(
    out: Path, triples: Sequence[Triple], written: Mapping[int, Sequence[Record]], left_out: Mapping[str, str]
) -> None:
    """Write OUT/index.html: every group, and what was left out and why."""
    parts = [HEAD.replace("Pairs", "Triples", 1), f"<h1>{counted(len(triples), 'triple')}</h1>"]
    for triple in triples:
        pair, name = triple.pair, f"{triple.number:03}"
        about = f"{pair.detail:.1f} times the detail, residual {pair.residual_px:.2f} px, {pair.agreed:.0%} kept"
        if triple.is_test:
            figures = [figure(f"test/lr/{name}_0.png", f"{name} blurry", pair.blurry)]
            figures.append(figure(f"test/{name}_0.png", f"truth: {about}", pair.sharp))
            figures += [
                figure(f"test/{name}_{place}.png", f"reference, {reference.matches} matches", reference.path)
                for place, reference in enumerate(triple.references, 1)
            ]
            parts += section(figures)
            continue
        parts.append(f"<h2>{name}, training: {about}</h2>")
        kinds = {"lr": "blurry", "input": "sharp", "ref": "reference"}
        for record in written[triple.number]:
            parts += section(
                (figure(f"train/{record[kind]}", title, record[title]) for kind, title in kinds.items()), "crops"
            )
    if left_out:
        parts.append("<h2>Left out</h2><ul>")
        parts += [f"<li>{escape(name)}: {escape(reason)}</li>" for name, reason in sorted(left_out.items())]
        parts.append("</ul>")
    write_atomically(out / "index.html", "\n".join(parts).encode())
