"""Which losses make a picture crisp and keep it true? Arms trained from the same weights, on the same pairs and steps.

    python scripts/loss_ablation.py PHOTOS... --lpips lpips_squeeze.safetensors --vgg19 vgg19.safetensors [--steps 200]

pair ── encode, match, align (frozen, once for all arms) ──> matched ── each arm's transfer ──> sr ── its losses

| arm | losses beside L1 |
|---|---|
| start | none: the weights default, not trained |
| lpips | LPIPS |
| wasserstein | LPIPS, and the sliced Wasserstein distance of windows of VGG19's and SqueezeNet's maps |
| texture | LPIPS, and the paper's texture loss |
| patch, unet | LPIPS, and a critic of patches, or of pixels |
| ms-ssim, ldl, lowpass | LPIPS, and MS-SSIM; local discriminative learning; the reduced result against the LR image |
| all | LPIPS, with the first layers and the last one trained too |
| grid | LPIPS, lowpass, and the mean error at each place of a cell |
| grid+ms-ssim, grid+patch and grid+wasserstein | these, and what their names say; all with ms-ssim |

Of each pair's losses on texture, the share that counts is the share in which the reference is believed.
Every tenth photograph is held out, and measured with and without its reference. VGG19 without learned weights is a
distance that only the arms with texture or wasserstein train on.
"""

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev
from typing import Final

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from refsr.bench.lpips import LPIPS, load_lpips
from refsr.bench.metrics import colour_levels, psnr_db
from refsr.data.photos import PhotoFiles, PhotoSource
from refsr.data.plan import PairConfig, PairSampler
from refsr.data.render import render
from refsr.data.sources import Sources
from refsr.degrade import DegradeConfig
from refsr.io.listing import list_folder
from refsr.models import DefaultModel, load_model
from refsr.models.vgg import VGG19, load_vgg19
from refsr.resize import downscale_bicubic
from refsr.restore.pipeline import Matched, encode, match, transfer
from refsr.search import strongest
from refsr.training.config import StageConfig
from refsr.training.losses import (
    TEXTURE_LEVELS,
    TextureLoss,
    back_projection,
    belief,
    dissimilarity,
    grid,
    reconstruction,
    viewed_alike,
)
from refsr.training.run import RunningAverage
from refsr.transfer.swap import swap

SCALE: Final = 4
TRAINED_PX, CHECKED_PX = 160, 256
BATCH: Final = 4
RATE, CRITIC_RATE = 2e-4, 2e-4
MATCHING: Final = ("descriptor", "align", "choice")
OUTER: Final = ("head", "before", "tail")
"""Parts that are not trained; the outer ones by the arm all alone."""
ALONE_EVERY: Final = 3
"""Every third step is without references."""
HELD_OUT_EVERY: Final = 10
GUESSED: Final = 0.3
"""Weight of texture where no reference is believed."""


class PatchCritic(nn.Module):
    """Verdicts of patches of 34 pixels, on a quarter of the resolution. Source: Isola et al., pix2pix, CVPR 2017."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after, stride in ((3, width, 2), (width, 2 * width, 2), (2 * width, 4 * width, 1)):
            layers += [spectral_norm(nn.Conv2d(before, after, 4, stride, padding=1)), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, spectral_norm(nn.Conv2d(4 * width, 1, 3, padding=1)))

    def forward(self, rgb: Tensor) -> Tensor:
        return self.layers(2 * rgb - 1)  # type: ignore[no-any-return]


class UNetCritic(nn.Module):
    """A verdict of each pixel. Source: Wang et al., Real-ESRGAN, ICCV workshops 2021, section 3.3, narrower here."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        sizes = [width, 2 * width, 4 * width, 8 * width]
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.down = nn.ModuleList(spectral_norm(nn.Conv2d(a, b, 4, 2, padding=1)) for a, b in pairwise(sizes))
        self.up = nn.ModuleList(spectral_norm(nn.Conv2d(b, a, 3, padding=1)) for a, b in pairwise(sizes))
        self.last = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, rgb: Tensor) -> Tensor:
        x = F.leaky_relu(self.first(2 * rgb - 1), 0.2)
        passed = []
        for layer in self.down:
            passed.append(x)
            x = F.leaky_relu(layer(x), 0.2)
        for layer, kept in zip(reversed(self.up), reversed(passed), strict=True):
            x = F.interpolate(x, size=kept.shape[-2:], mode="bilinear")
            x = F.leaky_relu(layer(x), 0.2) + kept
        return self.last(x)  # type: ignore[no-any-return]


