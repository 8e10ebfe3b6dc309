"""Train the network that measures blur, noise and JPEG of a photo, on pictures that were harmed in known ways.

    python scripts/train_condition.py PHOTOS... -o FILE [--pictures 16000] [--minutes 12]

photographs ── squares ── blur, reduction, noise, JPEG ──> 8 bits, known blur, noise and quality ──> ConditionNet
Every tenth photograph is held out; the errors printed are on these.
"""

import argparse
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from refsr.degrade import Degradation, blur_kernel, degrade
from refsr.io.listing import list_folder
from refsr.io.photo import as_photo
from refsr.restore.condition import ConditionNet, as_targets, pooled
from refsr.restore.sharpness import luma

SIDE_PX: Final = 128
SCALES: Final = {1: 0.15, 2: 0.25, 3: 0.25, 4: 0.35}
KINDS: Final = {"none": 0.2, "gaussian": 0.35, "anisotropic": 0.12, "disc": 0.15, "line": 0.1, "curve": 0.08}
FLAT: Final = 0.02
BATCH: Final = 64
RATE: Final = 2e-3
HELD_OUT_EVERY: Final = 10


def draw_harm(rng: np.random.Generator, scale: int) -> Degradation:
    """Draw what is done to a square before and after its reduction; half of the blurs are below 1.2 pixels."""
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    width = max(rng.uniform(0.1, 1.2 if rng.random() < 0.5 else 3.0), 0.1)
    sizes = {"none": 0.0, "gaussian": width, "anisotropic": 1.2 * width, "disc": 2 * width}
    motion = math.sqrt(24) * width
    camera, light = scale > 1 and rng.random() < 0.25, rng.random()
    noisy, packed = rng.random() < 0.6, rng.random() < 0.6
    twice = packed and rng.random() < 0.15
    return Degradation(
        blur=kind,  # type: ignore[arg-type]
        blur_px=sizes.get(kind, motion) * scale,
        blur_ratio=rng.uniform(0.3, 0.9) if kind == "anisotropic" else 1.0,
        blur_degrees=rng.uniform(0, 180),
        blur_bend_degrees=rng.uniform(-120, 120) if kind == "curve" else 0.0,
        blur_sway_degrees=rng.uniform(-40, 40) if kind == "curve" else 0.0,
        reduction="camera" if camera else str(rng.choice(("bicubic", "area", "lanczos"))),  # type: ignore[arg-type]
        optics_px=rng.uniform(0.2, 0.6) if camera else 0.0,
        shot=3e-5 * 330**light if noisy else 0.0,
        read=5e-4 * 40 ** float(np.clip(light + rng.uniform(-0.15, 0.15), 0, 1)) if noisy else 0.0,
        grain_px=rng.uniform(0.4, 0.9) if noisy and not camera and rng.random() < 0.35 else 0.0,
        noise_seed=int(rng.integers(2**31)),
        sharpen=rng.uniform(0.2, 0.8) if rng.random() < 0.12 else 0.0,
        sharpen_px=rng.uniform(0.5, 1.2),
        first_quality=int(rng.integers(30, 96)) if twice else 0,
        first_y_px=int(rng.integers(8)),
        first_x_px=int(rng.integers(8)),
        codec="jpeg" if packed else "none",
        quality=int(rng.integers(25, 99)) if packed else 0,
        subsampled=bool(rng.random() < 0.7),
    )


def blur_width_px(harm: Degradation, scale: int) -> float:
    """Standard deviation of the whole blur in reduced pixels, mean of all directions."""
    kernel = blur_kernel(harm).double()
    offset = torch.arange(len(kernel)).double() - len(kernel) // 2
    variance = 0.5 * float((kernel * (offset[:, None] ** 2 + offset**2)).sum())
    return math.sqrt(variance / scale**2 + harm.optics_px**2)


def harmed(square: Tensor, harm: Degradation, scale: int) -> tuple[Tensor, tuple[float, float, float]]:
    """A harmed square in levels, and its blur, noise and quality."""
    bare = replace(harm, codec="none", quality=0, first_quality=0)
    noise = 0.0
    if harm.shot:
        still = degrade(square, [replace(bare, shot=0.0, read=0.0)], scale)
        noise = 255 * float(luma(degrade(square, [bare], scale) - still).std())
    return (degrade(square, [harm], scale) * 255).round().byte(), (
        blur_width_px(harm, scale),
        noise,
        float(harm.quality or 100),
    )


