"""docs/images/blurry.webp: photos that were blurred, made noisy or compressed, restored without and with a reference.

    python scripts/blurry_pictures.py

One row for each degradation of `refsr bench --degrade`, and one for a soft photo restored at its own size.
"""

from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw

from refsr import upscale
from refsr.assets import sample_path
from refsr.data.degraded import DegradationName, degraded
from refsr.degrade import Degradation, degrade
from refsr.io.photo import Photo, as_photo
from refsr.resize import upscale_bicubic

OUT: Final = Path(__file__).parent.parent / "docs" / "images" / "blurry.webp"
NAMES: Final[tuple[DegradationName, ...]] = ("mild", "night", "jpeg", "motion")
PLACE_PX: Final = (125, 225)
SIDE_PX: Final = 200
HEAD_PX: Final = 16


def main() -> None:
    """Write the picture."""
    truth, reference = as_photo(sample_path("truth")), as_photo(sample_path("reference"))
    soft = Degradation(blur="gaussian", blur_px=2.0, shot=1e-4, read=3e-3, codec="jpeg", quality=90, subsampled=True)
    photos = {name: (Photo(pixels=degraded(truth.pixels, name, "sample", 4)), 4) for name in NAMES}
    photos["soft, its own size"] = (Photo(pixels=degrade(truth.pixels, [soft], 1)), 1)  # type: ignore[index]
    sheet = Image.new("RGB", (4 * SIDE_PX, len(photos) * (SIDE_PX + HEAD_PX)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (name, (photo, scale)) in enumerate(photos.items()):
        top = row * (SIDE_PX + HEAD_PX)
        alone, helped = (upscale(photo, refs, scale=scale, provenance=False) for refs in ([], [reference]))
        shown = {
            f"{name}: the photo": Photo(pixels=upscale_bicubic(photo.pixels, scale)),
            "without reference": alone.photo,
            "with reference": helped.photo,
            "truth": truth,
        }
        for column, (title, picture) in enumerate(shown.items()):
            y, x = PLACE_PX
            draw.text((column * SIDE_PX + 4, top + 2), title, fill="black")
            square = picture.to_pil().convert("RGB").crop((x, y, x + SIDE_PX, y + SIDE_PX))
            sheet.paste(square, (column * SIDE_PX, top + HEAD_PX))
        print(f"{name}: {alone.seen}")
    sheet.save(OUT, quality=90)


if __name__ == "__main__":
    main()
