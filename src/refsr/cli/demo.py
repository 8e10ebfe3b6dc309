"""refsr demo: a bundled sample, two views of a scene from different places and in different light."""

from pathlib import Path

from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table

from refsr.assets import sample_path
from refsr.bench.metrics import psnr_db, ssim
from refsr.cli.options import Output
from refsr.cli.verbs import verb
from refsr.io.files import make_folder
from refsr.io.photo import Photo, as_photo, write_photo
from refsr.models import load_blend
from refsr.resize import downscale_bicubic, stored, upscale_bicubic
from refsr.restore.upscale import upscale

_TITLE_PX = 20


@verb
def demo(*, output: Output = Path("out/demo")) -> None:
    """Restore a bundled sample, and write the pictures.

    Args:
        output: Folder for the pictures; created if missing.

    Examples:
        refsr demo -o out/demo
    """
    make_folder(output)
    truth, reference = as_photo(sample_path("truth")), as_photo(sample_path("reference"))
    blend = load_blend()
    lr = Photo(pixels=stored(downscale_bicubic(truth.pixels, blend.clean.scale)))
    alone = upscale(lr, model=blend, provenance=False)
    helped = upscale(lr, [reference], model=blend)
    results = {
        "bicubic": Photo(pixels=upscale_bicubic(lr.pixels, blend.clean.scale)),
        "without reference": alone.photo,
        "with reference": helped.photo,
    }
    for name, photo in {"lr": lr, "reference": reference, "truth": truth, **results}.items():
        write_photo(output / f"{name.replace(' ', '_')}.png", photo)
    helped.save_provenance(output / "map.png")
    side_by_side({**results, "truth": truth, "reference": reference}, output / "side_by_side.png")

    table = Table("", "PSNR dB", "SSIM", title=f"pictures in {output}", box=None, title_justify="left")
    for name, photo in results.items():
        quality = psnr_db(photo.pixels, truth.pixels).item(), ssim(photo.pixels, truth.pixels).item()
        table.add_row(name, f"{quality[0]:.2f}", f"{quality[1]:.4f}")
    Console().print(table)


def side_by_side(photos: dict[str, Photo], path: Path, height_px: int = 480) -> None:
    """Write pictures in a row, each under its name; larger ones are cropped to the centre, to show single pixels."""
    cut = []
    for photo in photos.values():
        image = photo.to_pil()
        side = min(height_px, *image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        cut.append(image.crop((left, top, left + side, top + side)))
    row = Image.new("RGB", (sum(image.width for image in cut), height_px + _TITLE_PX), "white")
    draw = ImageDraw.Draw(row)
    x = 0
    for name, image in zip(photos, cut, strict=True):
        draw.text((x + 4, 4), name, fill="black")
        row.paste(image, (x, _TITLE_PX))
        x += image.width
    write_photo(path, as_photo(row))
