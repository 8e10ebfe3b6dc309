"""Our PSNR and SSIM against scikit-image and known values."""

import numpy as np
import pytest
import torch
from conftest import texture
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from refsr.bench.metrics import Channel, luma, psnr_db, ssim
from refsr.errors import UsageError
from refsr.io.photo import as_photo
from refsr.resize import downscale_bicubic, upscale_bicubic


def oracle(sr: torch.Tensor, hr: torch.Tensor, border_px: int, channel: Channel) -> tuple[float, float]:
    """PSNR and SSIM by scikit-image."""
    rounded = ((x.double() * 255).round() / 255 for x in (sr, hr))
    first, second = (((luma(x) if channel == "y" else x)[0].permute(1, 2, 0)).numpy() for x in rounded)
    height, width = first.shape[:2]
    inside = slice(border_px, height - border_px), slice(border_px, width - border_px)
    first, second = first[inside], second[inside]
    similarity = structural_similarity(
        first, second, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=2
    )
    return peak_signal_noise_ratio(second, first, data_range=1), similarity


@pytest.mark.parametrize("border_px", [0, 4])
@pytest.mark.parametrize("channel", ["y", "rgb"])
@pytest.mark.parametrize("noise", [0.01, 0.1])
def test_agrees_with_scikit_image(noise: float, channel: Channel, border_px: int) -> None:
    hr = texture(40, 52)
    sr = (hr + noise * torch.randn(hr.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    ours = psnr_db(sr, hr, border_px, channel).item(), ssim(sr, hr, border_px, channel).item()
    assert ours == pytest.approx(oracle(sr, hr, border_px, channel), abs=1e-4)


@pytest.mark.parametrize("name", ["astronaut", "coffee", "rocket"])
def test_agrees_with_scikit_image_on_photographs(name: str) -> None:
    hr = as_photo(getattr(data, name)()[:256, :300]).pixels
    sr = upscale_bicubic(downscale_bicubic(hr, 4), 4)
    for channel in ("y", "rgb"):
        ours = psnr_db(sr, hr, 4, channel).item(), ssim(sr, hr, 4, channel).item()
        assert ours == pytest.approx(oracle(sr, hr, 4, channel), abs=1e-4)


def test_known_values() -> None:
    grey = torch.full((1, 3, 32, 32), 100 / 255)
    assert luma(torch.ones(1, 3, 1, 1)).item() == pytest.approx(235 / 255)
    brighter = torch.full((1, 3, 32, 32), 110 / 255)
    difference = 10 / 255 * (65.481 + 128.553 + 24.966) / 255
    assert psnr_db(brighter, grey).item() == pytest.approx(-20 * np.log10(difference), abs=1e-4)
    assert psnr_db(grey, grey).item() == 100
    assert psnr_db(brighter, grey, channel="rgb").item() == pytest.approx(20 * np.log10(255 / 10), abs=1e-4)
    assert ssim(grey, grey).item() == pytest.approx(1)


def test_each_picture_has_its_own_figure() -> None:
    hr = torch.rand(3, 3, 32, 32)
    sr = torch.rand(3, 3, 32, 32)
    assert torch.allclose(psnr_db(sr, hr), torch.cat([psnr_db(sr[b : b + 1], hr[b : b + 1]) for b in range(3)]))


def test_refuses_what_it_cannot_compare() -> None:
    with pytest.raises(UsageError, match="cannot compare"):
        psnr_db(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 31))
    with pytest.raises(UsageError, match="nothing is left"):
        psnr_db(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8))
    with pytest.raises(UsageError, match="at least 11"):
        ssim(torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16))
