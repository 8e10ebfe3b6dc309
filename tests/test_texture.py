"""Crisp weights: no grid, no colour shift, nothing where nothing is; and back again when the result is shrunk."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from refsr.bench.metrics import colour_levels, psnr_db
from refsr.data.degraded import degraded
from refsr.degrade.blur import blur, gaussian_kernel
from refsr.degrade.camera import from_linear, to_linear
from refsr.io.photo import Photo
from refsr.models import Blend, load_blend
from refsr.resize import downscale_bicubic, stored, upscale_bicubic
from refsr.restore.upscale import upscale

CONDITIONS = ("clean", "real")


@pytest.fixture(scope="module")
def blend() -> Blend:
    return load_blend(device="cpu")


def crisp(lr: Tensor, blend: Blend, quality: Any = "auto", texture: float = 1.0) -> Tensor:
    return upscale(
        Photo(pixels=stored(lr)), model=blend, quality=quality, texture=texture, provenance=False
    ).photo.pixels


def detail_levels(image: Tensor) -> float:
    """Deviation of what bicubic reduction loses, in levels; without the border."""
    inside = image[..., 16:-16, 16:-16]
    return 255 * (inside - upscale_bicubic(downscale_bicubic(inside, 4), 4))[..., 8:-8, 8:-8].std().item()


def texture_levels(sr: Tensor, lr: Tensor) -> float:
    """`detail_levels` where the photo is smooth: an edge may be sharpened."""
    lost = sr - upscale_bicubic(downscale_bicubic(sr, 4), 4)
    span = F.max_pool2d(lr, 9, 1, 4) + F.max_pool2d(-lr, 9, 1, 4)
    smooth = F.interpolate((span.amax(1, keepdim=True) < 0.1).float(), scale_factor=4).expand_as(sr)[
        ..., 16:-16, 16:-16
    ]
    return 255 * lost[..., 16:-16, 16:-16][smooth > 0].std().item()


def grid_levels(error: Tensor) -> float:
    """Deviation of the means of the 16 pixels of a cell, in levels."""
    return 255 * F.pixel_unshuffle(error.mean(1, keepdim=True), 4).mean((0, 2, 3)).std().item()


def skies() -> dict[str, Tensor]:
    """Pictures that have no texture: flat grey and the colour of skin, a gradient of the sky, bokeh."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(0, 1, 64), indexing="ij")
    lights = torch.zeros(64, 64)
    lights += sum(
        torch.sigmoid(6 * (radius - ((64 * y - top).square() + (64 * x - left).square()).sqrt())) * bright
        for top, left, radius, bright in ((20, 20, 9, 0.5), (40, 44, 12, 0.3), (24, 50, 6, 0.6))
    )
    discs = (0.1 + lights).clamp(0, 1).expand(1, 3, 64, 64)
    return {
        "grey": torch.full((1, 3, 64, 64), 0.5),
        "colour": torch.tensor([0.8, 0.6, 0.5]).view(1, 3, 1, 1).expand(1, 3, 64, 64),
        "sky": torch.stack((0.3 + 0.4 * y, 0.5 + 0.3 * y, 0.9 - 0.05 * x))[None],
        "bokeh": from_linear(blur(to_linear(discs), [gaussian_kernel(2.0)]).clamp(0, 1)),
    }


@pytest.mark.parametrize("quality", CONDITIONS)
def test_no_texture_where_there_is_none(blend: Blend, quality: str) -> None:
    for name, lr in skies().items():
        sr, faithful = crisp(lr, blend, quality), crisp(lr, blend, quality, 0.0)
        assert texture_levels(sr, lr) < texture_levels(faithful, lr) + 0.3, name
        assert grid_levels(sr - upscale_bicubic(stored(lr), 4)) < 0.3, name
        assert 255 * (sr - faithful).mean((0, 2, 3)).abs().max() < 0.5, name


@pytest.mark.parametrize("quality", CONDITIONS)
def test_an_edge_does_not_ring(blend: Blend, quality: str) -> None:
    """Beyond what bicubic reduction itself left of overshoot."""
    hr = torch.full((1, 3, 256, 256), 0.3)
    hr[..., 130:] = 0.7
    sr = crisp(downscale_bicubic(hr, 4), blend, quality)[..., 16:-16, 16:-16]
    away = torch.cat((sr[..., :98], sr[..., 130:]), -1)
    flat = torch.where(away < 0.5, 0.3, 0.7)
    assert 255 * (away - flat).abs().max() < 8
    assert 255 * (sr - 0.5).abs().max() < 255 * 0.2 + 16


def test_the_lr_image_comes_back_with_its_colours(blend: Blend, sample: dict[str, Any]) -> None:
    lr = stored(sample["lr"])
    sr = upscale(Photo(pixels=lr), [Photo(pixels=sample["ref"])], model=blend, texture=1.0).photo.pixels
    for result in (sr, crisp(lr, blend)):
        assert 255 * (downscale_bicubic(result, 4) - lr).square().mean().sqrt() < 1
        assert colour_levels(result, sample["truth"]).item() < 0.5 + colour_levels(
            upscale_bicubic(lr, 4), sample["truth"]
        )


def test_more_texture_is_crisper(blend: Blend, sample: dict[str, Any]) -> None:
    """And still nearer to the truth than bicubic."""
    truth = sample["truth"]
    for lr in (stored(sample["lr"]), degraded(truth, "mild", "a", 4)):
        results = [crisp(lr, blend, texture=share) for share in (0.0, 0.5, 1.0)]
        detail = [detail_levels(result) for result in results]
        assert detail[0] < detail[1] < detail[2]
        bicubic = psnr_db(upscale_bicubic(lr, 4), truth)
        assert all(psnr_db(result, truth) > bicubic + 0.5 for result in results)


def test_an_unrelated_reference_changes_nothing(blend: Blend, sample: dict[str, Any], shared: Any) -> None:
    from refsr.io.photo import as_photo

    other = as_photo(shared / "data" / "sisr" / "set5" / "bird.webp")
    lr = Photo(pixels=stored(sample["lr"]))
    alone, helped = (upscale(lr, refs, model=blend, texture=1.0).photo.pixels for refs in ([], [other]))
    assert psnr_db(helped, alone).item() > 45
