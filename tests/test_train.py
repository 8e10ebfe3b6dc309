"""A short run learns, and a broken one goes on as if nothing had happened."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from conftest import texture
from PIL import Image

import refsr.train
from refsr.data.pairs import PairConfig
from refsr.errors import UsageError, WeightsError
from refsr.models import DefaultConfig, load_model
from refsr.train import TrainConfig, contrast_loss, train
from refsr.weights import read_weights

TINY = DefaultConfig(width=8, blocks_before=1, blocks_after=1, descriptor_width=8, descriptor_size=8)


def config(steps: int, checkpoint_minutes: float = 9.0) -> TrainConfig:
    pairs = PairConfig(crop_px=32, seed=3)
    return TrainConfig(
        steps=steps, batch=3, warmup_steps=5, checkpoint_minutes=checkpoint_minutes, pairs=pairs, model=TINY
    )


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(3):
        pixels = (texture(64, 72, seed)[0] * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{seed}.png")
    return folder


def test_the_loss_falls(photos: Path, tmp_path: Path) -> None:
    weights = train(photos, tmp_path / "run", config(200))
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [50, 100, 150, 200]
    assert lines[-1]["l1"] < lines[0]["l1"]
    assert lines[-1]["contrast"] < lines[0]["contrast"]
    assert load_model(weights, device="cpu")(texture(8, 8)).shape == (1, 3, 32, 32)


def test_a_resumed_run_equals_an_unbroken_one(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = read_weights(train(photos, tmp_path / "whole", config(8)))[2]
    schedule = refsr.train._schedule

    def pulled_plug(step: int, config: TrainConfig) -> float:
        if step == 5:
            raise KeyboardInterrupt
        return schedule(step, config)

    monkeypatch.setattr(refsr.train, "_schedule", pulled_plug)
    with pytest.raises(KeyboardInterrupt):
        train(photos, tmp_path / "broken", config(8, checkpoint_minutes=0.0))
    monkeypatch.setattr(refsr.train, "_schedule", schedule)
    capsys.readouterr()
    resumed = read_weights(train(photos, tmp_path / "broken", config(8)))[2]
    assert "resumed at step 4" in capsys.readouterr().out
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_run_begins_with_given_weights(photos: Path, tmp_path: Path) -> None:
    first = train(photos, tmp_path / "first", config(3))
    still = dataclasses.replace(config(1), learning_rate=0.0)
    second = train(photos, tmp_path / "second", still, init=first)
    begun, gone_on = read_weights(first)[2], read_weights(second)[2]
    assert all(torch.allclose(begun[name], gone_on[name], atol=1e-6) for name in begun)
    with pytest.raises(WeightsError, match="is of another model or size than this run"):
        train(photos, tmp_path / "third", dataclasses.replace(still, model=DefaultConfig()), init=first)


def test_contrast_loss_knows_right_from_wrong(rng: torch.Generator) -> None:
    key = torch.nn.functional.normalize(torch.randn(1, 32, 10, 12, generator=rng), dim=1)
    y, x = torch.meshgrid(torch.arange(10.0), torch.arange(12.0), indexing="ij")
    truth = torch.stack((y, x))[None]
    right, hits = contrast_loss(key, key, truth, 64, 0.07, rng)
    wrong, misses = contrast_loss(key.roll(5, 3), key, truth, 64, 0.07, rng)
    assert right < 0.1
    assert hits == 1
    assert wrong > right + 3
    assert misses < 0.2


def test_contrast_loss_equals_its_formula() -> None:
    key = torch.nn.functional.normalize(torch.randn(1, 4, 1, 6), dim=1)
    query = torch.nn.functional.normalize(torch.randn(1, 4, 1, 1), dim=1)
    loss, _ = contrast_loss(query, key, torch.tensor([0.0, 2.0]).view(1, 2, 1, 1), 3, 0.5, torch.Generator())
    cosines = (query[0, :, 0, 0, None] * key[0, :, 0]).sum(0) / 0.5
    kept = cosines[[2, 0, 4, 5]]  # the true cell, then those two cells away and further
    assert loss.item() == pytest.approx(float(kept.logsumexp(0) - kept[0]), abs=1e-5)


def test_contrast_loss_of_nothing_is_zero() -> None:
    unknown = torch.full((1, 2, 4, 4), float("nan"))
    key = torch.randn(1, 4, 4, 4)
    assert contrast_loss(key, key, unknown, 8, 0.07, torch.Generator())[0] == 0


def test_schedule_rises_holds_and_falls() -> None:
    run = TrainConfig(steps=100, warmup_steps=10, decay_share=0.5)
    rates = [refsr.train._schedule(step, run) for step in range(1, 101)]
    assert rates[4] == 0.5
    assert rates[9:50] == [1.0] * 41
    assert rates[-1] == pytest.approx(0.02)
    with pytest.raises(UsageError, match="must be at least 1"):
        TrainConfig(steps=0)
