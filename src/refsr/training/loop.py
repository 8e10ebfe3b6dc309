"""The training loop, on lightning-fabric: one core or many machines, and every run can be broken off.

RUN/config.json          the resolved config
RUN/log.jsonl            a line every `log_steps`, and one for each validation
RUN/checkpoint.pt        the last one
RUN/MODEL.safetensors    the averaged weights of the last checkpoint
RUN/best.safetensors     those with the best validation
"""

import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader

from refsr.bench.datasets import Dataset, open_dataset
from refsr.bench.measure import BenchConfig, run_benchmark
from refsr.data.photos import PhotoSource
from refsr.data.plan import PairPlan, PairSampler
from refsr.data.render import render
from refsr.data.sources import open_sources
from refsr.data.training_pairs import Step, TrainingPairs
from refsr.device import choose_device
from refsr.errors import RefSRError, TrainingError
from refsr.io.files import claim, clear_unfinished, make_folder
from refsr.io.progress import Progress, silent
from refsr.io.weights import save_weights
from refsr.models import ARCHITECTURES, RefSRModel
from refsr.models.vgg import load_vgg19
from refsr.training.average import RunningAverage
from refsr.training.checkpoint import load_checkpoint, save_checkpoint
from refsr.training.config import RunOptions, StageConfig, TrainConfig
from refsr.training.eta import StretchEstimate
from refsr.training.finite import FiniteWatch
from refsr.training.log import RunLog
from refsr.training.losses import Critic
from refsr.training.precision import choose_precision, fabric_precision
from refsr.training.schedule import rate_at
from refsr.training.setup import Report, begin_with, make_optimiser, open_perception
from refsr.training.step import CriticStep, NetworkStep

_DECIDED_STEPS: Final = 10


def train(config: TrainConfig, options: RunOptions, report: Report = print, progress: Progress = silent) -> Path:
    """Train, or go on with, the run in a folder.

    Args:
        config: From the recipe.
        options: Everything else.
        report: Told what happens, a line at a time.
        progress: Told the steps.

    Returns:
        The path of the averaged weights.

    Raises:
        UsageError: The folder holds a run with other settings, or there is no data.
        ImageError: No picture of the data can be used.
        TrainingError: The loss is no number any more.
        WeightsError: VGG19's weights are missing where they are needed, or `init` does not fit.
        OutputError: The folder cannot be written.
    """
    device = choose_device(options.device)
    fabric = Fabric(
        accelerator=device.type,
        devices=options.processes,
        num_nodes=options.nodes,
        **fabric_precision(config.precision, device),
        strategy=DDPStrategy(find_unused_parameters=True) if _is_distributed(options, device) else "auto",
    )
    fabric.launch()
    make_folder(options.output)
    leading = fabric.is_global_zero
    with claim(options.output / ".lock") if leading else nullcontext():
        if leading:
            clear_unfinished(options.output)
        run = _Run(config, options, fabric, report if leading else lambda _line: None)
        weights = run.go(progress if leading else silent)
    if torch.distributed.is_initialized():
        # Left to the end of the process, its threads abort it now and then.
        torch.distributed.destroy_process_group()
    return weights


