"""The second search, in references as the photo sees their planes."""

from dataclasses import replace

import pytest
import torch
from conftest import texture
from torch import Tensor

from refsr.bench.rendered import NOON, Camera, Surface, render_view, true_cells
from refsr.models import DefaultModel, RefSRModel
from refsr.models.placement import Offer, offer
from refsr.models.rectified import _is_steep, search_rectified
from refsr.resize import downscale_bicubic, stored
from refsr.restore.pipeline import Encoded, encode
from refsr.search import Match, cell_grid

WALL = Surface(
    texture=texture(1200, 1800, seed=3), corner=(-6.0, -4.0, 0.0), right=(12.0, 0.0, 0.0), down=(0.0, 8.0, 0.0)
)
FRONT = Camera(size_px=(192, 256), focal_px=300.0, distance=8.0)


def views(degrees: float) -> tuple[Tensor, Tensor, Tensor]:
    """The LR image of a wall from the front, a view from the side, and the true position of each cell in it."""
    side = replace(FRONT, degrees=degrees)
    lr = stored(downscale_bicubic(render_view([WALL], FRONT, NOON), 4))
    return lr, stored(render_view([WALL], side, NOON)), true_cells([WALL], FRONT, side)


def searched(model: RefSRModel, lr: Tensor, ref: Tensor) -> tuple[Encoded, Match, Offer]:
    encoded = encode(model, lr, [ref])
    (match,) = model.search(lr, encoded.query, encoded.references)
    return encoded, match, offer(match)


def again(model: RefSRModel, encoded: Encoded, match: Match, offered: Offer) -> Match:
    assert isinstance(model, DefaultModel)
    sharps = [reference.values[1][:, :3] for reference in encoded.references]
    keys = [reference.key for reference in encoded.references]
    return search_rectified(model._describe, encoded.query, keys, sharps, match, offered)


def share_within_two(match: Match, true: Tensor) -> float:
    distance = (match.position_cells - true).norm(dim=1)
    return float((distance[distance.isfinite()] < 2).float().mean())


@torch.no_grad()
def test_a_wall_from_the_side_is_found_again(shipped: RefSRModel) -> None:
    lr, ref, true = views(52.0)
    encoded, match, offered = searched(shipped, lr, ref)
    better = again(shipped, encoded, match, offered)
    assert share_within_two(better, true) > share_within_two(match, true) + 0.1
    taken = (better.position_cells != match.position_cells).any(1, keepdim=True)
    assert (better.score > match.score)[taken].all()
    assert torch.equal(better.score[~taken], match.score[~taken])


@torch.no_grad()
@pytest.mark.parametrize("degrees", [0.0, 20.0])
def test_what_is_hardly_turned_is_not_searched_again(shipped: RefSRModel, degrees: float) -> None:
    lr, ref, _ = views(degrees)
    encoded, match, offered = searched(shipped, lr, ref)
    assert again(shipped, encoded, match, offered) is match


@torch.no_grad()
def test_large_pictures_are_not_searched_again(shipped: RefSRModel, monkeypatch: pytest.MonkeyPatch) -> None:
    lr, ref, _ = views(52.0)
    monkeypatch.setattr("refsr.models.rectified._MAXIMUM_CELLS", lr[0, 0].numel() - 1)
    encoded, match, offered = searched(shipped, lr, ref)
    assert again(shipped, encoded, match, offered) is match


@torch.no_grad()
def test_stripes_find_what_the_whole_does(shipped: RefSRModel, monkeypatch: pytest.MonkeyPatch) -> None:
    lr, ref, _ = views(52.0)
    encoded, match, offered = searched(shipped, lr, ref)
    whole = again(shipped, encoded, match, offered)
    monkeypatch.setattr("refsr.transfer.stripes._STRIPE_CELLS", 64 * 10)
    parts = again(shipped, encoded, match, offered)
    assert ((parts.position_cells - whole.position_cells).norm(dim=1) < 0.01).float().mean() > 0.99


def test_steepness_is_the_stretch_along_any_direction() -> None:
    """A map that shortens one direction of the plane's own cells; the middle third shows something else."""
    grid = cell_grid((30, 40), torch.zeros(()))[None]
    for factor, turned, steep in ((1.0, 0.0, False), (0.85, 0.5, False), (0.6, 0.5, True), (1.6, 1.0, True)):
        turn = torch.tensor(((torch.tensor(turned).cos(), torch.tensor(turned).sin()),
                             (-torch.tensor(turned).sin(), torch.tensor(turned).cos())))  # fmt: skip
        stretch = turn.T @ torch.diag(torch.tensor((factor, 1.0))) @ turn
        position = torch.einsum("ij,bjhw->bihw", stretch, grid).clone()
        position[..., 13:26] += 15
        match = Match(
            position_cells=position, reference=torch.zeros(1, 30, 40, dtype=torch.long), score=torch.ones(1, 1, 30, 40)
        )
        offered = offer(match)
        assert _is_steep(offered.planes.through(0, 0, grid), match, offered, 0, 0).tolist() == [steep]
