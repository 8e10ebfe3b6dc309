"""Many references in one index, against exact search."""

import sys

import pytest
import torch
import torch.nn.functional as F
from conftest import Told, agreement, moved_view, smooth_field
from torch import Tensor

from refsr.errors import MemoryBudgetError, MissingExtraError
from refsr.models.default import DefaultModel
from refsr.restore.pipeline import Matched, encode, match, transfer
from refsr.search import choose_engine, search


@pytest.fixture(scope="module")
def pool() -> tuple[Tensor, list[Tensor]]:
    """What the sixth of eight references shows, of other sizes each."""
    keys = [smooth_field(seed, 60 + seed, 71 - seed) for seed in range(8)]
    return moved_view(keys[5], 40, 50, 11, 9), keys


@pytest.mark.parametrize("patch", [1, 3])
def test_finds_what_exact_search_finds(pool: tuple[Tensor, list[Tensor]], patch: int) -> None:
    query, keys = pool
    told = Told()
    found = search(query, keys, patch=patch, engine="faiss", progress=told)
    exact = search(query, keys, patch=patch, engine="exact")
    assert agreement(found, exact) > 0.95
    assert (found.reference == exact.reference).float().mean() > 0.95
    assert (found.score <= exact.score + 1e-5).all()
    assert told.shares == sorted(told.shares)
    assert told.shares[-1] == 1


def test_every_score_is_that_of_its_place(pool: tuple[Tensor, list[Tensor]]) -> None:
    query, keys = pool
    found = search(query, keys, patch=3, engine="faiss")
    for y in range(1, 39, 5):
        for x in range(1, 49, 5):
            v, u = found.position_cells[0, :, y, x].long().tolist()
            key = keys[int(found.reference[0, y, x])]
            a = query[0, :, y - 1 : y + 2, x - 1 : x + 2].flatten()
            b = key[0, :, v - 1 : v + 2, u - 1 : u + 2].flatten()
            assert found.score[0, 0, y, x] == pytest.approx(F.cosine_similarity(a, b, dim=0).item(), abs=1e-4)


def test_a_small_budget_takes_short_codes(pool: tuple[Tensor, list[Tensor]]) -> None:
    query, keys = pool
    with pytest.raises(MemoryBudgetError, match=r"is too small: allow at least (\d+) bytes") as refused:
        search(query, keys, patch=1, engine="faiss", memory_bytes=1000)
    least = int(str(refused.value).split("least ")[1].split()[0])
    found = search(query, keys, patch=1, engine="faiss", memory_bytes=least)
    exact = search(query, keys, patch=1, engine="exact")
    assert (found.reference == exact.reference).float().mean() > 0.6
    assert (found.score <= exact.score + 1e-5).all()


def test_a_tiny_pool() -> None:
    key = smooth_field(3, 6, 5)
    found = search(key, [key], patch=1, engine="faiss")
    assert agreement(found, search(key, [key], patch=1, engine="exact")) == 1


def test_very_many_large_references_are_searched_together(monkeypatch: pytest.MonkeyPatch) -> None:
    large = torch.zeros(1, 1, 1, 1).expand(1, 64, 300, 200)
    assert choose_engine(large, [large] * 23, patch=1) == "coarse"
    assert choose_engine(large, [large] * 24, patch=1) == "faiss"
    monkeypatch.setattr("refsr.search.is_installed", lambda _: False)
    assert choose_engine(large, [large] * 24, patch=1) == "coarse"


def test_the_default_model_takes_one_candidate_of_all(shipped: DefaultModel, sample: dict[str, Tensor]) -> None:
    lr, ref = sample["lr"], sample["ref"]
    with torch.inference_mode():
        matched = match(shipped, encode(shipped, lr, [torch.rand(1, 3, 96, 96), ref]), engine="faiss")
        alone, helped = (transfer(shipped, known) for known in (Matched(lr=lr), matched))
    (found,) = matched.matches
    assert (found.reference == 1).float().mean() > 0.8
    truth = sample["truth"]
    assert (helped - truth).square().mean() < (alone - truth).square().mean()


def test_a_missing_faiss_names_its_extra(pool: tuple[Tensor, list[Tensor]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'refsr\[faiss\]'"):
        search(*pool, engine="faiss")