class _Run:
    """What stays the same over the stages of a run."""

    def __init__(self, config: TrainConfig, options: RunOptions, fabric: Fabric, report: Report) -> None:
        self.config, self.options, self.fabric, self.report = config, options, fabric, report
        self.begun = time.monotonic()
        largest = max(side for _, stage in config.stages for side in stage.crop_px)
        self.validation: Dataset | None = open_dataset(options.validate) if options.validate else None
        self.sources = open_sources(options.data, largest, _held_out(options, self.validation))
        # Pairs are made where the training is, but for Apple's GPUs, which lack float64.
        device = fabric.device if fabric.device.type == "cuda" else "cpu"
        self.photos = PhotoSource(self.sources.photos, config.cache_mib, device)
        for photo, picture in self.sources.leaks:
            report(f"left out {photo}: it shows {picture}, which is held out")
        if fabric.device.type == "cuda":
            self.photos.preload(threads=max(1, os.cpu_count() or 1))
        torch.manual_seed(config.seed)
        self.perception = open_perception(config, options.vgg19, report)
        if self.perception is not None:
            self.perception.vgg.to(fabric.device)
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
            (options.output / "config.json").write_text(json.dumps(asdict(config), indent=1) + "\n")
        self.log = RunLog(options.output, options.tensorboard and fabric.is_global_zero)
        report(f"{len(self.sources.single)} photographs, {len(self.sources.views)} views with partners")

    @property
    def checkpoint_path(self) -> Path:
        return self.options.output / "checkpoint.pt"

    @property
    def weights_path(self) -> Path:
        return self.options.output / f"{self.model.name}.safetensors"

    def time_left(self) -> float:
        """Share of the time limit that is left; 1 without one."""
        limit = self.options.time_limit_s
        return 1.0 if not limit else max(0.0, 1 - (time.monotonic() - self.begun) / limit)

    def go(self, progress: Progress) -> Path:
        """All stages that are not done yet."""
        self.progress = progress
        first, pair = 0, 0
        for name, stage in self.config.stages:
            last = first + stage.steps
            if self.step < last and self.fabric.broadcast(self.time_left()) > 0:
                _Stage(self, name, stage, first, pair).go()
            first, pair = last, pair + stage.steps * stage.batch * self.fabric.world_size
        if self.fabric.is_global_zero and not self.weights_path.exists():
            self.save_weights(self.weights_path)
        return self.weights_path

    def save_weights(self, path: Path) -> None:
        """The averaged ones."""
        save_weights(path, self.model.name, self.model.config, self.average.state)

    def validate(self) -> dict[str, float]:
        """PSNR and gain of the averaged weights by the benchmark's own protocol; the best ones are kept."""
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
            save_weights(
                self.options.output / "best.safetensors", self.model.name, self.model.config, self.average.state
            )
        return found


