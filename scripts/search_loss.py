"""What the coarse search loses on large pictures: `python scripts/search_loss.py GROUPS [--times 2] [--limit 12]`

Groups of a dataset, enlarged bicubically with their best reference, restored from a fourth of that size by the exact
and by the coarse search: PSNR of both.
"""

import argparse
from pathlib import Path

from torch import Tensor

from refsr.bench.datasets import open_dataset
from refsr.bench.metrics import psnr_db
from refsr.io.photo import Photo, as_photo
from refsr.models import load_model
from refsr.resize import downscale_bicubic, resize
from refsr.restore.upscale import DEFAULT_MEMORY_BYTES, upscale
from refsr.search import Engine

_ENGINES: tuple[Engine, Engine] = ("exact", "coarse")


def main() -> None:
    """Print each group's figures, and the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", type=Path)
    parser.add_argument("--times", type=int, default=2)
    parser.add_argument("--limit", type=int)
    arguments = parser.parse_args()
    model = load_model(device="cpu")
    samples = open_dataset(arguments.groups).samples
    step = -(-len(samples) // (arguments.limit or len(samples)))
    losses = []
    for sample in samples[::step]:
        truth, ref = (_enlarged(path, arguments.times) for path in (sample.truth, sample.references[0].path))
        lr = Photo(pixels=(downscale_bicubic(truth, 4) * 255).round() / 255)
        exact, coarse = (
            psnr_db(
                upscale(
                    lr, [Photo(pixels=ref)], model=model, engine=engine, precision="fp32", provenance=False,
                    memory_bytes=4 * DEFAULT_MEMORY_BYTES,
                ).photo.pixels,
                truth,
            ).item()
            for engine in _ENGINES
        )  # fmt: skip
        losses.append(exact - coarse)
        print(f"{sample.name} exact {exact:.3f}, coarse {coarse:.3f} dB", flush=True)
    print(f"lost {sum(losses) / len(losses):.3f} dB on average, {max(losses):.3f} at most")


def _enlarged(path: Path, times: int) -> Tensor:
    pixels = as_photo(path).pixels
    height, width = (n // 4 * 4 * times for n in pixels.shape[-2:])
    return resize(pixels, (height, width)).clamp(0, 1)


if __name__ == "__main__":
    main()
