"""Whether a reference is found better when its key looks as the photo's camera would have seen it.

    python scripts/key_ablation.py PHOTOS [--steps 800] [--pairs 150]

reference ── bicubic ──┬────────────────────────────────── descriptor ──> key "bicubic", as shipped
                       ├── Gaussian of the measured blur ── descriptor ──> key "blurred"
                       └── (+) ─────────────────────────── descriptor ──> key "learned"
pixels, measured condition ── resampler ──┘

From the weights of default-real, descriptors (and the resampler) are trained by contrast on the same degraded pairs for
the same steps. Then, on photographs kept back: the share of cells whose nearest key is within a cell of the true place,
and the PSNR of the whole network with each key, on degraded and on clean LR images, less those of the bicubic key.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from refsr.bench.metrics import psnr_db
from refsr.data.photos import PhotoSource
from refsr.data.plan import PairConfig, PairSampler
from refsr.data.render import Batch, render
from refsr.data.sources import open_sources
from refsr.degrade import DegradeConfig
from refsr.degrade.blur import blur, gaussian_kernel
from refsr.models import DefaultModel, load_model
from refsr.resize import downscale_bicubic
from refsr.restore.condition import measure_condition
from refsr.restore.pipeline import encode, transfer, with_matches
from refsr.training.losses import contrast_loss

Kind = Literal["bicubic", "blurred", "learned"]
KINDS: Final[tuple[Kind, ...]] = ("bicubic", "blurred", "learned")
SIZE_PX, BATCH, HELD_OUT = 256, 4, 10
HARMED: Final = DegradeConfig(  # as recipes/default-real.yaml
    clean=0.1, gaussian=0.3, line=0.12, curve=0.12, gaussian_px=(0.5, 4.0), disc_px=(1.0, 5.0), motion_px=(3.0, 20.0),
    camera=0.25, shot=(5e-5, 8e-3), read=(1e-4, 1.5e-2), sharpen=0.2, sharpen_amount=(0.2, 1.0), quality=(30, 95),
)  # fmt: skip
CLEAN: Final = DegradeConfig(clean=1.0)


class Resampler(nn.Module):
    """What the photo's camera would have made of a reference: a change to its bicubic reduction."""

    def __init__(self, width: int = 40) -> None:
        super().__init__()
        sizes = (48, width, width, width, 3)
        self.layers = nn.ModuleList(nn.Conv2d(before + 3, after, 3, padding=1) for before, after in pairwise(sizes))
        for parameter in self.layers[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, ref: Float[Tensor, "b 3 h w"], condition: Float[Tensor, "b 3"]) -> Float[Tensor, "b 3 h4 w4"]:
        x = F.pixel_unshuffle(ref - 0.5, 4)
        maps = condition[:, :, None, None].expand(-1, -1, *x.shape[-2:])
        for layer in self.layers:
            x = layer(torch.cat((x if layer is self.layers[0] else x.relu(), maps), 1))
        return downscale_bicubic(ref, 4) + x


