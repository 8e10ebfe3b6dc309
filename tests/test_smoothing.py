"""Matches smoothed where neighbours agree, against a naive loop and against a truth."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from refsr.search import Match, cell_grid
from refsr.transfer.smoothing import coherence, smooth


def match_of(position: Tensor) -> Match:
    shape = (position.shape[0], *position.shape[-2:])
    return Match(
        position_cells=position,
        reference=torch.zeros(shape, dtype=torch.long),
        score=torch.zeros(shape[0], 1, *shape[1:]),
    )


def naive(offset: np.ndarray) -> np.ndarray:
    """The smoothed offsets (2, h, w), cell by cell."""
    _, height, width = offset.shape
    near, support = np.empty_like(offset), np.empty((height, width))
    for y, x in np.ndindex(height, width):
        near[:, y, x], support[y, x] = naive_near(offset, y, x)
    weight = support**6
    far = naive_far(near, weight)
    for tolerance in (4, 2, 1):
        weight = support**6 * np.exp(-((far - near) ** 2).sum(0) / tolerance**2)
        far = naive_far(near, weight)
    found = near.copy()
    for y, x in np.ndindex(height, width):
        v, u = around(y, height, 3), around(x, width, 3)
        beyond = offset[:, v, u] - far[:, y, x, None, None]
        supporters = ((beyond**2).sum(0) < 1.5**2).sum() / 49
        trust = weight[around(y, height, 10), around(x, width, 10)].sum() / 441
        if support[y, x] < 0.8 and supporters > support[y, x] - 0.2 and trust > 1e-3:
            found[:, y, x] = far[:, y, x]
    return found


def around(place: int, length: int, reach: int) -> slice:
    """As far as it goes."""
    return slice(max(0, place - reach), min(length, place + reach + 1))


def naive_near(offset: np.ndarray, y: int, x: int) -> tuple[np.ndarray, float]:
    """Median of 3x3, then least squares with the same faint pull to no slope; and the share of 7x7 that agree."""
    _, height, width = offset.shape
    around = np.pad(offset, ((0, 0), (1, 1), (1, 1)), mode="edge")[:, y : y + 3, x : x + 3]
    centre = np.sort(around.reshape(2, 9), axis=1)[:, 4]
    rows, wanted = [], []
    for v in range(max(0, y - 3), min(height, y + 4)):
        for u in range(max(0, x - 3), min(width, x + 4)):
            beyond = offset[:, v, u] - centre
            if (beyond**2).sum() < 1.5**2:
                rows.append((1, v - y, u - x))
                wanted.append(beyond)
    if len(rows) < 6:
        return centre, len(rows) / 49
    design = np.concatenate((np.array(rows, dtype=float), 0.1 * np.eye(3)))
    plane, *_ = np.linalg.lstsq(design, np.concatenate((np.array(wanted), np.zeros((3, 2)))), rcond=None)
    found: np.ndarray = centre + plane[0]
    return found, len(rows) / 49


def naive_far(near: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighed least squares over the 21x21 cells around each, as they are in the middle."""
    _, height, width = near.shape
    far = np.empty_like(near)
    for y, x in np.ndindex(height, width):
        part = (around(y, height, 10), around(x, width, 10))
        v, u = np.mgrid[part]
        rows = np.stack((np.ones(v.size), (v.ravel() - y) / 10, (u.ravel() - x) / 10), 1)
        root = np.sqrt(weight[part].reshape(-1, 1))
        design = np.concatenate((root * rows, np.sqrt(441e-6) * np.eye(3)))
        beyond = near[(slice(None), *part)].reshape(2, -1).T - near[:, y, x]
        wanted = np.concatenate((root * beyond, np.zeros((3, 2))))
        far[:, y, x] = near[:, y, x] + np.linalg.lstsq(design, wanted, rcond=None)[0][0]
    return far


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), noise=st.floats(0.1, 2), height=st.integers(3, 9), width=st.integers(3, 9))
def test_against_a_naive_loop(seed: int, noise: float, height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    offset = torch.randn(2, 2, height, width, generator=generator) * noise
    found = smooth(match_of(cell_grid((height, width), offset) + offset))
    found_offset = found.position_cells - cell_grid((height, width), offset)
    for b in range(2):
        assert found_offset[b].numpy() == pytest.approx(naive(offset[b].double().numpy()), abs=1e-2)


def test_noise_is_smoothed_and_outliers_do_not_count() -> None:
    generator = torch.Generator().manual_seed(0)
    grid = cell_grid((40, 40), torch.zeros(()))
    truth = torch.stack((5 + 1.05 * grid[0] - 0.1 * grid[1], 0.1 * grid[0] + 0.95 * grid[1] - 3))[None]
    noisy = truth + 0.3 * torch.randn(truth.shape, generator=generator)
    outliers = torch.rand(1, 1, 40, 40, generator=generator) < 0.1
    noisy = torch.where(outliers, 40 * torch.rand(truth.shape, generator=generator), noisy)
    inner = (..., slice(4, -4), slice(4, -4))
    error = (smooth(match_of(noisy)).position_cells - truth)[inner].norm(dim=1)
    before = (noisy - truth)[inner].norm(dim=1)
    assert error.median() < 0.3 * before.median()
    assert error.quantile(0.98) < 0.5


def test_the_border_between_two_motions_stays_sharp() -> None:
    """Two halves that moved differently: the border between them is no wider than before."""
    grid = cell_grid((60, 60), torch.zeros(()))[None]
    position = grid + torch.where(grid[:, 1:] < 30, 0.0, 6.0)
    beyond = (smooth(match_of(position)).position_cells - position).norm(dim=1)[0, 10:-10]
    assert beyond.max() < 1.5
    assert beyond[:, :27].max() < 1e-3
    assert beyond[:, 33:].max() < 1e-3


def test_chance_matches_are_replaced_by_what_lies_around() -> None:
    """A patch of 9x9 cells that match anywhere, far larger than any median: its places follow from the others'."""
    generator = torch.Generator().manual_seed(0)
    grid = cell_grid((40, 40), torch.zeros(()))[None]
    truth = 1.05 * grid + 3
    position = truth.clone()
    position[..., 15:24, 15:24] = 40 * torch.rand(1, 2, 9, 9, generator=generator)
    assert (smooth(match_of(position)).position_cells - truth).norm(dim=1).max() < 0.2


def test_each_reference_by_its_own_cells(rng: torch.Generator) -> None:
    """Left in one reference, right in another: as each half alone, where the other is too far to be seen."""
    grid = cell_grid((20, 120), torch.zeros(()))[None]
    position = grid + 0.5 * torch.randn(grid.shape, generator=rng)
    both = match_of(position)
    both = replace(both, reference=(grid[:, 1] >= 60).long() * 2)
    left, right = (match_of(position[..., part]) for part in (slice(0, 60), slice(60, 120)))
    together = smooth(both).position_cells
    assert torch.allclose(together[..., :35], smooth(left).position_cells[..., :35], atol=0.02)
    assert torch.allclose(together[..., 85:], smooth(right).position_cells[..., 25:], atol=0.02)


def test_coherence_of_order_and_of_chance() -> None:
    grid = cell_grid((20, 20), torch.zeros(()))[None]
    chance = 20 * torch.rand(1, 2, 20, 20, generator=torch.Generator().manual_seed(0))
    assert coherence(match_of(grid + 3)) == 1
    assert coherence(match_of(chance)) < 0.05
    half = torch.where(grid[:, 1:] < 10, grid, chance)
    assert 0.3 < coherence(match_of(half)) < 0.6


def test_stripes_equal_the_whole(monkeypatch: pytest.MonkeyPatch, rng: torch.Generator) -> None:
    grid = cell_grid((230, 12), torch.zeros(()))[None]
    match = match_of(1.1 * grid + 0.7 * torch.randn(grid.shape, generator=rng))
    whole = smooth(match).position_cells
    monkeypatch.setattr("refsr.transfer.stripes._STRIPE_CELLS", 12 * 50)
    assert torch.allclose(smooth(match).position_cells, whole, atol=1e-3)
