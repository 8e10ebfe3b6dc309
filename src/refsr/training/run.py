"""The state of a training run, the parts that it begins with, its log, and the average of the weights, which ships."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision.amp import MixedPrecision
from torch import Tensor, nn

from refsr.bench.datasets import Dataset, open_dataset
from refsr.bench.lpips import load_lpips
from refsr.bench.measure import BenchConfig, run_benchmark
from refsr.data.photos import PhotoSource
from refsr.data.sources import open_sources
from refsr.device import computes_bf16
from refsr.errors import WeightsError
from refsr.extras import import_extra
from refsr.io.progress import Progress
from refsr.io.records import write_record
from refsr.io.weights import read_weights, save_weights
from refsr.models import ARCHITECTURES, RefSRModel
from refsr.models.vgg import load_vgg19
from refsr.training.checkpoint import load_checkpoint
from refsr.training.config import RunOptions, TrainConfig
from refsr.training.step import Perception
from refsr.wording import counted

Report = Callable[[str], None]
"""Receives lines for the user."""

_FABRIC: Final = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


class RunningAverage:
    """Exponential moving average with a warm-up, in which the initial weights are soon forgotten.

    Source: Polyak and Juditsky, 1992; the warm-up after TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, state: Mapping[str, Tensor], decay: float) -> None:
        """Begin with a state.

        Args:
            state: The network's state dict.
            decay: Share kept at each step; 0 follows the network exactly.
        """
        self.state = {name: value.detach().clone() for name, value in state.items()}
        self.decay = decay

    @torch.no_grad()
    def update(self, state: Mapping[str, Tensor], step: int) -> None:
        """Average in the network's state after a step; the first step is 1."""
        keep = min(self.decay, (step + 1) / (step + 10))
        for name, value in state.items():
            if value.is_floating_point():
                self.state[name].lerp_(value, 1 - keep)
            else:
                self.state[name].copy_(value)


class Run:
    """State of a run that lasts over its stages: data, network, running average, log."""

    def __init__(
        self, config: TrainConfig, options: RunOptions, fabric: Fabric, report: Report, progress: Progress
    ) -> None:
        self.config, self.options, self.fabric = config, options, fabric
        self.report, self.progress = report, progress
        self.begun = time.monotonic()
        largest = max(side for _, stage in config.stages for side in stage.crop_px)
        self.validation: Dataset | None = open_dataset(options.validate) if options.validate else None
        self.sources = open_sources(
            options.data, largest, (*options.held_out, *(self.validation.pictures if self.validation else ()))
        )
        # Pairs are rendered on the training device, but not on MPS, which lacks float64.
        device = fabric.device if fabric.device.type == "cuda" else "cpu"
        self.photos = PhotoSource(self.sources.photos, config.cache_mib, device)
        for photo, picture in self.sources.leaks:
            report(f"left out {photo}: it shows {picture}, which is held out")
        if fabric.device.type == "cuda":
            self.photos.preload(threads=max(1, os.cpu_count() or 1))
        torch.manual_seed(config.seed)
        self.perception = open_perception(config, options, report)
        for network in (self.perception.vgg, self.perception.lpips):
            if network is not None:
                network.to(fabric.device)
        kind = ARCHITECTURES[config.model]
        self.model: RefSRModel = kind.build(config.network, load_vgg19(options.vgg19) if kind.needs_vgg19 else None)
        if options.init is not None:
            begin_with(options.init, self.model, report)
        self.model.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.compiled:
            for part in self.model.children():
                if isinstance(part, nn.Sequential):
                    part.compile(dynamic=True)
        self.average = RunningAverage(self.model.own_state(), config.ema_decay)
        self.best_db = float("-inf")
        self.resumed = load_checkpoint(self.checkpoint_path, config)
        self.step = 0
        if self.resumed is not None:
            self.step = self.resumed["step"]
            self.best_db = self.resumed["best_db"]
            self.model.load_state_dict(self.resumed["model"], strict=False)
            self.average.state = {name: value.to(fabric.device) for name, value in self.resumed["average"].items()}
            torch.set_rng_state(self.resumed["random"])
            report(f"resumed at step {self.step}")
        if fabric.is_global_zero:
            write_record(options.output / "config.json", "training", asdict(config))
        self.log = RunLog(options.output, options.tensorboard and fabric.is_global_zero)
        single, views = len(self.sources.single), len(self.sources.views)
        report(f"{counted(single, 'photograph')}, {counted(views, 'view')} with partners")

    @property
    def checkpoint_path(self) -> Path:
        return self.options.output / "checkpoint.pt"

    @property
    def weights_path(self) -> Path:
        return self.options.output / f"{self.model.name}.safetensors"

    def time_left(self) -> float:
        """Share of the time limit that is left; 1 without a limit."""
        limit = self.options.time_limit_s
        return 1.0 if not limit else max(0.0, 1 - (time.monotonic() - self.begun) / limit)

    def save_weights(self, path: Path) -> None:
        """Write the averaged weights."""
        save_weights(path, self.model.name, self.model.config, self.average.state)

    def validate(self) -> dict[str, float]:
        """Validation metrics of the averaged weights by the benchmark's protocol; the best weights are written."""
        assert self.validation is not None
        own = {name: value.clone() for name, value in self.model.own_state().items()}
        self.model.load_state_dict(self.average.state, strict=False)
        self.model.eval()
        config = BenchConfig(limit=self.config.validate_samples)
        result = run_benchmark(self.validation, self.model, self.model.name, config)
        self.model.load_state_dict(own, strict=False)
        found = {
            f"validation_{metric}": summary.mean
            for metric in ("psnr_db", "ssim", "gain_db") if (summary := result.summary(metric)) is not None
        }  # fmt: skip
        if found["validation_psnr_db"] > self.best_db:
            self.best_db = found["validation_psnr_db"]
            self.save_weights(self.options.output / "best.safetensors")
        return found