class KeyedModel(DefaultModel):
    """The default model with another key.

    Attributes:
        condition: Blur in pixels, log noise and loss of quality of each LR image, as measured, set before encoding.
    """

    kind: Kind = "bicubic"
    condition: Tensor

    def _encode(self, ref: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        _, down, detail = super()._encode(ref)
        return self.key(ref), down, detail

    def key(self, ref: Float[Tensor, "b 3 h2 w2"]) -> Float[Tensor, "b c h w"]:
        down = downscale_bicubic(ref, 4)
        if self.kind == "blurred":
            blurs_px = [max(0.05, float(row[0])) for row in self.condition]
            down = blur(down, [gaussian_kernel(blur_px) for blur_px in blurs_px])
        if self.kind == "learned":
            down = self.resampler(ref, self.condition)
        described: Tensor = self.descriptor(down)
        return described


def keyed(kind: Kind) -> KeyedModel:
    """The shipped model, with one of the keys."""
    shipped = load_model("default-real", device="cpu")
    assert isinstance(shipped, DefaultModel)
    model = KeyedModel(shipped.config)
    model.load_state_dict(shipped.state_dict())
    model.kind = kind
    model.resampler = Resampler()
    return model


def conditions(lr: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3"]:
    """Measured condition of each LR image."""
    found = [measure_condition(each[None]) for each in lr]
    rows = [[each.blur_px, torch.tensor(each.noise + 0.3).log().item(), (100 - each.jpeg) / 20] for each in found]
    return torch.tensor(rows)


def batch_of(sampler: PairSampler, photos: PhotoSource, numbers: range) -> Batch:
    """Pairs with one reference each, which shows the same place."""
    return render([sampler.plan(number, SIZE_PX, 1) for number in numbers], photos, SIZE_PX)


def train(models: Sequence[KeyedModel], sampler: PairSampler, photos: PhotoSource, steps: int) -> None:
    """Train all models on the same pairs."""
    parts = [[*model.descriptor.parameters(), *model.resampler.parameters()] for model in models]
    optimisers = [torch.optim.AdamW(part, lr=2e-4) for part in parts]
    for step in range(steps):
        batch = batch_of(sampler, photos, range(step * BATCH, (step + 1) * BATCH))
        condition, reports = conditions(batch["lr"]), []
        for model, part, optimiser in zip(models, parts, optimisers, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = 2e-4 * min(1.0, (step + 1) / 50, 2 * (1 - step / steps))
            model.condition = condition
            loss, hits = contrast_loss(
                model.encode_query(batch["lr"]), model.key(batch["refs"][:, 0]), batch["truth_cells"][:, 0],
                batch["number"], 256, 0.07,
            )  # fmt: skip
            optimiser.zero_grad()
            loss.mean().backward()
            nn.utils.clip_grad_norm_(part, 1.0)
            optimiser.step()
            reports.append(f"{model.kind} {loss.mean():.3f}, {hits.mean():.3f}")
        if step % 50 == 0:
            print(f"step {step}: {'; '.join(reports)}", flush=True)


@torch.inference_mode()
def measure(
    models: Sequence[KeyedModel], sampler: PairSampler, photos: PhotoSource, pairs: int
) -> tuple[Float[Tensor, "pairs m"], Float[Tensor, "pairs m"]]:
    """Share of cells found within one of their place, and PSNR, of each pair and model."""
    hits, psnrs = [], []
    for number in range(pairs):
        batch = batch_of(sampler, photos, range(number, number + 1))
        lr, truth = batch["lr"], batch["truth_cells"][:, 0]
        known = torch.isfinite(truth[:, 0])
        if known.float().mean() < 0.1:
            continue
        rows: tuple[list[float], list[float]] = ([], [])
        for model in models:
            model.condition = conditions(lr)
            encoded = encode(model, lr, [batch["refs"][:, 0]])
            query, key = encoded.query[0].flatten(1), encoded.references[0].key[0].flatten(1)
            best = (query.T @ key).argmax(1).view(known.shape)
            places = torch.stack((best // lr.shape[-1], best % lr.shape[-1]), 1)
            rows[0].append(((places - truth).square().sum(1).sqrt() <= 1)[known].float().mean().item())
            searched = model.search(lr, encoded.query, encoded.references)
            restored = transfer(model, with_matches(model, encoded, searched))
            rows[1].append(psnr_db(restored.clamp(0, 1), batch["hr"]).item())
        hits.append(rows[0])
        psnrs.append(rows[1])
    return torch.tensor(hits), torch.tensor(psnrs)


def main(arguments: Sequence[str]) -> None:
    """Train and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--pairs", type=int, default=150)
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    sources = open_sources(options.photos, SIZE_PX)
    photos = PhotoSource(sources.photos)
    pairs = PairConfig(references=(0.0, 1.0), unrelated=0.0, elsewhere=0.0, tilted=0.1, relief=0.1, layered=0.1)
    kept_back = replace(sources, single=sources.single[::HELD_OUT], views=())
    others = tuple(number for number in sources.single if number not in kept_back.single)
    sampler = PairSampler(
        sources=replace(sources, single=others, views=()), pairs=pairs, degrade=HARMED, real=0.0, seed=0
    )
    begun = keyed("bicubic")
    models = [keyed(kind) for kind in KINDS]
    size = sum(parameter.numel() for parameter in models[0].resampler.parameters())
    print(f"{len(others)} photographs, {len(kept_back.single)} kept back; the resampler has {size} parameters")
    train(models, sampler, photos, options.steps)
    for name, degrade in (("degraded", replace(HARMED, clean=0.0)), ("clean", CLEAN)):
        hits, psnrs = measure(
            [begun, *models], replace(sampler, sources=kept_back, degrade=degrade, seed=1), photos, options.pairs
        )
        error = len(hits) ** 0.5
        for column, label in enumerate(("untrained", *KINDS)):
            more, better = (100 * hits[:, column] - 100 * hits[:, 1]), psnrs[:, column] - psnrs[:, 1]
            print(
                f"{name}, {len(hits)} pairs, {label}: within a cell {100 * hits[:, column].mean():.2f} %"
                f" ({more.mean():+.2f}, error {more.std() / error:.2f}), PSNR {psnrs[:, column].mean():.3f} dB"
                f" ({better.mean():+.3f}, error {better.std() / error:.3f})",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:])
