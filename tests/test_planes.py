"""Planes of the scene: homographies found again, and where there is none."""

import pytest
import torch
from torch import Tensor

from refsr.search import Match, cell_grid
from refsr.transfer.planes import _homographies, fit_planes
from refsr.transfer.smoothing import near_and_far

SIZE = (48, 64)
FACADE = torch.tensor(((0.9, 0.1, 3.0), (-0.05, 0.8, 6.0), (1e-4, 2e-3, 1.0)))
GROUND = torch.tensor(((1.1, 0.0, -5.0), (0.2, 1.0, 2.0), (-1e-3, 0.0, 1.0)))


def mapped(homography: Tensor) -> Tensor:
    """Positions (1, 2, h, w) of all cells, cell by cell."""
    found = torch.empty(1, 2, *SIZE)
    for y in range(SIZE[0]):
        for x in range(SIZE[1]):
            place = homography @ torch.tensor((float(y), float(x), 1.0))
            found[0, :, y, x] = place[:2] / place[2]
    return found


def match_of(position: Tensor, reference: Tensor | None = None) -> Match:
    zeros = torch.zeros(len(position), *SIZE)
    numbers = zeros.long() if reference is None else reference
    return Match(position_cells=position, reference=numbers, score=zeros[:, None])


def offered(match: Match) -> list[Tensor]:
    _, _, support = near_and_far(match)
    return fit_planes(match, support).positions(match.reference, slice(None))


def test_homographies_solve_the_equations() -> None:
    cells = torch.rand(5, 12, 2, generator=torch.Generator().manual_seed(0))
    homography = torch.tensor(((1.0, 0.2, 0.1), (-0.1, 0.9, 0.3), (0.1, -0.2, 1.0)))
    there = torch.cat((cells, torch.ones(5, 12, 1)), -1) @ homography.T
    there = there[..., :2] / there[..., 2:]
    assert torch.allclose(_homographies(cells, there), homography.expand(5, 3, 3), atol=1e-4)
    wrong = there.clone()
    wrong[:, :4] += 5
    weights = torch.ones(5, 12)
    weights[:, :4] = 0
    assert torch.allclose(_homographies(cells, wrong, weights), homography.expand(5, 3, 3), atol=1e-4)


def test_two_planes_are_found_among_accidents() -> None:
    """The left two thirds show one plane, the right third another; four cells in ten are matched by accident."""
    rng = torch.Generator().manual_seed(0)
    first, second = mapped(FACADE), mapped(GROUND)
    truth = torch.where(torch.arange(SIZE[1]) < 42, first, second)
    noisy = truth + 0.2 * torch.randn(truth.shape, generator=rng)
    accident = torch.rand(1, 1, *SIZE, generator=rng) < 0.4
    anywhere = torch.rand(truth.shape, generator=rng) * 60
    found = offered(match_of(torch.where(accident, anywhere, noisy)))
    assert (found[0] - first)[..., :42].norm(dim=1).mean() < 0.1
    assert (found[1] - second)[..., 42:].norm(dim=1).mean() < 0.1
    assert len(found) == 2


def test_without_agreement_there_is_no_plane() -> None:
    rng = torch.Generator().manual_seed(1)
    position = torch.rand(1, 2, *SIZE, generator=rng) * 60
    assert not offered(match_of(position))


def test_each_reference_and_each_picture_has_planes_of_its_own() -> None:
    left = (torch.arange(SIZE[1]) < 32).expand(1, *SIZE)
    position = torch.where(left[:, None], mapped(FACADE), mapped(GROUND))
    both = match_of(position, (~left).long())
    (found, *_) = offered(both)
    assert torch.allclose(found, position, atol=0.01)
    pair = match_of(torch.cat((mapped(FACADE), mapped(GROUND))))
    (found, *_) = offered(pair)
    assert torch.allclose(found, pair.position_cells, atol=0.01)


def test_rows_are_those_of_the_whole() -> None:
    position = mapped(FACADE)
    match = match_of(position)
    planes, rows = fit_planes(match, torch.ones_like(match.score)), slice(11, 30)
    parts = planes.positions(match.reference[:, rows], rows)
    for part, whole in zip(
        parts, fit_planes(match, torch.ones_like(match.score)).positions(match.reference, slice(None)), strict=True
    ):
        assert torch.allclose(part, whole[..., rows, :], atol=1e-4, equal_nan=True)


@pytest.mark.parametrize("size", [(3, 3), (2, 40), (9, 5)])
def test_tiny_pictures_have_finite_positions(size: tuple[int, int]) -> None:
    near = (cell_grid(size, torch.zeros(())) + 0.5)[None].contiguous()
    match = Match(
        position_cells=near, reference=torch.zeros(1, *size, dtype=torch.long), score=torch.zeros(1, 1, *size)
    )
    for found in fit_planes(match, torch.ones_like(match.score)).positions(match.reference, slice(None)):
        assert not found.isinf().any()
