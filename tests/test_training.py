"""A short run learns; a broken one goes on as if nothing had happened; two processes equal one."""

import dataclasses
import errno
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from conftest import fails, restored, small_models, texture, wait_for
from PIL import Image
from torch import Tensor

import refsr.training.run
import refsr.training.stage
from refsr.bench.measure import run_benchmark
from refsr.cli import main
from refsr.cli.quantities import parse_duration
from refsr.data.photos import PhotoSource
from refsr.data.plan import PairConfig, PairSampler
from refsr.data.render import render
from refsr.data.sources import open_sources
from refsr.degrade import CLEAN, DegradeConfig
from refsr.device import computes_bf16
from refsr.errors import ImageError, OutputError, TrainingError, UsageError, WeightsError
from refsr.io.files import claim
from refsr.io.weights import read_weights, save_weights
from refsr.models import SRNTT, DefaultConfig, SRNTTConfig, load_model
from refsr.models.vgg import VGG19
from refsr.resize import downscale_bicubic
from refsr.restore.pipeline import encode, match
from refsr.training.config import LossWeights, RunOptions, StageConfig, TrainConfig
from refsr.training.loop import train
from refsr.training.losses import contrast_loss
from refsr.training.run import ExactInputs, RunningAverage, choose_precision, fabric_precision
from refsr.training.step import NetworkStep, Perception

TINY = DefaultConfig(width=8, blocks_before=1, blocks_after=1, descriptor_width=8, descriptor_size=8)
STAGE = StageConfig(steps=8, batch=3, crop_px=(32,), learning_rate=6e-4, warmup_steps=5, decay_share=0.4,
                    losses=LossWeights(contrast=0.003))  # fmt: skip
RECIPES = Path(__file__).parent.parent / "recipes"


