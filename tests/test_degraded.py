"""Degraded LR images of the benchmark: what they are, and that they are always the same."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import fails, texture
from scipy import ndimage

from refsr.bench.results import Result
from refsr.cli import main
from refsr.data.degraded import _DEGRADATIONS, DegradationName, degraded
from refsr.degrade.camera import from_linear, to_linear
from refsr.io.photo import Photo, as_photo, write_photo
from refsr.io.records import read_record
from refsr.resize import downscale_bicubic

NAMES: tuple[DegradationName, ...] = ("mild", "night", "jpeg", "motion")


@pytest.mark.parametrize("name", NAMES)
def test_the_same_sample_is_always_degraded_alike(name: DegradationName) -> None:
    truth = texture(130, 163)
    lr = degraded(truth, name, "000", 4)
    assert lr.shape == (1, 3, 32, 40)
    assert torch.equal(lr, degraded(truth, name, "000", 4))
    assert torch.equal((lr * 255).round() / 255, lr)
    other = degraded(truth, name, "001", 4)
    assert torch.equal(lr, other) == (name == "jpeg")  # which has neither noise nor a direction


def test_blur_is_of_light_and_before_the_reduction(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = replace(_DEGRADATIONS["mild"], shot=0.0, read=0.0, codec="none", quality=0)
    monkeypatch.setitem(_DEGRADATIONS, "mild", plain)
    truth = texture(128, 160)
    light = to_linear(truth).numpy()
    blurred = torch.from_numpy(ndimage.gaussian_filter(light, (0, 0, 2.2, 2.2), mode="mirror"))
    expected = downscale_bicubic(from_linear(blurred), 4)
    assert (degraded(truth, "mild", "a", 4) - expected)[..., 4:-4, 4:-4].abs().max() < 1.5 / 255


def test_night_has_the_noise_that_is_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_DEGRADATIONS, "night", replace(_DEGRADATIONS["night"], codec="none", quality=0))
    noisy = degraded(torch.full((1, 3, 256, 256), 0.5), "night", "a", 4)
    assert 7 < noisy.std().item() * 255 < 9


def test_motion_smears_along_one_direction() -> None:
    dot = torch.zeros(1, 3, 128, 128)
    dot[..., 62:66, 62:66] = 1
    axes = []
    for sample in ("a", "b", "c"):
        seen = degraded(dot, "motion", sample, 4)[0].mean(0).clamp_min(0.1).sub(0.1).double()
        y, x = torch.meshgrid(torch.arange(32.0).double(), torch.arange(32.0).double(), indexing="ij")
        places = torch.stack((y.flatten(), x.flatten()))
        values, vectors = torch.linalg.eigh(torch.cov(places, aweights=seen.flatten()))
        assert values[1] > 2 * values[0]
        axes.append(vectors[:, 1])
    assert min(abs(axes[0] @ axes[1]), abs(axes[0] @ axes[2])) < 0.95


def test_written_lr_images_give_the_same_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    groups, first, again = (tmp_path / name for name in ("groups", "first.json", "again.json"))
    groups.mkdir()
    for seed in range(2):
        write_photo(groups / f"00{seed}_0.png", Photo(pixels=texture(66, 80, seed=seed)))
    command = ["bench", str(groups), "--model", "bicubic"]
    assert main([*command, "--degrade", "night", "--write-lr", str(tmp_path / "lr"), "-o", str(first)]) == 0
    written = as_photo(tmp_path / "lr" / "001_0.png").pixels
    truth = as_photo(groups / "001_0.png").pixels
    assert torch.allclose(written, degraded(truth, "night", "001", 4), atol=1e-6)
    assert main([*command, "--lr", str(tmp_path / "lr"), "-o", str(again)]) == 0
    results = [read_record(path, {"bench": Result}) for path in (first, again)]
    assert [result.protocol["lr"] for result in results] == ["degraded: night", "given"]
    assert [image.psnr_db for image in results[0].images] == [image.psnr_db for image in results[1].images]
    capsys.readouterr()
    fails(capsys, 2, "001_0.png is given: leave out --degrade night|000_0.png is given", *command, "--lr",
          tmp_path / "lr", "--degrade", "night")  # fmt: skip
    fails(capsys, 2, "--degrade", *command, "--degrade", "fog")
