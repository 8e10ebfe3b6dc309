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
from refsr.models.alignment import Alignment
from refsr.resize import downscale_bicubic
from refsr.search import Match, cell_grid
from refsr.training.alignment_loss import alignment_loss
from refsr.transfer.smoothing import smooth


def test_untrained_it_moves_nothing() -> None:
    lr, ref = texture(12, 15), texture(48, 60, seed=1)
    field = Match(
        position_cells=(cell_grid((12, 15), lr) + 0.3)[None],
        reference=torch.zeros(1, 12, 15, dtype=torch.long),
        score=torch.ones(1, 1, 12, 15),
    )
    assert torch.equal(Alignment(8, 4)(lr, [ref], field, field).position_cells, field.position_cells)


def test_the_loss_is_the_distance_where_the_match_was_near() -> None:
    begun = torch.zeros(2, 2, 1, 4)
    truth = torch.zeros(2, 2, 1, 4)
    truth[0, :, 0] = torch.tensor([[0.5, 0.0, 3.0, math.nan], [0.0, -0.5, 0.0, math.nan]])
    truth[1] = math.nan
    found = torch.zeros(2, 2, 1, 4, requires_grad=True)
    loss = alignment_loss(found, begun, truth)
    assert loss.tolist() == pytest.approx([0.4901, 0.0], abs=1e-3)
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert found.grad is not None
    assert found.grad.isfinite().all()
    assert found.grad[0, :, 0, 2:].abs().sum() == 0


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
        reference = shipped.encode_reference(ref)
        (match,) = shipped.search(shipped.encode_query(lr), [reference])
        begun = smooth(match).position_cells
        found = shipped.field(lr, [reference], match).position_cells
        before, after = (alignment_loss(field, begun, truth).item() for field in (begun, found))
    assert after < before * 5 / 6
