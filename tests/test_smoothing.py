"""Matches smoothed where neighbours agree, against a naive loop and against a truth."""

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


def naive(offset: np.ndarray, y: int, x: int) -> np.ndarray:
    """The smoothed offset of one cell: median of 3x3, then least squares, with the same faint pull to no slope."""
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
        return centre
    design = np.concatenate((np.array(rows, dtype=float), 0.1 * np.eye(3)))
    plane, *_ = np.linalg.lstsq(design, np.concatenate((np.array(wanted), np.zeros((3, 2)))), rcond=None)
    found: np.ndarray = centre + plane[0]
    return found


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), noise=st.floats(0.1, 2), height=st.integers(3, 9), width=st.integers(3, 9))
def test_against_a_naive_loop(seed: int, noise: float, height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    offset = torch.randn(2, 2, height, width, generator=generator) * noise
    found = smooth(match_of(cell_grid((height, width), offset) + offset))
    found_offset = found.position_cells - cell_grid((height, width), offset)
    for b in range(2):
        for y in range(height):
            for x in range(width):
                assert found_offset[b, :, y, x].numpy() == pytest.approx(naive(offset[b].numpy(), y, x), abs=1e-3)


def test_noise_goes_and_outliers_do_not_count() -> None:
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


def test_what_moves_apart_stays_apart() -> None:
    """Two halves that moved differently: the border between them is no wider than before."""
    grid = cell_grid((20, 20), torch.zeros(()))[None]
    position = grid + torch.where(grid[:, 1:] < 10, 0.0, 6.0)
    assert torch.allclose(smooth(match_of(position)).position_cells, position, atol=1e-3)


def test_coherence_of_order_and_of_chance() -> None:
    grid = cell_grid((20, 20), torch.zeros(()))[None]
    chance = 20 * torch.rand(1, 2, 20, 20, generator=torch.Generator().manual_seed(0))
    assert coherence(match_of(grid + 3)) == 1
    assert coherence(match_of(chance)) < 0.05
    half = torch.where(grid[:, 1:] < 10, grid, chance)
    assert 0.3 < coherence(match_of(half)) < 0.6
