"""docs/images/texture.webp: what all losses bring and cost, on the bundled sample.

    python scripts/texture_pictures.py

One column a place of the picture, one row each: bicubic, `default`, `default-texture`, truth; all enlarged twice.
"""

from pathlib import Path

from PIL import Image, ImageDraw

from refsr import load_model, upscale
from refsr.assets import sample_path
from refsr.io.photo import Photo, as_photo
from refsr.resize import downscale_bicubic, upscale_bicubic

OUT = Path(__file__).parent.parent / "docs" / "images" / "texture.webp"
SIDE_PX = 128
PLACES_PX = ((125, 225), (345, 380), (410, 120), (150, 450))
"""(y, x) of the squares that are shown."""


def main() -> None:
    """Write the picture."""
    truth, reference = as_photo(sample_path("truth")), as_photo(sample_path("reference"))
    lr = Photo(pixels=(downscale_bicubic(truth.pixels, 4) * 255).round() / 255)
    rows = {"bicubic": Photo(pixels=upscale_bicubic(lr.pixels, 4))}
    for name in ("default", "default-texture"):
        rows[name] = upscale(lr, [reference], model=load_model(name), provenance=False).photo
    rows["truth"] = truth
    side = 2 * SIDE_PX
    sheet = Image.new("RGB", (side * len(PLACES_PX), (side + 16) * len(rows)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (name, photo) in enumerate(rows.items()):
        top = number * (side + 16)
        draw.text((4, top + 2), name, fill="black")
        image = photo.to_pil()
        for column, (y, x) in enumerate(PLACES_PX):
            square = image.crop((x, y, x + SIDE_PX, y + SIDE_PX)).resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(square, (column * side, top + 16))
    sheet.save(OUT, quality=88)


if __name__ == "__main__":
    main()