def sliced_wasserstein(
    maps: Sequence[Tensor],
    wanted: Sequence[Tensor],
    weight: Tensor,
    numbers: Tensor,
) -> Tensor:
    """Sliced Wasserstein distance of features in windows: the same texture, wherever in the window it lies.

    Each layer's distance is divided by the root mean square of its wanted features.

    Args:
        maps: Features of the results, of several layers.
        wanted: Those of the truths.
        weight: Weight of each place, 0..1, on any grid.
        numbers: Numbers of the pairs, which seed the directions.

    Source: Heitz et al., "A Sliced Wasserstein Loss for Neural Texture Synthesis", CVPR 2021, equation 6.
    """
    total = weight.new_zeros(len(weight))
    for found, sought in zip(maps, wanted, strict=True):
        channels = found.shape[1]
        directions = torch.stack(
            [
                F.normalize(torch.randn(channels, 32, generator=torch.Generator().manual_seed(int(number))), dim=0)
                for number in numbers
            ]
        ).to(found)
        side = max(4, min(found.shape[-2:]) // 5)
        rows, columns = (size // side for size in found.shape[-2:])
        first, second = (
            torch.einsum(
                "bijsc,bcd->bijsd",
                rearrange(x[..., : rows * side, : columns * side], "b c (i h) (j w) -> b i j (h w) c", h=side, w=side),
                directions,
            )
            .sort(3)
            .values
            for x in (found, sought)
        )
        unit = sought.square().flatten(1).mean(1).sqrt().clamp_min(1e-3).view(-1, 1, 1)
        distance = (first - second).abs().mean((3, 4)) / unit
        counted = F.adaptive_avg_pool2d(weight, (rows, columns))[:, 0]
        total = total + (distance * counted).flatten(1).mean(1)
    return total / len(maps)


def ldl(sr: Tensor, hr: Tensor, steady: Tensor) -> Tensor:
    """L1 where the result is worse than the averaged network's and its error is uneven. Source: Liang et al., "Details
    or Artifacts: A Locally Discriminative Learning Approach", CVPR 2022, equations 3 to 6."""
    error, steady_error = ((hr - x).abs().sum(1, keepdim=True) for x in (sr.detach(), steady))
    mean = F.avg_pool2d(F.pad(error, (3, 3, 3, 3), mode="reflect"), 7, 1)
    square = F.avg_pool2d(F.pad(error.square(), (3, 3, 3, 3), mode="reflect"), 7, 1)
    weight = (square - mean.square()).clamp_min(0) * error.flatten(1).var(1).pow(0.2).view(-1, 1, 1, 1)
    weight = weight * (error >= steady_error)
    return (weight * (sr - hr).abs()).flatten(1).mean(1)


class Losses:
    """What the arms share: networks, and the pair at hand."""

    def __init__(self, distance: LPIPS, vgg: VGG19) -> None:
        self.distance, self.vgg = distance, vgg

    def look_at(self, batch: dict[str, Tensor], matched: Matched) -> None:
        self.hr, self.lr, self.numbers, self.matched = batch["hr"], batch["lr"], batch["number"], matched
        self.trust = self.lr.new_zeros(len(self.lr), 1, *self.lr.shape[-2:])
        if matched.matches:
            best = strongest(matched.matches)
            self.trust = belief(best.score)
            levels = [self.vgg(batch["refs"][:, 0], TEXTURE_LEVELS)]
            self.swapped = [swap(maps, best, scale=2**n, patch=3) for n, maps in enumerate(zip(*levels, strict=True))]
            self.score = best.score

    def lpips(self, sr: Tensor) -> Tensor:
        return self.distance(*viewed_alike(sr, self.hr, self.numbers))

    def wasserstein(self, sr: Tensor) -> Tensor:
        found, wanted = ([*self.vgg(x, TEXTURE_LEVELS), *self.distance.network(x)[:4]] for x in (sr, self.hr))
        return sliced_wasserstein(found, wanted, GUESSED + (1 - GUESSED) * self.trust, self.numbers)


CRITICS: Final[dict[str, Callable[[], nn.Module]]] = {"patch": PatchCritic, "unet": UNetCritic}


class Arm:
    """A network, its losses and their optimisers."""

    def __init__(self, name: str, model: DefaultModel, losses: Losses, weights: dict[str, float]) -> None:
        self.name, self.losses, self.weights = name, losses, weights
        self.model = deepcopy(model)
        frozen = MATCHING if "all" in weights else (*MATCHING, *OUTER)
        for part_name, part in self.model.named_children():
            part.requires_grad_(part_name not in frozen)
        self.trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.texture = TextureLoss(losses.vgg)
        self.optimiser = torch.optim.AdamW([*self.trained, *self.texture.parameters()], RATE, weight_decay=1e-4)
        self.average = RunningAverage(self.model.own_state(), 0.98)
        self.steady = deepcopy(self.model).requires_grad_(False)
        self.critic = CRITICS[name.removeprefix("grid+")]() if "critic" in weights else None
        if self.critic is not None:
            self.critic_optimiser = torch.optim.AdamW(self.critic.parameters(), CRITIC_RATE, betas=(0.5, 0.99))

    def parts(self, sr: Tensor, fields: list) -> Iterator[tuple[str, Tensor]]:
        shared = self.losses
        for name, weight in self.weights.items():
            if name == "lpips":
                yield name, weight * shared.lpips(sr)
            elif name == "wasserstein":
                yield name, weight * shared.wasserstein(sr)
            elif name == "texture" and shared.matched.matches:
                yield name, weight * self.texture(sr, shared.swapped, shared.score)
            elif name == "critic" and self.critic is not None:
                verdict = self.critic(sr)
                counted = F.interpolate(GUESSED + (1 - GUESSED) * shared.trust, size=verdict.shape[-2:])
                yield name, -weight * (verdict * counted).flatten(1).mean(1)
            elif name == "ms-ssim":
                yield name, weight * dissimilarity(sr, shared.hr)
            elif name == "grid":
                yield name, weight * grid(sr, shared.hr, SCALE)
            elif name == "lowpass":
                yield name, weight * back_projection(sr, shared.lr, SCALE)
            elif name == "ldl":
                self.steady.load_state_dict(self.average.state, strict=False)
                with torch.no_grad():
                    steady = transfer(self.steady, shared.matched, fields)
                yield name, weight * ldl(sr, shared.hr, steady)

    def train(self, step: int, rate: float, fields: list) -> dict[str, float]:
        hr = self.losses.hr
        sr = transfer(self.model, self.losses.matched, fields)
        found = {"l1": reconstruction(sr, hr).mean()}
        found |= {name: loss.mean() for name, loss in self.parts(sr, fields)}
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad()
        torch.autograd.backward(sum(found.values()))
        nn.utils.clip_grad_norm_(self.trained, 0.5)
        self.optimiser.step()
        self.average.update(self.model.own_state(), step)
        if self.critic is not None:
            loss = F.relu(1 - self.critic(hr)).mean() + F.relu(1 + self.critic(sr.detach())).mean()
            self.critic_optimiser.zero_grad()
            torch.autograd.backward(loss)
            self.critic_optimiser.step()
            found["verdicts"] = loss
        return {name: value.item() for name, value in found.items()}


ARMS: Final[dict[str, dict[str, float]]] = {
    "lpips": {"lpips": 0.2},
    "wasserstein": {"lpips": 0.2, "wasserstein": 0.2},
    "texture": {"lpips": 0.2, "texture": 0.03},
    "patch": {"lpips": 0.2, "critic": 5e-3},
    "unet": {"lpips": 0.2, "critic": 5e-3},
    "ms-ssim": {"lpips": 0.2, "ms-ssim": 0.3},
    "ldl": {"lpips": 0.2, "ldl": 50.0},
    "lowpass": {"lpips": 0.2, "lowpass": 1.0},
    "all": {"lpips": 0.2, "all": 0.0},
    "grid": {"lpips": 0.2, "lowpass": 1.0, "grid": 5.0},
    "grid+ms-ssim": {"lpips": 0.2, "lowpass": 1.0, "grid": 5.0, "ms-ssim": 0.5},
    "grid+patch": {"lpips": 0.2, "lowpass": 1.0, "grid": 5.0, "ms-ssim": 0.3, "critic": 1e-2},
    "grid+wasserstein": {"lpips": 0.1, "lowpass": 1.0, "grid": 5.0, "ms-ssim": 0.3, "wasserstein": 0.3},
}


def drawing_of(files: Sequence[Path], seed: int) -> PairSampler:
    photos = PhotoFiles(files, CHECKED_PX)
    sources = Sources(photos=photos, single=tuple(filter(photos.is_usable, range(len(files)))))
    pairs = PairConfig(references=(0.0, 1.0), unrelated=0.1, elsewhere=0.0, tilted=0.1, layered=0.1, relief=0.1)
    return PairSampler(sources=sources, pairs=pairs, degrade=DegradeConfig(), real=0.0, seed=seed)


@torch.no_grad()
def matched_of(model: DefaultModel, batch: dict[str, Tensor], alone: bool) -> tuple[Matched, list]:
    if alone:
        return Matched(lr=batch["lr"]), []
    matched = match(model, encode(model, batch["lr"], [batch["refs"][:, 0]]))
    fields = [
        model.fields(matched.lr, matched.values, each, field)[-1]
        for each, field in zip(matched.matches, matched.fields, strict=True)
    ]
    return matched, fields


def grid_levels(sr: Tensor, hr: Tensor) -> float:
    """Deviation of the mean errors of the 16 pixels of a cell, in levels: zero where no grid shows."""
    error = 255 * F.pixel_unshuffle((sr - hr).mean(1, keepdim=True), SCALE)
    return error.mean((0, 2, 3)).std().item()


@torch.inference_mode()
def check(models: dict[str, DefaultModel], base: DefaultModel, drawing: PairSampler, count: int,
          distances: dict[str, LPIPS]) -> None:  # fmt: skip
    photos = PhotoSource(drawing.sources.photos)
    found: dict[str, dict[str, list[float]]] = {}
    for number in range(count):
        batch = render([drawing.plan(number, CHECKED_PX, 1)], photos, CHECKED_PX)
        hr, lr = batch["hr"], batch["lr"]
        for alone in (False, True):
            matched, fields = matched_of(base, batch, alone)
            for name, model in models.items():
                sr = transfer(model, matched, fields).clamp(0, 1)
                figures = {"PSNR": psnr_db(sr, hr).item(), "colour": colour_levels(sr, hr).item(),
                           "LR RMSE": 255 * (downscale_bicubic(sr, SCALE) - lr).square().mean().sqrt().item(),
                           "grid": grid_levels(sr, hr)}  # fmt: skip
                figures |= {what: one(sr, hr).item() for what, one in distances.items()}
                for what, value in figures.items():
                    kind = f"{what}, {'none' if alone else 'ref'}"
                    found.setdefault(kind, {}).setdefault(name, []).append(value)
    for kind, arms in found.items():
        print(kind)
        for name, values in arms.items():
            more = [one - other for one, other in zip(values, arms["start"], strict=True)]
            print(f"  {name:14s} {fmean(values):8.4f}  {fmean(more):+.4f} ± {stdev(more) / math.sqrt(len(more)):.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--lpips", type=Path, required=True)
    parser.add_argument("--vgg19", type=Path, required=True)
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--checked", type=int, default=40)
    options = parser.parse_args()
    files = sorted(path for folder in options.photos for path in list_folder(folder).photos)
    drawing = drawing_of([path for row, path in enumerate(files) if row % HELD_OUT_EVERY], 0)
    distance, bare = load_lpips([options.lpips]), load_lpips([options.vgg19])
    losses = Losses(distance, load_vgg19(options.vgg19, "relu3_1"))
    base = load_model("default", device="cpu")
    arms = []
    for name in options.arms:
        torch.manual_seed(0)
        arms.append(Arm(name, base, losses, ARMS[name]))
    stage = StageConfig(steps=options.steps, learning_rate=RATE, warmup_steps=10, decay_share=0.9)
    photos = PhotoSource(drawing.sources.photos)
    for step in range(1, options.steps + 1):
        batch = render([drawing.plan(step * BATCH + row, TRAINED_PX, 1) for row in range(BATCH)], photos, TRAINED_PX)
        matched, fields = matched_of(base, batch, step % ALONE_EVERY == 0)
        losses.look_at(batch, matched)
        for arm in arms:
            told = arm.train(step, stage.rate_at(step), fields)
            if step % 20 == 1:
                print(f"{step} {arm.name}: " + ", ".join(f"{k} {v:.4f}" for k, v in told.items()), flush=True)
    models = {"start": base}
    for arm in arms:
        arm.model.load_state_dict(arm.average.state, strict=False)
        models[arm.name] = arm.model
    check(models, base, drawing_of(files[::HELD_OUT_EVERY], 1), options.checked, {"LPIPS": distance, "VGG19": bare})


if __name__ == "__main__":
    main()