class RunLog:
    """Collects figures, and writes their means."""

    def __init__(self, run: Path, tensorboard: bool) -> None:
        """Open the log of a run.

        Args:
            run: Folder of log.jsonl and tensorboard/.
            tensorboard: Whether to write TensorBoard files.

        Raises:
            MissingExtraError: TensorBoard is not installed.
        """
        self.path = run / "log.jsonl"
        self._sums: dict[str, float | Tensor] = {}
        self._counts: dict[str, int] = {}
        self._board: Any = None
        if tensorboard:
            import_extra("tensorboard", "--tensorboard")
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(run / "tensorboard"))

    def add(self, figures: Mapping[str, float | Tensor]) -> None:
        """Collect the figures of a step; tensors stay on their device until `means`."""
        for name, figure in figures.items():
            self._sums[name] = self._sums.get(name, 0.0) + figure
            self._counts[name] = self._counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """Means of all figures since the last call."""
        found = {name: float(self._sums[name]) / self._counts[name] for name in self._sums}
        self._sums, self._counts = {}, {}
        return found

    def write(self, line: Mapping[str, Any]) -> None:
        """Append a line, and send its numbers to TensorBoard."""
        rounded = {key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in line.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(rounded) + "\n")
        if self._board is not None:
            for key, value in line.items():
                if isinstance(value, float):
                    self._board.add_scalar(key, value, line["step"])

    def show(self, name: str, pictures: Float[Tensor, "3 h w"], step: int) -> None:
        """Send a picture to TensorBoard."""
        if self._board is not None:
            self._board.add_image(name, pictures.clamp(0, 1).cpu(), step)
            self._board.flush()


def make_optimiser(parameters: Sequence[nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    """The recipe's optimiser."""
    betas = (config.beta1, 0.999)
    if config.optimiser == "adamw":
        return torch.optim.AdamW(parameters, betas=betas, weight_decay=1e-4)
    return torch.optim.Adam(parameters, betas=betas)


def open_perception(config: TrainConfig, options: RunOptions, report: Report) -> Perception:
    """The networks that the losses need; VGG19 as deep as they need and its weights reach.

    Raises:
        WeightsError: Weights are missing, or damaged.
    """
    weights = [stage.losses for _, stage in config.stages]
    lpips = None
    if any(loss.lpips for loss in weights):
        if not options.lpips:
            raise WeightsError("the loss lpips needs the weights of LPIPS: give --lpips FILE")
        lpips = load_lpips(options.lpips)
    if not any(loss.perceptual or loss.texture for loss in weights):
        return Perception(lpips=lpips)
    deepest = "relu5_1" if any(loss.perceptual for loss in weights) else "relu3_1"
    try:
        return Perception(vgg=load_vgg19(options.vgg19, deepest), layer=deepest, lpips=lpips)
    except WeightsError as error:
        if deepest == "relu3_1" or "ends before" not in str(error):
            raise
    report("VGG19's weights end before relu5_1: the perceptual loss takes relu3_1")
    return Perception(vgg=load_vgg19(options.vgg19, "relu3_1"), layer="relu3_1", lpips=lpips)


def begin_with(init: Path, model: RefSRModel, report: Report) -> None:
    """Load initial weights; parts and blocks that the file lacks keep their random weights.

    Source of growing a trained network by identity blocks: Chen et al., "Net2Net", ICLR 2016, section 2.3.
    """
    name, _, state = read_weights(init)
    expected = model.own_state()
    fits = all(key in expected and expected[key].shape == value.shape for key, value in state.items())
    if name != model.name or not fits:
        raise WeightsError(
            f"{init}: does not fit the model {model.name} of this run: give other weights or another recipe"
        )
    lacking = sorted({_part(key, state) for key in expected.keys() - state.keys()})
    if lacking:
        report(f"{init} has no {', '.join(lacking)}: trained from the beginning")
    model.load_state_dict(state, strict=False)


def _part(key: str, state: Mapping[str, Tensor]) -> str:
    """Part of the network that a missing tensor belongs to ("align"), or block of a part ("after.12")."""
    part, _, rest = key.partition(".")
    there = any(other.startswith(f"{part}.") for other in state)
    return f"{part}.{rest.partition('.')[0]}" if there else part


def choose_precision(wanted: str, device: torch.device) -> str:
    """Fabric's name of a precision; auto is bf16 where the device has instructions for it, else fp32.

    Args:
        wanted: auto, fp32, bf16, fp16, or a name of fabric's.
        device: Device to train on.
    """
    if wanted == "auto":
        wanted = "bf16" if computes_bf16(device) else "fp32"
    return _FABRIC.get(wanted, wanted)


def fabric_precision(wanted: str, device: torch.device) -> dict[str, Any]:
    """Fabric's arguments for a precision; see `choose_precision`."""
    chosen = choose_precision(wanted, device)
    if chosen == "32-true":
        return {"precision": chosen}
    return {"plugins": ExactInputs(chosen, device.type)}  # type: ignore[arg-type]


class ExactInputs(MixedPrecision):
    """Mixed precision without fabric's rounding of the inputs, which would be of images too."""

    def convert_input(self, data: Any) -> Any:
        return data
