"""The one bicubic against Pillow's."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from refsr.assets import sample_path
from refsr.errors import UsageError
from refsr.resize import downscale_bicubic, resize, stored, upscale_bicubic

SIZES = (st.integers(1, 60), st.integers(1, 60), st.integers(2, 90), st.integers(2, 90), st.integers(0, 99))


@settings(max_examples=40, deadline=None)
@given(*SIZES)
def test_equals_pillow_in_floats(h: int, w: int, h2: int, w2: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).uniform(0.3, 0.7, (h, w)).astype(np.float32)  # no overshoot reaches 0 or 1
    expected = np.asarray(Image.fromarray(pixels).resize((w2, h2), Image.Resampling.BICUBIC))
    ours = resize(torch.from_numpy(pixels)[None, None], (h2, w2))
    assert np.abs(ours[0, 0].numpy() - expected).max() < 1e-4


def worst_difference(pixels: NDArray[np.uint8], size: tuple[int, int]) -> float:
    """In grey levels, against Pillow at 8 bits."""
    expected = np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BICUBIC)).astype(float)
    ours = resize(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255, size)[0] * 255
    return float(np.abs(ours.permute(1, 2, 0).round().numpy() - expected).max())


@settings(max_examples=40, deadline=None)
@given(*SIZES)
def test_equals_pillow_within_one_grey_level(h: int, w: int, h2: int, w2: int, seed: int) -> None:
    # Greys that leave room for the overshoot: Pillow cuts it off in an order of rows and columns that it chooses.
    pixels = np.random.default_rng(seed).integers(64, 192, (h, w, 3), dtype=np.uint8)
    assert worst_difference(pixels, (h2, w2)) <= 1


def test_equals_pillow_on_a_photograph() -> None:
    with Image.open(sample_path("truth")) as image:
        photo = np.array(image.convert("RGB"))
    for size in ((135, 180), (270, 360), (1080, 1440)):
        assert worst_difference(photo, size) <= 1


def test_whole_factors() -> None:
    image = torch.rand(2, 3, 8, 12)
    assert upscale_bicubic(image, 4).shape == (2, 3, 32, 48)
    assert downscale_bicubic(image, 4).shape == (2, 3, 2, 3)
    with pytest.raises(UsageError, match="12x8 is not a multiple of 5"):
        downscale_bicubic(image, 5)


def test_refuses_an_empty_result() -> None:
    with pytest.raises(UsageError, match="at least two pixels"):
        resize(torch.rand(1, 3, 8, 8), (1, 4))


def test_what_is_stored_has_256_levels() -> None:
    image = torch.tensor([-0.1, 0.0, 0.3, 0.501, 1.2]).view(1, 1, 1, 5)
    assert torch.equal(stored(image) * 255, torch.tensor([0.0, 0.0, 76.0, 128.0, 255.0]).view(1, 1, 1, 5))
