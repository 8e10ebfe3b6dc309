"""Should a reference's key look as the photo's camera would see it? Descriptors trained with several kinds of keys.

    python scripts/key_ablation.py PHOTOS... -o OUT [--steps 400] [--arms blurred exact] [--groups DATASET]

photograph ─┬─ hr ── blur, reduction, noise, JPEG ──> lr ─┬─────────────── descriptor ──> query ─┬─ InfoNCE
            │                                             └─ condition ──┐                       │
            └─ ref, another view ─────────────────────────── arm's key ──┴─ descriptor ──> key ──┘

| arm | what the descriptor sees of a reference |
|---|---|
| start, bicubic | its bicubic reduction; with the weights as shipped, and trained |
| blurred | the reduction of the reference, blurred as much as the photo measures |
| learned | its bicubic reduction, and what a small network adds to it, told the photo's measured condition |
| exact | the reference degraded just as the photo was, but for noise and compression: no estimate can do better |

All go on from the weights default-real, on the same pairs. Every tenth photograph is held out. A match counts where it
is within one cell of the known place. Trained arms are kept in OUT.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Final, Literal, get_args

import torch
import yaml  # type: ignore[import-untyped]
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from refsr.bench.datasets import open_dataset
from refsr.bench.metrics import psnr_db
from refsr.bench.samples import spread
from refsr.data.degraded import DegradationName, degraded
from refsr.data.photos import PhotoFiles, PhotoSource
from refsr.data.plan import PairConfig, PairSampler
from refsr.data.render import render
from refsr.data.sources import Sources
from refsr.degrade import CLEAN, Degradation, DegradeConfig, blur, degrade
from refsr.degrade.blur import gaussian_kernel
from refsr.degrade.camera import from_linear, to_linear
from refsr.io.listing import list_folder
from refsr.io.photo import as_photo
from refsr.io.records import parse_record
from refsr.models import DefaultModel, load_model
from refsr.resize import downscale_bicubic, upscale_bicubic
from refsr.restore.condition import as_targets, measure_condition
from refsr.restore.pipeline import Encoded, encode, match, transfer
from refsr.search import search_candidates
from refsr.training.config import StageConfig, TrainConfig
from refsr.training.losses import contrast_loss

Arm = Literal["start", "bicubic", "blurred", "learned", "exact"]
Figures = dict[str, dict[Arm, list[float]]]

RECIPE: Final = yaml.safe_load((Path(__file__).parent.parent / "recipes" / "default-real.yaml").read_text())
SCALE: Final = 4
TRAINED_PX, CHECKED_PX = 192, 256
BATCH, GROUPS = 4, 12
RATE, RESAMPLER_RATE = 2e-4, 1e-3
CLEAN_BLUR_PX: Final = 0.08  # what clean reductions of photographs measure, the median
HELD_OUT_EVERY, SETTINGS_EVERY = 10, 4
SETTINGS: Final[tuple[DegradationName, ...]] = ("mild", "night", "jpeg", "motion")


class Resampler(nn.Module):
    """Changes a bicubic reduction by the reference's pixels and the condition of the photo; nothing before training."""

    def __init__(self, width: int = 40) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in (3 * SCALE**2 + 3 + 3, width, width):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 3, 3, padding=1))
        for parameter in self.layers[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, ref: Tensor, down: Tensor, condition: Tensor) -> Tensor:
        maps = condition[..., None, None].expand(-1, -1, *down.shape[-2:])
        seen = torch.cat((nn.functional.pixel_unshuffle(ref - 0.5, SCALE), down - 0.5, maps), 1)
        return down + self.layers(seen)  # type: ignore[no-any-return]


