"""Weights for clean photographs, for real ones, and between; which of them restore a photo."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import fails, texture

from refsr.cli import main
from refsr.data.degraded import degraded
from refsr.errors import UsageError, WeightsError
from refsr.io.photo import Photo, write_photo
from refsr.models import AUTO, Blend, RefSRModel, load_blend, load_model
from refsr.resize import downscale_bicubic, stored
from refsr.restore.upscale import upscale


@pytest.fixture(scope="module")
def blend() -> Blend:
    return load_blend(device="cpu")


def test_the_ends_are_the_shipped_weights_and_between_lie_their_means(blend: Blend) -> None:
    names = ("default", "default-real", "default-texture", "default-texture-real")
    clean, real, crisp, crisp_real = (load_model(name, device="cpu").own_state() for name in names)
    for share in (0.0, 0.3, 1.0):
        for texture_share in (0.0, 0.6, 1.0):
            mixed = blend.at(share, texture_share).own_state()
            assert mixed.keys() == clean.keys() == real.keys() == crisp.keys() == crisp_real.keys()
            for name, value in mixed.items():
                faithful = (1 - share) * clean[name] + share * real[name]
                sharp = (1 - share) * crisp[name] + share * crisp_real[name]
                mean = (1 - texture_share) * faithful + texture_share * sharp
                assert torch.allclose(value, mean, atol=1e-6)
    assert blend.at(0.3) is blend.at(0.3)
    assert blend.at(0.3, 0.5) is not blend.at(0.3)
    assert not blend.is_single


def test_weights_are_loaded_when_they_are_wanted(shipped: RefSRModel) -> None:
    loaded: list[tuple[int, int]] = []

    def load(corner: tuple[int, int]) -> RefSRModel:
        loaded.append(corner)
        return shipped

    four = Blend(shipped, {corner: partial(load, corner) for corner in ((1, 0), (0, 1), (1, 1))})
    assert four.at(0.0) is shipped
    assert loaded == []
    assert four.at(1.0) is four.at(1.0) is shipped
    assert loaded == [(1, 0)]
    four.at(1.0, 0.5)
    assert loaded == [(1, 0), (1, 1)]


def test_one_models_weights_serve_all_photos(shipped: RefSRModel) -> None:
    single = Blend.of(shipped)
    assert single.is_single
    assert single.at(0.0) is single.at(1.0) is shipped
    assert Blend.of(single) is single
    assert single.digest() == shipped.digest()
    assert load_blend("bicubic", device="cpu").clean.name == "bicubic"
    with pytest.raises(WeightsError, match=r"neither a model .* nor a weights file"):
        load_model(AUTO)


def test_every_mixture_is_sound(blend: Blend, sample: dict[str, Any]) -> None:
    """Between two good sets of weights nothing is worse than the worse of them."""
    truth = sample["truth"]
    for lr in (stored(downscale_bicubic(truth, 4)), degraded(truth, "night", "a", 4)):
        errors = [
            (upscale(Photo(pixels=lr), model=blend, denoise=share).photo.pixels - truth).square().mean().item()
            for share in (0.0, 0.25, 0.5, 0.75, 1.0)
        ]
        assert max(errors[1:-1]) <= 1.02 * max(errors[0], errors[-1])


def test_more_of_the_real_weights_leave_less_grain(blend: Blend) -> None:
    noise = torch.randn(1, 3, 48, 48, generator=torch.Generator().manual_seed(1)) * 10 / 255
    photo = Photo(pixels=stored(0.5 + noise))
    grain = [upscale(photo, model=blend, denoise=share).photo.pixels.std().item() for share in (0.0, 0.5, 1.0)]
    assert grain[0] > grain[1] > grain[2]


def test_the_condition_chooses(blend: Blend, sample: dict[str, Any]) -> None:
    truth = sample["truth"]
    clean = upscale(Photo(pixels=stored(downscale_bicubic(truth, 4))), model=blend)
    assert clean.real_share == 0
    assert clean.seen.endswith("restored as a clean photo")
    for name in ("mild", "night", "jpeg", "motion"):
        real = upscale(Photo(pixels=degraded(truth, name, "a", 4)), model=blend)
        assert real.real_share == 1, (name, real.seen)
        assert real.seen.endswith("restored as a real photo")
    assert upscale(Photo(pixels=degraded(truth, "night", "a", 4)), model=blend, quality="clean").real_share == 0
    assert upscale(Photo(pixels=stored(downscale_bicubic(truth, 4))), model=blend, quality="real").real_share == 1
    mixed = upscale(Photo(pixels=stored(downscale_bicubic(truth, 4))), model=blend, denoise=0.4)
    assert mixed.seen.endswith("restored with 40% of the weights for real photos")


def test_json_tells_what_was_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_photo(tmp_path / "a.png", Photo(pixels=degraded(texture(256, 256), "night", "a", 4)))
    assert main(["upscale", str(tmp_path / "a.png"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["condition"].keys() == {"blur_px", "noise", "jpeg"}
    assert told["condition"]["noise"] > 3
    assert told["real_share"] == 1
    assert told["texture"] == 0


def test_what_cannot_be_chosen(shipped: RefSRModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = Photo(pixels=texture(16, 16))
    with pytest.raises(UsageError, match=r"--quality real: one model's weights are nothing to choose from"):
        upscale(photo, model=shipped, quality="real")
    write_photo(tmp_path / "a.png", photo)
    image = str(tmp_path / "a.png")
    fails(capsys, 2, "--denoise 1.5: give a share between 0 and 1", "upscale", image, "--denoise", "1.5")
    fails(capsys, 2, "give one of them, not both", "upscale", image, "--denoise", "0.5", "--quality", "real")
    fails(capsys, 2, "use --model auto", "upscale", image, "--denoise", "0.5", "--model", "default")
    fails(capsys, 2, "--texture -1: give a share between 0 and 1", "upscale", image, "--texture", "-1")
    fails(capsys, 2, "--texture 0.5: one model's weights", "upscale", image, "--texture", "0.5", "--model", "default")
