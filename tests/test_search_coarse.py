"""Coarse to fine against exact search."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from conftest import Told, agreement, moved_view, smooth_field
from hypothesis import given, settings
from hypothesis import strategies as st

from refsr.errors import MemoryBudgetError
from refsr.search import cell_grid, choose_engine, coarse, search
from refsr.search.coarse import _highest_around
from refsr.search.patches import mean_with_neighbours


@pytest.mark.parametrize("cheap", [4e10, 1e6, 1e3])
@pytest.mark.parametrize("patch", [1, 3])
def test_finds_what_exact_search_finds(monkeypatch: pytest.MonkeyPatch, cheap: float, patch: int) -> None:
    """With one level above the cells, with two, and with three."""
    monkeypatch.setattr(coarse, "_MAXIMUM_PRODUCTS", cheap)
    key = smooth_field(0, 150, 131)
    query = moved_view(key, 77, 90, 31, 22)
    found = search(query, [key], patch=patch, engine="coarse")
    assert agreement(found, search(query, [key], patch=patch, engine="exact")) > 0.97


def test_larger_pictures_have_more_levels() -> None:
    def depth(height: int, width: int) -> int:
        grid = torch.zeros(1, height, width).expand(64, -1, -1)
        return coarse._depth(grid, grid)

    assert [depth(15, 15), depth(16, 90), depth(120, 160), depth(750, 1000), depth(1500, 1000)] == [0, 1, 2, 3, 3]


@settings(max_examples=20, deadline=None)
@given(
    patch=st.sampled_from((1, 3, 5)),
    size=st.tuples(st.integers(5, 40), st.integers(5, 40)),
    ref_size=st.tuples(st.integers(5, 60), st.integers(5, 60)),
    cheap=st.sampled_from((4e10, 1e3)),
    seed=st.integers(0, 9),
)
def test_every_score_is_that_of_its_place(
    patch: int, size: tuple[int, int], ref_size: tuple[int, int], cheap: float, seed: int
) -> None:
    """Of any sizes: inside the reference, a true cosine, and none better than the exact one."""
    query, key = smooth_field(seed, *size), smooth_field(seed + 1, *ref_size)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(coarse, "_MAXIMUM_PRODUCTS", cheap)
        found = search(query, [key], patch=patch, engine="coarse")
    exact = search(query, [key], patch=patch, engine="exact")
    assert (found.score <= exact.score + 1e-5).all()
    reach = patch // 2
    for y in range(reach, size[0] - reach, 3):
        for x in range(reach, size[1] - reach, 3):
            v, u = found.position_cells[0, :, y, x].long().tolist()
            assert reach <= v < ref_size[0] - reach
            assert reach <= u < ref_size[1] - reach
            a = query[0, :, y - reach : y + reach + 1, x - reach : x + reach + 1].flatten()
            b = key[0, :, v - reach : v + reach + 1, u - reach : u + reach + 1].flatten()
            assert found.score[0, 0, y, x] == pytest.approx(F.cosine_similarity(a, b, dim=0).item(), abs=1e-4)


def test_small_pictures_are_searched_exactly() -> None:
    """Where there are no four blocks a side, no level lies above the cells."""
    query, key = smooth_field(0, 12, 13), smooth_field(1, 14, 11)
    coarsely, exactly = (search(query, [key], engine=engine) for engine in ("coarse", "exact"))
    assert torch.equal(coarsely.position_cells, exactly.position_cells)


def test_several_references_are_one_pool() -> None:
    left, right = smooth_field(0, 80, 70), smooth_field(1, 64, 90)
    query = torch.cat((moved_view(left, 48, 24, 9, 8), moved_view(right, 48, 24, 4, 51)), 3)
    match = search(query, [left, right], patch=1, engine="coarse")
    assert (match.reference[..., :24] == 0).float().mean() > 0.95
    assert (match.reference[..., 24:] == 1).float().mean() > 0.95
    offset = match.offset_cells[0].permute(1, 2, 0)
    assert (offset[:, :24] == torch.tensor((9.0, 8.0))).all(2).float().mean() > 0.9
    assert (offset[:, 24:] == torch.tensor((4.0, 27.0))).all(2).float().mean() > 0.9


def test_a_small_budget_changes_nothing_but_the_time() -> None:
    key = smooth_field(0, 90, 80)
    query = moved_view(key, 50, 60, 11, 12)
    ample, scarce = (search(query, [key], patch=1, engine="coarse", memory_bytes=n) for n in (2**29, 300_000))
    assert torch.equal(ample.position_cells, scarce.position_cells)
    with pytest.raises(MemoryBudgetError, match="too small: allow at least"):
        search(query, [key], patch=1, engine="coarse", memory_bytes=1000)


def test_progress_is_told_to_the_end() -> None:
    told = Told()
    key = smooth_field(0, 90, 80)
    search(key, [key, key], patch=1, engine="coarse", memory_bytes=2_000_000, progress=told)
    assert len(told) > 4
    assert told.shares == sorted(told.shares)
    assert told.shares[-1] == 1


def test_the_engine_is_chosen_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refsr.search._MAXIMUM_EXACT_PRODUCTS", 100 * 100 * 16)
    small, large = smooth_field(0, 10, 10), smooth_field(0, 40, 40)
    chosen = [choose_engine(grid, [grid], patch=1) for grid in (small, large)]
    assert chosen == ["exact", "coarse"]
    assert choose_engine(small, [small, small], patch=1) == "coarse"
    for grid in (small, large):
        assert torch.equal(search(grid, [grid], patch=1).position_cells[0], cell_grid(grid.shape[-2:], grid))


def test_the_highest_around_a_place() -> None:
    for size in ((1, 1), (1, 6), (5, 7)):
        values = torch.rand(3, *size, generator=torch.Generator().manual_seed(0))
        assert torch.equal(_highest_around(values), F.max_pool2d(values[None], 3, 1, 1)[0])


def test_scores_of_neighbours_against_a_naive_loop() -> None:
    side = 5
    scores = torch.randn(2, 4, 4, side, side, generator=torch.Generator().manual_seed(0))
    found = mean_with_neighbours(scores)
    for n, y, x, v, u in product(range(2), range(4), range(4), range(side), range(side)):
        there = [
            scores[n, y + dy, x + dx, v + dy, u + dx]
            for dy, dx in product((-1, 0, 1), repeat=2)
            if 0 <= y + dy < 4 and 0 <= x + dx < 4 and 0 <= v + dy < side and 0 <= u + dx < side
        ]
        assert found[n, y, x, v, u] == pytest.approx(torch.stack(there).mean().item(), abs=1e-5)