def config(**changes: Any) -> TrainConfig:
    plain: dict[str, Any] = {"default": TINY, "rec": STAGE, "seed": 3, "workers": 0, "checkpoint_minutes": 9.0}
    return TrainConfig(**(plain | changes))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(3):
        pixels = (texture(64, 72, seed)[0] * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{seed}.png")
    return folder


@pytest.fixture
def options(photos: Path, tmp_path: Path) -> RunOptions:
    return RunOptions(data=(photos,), output=tmp_path / "run", device="cpu", processes=1)


def silent(_line: str) -> None:
    pass


def log_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_the_loss_falls(options: RunOptions) -> None:
    stage = dataclasses.replace(STAGE, steps=120)
    weights = train(config(rec=stage, log_steps=30, ema_decay=0.99), options, silent)
    lines = log_of(options.output)
    assert [line["step"] for line in lines] == [30, 60, 90, 120]
    assert lines[-1]["l1"] < lines[0]["l1"]
    assert lines[-1]["contrast"] < lines[0]["contrast"]
    assert {"seconds_data", "seconds_step", "share_features", "share_search", "errors", "rate"} <= lines[0].keys()
    assert restored(load_model(weights, device="cpu"), texture(8, 8)).shape == (1, 3, 32, 32)
    assert json.loads((options.output / "config.json").read_text())["rec"]["steps"] == 120


def all_losses(tmp_path: Path) -> tuple[TrainConfig, Path]:
    """SRNTT through three stages, with every loss, and a file of random VGG19 weights."""
    torch.manual_seed(0)
    file = tmp_path / "vgg.pth"
    torch.save(VGG19("relu3_1").state_dict(), file)
    stage = StageConfig(steps=2, batch=2, crop_px=(32,))
    weights = LossWeights(
        perceptual=1e-3, texture=1e-3, adversarial=1e-3, back_projection=0.1, charbonnier=0.1, frequency=0.1
    )
    return config(
        model="srntt", srntt=SRNTTConfig(width=4, trunk_blocks=1, transfer_blocks=(1, 1, 1)), critic_width=2,
        sisr=dataclasses.replace(stage, references=False), rec=stage,
        full=dataclasses.replace(stage, steps=3, losses=weights, truth=True), log_steps=1,
    ), file  # fmt: skip


def test_all_stages_and_losses_and_resuming_among_them(
    options: RunOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, vgg = all_losses(tmp_path)
    said: list[str] = []
    whole = read_weights(train(run, dataclasses.replace(options, vgg19=vgg), said.append))[2]
    assert "VGG19's weights end before relu5_1: the perceptual loss takes relu3_1" in said
    lines = log_of(options.output)
    assert [line["stage"] for line in lines] == ["sisr"] * 2 + ["rec"] * 2 + ["full"] * 3
    assert {"texture", "perceptual", "adversarial", "back_projection", "critic", "truth_l1", "frequency"} <= lines[
        -1
    ].keys()
    assert "texture" not in lines[3]
    for broken_at in (2, 5):
        folder = dataclasses.replace(options, output=tmp_path / f"broken{broken_at}", vgg19=vgg)
        with monkeypatch.context() as plug:
            pull_at(plug, broken_at)
            with pytest.raises(KeyboardInterrupt):
                train(dataclasses.replace(run, checkpoint_minutes=0.0), folder, silent)
        said = []
        resumed = read_weights(train(run, folder, said.append))[2]
        assert f"resumed at step {broken_at}" in said
        assert all(torch.equal(whole[name], resumed[name]) for name in whole), broken_at


def test_a_run_goes_on_with_other_workers(options: RunOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on another machine: with every kind of pair, growing crops and a damaged photograph, to the same weights."""
    file = options.data[0] / "2.png"
    file.write_bytes(file.read_bytes()[:200])
    pairs = PairConfig(references=(0.2, 0.4, 0.2, 0.2), tilted=0.5, layered=0.5, relief=0.5)
    run = config(
        rec=dataclasses.replace(STAGE, crop_px=(16, 32)), pairs=pairs, degrade=DegradeConfig(clean=0.3), log_steps=1
    )
    whole = read_weights(train(run, options, silent))[2]
    broken = dataclasses.replace(options, output=tmp_path / "broken")
    with monkeypatch.context() as plug:
        pull_at(plug, 3)
        with pytest.raises(KeyboardInterrupt):
            train(dataclasses.replace(run, checkpoint_minutes=0.0), broken, silent)
    resumed = read_weights(train(dataclasses.replace(run, workers=1), broken, silent))[2]
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert log_of(broken.output)[-1]["errors"] == log_of(options.output)[-1]["errors"] == 1


def test_frozen_parts_do_not_change(options: RunOptions, tmp_path: Path) -> None:
    """The trunk of the first stage, with the statistics of its normalisation; the rest goes on."""
    run, vgg = all_losses(tmp_path)
    frozen = ("head", "trunk", "sisr")
    rec = dataclasses.replace(run.rec, frozen=frozen, losses=LossWeights())
    alone = dataclasses.replace(run, rec=StageConfig(), full=StageConfig())
    both = dataclasses.replace(run, rec=rec, full=StageConfig())
    before, after = (
        read_weights(train(c, dataclasses.replace(options, vgg19=vgg, output=tmp_path / name), silent))[2]
        for name, c in (("alone", alone), ("both", both))
    )
    for name, value in before.items():
        assert torch.equal(value, after[name]) == (name.partition(".")[0] in frozen), name
    wrong = dataclasses.replace(both, rec=dataclasses.replace(rec, frozen=("trunck",)))
    with pytest.raises(
        UsageError, match=r"srntt has no part 'trunck' to freeze: name some of head, trunk, sisr, transfers"
    ):
        train(wrong, dataclasses.replace(options, vgg19=vgg, output=tmp_path / "wrong"), silent)


def pull_at(patch: pytest.MonkeyPatch, steps: int) -> None:
    """Interrupt a run when it has done a number of steps."""
    step = refsr.training.stage.Stage._step

    def pulled(self: Any, batch: Any) -> None:
        if self.run.step == steps + 1:
            raise KeyboardInterrupt
        step(self, batch)

    patch.setattr(refsr.training.stage.Stage, "_step", pulled)


def test_a_killed_run_loses_at_most_what_came_after_its_checkpoint(photos: Path, tmp_path: Path) -> None:
    """SIGKILL in a process of its own, as soon as there is a checkpoint; then the weights of an unbroken run."""
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "default: {width: 8, blocks_before: 1, blocks_after: 1, descriptor_width: 8, descriptor_size: 8}\n"
        "rec: {steps: 60, batch: 2, crop_px: 32}\nworkers: 0\nlog_steps: 20\n"
    )

    def command(out: Path, *more: str) -> list[str]:
        arguments = ["train", str(recipe), "--data", str(photos), "--output", str(out), "--device", "cpu", *more]
        return [sys.executable, "-m", "refsr", *arguments]

    out = tmp_path / "killed"
    process = subprocess.Popen(
        command(out, "--checkpoint-minutes", "0"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_for(lambda: process.poll() is not None or (out / "checkpoint.pt").exists(), 90)
    process.kill()
    process.wait()
    assert torch.load(out / "checkpoint.pt", weights_only=True)["step"] < 60, "it was done before it could be killed"
    again = subprocess.run(command(out), capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "resumed at step" in again.stdout
    assert subprocess.run(command(tmp_path / "whole"), capture_output=True, check=False).returncode == 0
    killed, whole = (read_weights(folder / "default.safetensors")[2] for folder in (out, tmp_path / "whole"))
    assert all(torch.equal(killed[name], whole[name]) for name in whole)


def test_two_processes_equal_one_with_twice_the_batch(photos: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "default: {width: 8, blocks_before: 1, blocks_after: 1, descriptor_width: 8, descriptor_size: 8}\n"
        "rec: {steps: 4, batch: 4, crop_px: 32, losses: {contrast: 0.01}}\nworkers: 0\nlog_steps: 1\nclip_norm: 0.0\n"
    )
    arguments = ["train", str(recipe), "--data", str(photos), "--device", "cpu"]
    one = [sys.executable, "-m", "refsr", *arguments, "--output", str(tmp_path / "one")]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "refsr"]
    two = [*launcher, *arguments, "--processes", "2", "--rec.batch", "2", "--output", str(tmp_path / "two")]
    for command in (one, two):
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        assert done.returncode == 0, done.stderr[-2000:]
    first, second = (log_of(tmp_path / name) for name in ("one", "two"))
    for a, b in zip(first, second, strict=True):
        for loss in ("l1", "contrast", "total"):
            # Not closer: untrained descriptors tie, and another order of additions then matches other cells.
            assert a[loss] == pytest.approx(b[loss], rel=2e-3), (loss, a["step"])


def steps_take(patch: pytest.MonkeyPatch, seconds: float) -> None:
    """Of a clock that stands still but for the steps of training, which move it by as many seconds each."""
    now = 0.0
    step = refsr.training.stage.Stage._step

    def timed(self: Any, batch: Any) -> None:
        nonlocal now
        step(self, batch)
        now += seconds

    clock = SimpleNamespace(monotonic=lambda: now, perf_counter=time.perf_counter)
    patch.setattr(refsr.training.stage.Stage, "_step", timed)
    patch.setattr("refsr.training.run.time", clock)
    patch.setattr("refsr.training.stage.time", clock)


def test_the_time_limit_ends_a_run_cleanly(options: RunOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ten steps in its time; the rate falls over the last 40 % of it, and an eleventh step has none left."""
    steps_take(monkeypatch, 1.0)
    long = dataclasses.replace(STAGE, steps=100_000, warmup_steps=0)
    limited = dataclasses.replace(options, time_limit_s=10.0)
    said: list[str] = []
    train(config(rec=long, log_steps=1), limited, said.append)
    assert said[-1] == "time limit reached at step 11 of 100000: call again to continue"
    rates = [line["rate"] / long.learning_rate for line in log_of(options.output)]
    assert rates[:7] == pytest.approx([1.0] * 7)
    assert rates[7:] == pytest.approx([(1 - math.cos(math.pi * left)) / 2 for left in (0.75, 0.5, 0.25, 0)], abs=1e-5)
    train(config(rec=long, log_steps=1), limited, said.append)
    assert "resumed at step 11" in said
    assert log_of(options.output)[-1]["step"] == 22


def test_the_log_says_how_far_a_run_will_come(options: RunOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of 15 seconds: four are left when it is said, or as many as the time limit allows."""
    steps_take(monkeypatch, 15.0)
    said: list[str] = []
    train(config(rec=dataclasses.replace(STAGE, steps=8), log_steps=2), options, said.append)
    assert [line for line in said if "s a step" in line] == ["15 s a step: the stage takes 1 more minutes"]
    long = dataclasses.replace(STAGE, steps=1_000_000)
    limited = dataclasses.replace(options, time_limit_s=150.0, output=options.output.parent / "long")
    said = []
    train(config(rec=long, log_steps=2), limited, said.append)
    estimate = "15 s a step: the time limit ends it at about step 10"
    assert [line for line in said if "s a step" in line] == [estimate]


def test_crops_grow_and_lr_images_are_degraded(options: RunOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Tensor]] = []
    forward = NetworkStep.forward

    def look(self: NetworkStep, batch: Any, critic: Any = None) -> Any:
        seen.append(batch)
        return forward(self, batch, critic)

    monkeypatch.setattr(NetworkStep, "forward", look)
    stage = dataclasses.replace(STAGE, steps=6, crop_px=(16, 32, 48))
    train(config(rec=stage, degrade=DegradeConfig(clean=0.5)), options, silent)
    assert [batch["hr"].shape[-1] for batch in seen] == [16, 16, 32, 32, 48, 48]
    changed = [
        not torch.equal(lr, (downscale_bicubic(hr[None], 4)[0] * 255).round() / 255)
        for batch in seen for hr, lr in zip(batch["hr"], batch["lr"], strict=True)
    ]  # fmt: skip
    assert 2 <= sum(changed) <= 16
    values = [pairs_of(options, clean=0.5).plan(number, 16).degradation != CLEAN for number in range(6)]
    assert values == changed[:6], "what was done to each can be asked for"


def test_validation_keeps_the_best(options: RunOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "groups"
    folder.mkdir()
    for name, seed, left in (("000_0", 5, 0), ("000_1", 5, 8), ("001_0", 6, 0), ("001_1", 6, 8)):
        pixels = (texture(64, 72, seed)[0, ..., left : left + 64] * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{name}.png")
    limits: list[int] = []
    measure = run_benchmark

    def look(*given: Any) -> Any:
        limits.append(given[3].limit)
        return measure(*given)

    monkeypatch.setattr(refsr.training.run, "run_benchmark", look)
    validated = dataclasses.replace(options, validate=folder, tensorboard=True)
    train(config(validate_steps=4, validate_samples=1), validated, silent)
    assert limits == [1, 1]
    found = [line for line in log_of(options.output) if "validation_psnr_db" in line]
    assert [line["step"] for line in found] == [4, 8]
    assert load_model(options.output / "best.safetensors", device="cpu").name == "default"
    assert list((options.output / "tensorboard").iterdir())


def test_a_run_begins_with_given_weights(options: RunOptions, tmp_path: Path) -> None:
    first = train(config(), options, silent)
    still = config(rec=dataclasses.replace(STAGE, steps=1, learning_rate=0.0))
    second = train(still, dataclasses.replace(options, output=tmp_path / "second", init=first), silent)
    begun, gone_on = read_weights(first)[2], read_weights(second)[2]
    assert all(torch.allclose(begun[name], gone_on[name], atol=1e-6) for name in begun)
    with pytest.raises(WeightsError, match="does not fit the model"):
        train(
            config(default=DefaultConfig()), dataclasses.replace(options, output=tmp_path / "third", init=first), silent
        )


@pytest.mark.parametrize(("part", "loss"), [("align", "alignment"), ("choice", "choice")])
def test_a_part_that_given_weights_lack_is_trained_from_the_beginning(
    options: RunOptions, tmp_path: Path, part: str, loss: str
) -> None:
    """As in weights that are older than the part; a frozen network keeps all else."""
    sizes = dataclasses.replace(TINY, choice_width=8)
    name, _, state = read_weights(train(config(default=sizes), options, silent))
    older = tmp_path / "older.safetensors"
    save_weights(older, name, sizes, {key: value for key, value in state.items() if not key.startswith(f"{part}.")})
    parts = ("head", "before", "after", "tail", "descriptor", "choice", "align", "believe", "gate", "fuse")
    frozen = tuple(other for other in parts if other != part)
    losses = dataclasses.replace(LossWeights(l1=0.0), **{loss: 1.0})
    stage = dataclasses.replace(STAGE, steps=4, frozen=frozen, losses=losses, decay_share=0.0)
    said: list[str] = []
    run = dataclasses.replace(options, output=tmp_path / "later", init=older)
    later = read_weights(
        train(
            config(default=sizes, rec=stage, pairs=PairConfig(references=(0.0, 1.0), unrelated=0.0)), run, said.append
        )
    )[2]
    assert f"{older} has no {part}: trained from the beginning" in said
    changed = {key.partition(".")[0] for key, value in later.items() if not torch.equal(value, state[key])}
    assert changed == {part}
    assert log_of(run.output)[-1][loss] > 0


def test_a_network_grows_by_blocks_that_change_nothing(options: RunOptions, tmp_path: Path) -> None:
    """Given weights with fewer blocks, the run begins with what they make."""
    small = train(config(), options, silent)
    taller = dataclasses.replace(TINY, blocks_after=TINY.blocks_after + 2)
    still = config(default=taller, rec=dataclasses.replace(STAGE, steps=1, learning_rate=0.0))
    run = dataclasses.replace(options, output=tmp_path / "taller", init=small)
    said: list[str] = []
    grown = train(still, run, said.append)
    added = [f"after.{TINY.blocks_after}", f"after.{TINY.blocks_after + 1}"]
    assert f"{small} has no {', '.join(added)}: trained from the beginning" in said
    lr = texture(12, 16, 3)
    without, with_blocks = (restored(load_model(file, device="cpu"), lr) for file in (small, grown))
    torch.testing.assert_close(with_blocks, without)
    with pytest.raises(WeightsError, match="does not fit the model"):
        train(config(), dataclasses.replace(options, output=tmp_path / "shorter", init=grown), silent)


@pytest.mark.parametrize("losses", [LossWeights(alignment=1.0), LossWeights(choice=1.0)])
def test_what_a_model_does_not_have_cannot_be_trained(losses: LossWeights) -> None:
    model = SRNTT(SRNTTConfig(width=4, trunk_blocks=1, transfer_blocks=(1, 1, 1)))
    with pytest.raises(UsageError, match="srntt has no (alignment|choice) to train: leave out"):
        NetworkStep(model, config(), StageConfig(steps=1, crop_px=(32,), losses=losses), Perception())


def test_a_run_with_other_settings_is_refused(options: RunOptions) -> None:
    train(config(), options, silent)
    with pytest.raises(UsageError, match=r"checkpoint.pt: belongs to a run with another rec.batch"):
        train(config(rec=dataclasses.replace(STAGE, batch=2)), options, silent)
    longer = config(rec=dataclasses.replace(STAGE, steps=10))
    said: list[str] = []
    train(longer, options, said.append)
    assert "resumed at step 8" in said
    (options.output / "checkpoint.pt").write_bytes(b"junk")
    with pytest.raises(WeightsError, match="damaged, or not a checkpoint"):
        train(longer, options, silent)


def test_a_checkpoint_of_another_model_is_refused(options: RunOptions, tmp_path: Path) -> None:
    train(config(), options, silent)
    run, vgg = all_losses(tmp_path)
    with pytest.raises(UsageError, match=r"checkpoint.pt: belongs to a run with another model"):
        train(run, dataclasses.replace(options, vgg19=vgg), silent)


def test_a_checkpoint_of_an_older_version_is_resumed(options: RunOptions) -> None:
    """Settings that it did not know are as by default."""
    train(config(), options, silent)
    path = options.output / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    del state["config"]["srntt"]["official"], state["config"]["rec"]["losses"]["alignment"]
    torch.save(state, path)
    said: list[str] = []
    train(config(), options, said.append)
    assert "resumed at step 8" in said


def test_a_full_disk_leaves_the_last_checkpoint(options: RunOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    run = config(checkpoint_minutes=0.0)
    with monkeypatch.context() as plug:
        pull_at(plug, 3)
        with pytest.raises(KeyboardInterrupt):
            train(run, options, silent)

    written: list[int] = []

    def full(handle: int) -> None:
        written.append(handle)
        if len(written) > 1:  # the first file is config.json
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as plug:
        plug.setattr("os.fsync", full)
        with pytest.raises(OutputError, match=r"checkpoint.pt: cannot be written \(No space left on device\)"):
            train(run, options, silent)
    said: list[str] = []
    train(run, options, said.append)
    assert "resumed at step 3" in said


@pytest.mark.parametrize("spoilt", ["loss", "gradient", "weights"])
def test_a_loss_that_is_no_number_stops_the_run(
    options: RunOptions, monkeypatch: pytest.MonkeyPatch, spoilt: str
) -> None:
    """With the step, the files and the last good checkpoint, which stays good."""
    forward = NetworkStep.forward

    def spoil(self: NetworkStep, batch: Any, critic: Any = None) -> Any:
        losses, sr = forward(self, batch, critic)
        if 2 in batch["number"] // 3:
            if spoilt == "loss":
                losses["total"] = losses["total"] * torch.nan
            elif spoilt == "gradient":
                losses["total"].register_hook(lambda slope: slope * torch.nan)  # type: ignore[no-untyped-call]
            else:
                next(self.model.parameters()).data.fill_(torch.nan)
        return losses, sr

    monkeypatch.setattr(NetworkStep, "forward", spoil)
    run = config(checkpoint_minutes=0.0, clip_norm=0.0 if spoilt == "weights" else 0.5)
    files = dict.fromkeys(pairs_of(options).file_of(number) for number in range(6, 9))
    named = f"not finite at step 3, on pairs of {', '.join(files)}: the last good checkpoint is "
    with pytest.raises(TrainingError, match=re.escape(named) + ".*checkpoint.pt"):
        train(run, options, silent)
    state = torch.load(options.output / "checkpoint.pt", weights_only=True)
    assert state["step"] == 2
    assert all(value.isfinite().all() for value in state["model"].values())


def pairs_of(options: RunOptions, clean: float = 1.0) -> PairSampler:
    sources = open_sources(options.data, 32)
    return PairSampler(sources=sources, pairs=PairConfig(), degrade=DegradeConfig(clean=clean), real=0.0, seed=3)


def test_a_pair_is_made_of_the_file_that_is_named(options: RunOptions) -> None:
    """Each photo here is flat and of another grey."""
    for n in range(3):
        Image.new("RGB", (72, 64), (60 * n + 30,) * 3).save(options.data[0] / f"{n}.png")
    pairs = pairs_of(options)
    for number in range(9):
        made = render([pairs.plan(number, 32)], PhotoSource(pairs.sources.photos), 32)
        level = round(float(made["hr"].mean()) * 255)
        assert Path(pairs.file_of(number)).name == f"{(level - 30) // 60}.png"


@pytest.mark.parametrize("model", ["default", "srntt"])
def test_bf16_rounds_the_network_alone(options: RunOptions, tmp_path: Path, model: str) -> None:
    run, vgg = all_losses(tmp_path)
    if model == "default":
        run = config(
            rec=dataclasses.replace(STAGE, steps=3, losses=LossWeights(contrast=0.1, alignment=0.1)), log_steps=1
        )
    found = []
    precisions: tuple[Literal["fp32", "bf16"], ...] = ("fp32", "bf16")
    for precision in precisions:
        folder = dataclasses.replace(options, output=tmp_path / precision, vgg19=vgg)
        train(dataclasses.replace(run, precision=precision), folder, silent)
        found.append(log_of(folder.output))
    for exact, rounded in zip(*found, strict=True):
        assert rounded["total"] != exact["total"]
        assert rounded["l1"] == pytest.approx(exact["l1"], rel=0.02)
    truth = torch.rand(2, 3)
    assert ExactInputs("bf16-mixed", "cpu").convert_input(truth) is truth


def test_two_runs_at_once_in_one_folder_are_refused(options: RunOptions) -> None:
    options.output.mkdir()
    with claim(options.output / ".lock"), pytest.raises(OutputError, match="run: another process is at work in it"):
        train(config(), options, silent)
    train(config(), options, silent)


def batch(references: list[int]) -> dict[str, Tensor]:
    count, most = len(references), max(2, *references)
    return {
        "hr": (hr := torch.cat([texture(32, 32, s) for s in range(count)])),
        "lr": (downscale_bicubic(hr, 4) * 255).round() / 255,
        "refs": torch.stack(
            [torch.cat([texture(32, 32, 2 * s + n) for n in range(9, 9 + most)]) for s in range(count)]
        ),
        "references": torch.tensor(references),
        "truth_cells": torch.full((count, most, 2, 8, 8), float("nan")),
        "number": torch.arange(count),
    }


def test_losses_of_a_batch_are_the_means_of_its_parts() -> None:
    """In float64: with random weights matches tie, and in float32 the order of additions moves them."""
    torch.manual_seed(0)
    perception = Perception(vgg=VGG19("relu3_1").double(), layer="relu3_1")
    weights = LossWeights(texture=1.0, contrast=1.0, perceptual=1.0, grid=1.0)
    stage = StageConfig(steps=1, crop_px=(32,), losses=weights)
    step = NetworkStep(small_models()["default"].double(), config(), stage, perception).double()
    whole = {key: value.double() if value.is_floating_point() else value for key, value in batch([1, 0, 2, 1]).items()}
    whole["truth_cells"][0, 0] = torch.stack(torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij"))
    together, sr = step(whole)
    halves = [step({key: value[half] for key, value in whole.items()}) for half in (slice(0, 2), slice(2, 4))]
    for name in ("l1", "texture", "contrast", "perceptual", "grid", "total"):
        mean = torch.stack([losses.get(name, torch.zeros((), dtype=torch.float64)) for losses, _ in halves]).mean()
        assert together[name].item() == pytest.approx(mean.item(), rel=1e-6), name
    assert torch.allclose(sr, torch.cat([part for _, part in halves]))
    _, alone = step({key: value[1:2] for key, value in whole.items()})
    assert torch.allclose(sr[1:2], alone)


def test_a_batch_without_references_reports_the_same_losses() -> None:
    """Else processes of which one has no reference would wait for each other."""
    weights = LossWeights(contrast=1.0, alignment=1.0)
    step = NetworkStep(small_models()["default"], config(), dataclasses.replace(STAGE, losses=weights), Perception())
    (without, _), (with_one, _) = step(batch([0, 0])), step(batch([0, 1]))
    assert without.keys() == with_one.keys()
    assert without["contrast"] == without["alignment"] == 0


def test_each_of_three_references_is_compared_with_its_own_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    """The truth of reference n says n everywhere, so that what the losses are given tells whose truth it was."""
    model, given = small_models()["default"], batch([3, 3])
    for number in range(3):
        given["truth_cells"][:, number] = number
    aligned: list[Tensor] = []
    contrasted: list[tuple[Tensor, Tensor]] = []

    def align(_steps: object, begun: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        aligned.append(truth)
        return begun.new_zeros(2), begun.new_zeros(2)

    def contrast(_query: Tensor, key: Tensor, truth: Tensor, *_: object) -> tuple[Tensor, Tensor]:
        contrasted.append((key, truth))
        return key.new_zeros(2), key.new_zeros(2)

    monkeypatch.setattr("refsr.training.step.alignment_loss", align)
    monkeypatch.setattr("refsr.training.step.contrast_loss", contrast)
    losses = LossWeights(contrast=1.0, alignment=1.0)
    NetworkStep(model, config(), dataclasses.replace(STAGE, losses=losses), Perception())(given)
    encoded = encode(model, given["lr"], given["refs"].unbind(1))
    matches = match(model, encoded).matches
    assert len(matches) == 2, "two candidates of three references"
    for found, truth in zip(matches, aligned, strict=True):
        assert torch.equal(truth[:, 0], found.reference.float())
        assert torch.equal(truth[:, 1], found.reference.float())
    for number, (reference, (key, truth)) in enumerate(zip(encoded.references, contrasted, strict=True)):
        assert torch.equal(key, reference.key)
        assert (truth == number).all()


def test_the_loss_with_the_truth_as_reference_is_added() -> None:
    torch.manual_seed(0)
    model = SRNTT(SRNTTConfig(width=4, trunk_blocks=1, transfer_blocks=(1, 1, 1)))
    stage = StageConfig(steps=1, crop_px=(32,), truth=True)
    losses, _ = NetworkStep(model, config(), stage, Perception())(batch([1, 1]))
    assert losses["total"].item() == pytest.approx((losses["l1"] + losses["truth_l1"]).item(), rel=1e-5)
    assert losses["truth_l1"] > 0
    assert losses["truth_l1"] != losses["l1"]


def test_contrast_loss_is_low_for_right_and_high_for_wrong_places(rng: torch.Generator) -> None:
    key = torch.nn.functional.normalize(torch.randn(1, 32, 10, 12, generator=rng), dim=1)
    y, x = torch.meshgrid(torch.arange(10.0), torch.arange(12.0), indexing="ij")
    truth, number = torch.stack((y, x))[None], torch.tensor([7])
    right, hits = contrast_loss(key, key, truth, number, 64, 0.07)
    wrong, misses = contrast_loss(key.roll(5, 3), key, truth, number, 64, 0.07)
    assert right < 0.1
    assert hits == 1
    assert wrong > right + 3
    assert misses < 0.2


def test_contrast_loss_equals_its_formula() -> None:
    key = torch.nn.functional.normalize(torch.randn(1, 4, 1, 6), dim=1)
    query = torch.nn.functional.normalize(torch.randn(1, 4, 1, 1), dim=1)
    truth = torch.tensor([0.0, 2.0]).view(1, 2, 1, 1)
    loss, _ = contrast_loss(query, key, truth, torch.tensor([0]), 3, 0.5)
    cosines = (query[0, :, 0, 0, None] * key[0, :, 0]).sum(0) / 0.5
    kept = cosines[[2, 0, 4, 5]]  # the true cell, then those two cells away and further
    assert loss.item() == pytest.approx(float(kept.logsumexp(0) - kept[0]), abs=1e-5)


def test_contrast_loss_of_nothing_is_zero() -> None:
    unknown = torch.full((1, 2, 4, 4), float("nan"))
    key = torch.randn(1, 4, 4, 4, requires_grad=True)
    loss, _ = contrast_loss(key, key, unknown, torch.tensor([0]), 8, 0.07)
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert loss == 0
    assert key.grad is not None
    assert not key.grad.any()


def test_schedule_rises_holds_and_falls() -> None:
    stage = dataclasses.replace(STAGE, steps=100, warmup_steps=10, decay_share=0.5, learning_rate=1.0)
    rates = [stage.rate_at(step) for step in range(1, 101)]
    assert rates[4] == 0.5
    assert rates[9:51] == [1.0] * 42
    assert rates[75] == pytest.approx(0.5)
    assert rates[-1] == pytest.approx((1 - math.cos(math.pi / 50)) / 2)
    assert stage.rate_at(20, time_left=0.25) == pytest.approx(0.5)
    assert dataclasses.replace(stage, decay_share=0.0).rate_at(100, time_left=0.0) == 1.0


def test_the_running_average() -> None:
    average = RunningAverage({"a": torch.zeros(1), "n": torch.tensor(0)}, 0.9)
    expected = 0.0
    for step in range(1, 200):
        average.update({"a": torch.tensor([float(step)]), "n": torch.tensor(step)}, step)
        keep = min(0.9, (step + 1) / (step + 10))
        expected = keep * expected + (1 - keep) * step
    assert average.state["a"].item() == pytest.approx(expected, rel=1e-5)
    assert average.state["n"] == 199


def test_durations_are_parsed() -> None:
    assert [parse_duration(text) for text in ("150min", "2h", "1.5h", "90s")] == [9000, 7200, 5400, 90]
    for text in ("150", "min", "-2h", "soon"):
        with pytest.raises(UsageError, match="is not a time: write it like 150min"):
            parse_duration(text)


def test_pictures_of_a_manifest_to_validate_on_are_held_out(photos: Path, options: RunOptions, tmp_path: Path) -> None:
    """As those of a folder are: truths, references and LR images, whatever else lies beside them."""
    shown = sorted(photos.glob("*.png"))[:3]
    sets = tmp_path / "sets"
    sets.mkdir()
    for place, picture in enumerate(shown):
        shutil.copy(picture, sets / f"{place}.png")
    record = {"name": "a", "truth": "0.png", "references": [{"file": "1.png"}]}
    (sets / "manifest.jsonl").write_text(json.dumps(record))
    said: list[str] = []
    stage = dataclasses.replace(STAGE, steps=1)
    train(config(rec=stage), dataclasses.replace(options, validate=sets / "manifest.jsonl"), said.append)
    left_out = [line for line in said if line.startswith("left out")]
    assert left_out == [
        f"left out {photo}: it shows {sets / f'{place}.png'}, which is held out"
        for place, photo in enumerate(shown[:2])
    ]


def test_precision_is_only_bf16_where_it_is_computed() -> None:
    cpu = torch.device("cpu")
    assert choose_precision("bf16", cpu) == choose_precision("bf16-mixed", cpu) == "bf16-mixed"
    assert choose_precision("auto", cpu) == ("bf16-mixed" if computes_bf16(cpu) else "32-true")


def test_precision_is_chosen_for_the_device_that_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for the one that auto would take, where another is asked for."""
    monkeypatch.setattr("refsr.training.run.computes_bf16", lambda device: device.type == "cuda")
    assert choose_precision("auto", torch.device("cuda")) == "bf16-mixed"
    assert choose_precision("auto", torch.device("cpu")) == "32-true"
    assert fabric_precision("auto", torch.device("cpu")) == {"precision": "32-true"}


@pytest.mark.parametrize("recipe", sorted(p.name for p in RECIPES.glob("*.yaml")))
def test_every_recipe_is_understood(recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Read as far as the data, which is not there."""
    arguments = ("train", RECIPES / recipe, "--data", tmp_path / "none", "--output", tmp_path / "out")
    fails(capsys, 2, "none: no such folder", *arguments, "--device", "cpu", *vgg_of(tmp_path))


def vgg_of(folder: Path) -> tuple[str, ...]:
    file = folder / "vgg.pth"
    if not file.exists():
        torch.save(VGG19("relu5_1").state_dict(), file)
    return ("--vgg19", str(file))


def test_bad_input(tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, wrong = tmp_path / "r.yaml", tmp_path / "wrong.yaml"
    recipe.write_text("rec: {steps: 3, batch: 2, crop_px: 32}\n")
    given = ("--data", photos, "--output", tmp_path / "out", "--device", "cpu")
    for text, pattern in (
        ("rec: {steps: 3, lerning_rate: 1.0}\n", "learning-rate"),
        ("recc: {steps: 3}\n", "rec"),
        ("model: best\nrec: {steps: 3}\n", "best"),
        ("rec: {steps: 3, crop_px: 30}\n", "crops of 30 pixels: give multiples of 4"),
        ("rec: {steps: 3, crop_px: 80, losses: {ms_ssim: 0.1}}\n", "crops of 80 pixels: the loss ms_ssim needs 88"),
        (
            "rec: {steps: 3, crop_px: [64, 60], losses: {lpips: 0.1}}\n",
            "60 pixels: the loss lpips needs 64",
        ),
        ("rec: {steps: 0}\n", "the recipe has no steps"),
        ("rec: {steps: 3}\nlog_steps: 0\n", "log_steps 0: give 1 or more"),
        ("rec: {steps: 3}\nworkers: -1\n", "workers -1: give 0 or more"),
        ("rec: {steps: 3}\npairs: {references: [.nan, 1.0]}\n", "give shares of 0, 1, 2"),
        ("rec: {steps: 3}\npairs: {references: [0.5, 0.4]}\n", "the shares add up to 0.9, not to 1"),
        ("rec: {steps: 3}\ndegrade: {gaussian: 0.9, disc: 0.9}\n", "gaussian, .* add up to"),
    ):
        wrong.write_text(text)
        fails(capsys, 2, pattern, "train", wrong, *given)
    for pattern, arguments in {
        "no such recipe": (tmp_path / "none.yaml", *given),
        "--rec.stepps": (recipe, *given, "--rec.stepps", "4"),
        "--time-limit 'soon' is not a time": (recipe, *given, "--time-limit", "soon"),
        "--data": (recipe, "--output", tmp_path / "out"),
        "and the photos after it are damaged or below 80 pixels": (recipe, *given, "--rec.crop-px", "80"),
        "no such folder or manifest": (recipe, *given, "--validate", tmp_path / "none"),
    }.items():
        fails(capsys, 2, pattern, "train", *arguments)
    useless = tmp_path / "useless"
    useless.mkdir()
    (useless / "a.png").write_bytes(b"no picture")
    fails(capsys, 2, r"a\.png: is damaged or below 32 pixels a side", "train", recipe, *given, "--data", useless)


def test_a_worker_that_fails_says_so_in_one_line(options: RunOptions) -> None:
    """Pairs whose references are too small are found only when they are made, in another process."""
    pairs = options.output.parent / "pairs"
    for kind, size in (("input", 40), ("ref", 24)):
        (pairs / kind).mkdir(parents=True)
        Image.new("RGB", (size, size)).save(pairs / kind / "1.png")
    with pytest.raises(ImageError) as raised:
        train(
            config(workers=1, pairs=PairConfig(references=(0.0, 1.0), unrelated=0.0)),
            dataclasses.replace(options, data=(pairs,)),
            silent,
        )
    assert re.fullmatch(r".*1\.png: is damaged or below 32 pixels a side: give larger ones", str(raised.value))


def test_the_command_line(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("rec: {steps: 3, batch: 2, crop_px: 32}\nworkers: 0\n")
    arguments = ["train", str(recipe), "--data", str(photos), "--output", str(tmp_path / "run"), "--device", "cpu"]
    arguments += ["--default.width", "8", "--rec.steps", "2", "--rec.losses.contrast", "0.01"]
    assert main([*arguments, "--pairs.references", "0.5", "0.5", "--rec.crop-px", "16", "32"]) == 0
    assert str(tmp_path / "run" / "default.safetensors") in capsys.readouterr().out.replace("\n", "")
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (saved["default"]["width"], saved["rec"]["steps"], saved["rec"]["losses"]["contrast"]) == (8, 2, 0.01)
    assert (saved["pairs"]["references"], saved["rec"]["crop_px"]) == ([0.5, 0.5], [16, 32])


def test_pair_config_is_part_of_the_recipe() -> None:
    saved = json.loads(json.dumps(dataclasses.asdict(config(pairs=PairConfig(layered=0.5)))))
    assert saved["pairs"]["layered"] == 0.5
    assert saved["degrade"]["clean"] == 1.0
