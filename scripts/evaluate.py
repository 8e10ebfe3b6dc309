"""PSNR of a model over a folder of truths, or of groups in CUFED5 naming (NNN_0 truth, NNN_1 the best reference).

    python scripts/evaluate.py FOLDER [--model NAME_OR_FILE] [--every N]

4x, LR by Pillow's BICUBIC, luma, border 4, mean of the pictures' own figures. For groups: without and with NNN_1,
with all references, and with an unrelated one (the best reference of the group half the folder away).
"""

import argparse
from pathlib import Path

from PIL import Image

from refsr import load_model, upscale
from refsr.bench.metrics import psnr_db, ssim
from refsr.image import as_photo, read_photo
from refsr.resize import upscale_bicubic


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="default")
    parser.add_argument("--every", type=int, default=1)
    arguments = parser.parse_args()
    model = load_model(arguments.model)

    groups: dict[str, list[Path]] = {}
    for path in sorted(p for p in arguments.folder.iterdir() if p.suffix in (".png", ".webp", ".jpg")):
        name, _, number = path.stem.rpartition("_")
        groups.setdefault(name if name.isdigit() and number.isdigit() else path.stem, []).append(path)
    bests = [paths[1] for paths in groups.values() if len(paths) > 1]

    rows = []
    for number, (name, (truth_path, *refs)) in enumerate(groups.items()):
        if number % arguments.every:
            continue
        truth = as_photo(_cropped(Image.open(truth_path).convert("RGB"), model.scale))
        pil = truth.to_pil()
        small = pil.resize((pil.width // model.scale, pil.height // model.scale), Image.Resampling.BICUBIC)
        lr = as_photo(small)
        pictures = {
            "bicubic": upscale_bicubic(lr.pixels, model.scale),
            "without": upscale(lr, model=model, provenance=False).photo.pixels,
        }
        if refs:
            unrelated = bests[(number + len(groups) // 2) % len(bests)]
            for kind, pool in (("best", refs[:1]), ("all", refs), ("unrelated", [unrelated])):
                if kind == "all" and len(refs) == 1:
                    pictures["all"] = pictures["best"]
                else:
                    pictures[kind] = upscale(
                        lr, [read_photo(p) for p in pool], model=model, provenance=False
                    ).photo.pixels
        figures = {kind: psnr_db(picture, truth.pixels).item() for kind, picture in pictures.items()}
        figures["ssim"] = ssim(pictures["best" if refs else "without"], truth.pixels).item()
        rows.append(figures)
        _print(name, figures)
    _print("mean", {kind: sum(row[kind] for row in rows) / len(rows) for kind in rows[0]})


def _cropped(image: Image.Image, multiple: int) -> Image.Image:
    return image.crop((0, 0, image.width // multiple * multiple, image.height // multiple * multiple))


def _print(name: str, figures: dict[str, float]) -> None:
    gain = f"  gain {figures['best'] - figures['without']:+.2f}" if "best" in figures else ""
    print(f"{name:<12}", *(f"{kind} {value:.4f}" if kind == "ssim" else f"{kind} {value:.2f}"
                           for kind, value in figures.items()), gain, flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
