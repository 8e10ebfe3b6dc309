"""Exact search (equations 1 and 2 of the paper) against a naive loop."""

import pytest
import torch
from conftest import Told
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from refsr.errors import ImageError, MemoryBudgetError, UsageError
from refsr.search import Match, refine_subpixel, search, strongest


def naive(query: Tensor, keys: list[Tensor], patch: int) -> dict[tuple[int, int], tuple[int, int, int, float]]:
    """Best (reference, y, x, cosine), of centres, for each centre (y, x) of a patch inside the query."""
    reach = patch // 2
    found = {}
    for y in range(reach, query.shape[1] - reach):
        for x in range(reach, query.shape[2] - reach):
            q = query[:, y - reach : y + reach + 1, x - reach : x + reach + 1].flatten()
            best = (-1, -1, -1, -float("inf"))
            for r, key in enumerate(keys):
                for v in range(reach, key.shape[1] - reach):
                    for u in range(reach, key.shape[2] - reach):
                        k = key[:, v - reach : v + reach + 1, u - reach : u + reach + 1].flatten()
                        cosine = float(q @ k / max(float(q.norm() * k.norm()), 1e-12))
                        if cosine > best[3] + 1e-6:
                            best = (r, v, u, cosine)
            found[y, x] = best
    return found


@settings(max_examples=15, deadline=None)
@given(
    patch=st.sampled_from((1, 3, 5)),
    size=st.tuples(st.integers(5, 8), st.integers(5, 8)),
    ref_sizes=st.lists(st.tuples(st.integers(5, 9), st.integers(5, 7)), min_size=1, max_size=3),
    memory_bytes=st.sampled_from((4_000, 9_000, 50_000, 2**29)),
    seed=st.integers(0, 9),
)
def test_equals_a_naive_loop_for_any_chunking(
    patch: int, size: tuple[int, int], ref_sizes: list[tuple[int, int]], memory_bytes: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(1, 4, *size, generator=generator)
    keys = [torch.randn(1, 4, *s, generator=generator) for s in ref_sizes]
    match = search(query, keys, patch=patch, memory_bytes=memory_bytes)
    for (y, x), (r, v, u, cosine) in naive(query[0], [k[0] for k in keys], patch).items():
        assert match.reference[0, y, x] == r
        assert match.position_cells[0, :, y, x].tolist() == [v, u]
        assert match.score[0, 0, y, x] == pytest.approx(cosine, abs=1e-5)


def test_batch_equals_loop(rng: torch.Generator) -> None:
    query, key = torch.randn(3, 4, 6, 7, generator=rng), torch.randn(3, 4, 8, 6, generator=rng)
    whole = search(query, [key])
    for b in range(3):
        single = search(query[b : b + 1], [key[b : b + 1]])
        assert torch.equal(whole.position_cells[b], single.position_cells[0])


def test_a_query_equal_to_the_key_matches_itself(rng: torch.Generator) -> None:
    features = torch.randn(1, 8, 9, 11, generator=rng)
    match = search(features, [features])
    y, x = torch.meshgrid(torch.arange(9.0), torch.arange(11.0), indexing="ij")
    assert torch.equal(match.position_cells[0], torch.stack((y, x)))
    assert match.score.min() == pytest.approx(1, abs=1e-5)


def test_ties_go_to_the_first() -> None:
    flat = torch.ones(1, 2, 5, 6)
    match = search(flat, [flat, flat], memory_bytes=1500)
    assert set(match.reference.flatten().tolist()) == {0}
    assert (match.position_cells[0, :, 1:-1, 1:-1] == 1).all()


def test_flat_patches_score_zero_and_not_nan() -> None:
    match = search(torch.randn(1, 2, 5, 5), [torch.zeros(1, 2, 5, 5)])
    assert torch.equal(match.score, torch.zeros(1, 1, 5, 5))
    match = search(torch.zeros(1, 2, 5, 5), [torch.randn(1, 2, 5, 5)])
    assert torch.equal(match.score, torch.zeros(1, 1, 5, 5))


def test_border_cells_move_along_with_their_neighbour(rng: torch.Generator) -> None:
    match = search(torch.randn(1, 4, 6, 7, generator=rng), [torch.randn(1, 4, 8, 6, generator=rng)])
    position = match.position_cells[0]
    assert torch.equal(position[:, 0, 2:4], position[:, 1, 2:4] - torch.tensor([[1.0], [0.0]]))
    assert torch.equal(position[:, 5, 6], position[:, 4, 5] + 1)
    assert match.reference.dtype == torch.long


def test_the_order_of_references_changes_only_their_numbers(rng: torch.Generator) -> None:
    query = torch.randn(1, 4, 6, 7, generator=rng)
    first, second = torch.randn(1, 4, 8, 6, generator=rng), torch.randn(1, 4, 5, 9, generator=rng)
    forward, backward = search(query, [first, second]), search(query, [second, first])
    assert torch.equal(forward.position_cells, backward.position_cells)
    assert torch.equal(forward.reference, 1 - backward.reference)


def test_progress_is_told_to_the_end(rng: torch.Generator) -> None:
    told = Told()
    features = torch.randn(1, 4, 9, 9, generator=rng)
    search(features, [features], memory_bytes=6_000, progress=told)
    assert len(told) > 1
    assert told.shares == sorted(told.shares)
    assert told.shares[-1] == 1


def test_bad_arguments(rng: torch.Generator) -> None:
    features = torch.randn(1, 4, 6, 6, generator=rng)
    with pytest.raises(UsageError, match="must be odd"):
        search(features, [features], patch=2)
    with pytest.raises(UsageError, match="at least one reference"):
        search(features, [])
    with pytest.raises(ImageError, match="reference 2 is too small: 2x6 cells"):
        search(features, [features, features[..., :2]])
    with pytest.raises(MemoryBudgetError, match="too small: allow at least"):
        search(features, [features], memory_bytes=100)


def test_subpixel_finds_a_known_shift() -> None:
    """A smooth descriptor field, seen from 0.3 cells further down and 0.4 to the left."""
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(20.0), indexing="ij")

    def described(dy: float, dx: float) -> Tensor:
        frequency = torch.randn(2, 32, 1, 1, generator=torch.Generator().manual_seed(0)) * 0.7
        phase = (y + dy) * frequency[0] + (x + dx) * frequency[1]
        return torch.nn.functional.normalize(torch.cat((phase.sin(), phase.cos()))[None], dim=1)

    query, key = described(0.3, -0.4), described(0, 0)
    match = refine_subpixel(query, [key], search(query, [key], patch=1))
    shift = (match.position_cells[0] - torch.stack((y, x)))[:, 3:-3, 3:-3]
    assert shift[0].mean() == pytest.approx(0.3, abs=0.05)
    assert shift[1].mean() == pytest.approx(-0.4, abs=0.05)


