"""docs/images/texture.webp: twelve pairs, faithful and crisp.

    pip install scikit-image
    python scripts/texture_pictures.py [--blind OUT]

Six places of the bundled sample with its reference, and six photographs that scikit-image ships (in the public domain
or under CC0) without any; of each six, three are clean reductions and three blurred, noisy or compressed. Columns: the
photo enlarged bicubically, and restored with texture 0, 0.65 and 1, then the truth. With --blind, the three results of
each pair stand in an order that key.json in OUT tells, to be judged without knowing which is which.
"""

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw
from skimage import data
from torch import Tensor

from refsr import load_blend, upscale
from refsr.assets import sample_path
from refsr.data.degraded import DegradationName, degraded
from refsr.io.photo import Photo, as_photo
from refsr.resize import downscale_bicubic, stored, upscale_bicubic

OUT: Final = Path(__file__).parent.parent / "docs" / "images" / "texture.webp"
SIDE_PX: Final = 160
AROUND_PX: Final = 64
"""Pixels around a square that are restored with it; of the sample, all is."""
TEXTURES: Final = (0.0, 0.65, 1.0)
HARMS: Final[tuple[DegradationName, ...]] = ("none", "mild", "none", "jpeg", "none", "night")
SAMPLE_PX: Final = ((125, 225), (330, 400), (110, 480), (160, 40), (370, 180), (200, 330))
ALONE_PX: Final = {"astronaut": (0, 130), "chelsea": (60, 120), "coffee": (90, 180), "rocket": (180, 260),
                   "brick": (200, 200), "hubble_deep_field": (300, 300)}  # fmt: skip
"""(y, x) of the squares."""


def pairs() -> Iterator[tuple[str, Tensor, list[Photo], tuple[int, int], DegradationName]]:
    """Name, truth, references, corner of the square, and what harms the photo."""
    truth, reference = as_photo(sample_path("truth")).pixels, as_photo(sample_path("reference"))
    for number, (corner, harm) in enumerate(zip(SAMPLE_PX, HARMS, strict=True), 1):
        yield f"sample {number}, reference", truth, [reference], corner, harm
    for (name, (y, x)), harm in zip(ALONE_PX.items(), HARMS, strict=True):
        whole = as_photo(getattr(data, name)()).pixels
        top, left = max(0, y - AROUND_PX) // 4 * 4, max(0, x - AROUND_PX) // 4 * 4
        part = whole[..., top : y + SIDE_PX + AROUND_PX, left : x + SIDE_PX + AROUND_PX]
        height, width = (side // 4 * 4 for side in part.shape[-2:])
        yield name, part[..., :height, :width], [], (y - top, x - left), harm


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blind", type=Path, help="folder for squares in random order, and their key")
    options = parser.parse_args()
    blend, rows, key = load_blend(), [], {}
    for name, truth, refs, (y, x), harm in pairs():
        lr = stored(downscale_bicubic(truth, 4)) if harm == "none" else degraded(truth, harm, name, 4)
        photo, results = Photo(pixels=lr), {}
        for texture in TEXTURES:
            found = upscale(photo, refs, model=blend, texture=texture, provenance=False)
            results[f"texture {texture:g}"] = found.photo
        shown = {f"{name}, {'clean' if harm == 'none' else harm}": Photo(pixels=upscale_bicubic(lr, 4).clamp(0, 1))}
        order = list(results)
        if options.blind:
            random.Random(name).shuffle(order)
        key[name] = order
        letters = zip("ABC", order, strict=True)
        shown |= {letter if options.blind else title: results[title] for letter, title in letters}
        shown["truth"] = Photo(pixels=truth)
        square = (x, y, x + SIDE_PX, y + SIDE_PX)
        rows.append({title: photo.to_pil().convert("RGB").crop(square) for title, photo in shown.items()})
    out = OUT
    if options.blind:
        options.blind.mkdir(parents=True, exist_ok=True)
        (options.blind / "key.json").write_text(json.dumps(key, indent=1))
        out = options.blind / "blind.png"
    sheet(rows).save(out, quality=85)


def sheet(rows: list[dict[str, Image.Image]]) -> Image.Image:
    """A row for each pair, a column for each picture, its title above."""
    head = 16
    image = Image.new("RGB", (SIDE_PX * len(rows[0]), (SIDE_PX + head) * len(rows)), "white")
    draw = ImageDraw.Draw(image)
    for number, row in enumerate(rows):
        top = number * (SIDE_PX + head)
        for column, (title, square) in enumerate(row.items()):
            draw.text((column * SIDE_PX + 4, top + 2), title, fill="black")
            image.paste(square, (column * SIDE_PX, top + head))
    return image


if __name__ == "__main__":
    main()