class _Stage:
    """One stage of a run: its losses, its optimisers, its part of the data."""

    def __init__(self, run: _Run, name: str, stage: StageConfig, first_step: int, first_pair: int) -> None:
        self.run, self.name, self.stage, self.first_step, self.first_pair = run, name, stage, first_step, first_pair
        config, fabric = run.config, run.fabric
        torch.manual_seed(config.seed + first_step)
        network = NetworkStep(run.model, config, stage, run.perception)
        network.train()
        self.network = network
        self.clock = network.seconds
        self.logged_at = run.step
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        # The scaler of fp16 leaves out steps that overflow.
        self.scaled = choose_precision(config.precision, fabric.device) == "16-mixed"
        self.watch = FiniteWatch()
        self.step_of_network, self.optimiser = fabric.setup(network, make_optimiser(trained, config))
        self.texture = network.texture
        self.critic: nn.Module | None = None
        if stage.losses.adversarial:
            self.critic = Critic(stage.crop_px[0], config.critic_width).to(fabric.device)
            step = CriticStep(self.critic)
            self.step_of_critic, self.critic_optimiser = fabric.setup(
                step, make_optimiser(list(step.parameters()), config)
            )
        state = run.resumed
        if state is not None and state["stage"] == name:
            self.optimiser.load_state_dict(state["optimiser"])
            if self.critic is not None:
                self.critic.load_state_dict(state["critic"])
                self.critic_optimiser.load_state_dict(state["critic_optimiser"])
            if self.texture is not None:
                self.texture.load_state_dict(state["texture"])

    def go(self) -> None:
        """From the run's step to the end of the stage, or of the time."""
        run, config, stage = self.run, self.run.config, self.stage
        run.report(f"stage {self.name}: {stage.steps} steps of {stage.batch} pairs")
        saved, waited = time.monotonic(), time.perf_counter()
        self.first, self.estimate = run.step, StretchEstimate()
        for batch in self._batches():
            begun = time.perf_counter()
            due = self._decide(time.monotonic() - saved > 60 * config.checkpoint_minutes)
            run.log.add({"seconds_data": begun - waited})
            run.step += 1
            self._step(batch)
            run.average.update(run.model.own_state(), run.step)
            run.progress(run.step, config.steps)
            waited = time.perf_counter()
            run.log.add({"seconds_step": waited - begun})
            finished = run.step == self.first_step + stage.steps
            over = self.time_left <= 0
            told = run.step % config.log_steps == 0
            tried = run.validation is not None and run.step % config.validate_steps == 0
            if told or tried or due or finished or over or run.fabric.device.type == "cpu":
                self._require_finite()
            if told or finished or over:
                self._log()
            if run.validation is not None and (tried or finished or over):
                self._validate()
            if finished:
                # The next stage goes on from the averaged weights, and so keeps the average of what it freezes.
                run.model.load_state_dict(run.average.state, strict=False)
            if over or finished or due:
                self._checkpoint()
                saved = time.monotonic()
            if over:
                run.report(f"time is over at step {run.step} of {config.steps}: call again to go on")
                return

    def _decide(self, due: bool) -> bool:
        """Whether a checkpoint is due; the time that is left is noted. All processes decide alike.

        Several ask only at every tenth step, since on accelerators each asking waits for the device.
        """
        run = self.run
        if run.fabric.world_size > 1 and (run.step - self.first) % _DECIDED_STEPS:
            return False
        self.time_left, due = run.fabric.broadcast((run.time_left(), due))
        return due

    def _step(self, batch: dict[str, Tensor]) -> None:
        run, fabric, stage = self.run, self.run.fabric, self.stage
        rate = rate_at(stage, run.step - self.first_step, self.time_left)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        if self.critic is not None:
            self.critic.requires_grad_(False)
        losses, sr = self.step_of_network(batch, self.critic)
        self.watch.add(losses["total"], run.step, batch["number"])
        self.optimiser.zero_grad(set_to_none=True)
        fabric.backward(losses["total"])
        if run.config.clip_norm:
            norm = fabric.clip_gradients(
                self.step_of_network, self.optimiser, max_norm=run.config.clip_norm, error_if_nonfinite=False
            )
            if not self.scaled:
                self.watch.add(cast(Tensor, norm), run.step, batch["number"])
        self.optimiser.step()
        figures = {name: loss.detach() for name, loss in losses.items()}
        if self.critic is not None:
            self.critic.requires_grad_(True)
            for turn in range(stage.critic_steps):
                loss = self.step_of_critic(sr.detach().float(), batch["hr"], batch["number"], turn)
                self.critic_optimiser.zero_grad(set_to_none=True)
                fabric.backward(loss)
                self.critic_optimiser.step()
                figures["critic"] = loss.detach()
        if fabric.world_size > 1:
            figures = fabric.all_reduce(figures, reduce_op="mean")  # type: ignore[assignment]
        run.log.add(figures)
        self.shown = (batch, sr.detach())

    def _require_finite(self) -> None:
        """Stop before anything is written of weights that are spoilt.

        Raises:
            TrainingError: A loss, or the norm of its gradient, was no number, in this process or in another.
        """
        run = self.run
        figures, steps = self.watch.take()
        if run.fabric.world_size > 1:
            figures = cast(Tensor, run.fabric.all_reduce(figures, reduce_op="mean"))
        wrong = figures.isfinite().logical_not().nonzero()
        if len(wrong):
            step, numbers = steps[int(wrong[0])]
            files = ", ".join(dict.fromkeys(self.drawing.file_of(int(number)) for number in numbers))
            held = f"is {run.checkpoint_path}" if run.checkpoint_path.exists() else "has not been written yet"
            raise TrainingError(
                f"the loss is no number at step {step}, on pairs of {files}: the last good checkpoint {held};"
                " look at those files, or begin anew with a lower learning rate"
            )

    def _batches(self) -> Iterator[dict[str, Tensor]]:
        """This process's part of what is left of the stage."""
        run, stage = self.run, self.stage
        rank, world = run.fabric.global_rank, run.fabric.world_size
        steps = [
            Step(
                numbers=range(first := self.first_pair + (step * world + rank) * stage.batch, first + stage.batch),
                size_px=stage.crop_at(step),
            )
            for step in range(run.step - self.first_step, stage.steps)
        ]
        self.drawing = PairSampler(
            sources=run.sources,
            pairs=run.config.pairs if stage.references else replace(run.config.pairs, references=(1.0,)),
            degrade=run.config.degrade,
            real=run.config.real,
            seed=run.config.seed,
        )
        workers = run.config.workers
        loader = DataLoader(
            TrainingPairs(self.drawing, steps), batch_size=None, num_workers=workers,
            prefetch_factor=4 if workers else None,
        )  # fmt: skip
        try:
            planned = cast(Iterable[tuple[list[PairPlan], int]], loader)
            for (plans, unusable), step in zip(planned, steps, strict=True):
                batch = render(plans, run.photos, step.size_px, run.model.scale)
                run.log.add({"errors": float(unusable + len(run.photos.replaced))})
                device = run.fabric.device
                yield {name: part.to(device) if part.is_floating_point() else part for name, part in batch.items()}
        except RefSRError as error:
            # From another process, it comes with that process's traceback; its last line is the message.
            raise type(error)(str(error).strip().splitlines()[-1].rpartition("Error: ")[2]) from error

    def _log(self) -> None:
        run = self.run
        if not run.fabric.is_global_zero:
            return
        limit_s = run.options.time_limit_s
        foretold = self.estimate.at_line(
            run.step, self.first_step + self.stage.steps, run.time_left() * limit_s if limit_s else None
        )
        if foretold is not None:
            run.report(foretold)
        means = run.log.means()
        working = means["seconds_step"] * (run.step - self.logged_at)
        shares = {f"share_{name}": seconds / working for name, seconds in self.clock.items()}
        shares["share_data"] = means["seconds_data"] / (means["seconds_data"] + means["seconds_step"])
        self.clock.update(dict.fromkeys(self.clock, 0.0))
        self.logged_at = run.step
        run.log.write(
            {"step": run.step, "stage": self.name, **means, **shares, "rate": self.optimiser.param_groups[0]["lr"]}
        )
        run.report(f"step {run.step}: " + ", ".join(f"{k} {v:.4g}" for k, v in means.items()))
        batch, sr = self.shown
        run.log.show("truth, result, reference", torch.cat((batch["hr"][0], sr[0], batch["refs"][0, 0]), -1), run.step)

    def _validate(self) -> None:
        run = self.run
        if run.fabric.is_global_zero:
            found = run.validate()
            self.network.train()
            run.log.write({"step": run.step, "stage": self.name, **found})
            run.report(f"step {run.step}: " + ", ".join(f"{k} {v:.4g}" for k, v in found.items()))
        run.fabric.barrier()

    def _checkpoint(self) -> None:
        run = self.run
        # A sum is no number where any of its parts is none.
        total = torch.stack([value.float().sum() for value in run.average.state.values()]).sum()
        self.watch.add(total, run.step, self.shown[0]["number"])
        self._require_finite()
        if run.fabric.is_global_zero:
            state: dict[str, Any] = {
                "stage": self.name,
                "step": run.step,
                "best_db": run.best_db,
                "model": run.model.own_state(),
                "average": run.average.state,
                "optimiser": self.optimiser.state_dict(),
                "random": torch.get_rng_state(),
            }
            if self.critic is not None:
                state |= {"critic": self.critic.state_dict(), "critic_optimiser": self.critic_optimiser.state_dict()}
            if self.texture is not None:
                state["texture"] = self.texture.state_dict()
            save_checkpoint(run.checkpoint_path, run.config, state)
            run.save_weights(run.weights_path)
        run.fabric.barrier()


def _held_out(options: RunOptions, validation: Dataset | None) -> tuple[Path, ...]:
    """The folders that are named, and the pictures of the validation."""
    return (*options.held_out, *(() if validation is None else validation.pictures))


def _is_distributed(options: RunOptions, device: torch.device) -> bool:
    """Several processes: asked for here, or started by torchrun or SLURM."""
    started = int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS", "1")))
    several = options.processes != "auto" and options.processes > 1
    return started > 1 or several or options.nodes > 1 or (device.type == "cuda" and torch.cuda.device_count() > 1)
