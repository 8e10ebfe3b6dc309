"""Blur, noise and JPEG of a photo, measured on photographs that were harmed in known ways."""

import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import texture
from PIL import Image
from scipy import fft

from refsr.degrade import Degradation, degrade
from refsr.io.photo import as_photo
from refsr.resize import downscale_bicubic, stored
from refsr.restore.condition import CLEAN, ConditionNet, measure_condition, share_of_real


def test_the_networks_view_is_the_dct() -> None:
    blocks = np.random.default_rng(0).standard_normal((3, 8, 8)).astype(np.float32)
    found = torch.nn.functional.conv2d(torch.from_numpy(blocks)[:, None], ConditionNet().dct, stride=8).view(3, 8, 8)
    assert np.allclose(found, fft.dctn(blocks, axes=(1, 2), norm="ortho"), atol=1e-5)


@pytest.mark.parametrize("size", [(8, 8), (31, 200), (33, 40), (100, 3000), (1500, 1100)])
def test_any_size(size: tuple[int, int]) -> None:
    found = measure_condition(texture(*size))
    assert found.blur_px >= 0
    assert found.noise >= 0
    assert 1 <= found.jpeg <= 100
    assert (found == CLEAN) == (min(size) < 32)


def test_a_flat_picture_is_clean() -> None:
    assert not measure_condition(torch.full((1, 3, 200, 300), 0.4)).is_real


def test_a_quality_or_a_share_overrides_what_is_measured() -> None:
    noisy = CLEAN.__class__(blur_px=0.1, noise=5.0, jpeg=100.0)
    assert [share_of_real(noisy, quality, None) for quality in ("auto", "clean", "real")] == [1, 0, 1]
    assert share_of_real(noisy, "auto", 0.3) == 0.3


@pytest.fixture(scope="module")
def photographs() -> list[torch.Tensor]:
    """Truths of other photographs than those that the network was trained on, in multiples of 4 pixels."""
    folder = Path(__file__).parents[1].parent / "shared" / "data" / "dev"
    if not folder.is_dir():
        pytest.skip("needs shared/data/dev beside the project")
    pictures = [as_photo(path).pixels for path in sorted(folder.glob("*_0.webp"))[::3]]
    return [each[..., : each.shape[-2] // 4 * 4, : each.shape[-1] // 4 * 4] for each in pictures]


def errors(photographs: list[torch.Tensor], harms: list[Degradation], measured: Any) -> list[float]:
    """Differences to what is known, of each photograph under each harm."""
    return [measured(measure_condition(degrade(photo, [harm], 4))) for harm in harms for photo in photographs]


def within(found: list[float], limit: float, share: float) -> bool:
    """Whether a share of the errors are below the limit."""
    return sum(error < limit for error in found) >= share * len(found)


@pytest.mark.parametrize("width_px", [0.0, 0.4, 0.8, 1.2])
def test_blur(photographs: list[torch.Tensor], width_px: float) -> None:
    harm = Degradation(blur="gaussian" if width_px else "none", blur_px=4 * width_px)
    found = errors(photographs, [harm], lambda one: abs(one.blur_px - width_px))
    assert statistics.median(found) < 0.15
    assert within(found, 0.3, 0.9)


@pytest.mark.parametrize("levels", [3.0, 6.0, 10.0])
def test_noise(photographs: list[torch.Tensor], levels: float) -> None:
    """White noise in each channel; luma has 0.67 of it."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for photo in photographs:
        small = downscale_bicubic(photo, 4)
        noisy = stored(small + torch.randn(small.shape, generator=generator) * levels / 255)
        weights = torch.tensor((0.299, 0.587, 0.114)).view(1, 3, 1, 1)
        known = 255 * ((noisy - small) * weights).sum(1).std().item()
        found.append(abs(measure_condition(noisy).noise / known - 1))
    assert statistics.median(found) < 0.2
    assert within(found, 0.3, 0.85)


@pytest.mark.parametrize("quality", [30, 50, 70, 85])
def test_jpeg(photographs: list[torch.Tensor], quality: int, tmp_path: Path) -> None:
    """By Pillow's encoder, which is not the one of the training."""
    found = []
    for photo in photographs:
        levels = (downscale_bicubic(photo, 4)[0].permute(1, 2, 0) * 255).round().byte().numpy()
        Image.fromarray(levels).save(tmp_path / "a.jpg", quality=quality)
        found.append(abs(measure_condition(as_photo(tmp_path / "a.jpg").pixels).jpeg - quality))
    assert within(found, 10, 0.95)


def test_clean_reductions_are_clean(photographs: list[torch.Tensor]) -> None:
    seen = [measure_condition(stored(downscale_bicubic(photo, 4))) for photo in photographs]
    assert sum(one.is_real for one in seen) <= 0.08 * len(seen), [str(one) for one in seen if one.is_real]
