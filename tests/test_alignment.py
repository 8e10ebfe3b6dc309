"""The last fraction of a cell: on views whose true field is known."""

import math

import numpy as np
import pytest
import torch
from conftest import texture
from torch import Tensor

from refsr.data.sample import sample_view
from refsr.data.scene import true_cells
from refsr.models import DefaultModel, RefSRModel
from refsr.models.alignment import Aligned, Alignment, solve_offset
from refsr.resize import downscale_bicubic
from refsr.restore.pipeline import encode, match
from refsr.search import Match, cell_grid
from refsr.training.losses import alignment_loss


def test_an_untrained_alignment_moves_nothing() -> None:
    lr, ref = texture(12, 15), texture(48, 60, seed=1)
    field = match_at((cell_grid((12, 15), lr) + 0.3)[None])
    steps = Alignment(8, 4, 3)(lr, [ref], field, field)
    assert len(steps) == 3
    for step in steps:
        assert torch.equal(step.field.position_cells, field.position_cells)
        assert not step.doubt.any()


def test_each_step_starts_where_the_last_one_ended() -> None:
    """Three steps at once are one step three times, as far as the cues do not remember the way."""
    lr, ref = texture(12, 15), texture(48, 60, seed=1)
    align = Alignment(8, 4, 3)
    torch.nn.init.normal_(align.move.weight, std=0.3)
    first = align.layers[0]
    assert isinstance(first, torch.nn.Conv2d)
    gone = slice(first.in_channels - 4, first.in_channels - 2)
    with torch.no_grad():
        first.weight[:, gone] = 0
    field = begun = match_at((cell_grid((12, 15), lr) + 0.3)[None])
    steps = align(lr, [ref], begun, begun)
    align.steps = 1
    for step in steps:
        (once,) = align(lr, [ref], begun, field)
        assert torch.allclose(once.field.position_cells, step.field.position_cells, atol=1e-5)
        field = step.field
    assert (field.position_cells - begun.position_cells).abs().max() > 0.1


def test_least_squares_find_a_shift() -> None:
    """A slope in each direction, moved: what Lucas and Kanade solve is by how much."""
    y, x = cell_grid((20, 20), torch.zeros(()))
    moved = torch.tensor((0.4, -0.3))
    slopes = torch.stack(((0.3 * y).sin(), (0.25 * x).cos()))[None]
    lacking = (slopes * moved[:, None, None]).sum(1, keepdim=True)
    found = solve_offset(slopes * 3, lacking * 3)
    assert found[0, :, 4:-4, 4:-4].mean((1, 2)).tolist() == pytest.approx(moved.tolist(), abs=0.05)


def test_the_loss_is_the_distance_to_the_truth_of_cells_that_were_near() -> None:
    begun = torch.zeros(2, 2, 1, 4)
    truth = torch.zeros(2, 2, 1, 4)
    truth[0, :, 0] = torch.tensor([[0.5, 0.0, 3.5, math.nan], [0.0, -0.5, 0.0, math.nan]])
    truth[1] = math.nan
    found = torch.zeros(2, 2, 1, 4, requires_grad=True)
    doubt = torch.zeros(2, 1, 1, 4, requires_grad=True)
    step = Aligned(field=match_at(found), doubt=doubt)
    loss, cells = alignment_loss([step, step], begun, truth)
    assert cells.tolist() == pytest.approx([0.4901, 0.0], abs=1e-3)
    # Beside it a tenth of the mean of doubt + distance / exp(doubt), here also of the cell that is far off.
    assert loss.tolist() == pytest.approx([0.4901 + 0.1 * (0.4901 * 2 + 3.49) / 3, 0.0], abs=1e-3)
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert found.grad is not None
    assert doubt.grad is not None
    assert found.grad.isfinite().all()
    assert found.grad[0, :, 0, 2:].abs().sum() == 0
    # The doubt of a cell that is 3.5 cells off shall rise.
    assert doubt.grad[0, 0, 0, 2] < 0
    assert doubt.grad[0, 0, 0, 0] > 0


def match_at(position: Tensor) -> Match:
    shape = (position.shape[0], *position.shape[-2:])
    return Match(
        position_cells=position, reference=torch.zeros(shape, dtype=torch.long), score=torch.ones(shape)[:, None]
    )


def test_the_shipped_alignment_finds_the_true_field(shipped: RefSRModel, sample: dict[str, Tensor]) -> None:
    """A known homography of the sample: the field is nearer to the truth than before by a sixth at the least."""
    assert isinstance(shipped, DefaultModel)
    photo = np.ascontiguousarray((sample["ref"][0] * 255).round().byte().permute(1, 2, 0).numpy())
    angle = math.radians(4)
    turn = 1.06 * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    homography = np.array([[*turn[0], 5.3], [*turn[1], -7.6], [2e-5, -3e-5, 1]])
    view = np.array([[1.0, 0, 150], [0, 1, 60], [0, 0, 1]])
    hr, ref = (sample_view(photo, matrix, 256)[None] for matrix in (view, view @ homography))
    lr, truth = (
        downscale_bicubic(hr, 4).clamp(0, 1),
        true_cells(torch.from_numpy(np.linalg.inv(homography))[None].float(), 256),
    )
    with torch.inference_mode():
        matched = match(shipped, encode(shipped, lr, [ref]))
        (found,), (begun,) = matched.matches, matched.fields
        steps = shipped.fields(lr, matched.values, found, begun)
        still = Aligned(field=begun, doubt=torch.zeros_like(found.score))
        before, *after = (
            alignment_loss([step], begun.position_cells, truth)[1].item() for step in (still, steps[0], steps[-1])
        )
    assert after[0] < before * 3 / 4
    assert after[1] < after[0]
