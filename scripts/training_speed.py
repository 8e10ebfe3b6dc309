"""How fast are pairs made, and where does the time of a training step go?

    python scripts/training_speed.py DATA [--device cuda] [--batch 12] [--threads 1]

DATA is what `refsr train --data` takes. Decoding is not counted: every photograph is decoded beforehand.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from refsr.data.light import LightConfig
from refsr.data.photos import PhotoSource
from refsr.data.plan import PairConfig, PairSampler
from refsr.data.render import render
from refsr.data.sources import Sources, open_sources
from refsr.degrade import DegradeConfig
from refsr.device import computes_bf16
from refsr.models import load_model
from refsr.training.config import LossWeights, StageConfig, TrainConfig
from refsr.training.step import NetworkStep, Perception

SIZE_PX = 160
SECONDS = 5.0
RECIPE = yaml.safe_load((Path(__file__).parent.parent / "recipes" / "default.yaml").read_text())
PAIRS = PairConfig(**RECIPE["pairs"] | {"light": LightConfig(**RECIPE["pairs"]["light"])})
LIT = LightConfig(temperature=0.3, shading=0.3, shadow=0.3, haze=0.3)
KINDS: dict[str, tuple[PairConfig, DegradeConfig, float]] = {
    "flat, one reference on average": (PairConfig(), DegradeConfig(), 0.0),
    "tilted": (PairConfig(tilted=1.0), DegradeConfig(), 0.0),
    "relief": (PairConfig(relief=1.0), DegradeConfig(), 0.0),
    "planes in front": (PairConfig(layered=1.0), DegradeConfig(), 0.0),
    "another light": (PairConfig(light=LIT), DegradeConfig(), 0.0),
    "degraded LR images": (PairConfig(), DegradeConfig(clean=0.0), 0.0),
    "real views": (PairConfig(), DegradeConfig(), 1.0),
    "recipe default.yaml": (PAIRS, DegradeConfig(), RECIPE["real"]),
}


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    sources = open_sources(arguments.data, SIZE_PX)
    photos = PhotoSource(sources.photos, 2**14, device)
    photos.preload(arguments.threads)
    for name, (pairs, degraded, real) in KINDS.items():
        if (real == 1 and not sources.views) or (real < 1 and not sources.single):
            continue
        drawing = PairSampler(sources=sources, pairs=pairs, degrade=degraded, real=real, seed=0)
        print(f"{name}: {_pairs_a_second(drawing, photos, arguments.batch):.0f} pairs of {SIZE_PX} px a second")
    _profile_steps(sources, photos, arguments.batch)


def _pairs_a_second(drawing: PairSampler, photos: PhotoSource, batch: int) -> float:
    made, begun = 0, 0.0
    while made <= batch or time.perf_counter() - begun < SECONDS:
        if made == batch:  # the first batch warms up
            begun = time.perf_counter()
        _batch(drawing, photos, made, batch)
        _wait(photos.device)
        made += batch
    return (made - batch) / (time.perf_counter() - begun)


def _batch(drawing: PairSampler, photos: PhotoSource, first: int, count: int) -> dict[str, Tensor]:
    return render([drawing.plan(first + n, SIZE_PX) for n in range(count)], photos, SIZE_PX)


def _profile_steps(sources: Sources, photos: PhotoSource, batch: int) -> None:
    device = photos.device
    stage = StageConfig(steps=1, batch=batch, losses=LossWeights(contrast=0.003, alignment=0.1))
    model = load_model(device=str(device)).train().requires_grad_(True)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    step = NetworkStep(model, TrainConfig(rec=stage), stage, Perception()).train()
    optimiser = torch.optim.AdamW(model.parameters(), 1e-4)
    drawing = PairSampler(sources=sources, pairs=PAIRS, degrade=DegradeConfig(), real=RECIPE["real"], seed=0)
    spent = dict.fromkeys(("data", "forward", "backward", "optimiser"), 0.0)

    def clocked(name: str, work: Any) -> Any:
        begun = time.perf_counter()
        done = work()
        _wait(device)
        spent[name] += time.perf_counter() - begun
        return done

    def one_step(number: int) -> None:
        made = clocked("data", lambda: _batch(drawing, photos, number * batch, batch))
        with torch.autocast(device.type, torch.bfloat16, enabled=computes_bf16(device)):
            losses, _ = clocked("forward", lambda: step(made))
        optimiser.zero_grad()
        clocked("backward", losses["total"].backward)
        clocked("optimiser", optimiser.step)

    for number in range(2):
        one_step(number)
    spent.update(dict.fromkeys(spent, 0.0))
    step.seconds.update(dict.fromkeys(step.seconds, 0.0))
    for number in range(2, 12):
        one_step(number)
    whole = sum(spent.values())
    shares = ", ".join(f"{name} {100 * seconds / whole:.0f} %" for name, seconds in spent.items())
    print(f"a step of {batch} pairs: {whole / 10:.3f} s: {shares}")
    inside = ", ".join(f"{name} {100 * seconds / whole:.0f} %" for name, seconds in step.seconds.items())
    print(f"within forward: {inside}")
    kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
    with profile(activities=kinds) as profiler:
        for number in range(12, 16):
            one_step(number)
    by = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
    print(profiler.key_averages().table(sort_by=by, row_limit=12, max_name_column_width=40))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