def test_subpixel_stays_at_borders(rng: torch.Generator) -> None:
    query, key = (torch.nn.functional.normalize(torch.randn(1, 4, *s, generator=rng), dim=1) for s in ((6, 7), (8, 6)))
    coarse = search(query, [key], patch=1)
    moved = (refine_subpixel(query, [key], coarse).position_cells - coarse.position_cells).abs()
    assert 0 < moved.max() <= 0.5
    for axis in (0, 1):
        place = coarse.position_cells[:, axis]
        at_border = (place == 0) | (place == key.shape[2 + axis] - 1)
        assert at_border.any()
        assert not moved[:, axis][at_border].any()


def test_the_strongest_of_several_candidates() -> None:
    def candidate(index: int, scores: list[float]) -> Match:
        return Match(
            position_cells=torch.full((1, 2, 1, 3), float(index)),
            reference=torch.full((1, 1, 3), index),
            score=torch.tensor(scores).view(1, 1, 1, 3),
        )

    best = strongest([candidate(0, [0.5, 0.1, 0.3]), candidate(1, [0.5, 0.2, 0.1]), candidate(2, [0.4, 0.9, 0.2])])
    assert best.reference.flatten().tolist() == [0, 2, 0]
    assert best.score.flatten().tolist() == pytest.approx([0.5, 0.9, 0.3])
    assert best.position_cells[0, 0, 0].tolist() == [0, 2, 0]


def test_crop_keeps_absolute_positions() -> None:
    match = search(torch.randn(1, 4, 6, 7), [torch.randn(1, 4, 8, 6)])
    part = match.crop(slice(2, 5), slice(1, 3))
    assert isinstance(part, Match)
    assert torch.equal(part.position_cells, match.position_cells[..., 2:5, 1:3])
    assert part.score.shape == (1, 1, 3, 2)