def make_pictures(files: Sequence[Path], count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Harmed squares (n, 3, 128, 128) in levels, and their conditions (n, 3)."""
    rng = np.random.default_rng(seed)
    squares: list[Tensor] = []
    conditions: list[tuple[float, float, float]] = []
    while len(squares) < count:
        pixels = as_photo(files[rng.integers(len(files))]).pixels
        height, width = pixels.shape[-2:]
        shares = {scale: share for scale, share in SCALES.items() if min(height, width) >= scale * SIDE_PX}
        for _ in range(4 if shares else 0):
            scale = int(rng.choice(list(shares), p=np.array(list(shares.values())) / sum(shares.values())))
            side = SIDE_PX * scale
            y, x = rng.integers(height - side + 1), rng.integers(width - side + 1)
            square, harm = pixels[..., y : y + side, x : x + side].contiguous(), draw_harm(rng, scale)
            if rng.random() < FLAT:  # where blur does not show
                square, harm = (
                    square.mean((2, 3), keepdim=True).expand_as(square),
                    replace(harm, blur="none", blur_px=0.0),
                )
            square, condition = harmed(square, harm, scale)
            squares.append(square)
            conditions.append(condition)
    return torch.cat(squares), torch.tensor(conditions)


def measured(network: ConditionNet, squares: Tensor) -> Tensor:
    """What the network tells of squares in levels."""
    with torch.inference_mode():
        return torch.cat([pooled(*network(part.float() / 255)) for part in squares.split(100)])


def report(network: ConditionNet, squares: Tensor, conditions: Tensor) -> str:
    """Errors on held-out squares: median and 90 %; noise above a level without JPEG, quality below 85."""
    found = measured(network, squares)
    blur, noise, quality = conditions.unbind(1)
    noisy, packed = (noise > 1) & (quality >= 90), quality < 85
    told = as_targets(blur, noise, quality)
    errors = {
        "blur (px)": (found[:, 0] - blur).abs(),
        "noise (share)": ((found[:, 1].exp() - told[:, 1].exp()).abs() / noise)[noisy],
        "quality": 20 * (found[:, 2] - (100 - quality) / 20).abs()[packed],
    }
    return ", ".join(f"{name} {each.median():.2f}, {each.quantile(0.9):.2f}" for name, each in errors.items())


def train(network: ConditionNet, squares: Tensor, conditions: Tensor, minutes: float) -> int:
    """Train for a time, the rate falling along a cosine to zero; returns the number of steps."""
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=1e-4)
    targets, begun, steps = as_targets(*conditions.unbind(1)), time.monotonic(), 0
    while (done := (time.monotonic() - begun) / 60 / minutes) < 1:
        for group in optimiser.param_groups:
            group["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * done)) * min(1.0, (steps + 1) / 100)
        rows = torch.randint(len(squares), (BATCH,))
        seen = squares[rows].float() / 255
        if torch.rand(1) < 0.5:
            seen = seen.flip(-1)
        if torch.rand(1) < 0.5:
            seen = seen.mT
        loss = F.smooth_l1_loss(pooled(*network(seen)), targets[rows], beta=0.1)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        steps += 1
    return steps


def main(arguments: Sequence[str]) -> None:
    """Make pictures, train, print errors, write the weights."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=16000)
    parser.add_argument("--minutes", type=float, default=12.0)
    options = parser.parse_args(arguments)
    files = sorted(path for folder in options.photos for path in list_folder(folder).photos)
    np.random.default_rng(0).shuffle(files)  # type: ignore[arg-type]
    held_out, others = files[::HELD_OUT_EVERY], [path for row, path in enumerate(files) if row % HELD_OUT_EVERY]
    checked, squares = make_pictures(held_out, options.pictures // 15, 1), make_pictures(others, options.pictures, 2)
    torch.manual_seed(0)
    network = ConditionNet()
    steps = train(network, *squares, options.minutes)
    print(f"{steps} steps; errors on held-out photographs (median, 90 %): {report(network, *checked)}")
    save_file({name: value.half().contiguous() for name, value in network.state_dict().items()}, options.output)


if __name__ == "__main__":
    main(sys.argv[1:])
