"""A stage of training: from batches to checkpoints."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Final, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from refsr.data.plan import PairPlan, PairSampler
from refsr.data.render import render
from refsr.errors import RefSRError, TrainingError
from refsr.training.checkpoint import save_checkpoint
from refsr.training.config import StageConfig
from refsr.training.losses import Critic
from refsr.training.run import Run, choose_precision, make_optimiser
from refsr.training.step import CriticStep, NetworkStep
from refsr.wording import counted

_BROADCAST_STEPS: Final = 10


class Stage:
    """One stage of a run: its losses, its optimisers, its part of the data."""

    def __init__(self, run: Run, name: str, stage: StageConfig, first_step: int, first_pair: int) -> None:
        self.run, self.name, self.stage, self.first_step, self.first_pair = run, name, stage, first_step, first_pair
        config, fabric = run.config, run.fabric
        torch.manual_seed(config.seed + first_step)
        network = NetworkStep(run.model, config, stage, run.perception)
        network.train()
        self.network = network
        self.clock = network.seconds
        self.logged_at = run.step
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        # With fp16, the gradient scaler skips steps that overflow.
        self.scaled = choose_precision(config.precision, fabric.device) == "16-mixed"
        # Figures since the last check, on the device, each with its step and the numbers of its pairs.
        self.watched: list[tuple[Tensor, int, Tensor]] = []
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
        """Train from the run's step to the end of the stage, or of the time limit."""
        run, config, stage = self.run, self.run.config, self.stage
        run.report(f"stage {self.name}: {counted(stage.steps, 'step')} of {counted(stage.batch, 'pair')}")
        saved, waited = time.monotonic(), time.perf_counter()
        self.first = run.step
        self.lines: list[tuple[int, float]] = []  # step and time of each line of the log
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
                # The next stage begins with the averaged weights; what it freezes then stays averaged.
                run.model.load_state_dict(run.average.state, strict=False)
            if over or finished or due:
                self._checkpoint()
                saved = time.monotonic()
            if over:
                run.report(f"time limit reached at step {run.step} of {config.steps}: call again to continue")
                return

    def _decide(self, due: bool) -> bool:
        """Whether a checkpoint is due, agreed on by all processes; the time left is updated too.

        Several processes agree every tenth step only, since each broadcast waits for the device.
        """
        run = self.run
        if run.fabric.world_size > 1 and (run.step - self.first) % _BROADCAST_STEPS:
            return False
        self.time_left, due = run.fabric.broadcast((run.time_left(), due))
        return due

    def _step(self, batch: dict[str, Tensor]) -> None:
        run, fabric, stage = self.run, self.run.fabric, self.stage
        rate = stage.rate_at(run.step - self.first_step, self.time_left)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        if self.critic is not None:
            self.critic.requires_grad_(False)
        losses, sr = self.step_of_network(batch, self.critic)
        self._watch(losses["total"], batch)
        self.optimiser.zero_grad(set_to_none=True)
        fabric.backward(losses["total"])
        if run.config.clip_norm:
            norm = fabric.clip_gradients(
                self.step_of_network, self.optimiser, max_norm=run.config.clip_norm, error_if_nonfinite=False
            )
            if not self.scaled:
                self._watch(cast(Tensor, norm), batch)
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

    def _watch(self, figure: Tensor, batch: dict[str, Tensor]) -> None:
        self.watched.append((figure.detach().float().reshape(()), self.run.step, batch["number"]))

    def _require_finite(self) -> None:
        """Stop before diverged weights are written.

        Raises:
            TrainingError: A loss, or the norm of its gradient, was not finite, in this process or another.
        """
        run = self.run
        watched, self.watched = self.watched, []
        figures = torch.stack([figure for figure, _, _ in watched])
        if run.fabric.world_size > 1:
            figures = cast(Tensor, run.fabric.all_reduce(figures, reduce_op="mean"))
        wrong = figures.isfinite().logical_not().nonzero()
        if len(wrong):
            _, step, numbers = watched[int(wrong[0])]
            files = ", ".join(dict.fromkeys(self.sampler.file_of(int(number)) for number in numbers))
            held = f"is {run.checkpoint_path}" if run.checkpoint_path.exists() else "has not been written yet"
            raise TrainingError(
                f"the loss is not finite at step {step}, on pairs of {files}: the last good checkpoint {held};"
                " check those files, or begin again with a lower learning rate"
            )

    def _batches(self) -> Iterator[dict[str, Tensor]]:
        """This process's part of the remaining batches of the stage."""
        run, stage = self.run, self.stage
        rank, world = run.fabric.global_rank, run.fabric.world_size
        steps = [
            (range(first := self.first_pair + (step * world + rank) * stage.batch, first + stage.batch),
             stage.crop_at(step))
            for step in range(run.step - self.first_step, stage.steps)
        ]  # fmt: skip
        self.sampler = PairSampler(
            sources=run.sources,
            pairs=run.config.pairs if stage.references else replace(run.config.pairs, references=(1.0,)),
            degrade=run.config.degrade,
            real=run.config.real,
            seed=run.config.seed,
        )
        workers = run.config.workers
        loader: DataLoader[Any] = DataLoader(
            steps, batch_size=None, collate_fn=self.sampler.plans_of, num_workers=workers,  # type: ignore[arg-type]
            prefetch_factor=4 if workers else None,
        )  # fmt: skip
        try:
            planned = cast(Iterable[tuple[list[PairPlan], int]], loader)
            for (plans, unusable), (_, size_px) in zip(planned, steps, strict=True):
                batch = render(plans, run.photos, size_px, run.model.scale)
                run.log.add({"errors": float(unusable + len(run.photos.replaced))})
                device = run.fabric.device
                yield {name: part.to(device) if part.is_floating_point() else part for name, part in batch.items()}
        except RefSRError as error:
            # An error of a worker carries the worker's traceback; the message is in its last line.
            raise type(error)(str(error).strip().splitlines()[-1].rpartition("Error: ")[2]) from error

    def _log(self) -> None:
        run = self.run
        if not run.fabric.is_global_zero:
            return
        self._estimate()
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

    def _estimate(self) -> None:
        """Tell how long the stage takes, at the second line of the log: before the first, photos are decoded."""
        run = self.run
        self.lines.append((run.step, time.monotonic()))
        if len(self.lines) != 2:
            return
        done, passed = (new - old for old, new in zip(*self.lines, strict=True))
        pace, left = passed / done, self.first_step + self.stage.steps - run.step
        limit_s = run.options.time_limit_s
        possible = int(run.time_left() * limit_s / pace) if limit_s else left
        if possible < left:
            run.report(f"{pace:.3g} s a step: the time limit ends it at about step {run.step + possible}")
        else:
            run.report(f"{pace:.3g} s a step: the stage takes {left * pace / 60:.0f} more minutes")

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
        # The sum is not finite if any part is not.
        total = torch.stack([value.float().sum() for value in run.average.state.values()]).sum()
        self._watch(total, self.shown[0])
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
