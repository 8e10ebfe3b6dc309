"""The choice of each cell's place: untrained, trained, in stripes."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from conftest import texture
from torch import Tensor

from refsr.models import DefaultConfig, DefaultModel, RefSRModel
from refsr.models.placement import Choice
from refsr.restore.pipeline import encode, match, with_matches
from refsr.search import Match, cell_grid
from refsr.training.losses import choice_loss
from refsr.transfer.smoothing import near_and_far, smooth
from refsr.transfer.swap import warp


def matched(model: DefaultModel, lr: Tensor, ref: Tensor) -> tuple[Match, Match]:
    """As searched, and the field."""
    found = match(model, encode(model, lr, [ref]))
    return found.matches[0], found.fields[0]


def test_an_untrained_choice_takes_the_near_map() -> None:
    model = DefaultModel(DefaultConfig(width=8, choice_width=6))
    searched, field = matched(model, texture(20, 28), texture(80, 112, seed=1))
    assert torch.equal(field.position_cells, near_and_far(searched)[0])


def test_weights_without_a_choice_follow_the_rule() -> None:
    model = DefaultModel(DefaultConfig(width=8))
    searched, field = matched(model, texture(20, 28), texture(80, 112, seed=1))
    assert torch.equal(field.position_cells, smooth(searched).position_cells)


def test_the_shipped_choice_finds_what_a_plane_shows(shipped: RefSRModel, sample: dict[str, Tensor]) -> None:
    """The truth as the reference; in a square, all matches are accidents: no map through neighbours is right."""
    encoded = encode(shipped, sample["lr"], [sample["truth"]])
    (searched,) = match(shipped, encoded).matches
    true = cell_grid(searched.score.shape[-2:], searched.position_cells)[None]
    spoilt = searched.position_cells.clone()
    inside = (..., slice(12, 52), slice(16, 64))
    rng = torch.Generator().manual_seed(0)
    spoilt[inside] = torch.rand(spoilt[inside].shape, generator=rng) * torch.tensor((64.0, 80.0)).view(1, 2, 1, 1)
    broken = replace(searched, position_cells=spoilt)
    settled = with_matches(shipped, encoded, [broken])
    (mended,), (field,) = settled.matches, settled.fields

    def found(position: Tensor) -> float:
        return float(((position - true)[inside].norm(dim=1) < 2).float().mean())

    assert found(smooth(broken).position_cells) < 0.7
    assert found(field.position_cells) > 0.95
    moved = (mended.position_cells != broken.position_cells).any(1)[0]
    assert moved[12:52, 16:64].float().mean() > 0.3
    assert torch.equal(mended.position_cells[..., moved], field.position_cells[..., moved])
    assert torch.equal(mended.score[:, 0, ~moved], broken.score[:, 0, ~moved])
    seen = F.normalize(warp([encoded.references[0].key], field, scale=1), dim=1)
    cosine = (seen * encoded.query).sum(1)
    assert torch.allclose(mended.score[:, 0, moved], cosine[:, moved], atol=1e-4)


def test_stripes_choose_what_the_whole_does(
    shipped: RefSRModel, sample: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = match(shipped, encode(shipped, sample["lr"], [sample["ref"]])).fields[0].position_cells
    monkeypatch.setattr("refsr.transfer.stripes._STRIPE_CELLS", 80 * 20)
    parts = match(shipped, encode(shipped, sample["lr"], [sample["ref"]])).fields[0].position_cells
    assert ((parts - whole).norm(dim=1) < 0.01).float().mean() > 0.999


def test_the_loss_is_the_expected_error() -> None:
    """Two positions, 0.1 and 9 cells off: log(2) and log(41); drawn with probabilities of 0.75 and 0.25."""
    truth = cell_grid((4, 5), torch.zeros(()))[None].clone()
    positions = [truth + torch.tensor((0.1, 0.0)).view(1, 2, 1, 1), truth + torch.tensor((0.0, 9.0)).view(1, 2, 1, 1)]
    truth[..., :2, :] = torch.nan
    logits = torch.tensor((3.0, 1.0)).log().view(1, 2, 1, 1).expand(1, 2, 4, 5)
    expected = 0.75 * torch.tensor(2.0).log() + 0.25 * torch.tensor(41.0).log()
    assert choice_loss(positions, logits, truth).item() == pytest.approx(expected.item(), rel=1e-4)
    assert choice_loss(positions, logits, torch.full_like(truth, torch.nan)).item() == 0


def test_a_trained_choice_tells_right_from_wrong() -> None:
    """One of two positions is right everywhere; after some steps it is chosen, whichever comes first."""
    torch.manual_seed(0)
    lr = texture(24, 32)
    model = DefaultModel(DefaultConfig(width=8, choice_width=8))
    query = model.encode_query(lr).detach()
    right = cell_grid((24, 32), lr)[None]
    wrong = right + torch.tensor((5.0, -4.0)).view(1, 2, 1, 1)
    score = (query * query).sum(1, keepdim=True)
    searched = Match(position_cells=right, reference=torch.zeros(1, 24, 32, dtype=torch.long), score=score)
    choice = Choice(8)
    optimiser = torch.optim.Adam(choice.parameters(), 1e-2)
    for step in range(30):
        positions = [right, wrong] if step % 2 else [wrong, right]
        logits = choice.logits(lr, query, [query], [lr], searched, positions)
        loss = choice_loss(positions, logits, right).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    logits = choice.logits(lr, query, [query], [lr], searched, [wrong, right])
    assert (logits.argmax(1) == 1).float().mean() > 0.95
