"""Is texture real where the map says so? `python scripts/provenance_auc.py GROUPS [--model WEIGHTS]`

For each group (NNN_0 the truth, NNN_1 its reference), the area under the ROC curve of "this cell lost squared error, by
more than one squared grey level", by what the reference changed there (`Provenance.used_levels`).
"""

import argparse
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from refsr.bench.datasets import open_dataset
from refsr.io.photo import Photo, as_photo
from refsr.models import load_model
from refsr.resize import downscale_bicubic
from refsr.restore.upscale import upscale

_LEVELS = 255.0


def main() -> None:
    """Print each group's area, and their mean."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", type=Path)
    parser.add_argument("--model", default="default")
    arguments = parser.parse_args()
    model = load_model(arguments.model, device="cpu")
    areas = []
    for sample in open_dataset(arguments.groups).samples:
        truth = as_photo(sample.truth).pixels
        truth = truth[
            ..., : truth.shape[-2] // model.scale * model.scale, : truth.shape[-1] // model.scale * model.scale
        ]
        lr = Photo(pixels=(downscale_bicubic(truth, model.scale) * _LEVELS).round() / _LEVELS)
        alone = upscale(lr, model=model, provenance=False).photo.pixels
        helped = upscale(lr, [sample.references[0].path], model=model)
        used = helped.provenance.used_levels
        assert used is not None
        fell = _error(alone, truth, model.scale) - _error(helped.photo.pixels, truth, model.scale)
        areas.append(area_under_roc(used.flatten(), (fell > 1).flatten()))
        print(f"{sample.name} {areas[-1]:.3f}", flush=True)
    print(f"mean {sum(areas) / len(areas):.3f}, least {min(areas):.3f}")


def _error(sr: Tensor, truth: Tensor, scale: int) -> Tensor:
    return F.avg_pool2d(((sr - truth) * _LEVELS).square().mean(1, keepdim=True), scale)


def area_under_roc(score: Tensor, positive: Tensor) -> float:
    """By the ranks of the positives: Mann and Whitney's U, divided by its largest value."""
    ranks = score.argsort().argsort().double() + 1
    count = positive.sum().double()
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(score) - count)))


if __name__ == "__main__":
    main()
