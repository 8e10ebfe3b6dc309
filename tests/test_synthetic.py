"""Training pairs: their truth is true, and each depends on its number alone."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import texture
from PIL import Image

from refsr.data.synthetic import PairConfig, _random_crop, sample_view, synthetic_pair, true_cells


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    return (texture(height, width, seed)[0] * 255).round().byte().permute(1, 2, 0).numpy()


PHOTOS = [photo(240, 300), photo(200, 200, 1)]


def test_a_view_shows_what_a_crop_shows() -> None:
    view = np.array([[2.0, 0, 10.5], [0, 2, 10.5], [0, 0, 1]])
    crop = Image.fromarray(PHOTOS[0][10:138, 10:138]).resize((64, 64), Image.Resampling.BICUBIC)
    difference = sample_view(PHOTOS[0], view, 64) * 255 - torch.from_numpy(np.array(crop)).permute(2, 0, 1)
    assert difference[:, 4:-4, 4:-4].abs().mean() < 2


def test_crops_are_sharp_and_their_views_lead_to_them() -> None:
    """A plain crop is exact, a shrunk one is the shrunk photo; turned and flipped as the view says."""
    turns = set()
    for seed in range(60):
        pixels, view = _random_crop(PHOTOS[0], 64, np.random.default_rng(seed))
        seen = sample_view(PHOTOS[0], view, 64)
        here, beside = ((pixels - seen.roll(n, 2))[:, 4:-4, 4:-4].abs().mean() for n in (0, 1))
        assert here < 0.4 * beside
        zoom = np.abs(view[:2, :2]).max()
        turns.add(tuple(np.sign(np.round(view[:2, :2] / zoom)).ravel()))
        if zoom == 1:
            x, y = (view @ np.array([0, 0, 1]))[:2].round().astype(int)
            assert torch.equal(pixels[:, 0, 0] * 255, torch.from_numpy(PHOTOS[0][y, x]).float())
    assert len(turns) == 8


def test_true_cells_lead_to_the_same_texture() -> None:
    config = PairConfig(unrelated=0.0, absent=0.0, second=0.0, elsewhere=0.0, log2_scale=0.2)
    correlations = []
    for pair in (synthetic_pair(PHOTOS, config, 96, np.random.default_rng(i)) for i in range(12)):
        truth = pair.truth_cells[0]
        known = ~truth[0].isnan()
        lr, ref = (F.avg_pool2d(image[None], 4) for image in (pair.hr, pair.refs[0]))
        grid = (2 * truth.nan_to_num().flip(0).permute(1, 2, 0) + 1) / 24 - 1
        there = F.grid_sample(ref, grid[None], align_corners=False)
        both = torch.stack((lr[0].mean(0)[known], there[0].mean(0)[known]))
        correlations.append(torch.corrcoef(both)[0, 1].item())
    assert np.median(correlations) > 0.9


def test_true_cells_of_a_shift() -> None:
    right_by_two_cells = np.array([[1.0, 0, 8], [0, 1, 0], [0, 0, 1]])
    truth = true_cells(right_by_two_cells, 32)
    assert truth[:, 3, 5].tolist() == [3, 3]
    assert truth[:, 3, :2].isnan().all()


def test_a_pair_depends_on_its_random_numbers_alone() -> None:
    first, again, other = (synthetic_pair(PHOTOS, PairConfig(), 64, np.random.default_rng(s)) for s in (1, 1, 2))
    assert torch.equal(first.hr, again.hr)
    assert torch.equal(first.refs, again.refs)
    assert not torch.equal(first.hr, other.hr)


def test_kinds_come_in_their_shares() -> None:
    pairs = [synthetic_pair(PHOTOS, PairConfig(), 32, np.random.default_rng(i)) for i in range(400)]
    counts = np.array([len(pair.refs) for pair in pairs])
    assert np.mean(counts == 0) == pytest.approx(0.20, abs=0.06)
    assert np.mean(counts == 2) == pytest.approx(0.20, abs=0.06)
    known = [not bool(truth.isnan().all()) for pair in pairs for truth in pair.truth_cells]
    assert np.mean(known) == pytest.approx(0.77, abs=0.08)
    two = next(pair for pair in pairs if len(pair.refs) == 2)
    assert not torch.equal(two.refs[0], two.refs[1])
