"""Train the default model on a folder of photographs.

photos ── pairs ──> hr, ref ── down ──> lr ── model ──> sr ── L1 against hr ──┐
                     └── truth ──> descriptors ── InfoNCE ────────────────────┴──> loss
"""

import io
import json
import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from refsr.data.pairs import PairConfig, SyntheticPairs, load_photos
from refsr.errors import UsageError, WeightsError
from refsr.files import write_atomically
from refsr.models.default import DefaultConfig, DefaultModel
from refsr.resize import downscale_bicubic
from refsr.weights import read_weights, save_weights


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run.

    Attributes:
        steps: Length of the run.
        batch: Pairs a step.
        learning_rate: AdamW's, after the warm-up and before the decay.
        warmup_steps: Steps over which the rate rises from zero.
        decay_share: Last share of the run, over which the rate falls to zero in a straight line.
        ema_decay: Of the weights' running average, which is what ships.
        contrast_weight: Of the descriptors' InfoNCE loss against L1.
        contrast_queries: Cells of each pair that InfoNCE asks for.
        contrast_temperature: InfoNCE's temperature.
        checkpoint_minutes: Time between checkpoints.
    """

    steps: int = 6000
    batch: int = 12
    learning_rate: float = 6e-4
    warmup_steps: int = 200
    decay_share: float = 0.4
    ema_decay: float = 0.999
    contrast_weight: float = 0.003
    contrast_queries: int = 256
    contrast_temperature: float = 0.07
    checkpoint_minutes: float = 4.0
    pairs: PairConfig = field(default_factory=PairConfig)
    model: DefaultConfig = field(default_factory=DefaultConfig)

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1:
            raise UsageError(f"steps ({self.steps}) and batch ({self.batch}) must be at least 1")


def train(photos: Path, run: Path, config: TrainConfig, init: Path | None = None) -> Path:
    """Train, or go on with, the run in a folder.

    The folder gets `log.jsonl` (a line every 50 steps), `checkpoint.pt` (all that a resumed run needs) and, at every
    checkpoint, `default.safetensors` (the averaged weights).

    Args:
        photos: Folder of photographs, searched through.
        run: Folder of the run; a checkpoint in it is resumed.
        config: A resumed run may have another length; the schedule then follows the new one.
        init: Weights to begin with, of the same config; a checkpoint in the run's folder goes before them.

    Returns:
        The path of the averaged weights.

    Raises:
        ImageError: No photo in the folder is large enough.
        WeightsError: `init` cannot be used.
    """
    run.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.pairs.seed)
    model = DefaultModel(config.model)
    if init is not None:
        _begin_with(init, model)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = {name: value.detach().clone() for name, value in model.state_dict().items()}
    optimiser = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=1e-4)
    start = _resume(run, model, average, optimiser)
    dataset = SyntheticPairs(load_photos(photos, config.pairs.crop_px), config.pairs, config.steps * config.batch)
    remaining = Subset(dataset, range(start * config.batch, len(dataset)))
    loader = DataLoader(remaining, batch_size=config.batch, num_workers=1, prefetch_factor=4)
    saved = begun = time.monotonic()
    sums: dict[str, float] = {}
    logged = start
    for step, batch in enumerate(loader, start + 1):
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * _schedule(step, config)
        losses = _losses(model, batch, config, torch.Generator().manual_seed(step))
        loss = losses["l1"] + config.contrast_weight * losses["contrast"]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimiser.step()
        keep = min(config.ema_decay, (step + 1) / (step + 10))
        with torch.no_grad():
            for name, value in model.state_dict().items():
                average[name].lerp_(value, 1 - keep)
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + value.item()
        if step % 50 == 0:
            line: dict[str, Any] = {name: round(value / (step - logged), 6) for name, value in sums.items()}
            line |= {"step": step, "seconds_per_step": round((time.monotonic() - begun) / (step - start), 3)}
            with (run / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            print(line, flush=True)
            sums, logged = {}, step
        if time.monotonic() - saved > 60 * config.checkpoint_minutes:
            _checkpoint(run, step, model, average, optimiser)
            saved = time.monotonic()
    (run / "config.json").write_text(json.dumps(asdict(config), indent=1))
    return _checkpoint(run, config.steps, model, average, optimiser)


def _begin_with(init: Path, model: DefaultModel) -> None:
    name, values, state = read_weights(init)
    if name != model.name or values != asdict(model.config):
        raise WeightsError(f"{init}: is of another model or size than this run: give other weights or another config")
    model.load_state_dict(state)


def _resume(run: Path, model: DefaultModel, average: dict[str, Tensor], optimiser: torch.optim.Optimizer) -> int:
    """Load the run's checkpoint, if there is one, into what is given; the step that it was made at, or 0."""
    path = run / "checkpoint.pt"
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    average.update(state["average"])
    optimiser.load_state_dict(state["optimiser"])
    step: int = state["step"]
    print(f"resumed at step {step}", flush=True)
    return step