class KeyModel(DefaultModel):
    """The default model with an arm's key, as shipped; `look_at` the photo first."""

    def __init__(self, arm: Arm) -> None:
        shipped = load_model("default-real", device="cpu")
        super().__init__(shipped.config)
        self.load_state_dict(shipped.state_dict())
        self.arm = arm
        self.resampler = Resampler() if arm == "learned" else None
        self.requires_grad_(False).eval()
        self._condition = torch.zeros(1, 3)
        self._degradations: Sequence[Degradation] = ()

    def look_at(self, lr: Tensor, degradations: Sequence[Degradation]) -> None:
        """The photos that the next references are for, and what was done to them."""
        self._degradations = degradations
        if self.arm in ("blurred", "learned"):
            found = [(one.blur_px, one.noise, one.jpeg) for one in map(measure_condition, lr[:, None])]
            self._condition = as_targets(*torch.tensor(found).unbind(1))

    def reduced(self, ref: Tensor) -> Tensor:
        """What the descriptor sees of references."""
        if self.arm == "exact":
            bare = [replace(one, shot=0.0, read=0.0, codec="none", first_quality=0) for one in self._degradations]
            return degrade(ref, bare, SCALE)
        if self.arm == "blurred":
            widths = SCALE * (self._condition[:, 0].square() - CLEAN_BLUR_PX**2).clamp_min(0).sqrt()
            light = blur(to_linear(ref), [gaussian_kernel(width) for width in widths.tolist()])
            return downscale_bicubic(from_linear(light.clamp(0, 1)), SCALE)
        down = downscale_bicubic(ref, SCALE)
        return down if self.resampler is None else self.resampler(ref, down, self._condition)

    def _encode(self, ref: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        down = downscale_bicubic(ref, SCALE)
        return self._describe(ref), down, torch.cat((ref, ref - upscale_bicubic(down, SCALE)), 1)

    def _describe(self, sharp: Tensor) -> Tensor:
        return self.descriptor(self.reduced(sharp))  # type: ignore[no-any-return]


def drawing_of(files: Sequence[Path], degradation: DegradeConfig, seed: int) -> PairSampler:
    """Draws pairs with one reference, whose places are known."""
    pairs = replace(parse_record(RECIPE["pairs"], PairConfig), references=(0.0, 1.0), unrelated=0.0, elsewhere=0.0)
    photos = PhotoFiles(files, CHECKED_PX)
    sources = Sources(photos=photos, single=tuple(filter(photos.is_usable, range(len(files)))))
    return PairSampler(sources=sources, pairs=pairs, degrade=degradation, real=0.0, seed=seed)


def train(model: KeyModel, drawing: PairSampler, steps: int) -> None:
    """Train the descriptor, which makes query and key, and the resampler, at a higher rate."""
    stage = StageConfig(steps=steps, learning_rate=1.0, warmup_steps=20, decay_share=0.9)
    config, photos, told = TrainConfig(rec=stage), PhotoSource(drawing.sources.photos), 0.0
    parts = {model.descriptor: RATE} | ({model.resampler: RESAMPLER_RATE} if model.resampler is not None else {})
    optimiser = torch.optim.AdamW([{"params": [*part.parameters()]} for part in parts], weight_decay=1e-4)
    trained = [parameter.requires_grad_(True) for part in parts for parameter in part.parameters()]
    for step in range(1, steps + 1):
        plans = [drawing.plan(step * BATCH + row, TRAINED_PX, 1) for row in range(BATCH)]
        batch = render(plans, photos, TRAINED_PX)
        model.look_at(batch["lr"], [plan.degradation for plan in plans])
        seen = torch.cat((batch["lr"], model.reduced(batch["refs"][:, 0])))
        known = batch["truth_cells"][:, 0], batch["number"], config.contrast_queries, config.contrast_temperature
        query, key = model.descriptor(seen).chunk(2)
        loss = contrast_loss(query, key, *known)[0].mean()
        for group, rate in zip(optimiser.param_groups, parts.values(), strict=True):
            group["lr"] = rate * stage.rate_at(step)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(trained, config.clip_norm)
        optimiser.step()
        told += loss.item() / 50
        if step % 50 == 0:
            print(f"{model.arm}, step {step}: loss {told:.3f}", flush=True)
            told = 0.0
    model.requires_grad_(False)


def hits_of(encoded: Encoded, true_cells: Tensor) -> Iterator[tuple[str, float]]:
    """Shares of the known cells found within one cell: by their descriptors alone, and as the model searches."""
    query, key, known = encoded.query, encoded.references[0].key, true_cells.isfinite().all(0)
    best = (query[0].flatten(1).T @ key[0].flatten(1)).argmax(1).view(known.shape)
    alone = torch.stack((best // key.shape[-1], best % key.shape[-1]))
    (searched,) = search_candidates(query, [key])
    for way, found in (("nearest descriptor", alone), ("the model's search", searched.position_cells[0])):
        if known.any():
            yield way, 100 * ((found - true_cells).abs().amax(0)[known] <= 1).float().mean().item()


@torch.inference_mode()
def check_photographs(models: dict[Arm, KeyModel], drawing: PairSampler, count: int) -> Figures:
    """Shares of matches on held-out photographs; all arms see the same crops and degradations."""
    photos, figures = PhotoSource(drawing.sources.photos), Figures()
    for number in range(count):
        plan = drawing.plan(number, CHECKED_PX, 1)
        batch = render([replace(plan, degradation=CLEAN)], photos, CHECKED_PX)
        seen = {"clean": batch["lr"], "drawn": degrade(batch["hr"], [plan.degradation], SCALE)}
        if number % SETTINGS_EVERY == 0:
            seen |= {name: degraded(batch["hr"], name, str(number), SCALE) for name in SETTINGS}
        for kind, lr in seen.items():
            for arm, model in models.items():
                if arm == "exact" and kind in SETTINGS:  # whose parameters are not told
                    continue
                model.look_at(lr, [plan.degradation if kind == "drawn" else CLEAN])
                encoded = encode(model, lr, [batch["refs"][:, 0]])
                for way, share in hits_of(encoded, batch["truth_cells"][0, 0]):  # none where no place is known
                    figures.setdefault(f"matches %, {way}, {kind}", {}).setdefault(arm, []).append(share)
    return figures


@torch.inference_mode()
def check_groups(models: dict[Arm, KeyModel], dataset: Path, drawing: PairSampler) -> Figures:
    """PSNR-Y of the middle of pictures with a real reference; the condition is that of the whole picture."""
    figures = Figures()
    for number, sample in enumerate(spread(open_dataset(dataset).samples, GROUPS)):
        truth, ref = (as_photo(path).pixels for path in (sample.truth, sample.references[0].path))
        whole = truth[..., : truth.shape[-2] // SCALE * SCALE, : truth.shape[-1] // SCALE * SCALE]
        (y, x), side = ((n // SCALE - CHECKED_PX // SCALE) // 2 for n in whole.shape[-2:]), CHECKED_PX // SCALE
        inside = whole[..., SCALE * y :, SCALE * x :][..., :CHECKED_PX, :CHECKED_PX]
        for kind, done in (("clean", CLEAN), ("drawn", drawing.plan(number, CHECKED_PX, 1).degradation)):
            lr = degrade(whole, [done], SCALE)
            for arm, model in models.items():
                model.look_at(lr, [done])
                encoded = encode(model, lr[..., y : y + side, x : x + side], [ref])
                sr = transfer(model, match(model, encoded)).clamp(0, 1)
                figures.setdefault(f"PSNR-Y dB, {kind}", {}).setdefault(arm, []).append(psnr_db(sr, inside).item())
    return figures


def table(figures: Figures) -> Iterator[str]:
    """Means of each arm, and its paired differences to the arm bicubic with their standard errors."""
    for what, found in figures.items():
        yield f"{what}, {len(found['bicubic'])} pictures"
        for arm, values in found.items():
            more = [one - other for one, other in zip(values, found["bicubic"], strict=True)]
            error = stdev(more) / math.sqrt(len(more)) if len(more) > 1 else math.nan
            yield f"  {arm:8s} {fmean(values):7.3f}  {fmean(more):+.3f} ± {error:.3f}"


def main(arguments: Sequence[str]) -> None:
    """Train the arms that OUT lacks, and print the figures of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--arms", nargs="+", choices=get_args(Arm)[2:], default=["blurred", "learned", "exact"])
    parser.add_argument("--checked", type=int, default=60, help="pairs of held-out photographs")
    parser.add_argument("--groups", type=Path, help="data set of real references, for PSNR")
    options = parser.parse_args(arguments)
    files = sorted(path for folder in options.photos for path in list_folder(folder).photos)
    ranges = parse_record(RECIPE["degrade"], DegradeConfig)
    drawing = drawing_of([path for row, path in enumerate(files) if row % HELD_OUT_EVERY], ranges, 0)
    checking = drawing_of(files[::HELD_OUT_EVERY], replace(ranges, clean=0.0), 1)
    models: dict[Arm, KeyModel] = {"start": KeyModel("start")}
    for arm in ("bicubic", *options.arms):
        torch.manual_seed(0)
        model, place = KeyModel(arm), options.output / f"{arm}.safetensors"
        if not place.exists():
            train(model, drawing, options.steps)
            options.output.mkdir(parents=True, exist_ok=True)
            save_file(model.state_dict(), place)
        model.load_state_dict(load_file(place))
        models[arm] = model
    print("\n".join(table(check_photographs(models, checking, options.checked))), flush=True)
    if options.groups:
        print("\n".join(table(check_groups(models, options.groups, checking))))


if __name__ == "__main__":
    main(sys.argv[1:])
