"""Exhaustive search of a batch of small pictures against a naive loop."""

import torch
import torch.nn.functional as F
from conftest import moved_view, smooth_field

from refsr.search import refine_subpixel, search_candidates
from refsr.search.batched import find_small, is_small
from refsr.search.match import Match


def naive(query: torch.Tensor, key: torch.Tensor) -> dict[tuple[int, int], tuple[int, int]]:
    """Of one picture: for each cell the place with the highest mean over it and its neighbours, moved alike."""
    cosines = torch.einsum("cyx,cvu->yxvu", query, key)
    height, width, down, across = cosines.shape
    found = {}
    for y in range(height):
        for x in range(width):
            means = {}
            for v in range(down):
                for u in range(across):
                    there = [
                        cosines[y + dy, x + dx, v + dy, u + dx]
                        for dy in (-1, 0, 1) for dx in (-1, 0, 1)
                        if 0 <= y + dy < height and 0 <= x + dx < width and 0 <= v + dy < down and 0 <= u + dx < across
                    ]  # fmt: skip
                    means[v, u] = torch.stack(there).mean()
            found[y, x] = max(means, key=lambda place: float(means[place]))
    return found


def test_places_are_those_of_a_naive_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = (
        F.normalize(torch.randn(3, 8, *size, generator=generator), dim=1) for size in ((5, 6), (7, 5))
    )  # fmt: skip
    (match,) = find_small(query, [key], 2**20)
    assert match.among == (0,)
    whole = torch.empty_like(match.position_cells)
    for b in range(3):
        for (y, x), place in naive(query[b], key[b]).items():
            whole[b, :, y, x] = torch.tensor(place)
    expected = refine_subpixel(query, [key], Match(position_cells=whole, reference=match.reference, score=match.score))
    torch.testing.assert_close(match.position_cells, expected.position_cells)
    torch.testing.assert_close(match.score, expected.score)


def test_several_references_as_coarse_to_fine_finds_them() -> None:
    """Each picture of the batch is seen in another of four references."""
    keys = [torch.cat((smooth_field(n, 40, 44), smooth_field(n + 4, 40, 44))) for n in range(4)]
    query = torch.cat((moved_view(keys[1][:1], 32, 36, 4, 7), moved_view(keys[3][1:], 32, 36, 2, 3)))
    assert is_small(query, keys)
    first = find_small(query, keys, 2**30)[0]
    coarse = search_candidates(query, keys, engine="coarse")[0]
    for b, (reference, offset) in enumerate(((1, (4.0, 7.0)), (3, (2.0, 3.0)))):
        assert (first.reference[b] == reference).all()
        assert torch.equal(first.reference[b], coarse.reference[b])
        near = (first.offset_cells[b] - torch.tensor(offset)[:, None, None]).abs().amax(0) < 0.5
        assert near.float().mean() > 0.95
    parts = find_small(query, keys, 2**20)[0]
    torch.testing.assert_close(parts.position_cells, first.position_cells)


def test_large_pictures_are_not_searched_in_batches() -> None:
    assert not is_small(torch.zeros(1, 2, 64, 64), [torch.zeros(1, 2, 8, 8)])
    assert not is_small(torch.zeros(1, 2, 8, 8), [torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 64, 64)])