def _checkpoint(
    run: Path, step: int, model: DefaultModel, average: dict[str, Tensor], optimiser: torch.optim.Optimizer
) -> Path:
    """Write all that a resumed run needs, and the averaged weights, whose path is given back."""
    state = {"model": model.state_dict(), "average": average, "optimiser": optimiser.state_dict(), "step": step}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(run / "checkpoint.pt", buffer.getvalue())
    weights = run / f"{model.name}.safetensors"
    save_weights(weights, model.name, model.config, average)
    return weights


def contrast_loss(
    query: Float[Tensor, "b c h w"],
    key: Float[Tensor, "b c h2 w2"],
    truth_cells: Float[Tensor, "b 2 h w"],
    queries: int,
    temperature: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """InfoNCE: each query cell against its true place and every other cell of its reference.

    Cells nearer than two to the true place are neither wanted nor unwanted.

    Args:
        query: Unit descriptors of the LR images.
        key: Unit descriptors of the references.
        truth_cells: (y, x) in the reference, NaN where unknown; such cells are not asked for.
        queries: Cells a pair, drawn at random with replacement.
        temperature: Divides the cosines.
        generator: For the draw.

    Returns:
        The loss, and the share of queries whose best cell is the true one (within one cell); zeros if none is known.

    Source: van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018, equation 4.
    """
    losses, hits = [], []
    height, width = key.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    cells = torch.stack((y, x)).flatten(1).float()
    for b in range(query.shape[0]):
        known = (~truth_cells[b, 0].isnan()).flatten().nonzero()[:, 0]
        if not len(known):
            continue
        asked = known[torch.randint(len(known), (queries,), generator=generator)]
        truth = truth_cells[b].flatten(1)[:, asked]
        descriptors = query[b].flatten(1)[:, asked]
        grid = (2 * truth.flip(0).T + 1) / torch.tensor((width, height)) - 1
        positive = F.grid_sample(key[b : b + 1], grid[None, None], align_corners=False)[0, :, 0]
        wanted = (descriptors * F.normalize(positive, dim=0)).sum(0)
        cosines = descriptors.T @ key[b].flatten(1)
        near = (cells[:, None] - truth[..., None]).square().sum(0) < 4
        logits = torch.cat((wanted[:, None], cosines.masked_fill(near, -math.inf)), 1) / temperature
        losses.append(F.cross_entropy(logits, torch.zeros(queries, dtype=torch.long)))
        best = cells[:, cosines.argmax(1)]
        hits.append(((best - truth).abs().amax(0) <= 1).float().mean())
    if not losses:
        return query.new_zeros(()), query.new_zeros(())
    return torch.stack(losses).mean(), torch.stack(hits).mean()


def _losses(
    model: DefaultModel, batch: dict[str, Tensor], config: TrainConfig, generator: torch.Generator
) -> dict[str, Tensor]:
    hr, ref = batch["hr"], batch["ref"]
    present: Bool[Tensor, " b"] = batch["present"]
    lr = (downscale_bicubic(hr, model.scale) * 255).round() / 255
    zero = lr.new_zeros(())
    losses = {"l1": zero, "contrast": zero, "hits": zero}
    absolute = []
    if present.any():
        query = model.encode_query(lr[present])
        reference = model.encode_reference(ref[present])
        restored = model.transfer(lr[present], [reference], model.search(query, [reference]))
        absolute.append((restored - hr[present]).abs().flatten())
        losses["contrast"], losses["hits"] = contrast_loss(
            query,
            reference.key,
            batch["truth_cells"][present],
            config.contrast_queries,
            config.contrast_temperature,
            generator,
        )
    if not present.all():
        alone = model.transfer(lr[~present], [], None)
        absolute.append((alone - hr[~present]).abs().flatten())
    losses["l1"] = torch.cat(absolute).mean()
    return losses


def _schedule(step: int, config: TrainConfig) -> float:
    """Rise, hold, fall to zero: the hold can be lengthened by a resumed run."""
    decay_steps = max(1.0, config.decay_share * config.steps)
    return min(1.0, step / max(1, config.warmup_steps), (config.steps - step + 1) / decay_steps)
