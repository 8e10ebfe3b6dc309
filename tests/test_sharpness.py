"""How far a photo can be shrunk without loss is read from its spectrum."""

import pytest
import torch

from refsr.resize import resize
from refsr.restore.sharpness import shrinkable


def softened(image: torch.Tensor, times: float) -> torch.Tensor:
    """Without the detail that shrinking takes away."""
    height, width = image.shape[-2:]
    return resize(resize(image, (round(height / times), round(width / times))), (height, width))


def noisy(image: torch.Tensor, levels: float) -> torch.Tensor:
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    return ((image + noise * levels / 255).clamp(0, 1) * 255).round() / 255


@pytest.mark.parametrize("levels", [0, 3, 8])
def test_a_sharp_photo_cannot_be_shrunk(sample: dict[str, torch.Tensor], levels: float) -> None:
    for sharp in (sample["truth"], sample["ref"], sample["lr"]):
        assert shrinkable(noisy(sharp, levels)) == 1


@pytest.mark.parametrize("levels", [0, 3])
@pytest.mark.parametrize("times", [2, 4])
def test_a_soft_photo_is_shrunk_to_its_detail(sample: dict[str, torch.Tensor], times: float, levels: float) -> None:
    assert 0.7 * times < shrinkable(noisy(softened(sample["truth"], times), levels)) < 1.3 * times


def test_samples_of_a_large_photo_tell_the_same(sample: dict[str, torch.Tensor]) -> None:
    soft = softened(sample["truth"], 2)
    assert 1.4 < shrinkable(soft.repeat(1, 1, 5, 5)) < 2.6
    assert shrinkable(sample["truth"].repeat(1, 1, 5, 5)) == 1


def test_only_factors_beyond_one_that_is_known() -> None:
    smooth = torch.linspace(0, 1, 256).expand(1, 3, 256, 256).sin()
    assert shrinkable(smooth + 0.1 * softened(torch.rand(1, 3, 256, 256), 4), beyond=2.9) in (1, 2**1.75, 4)


@pytest.mark.parametrize("size", [(8, 8), (8, 700), (33, 31)])
def test_flat_and_tiny_photos_stay(size: tuple[int, int]) -> None:
    assert shrinkable(torch.full((1, 3, *size), 0.5)) == 1
    shrinkable(torch.rand(1, 3, *size))
