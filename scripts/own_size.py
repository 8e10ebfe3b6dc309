"""Measure soft photographs that are restored at their own size: `refsr upscale --scale 1`.

    python scripts/own_size.py DATASET -o OUT.json [--every 3]

truth ── Gaussian blur in linear light, noise of 2 levels, JPEG 90 ──> photo ── upscale(scale=1) ──> none, best
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from refsr.bench.datasets import open_dataset
from refsr.bench.metrics import psnr_db
from refsr.degrade import Degradation, degrade
from refsr.io.photo import Photo, as_photo
from refsr.io.records import write_record
from refsr.models import load_blend
from refsr.restore.upscale import upscale

BLURS_PX: Final = (0.0, 1.5, 2.0, 3.0)
HARM: Final[dict[str, Any]] = {"shot": 1e-4, "read": 3e-3, "codec": "jpeg", "quality": 90, "subsampled": True}


def main(arguments: Sequence[str]) -> None:
    """Measure every n-th group, and print means; a blur of 0 is the truth itself, without noise or JPEG."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--every", type=int, default=1)
    options = parser.parse_args(arguments)
    blend, rows = load_blend(), []
    for number, sample in enumerate(open_dataset(options.dataset).samples[:: options.every]):
        truth, reference = as_photo(sample.truth).pixels, as_photo(sample.references[0].path)
        for blur_px in BLURS_PX:
            harm = Degradation(blur="gaussian", blur_px=blur_px, noise_seed=number, **HARM)
            photo = Photo(pixels=degrade(truth, [harm], 1) if blur_px else truth)
            results = [upscale(photo, refs, model=blend, scale=1, precision="fp32") for refs in ([], [reference])]
            rows.append({
                "name": sample.name,
                "blur_px": blur_px,
                "photo": psnr_db(photo.pixels, truth).item(),
                "none": psnr_db(results[0].photo.pixels, truth).item(),
                "best": psnr_db(results[1].photo.pixels, truth).item(),
                "seen": results[0].seen,
            })  # fmt: skip
    write_record(options.output, "own_size", {"dataset": options.dataset.name, "photos": rows})
    for blur_px in BLURS_PX:
        these = [row for row in rows if row["blur_px"] == blur_px]
        figures = ", ".join(f"{key} {fmean(row[key] for row in these):.2f}" for key in ("photo", "none", "best"))
        print(f"blur {blur_px:g} px, {len(these)} photos: {figures} dB")


if __name__ == "__main__":
    main(sys.argv[1:])
