"""Turned and scaled copies of a reference, and the positions in the reference that they lead back to."""

import pytest
import torch
import torch.nn.functional as F
from conftest import texture

from refsr.errors import UsageError
from refsr.references.variants import VariantConfig, make_variants
from refsr.resize import resize


def test_the_reference_itself_comes_first() -> None:
    image = texture(24, 32)
    (only,) = make_variants(image, 3, VariantConfig())
    assert torch.equal(only.image, image)
    assert only.origin.reference == 3
    made = make_variants(image, 0, VariantConfig(scales=(0.5, 1.0), degrees=(0.0, 90.0)))
    assert [tuple(v.image.shape[2:]) for v in made] == [(24, 32), (32, 24), (12, 16), (16, 12)]


def test_quarter_turns_are_exact() -> None:
    image = texture(24, 32)
    turned = make_variants(image, 0, VariantConfig(degrees=(90.0,)))[1].image
    assert torch.allclose(turned, torch.rot90(image, 1, (2, 3)), atol=1e-4)


@pytest.mark.parametrize(("scale", "degrees"), [(0.5, 0.0), (1.0, 30.0), (0.7, -45.0), (1.4, 10.0)])
def test_positions_lead_back_to_the_same_texture(scale: float, degrees: float) -> None:
    image = resize(texture(12, 16), (96, 128)).clamp(0, 1)  # smooth, so that resampling keeps it
    variant = make_variants(image, 0, VariantConfig(scales=(scale,), degrees=(degrees,)))[-1]
    height, width = variant.image.shape[2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    position = torch.einsum("ij,jhw->ihw", variant.origin.to_reference, torch.stack((y, x, torch.ones_like(y))).float())
    inside = ((position >= 4) & (position <= torch.tensor((91, 123)).view(2, 1, 1))).all(0)
    grid = (2 * position.flip(0).permute(1, 2, 0) + 1) / torch.tensor((128, 96)) - 1
    back = F.grid_sample(image, grid[None], align_corners=False)
    assert inside.float().mean() > 0.4
    assert (back - variant.image).abs()[..., inside].mean() < 0.01


def test_bad_config() -> None:
    with pytest.raises(UsageError, match="between 0.1 and 10"):
        VariantConfig(scales=(0.0,))
    with pytest.raises(UsageError, match="finite"):
        VariantConfig(degrees=(float("nan"),))
