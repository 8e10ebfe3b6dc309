"""Candidates of several references."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from conftest import moved_view, smooth_field

from refsr.errors import UsageError
from refsr.search import Match, refine_subpixel, search, search_candidates
from refsr.search.candidates import choose_references
from refsr.transfer.smoothing import smooth
from refsr.transfer.swap import warp


@pytest.mark.parametrize("count", [1, 2])
def test_up_to_two_references_are_a_candidate_each(count: int) -> None:
    """As the exact search of 3x3 patches finds them, then made finer."""
    keys = [torch.cat((smooth_field(n, 40, 50), smooth_field(n + 5, 40, 50))) for n in range(count)]
    query = torch.cat([moved_view(keys[0][b : b + 1], 30, 33, 4, 7) for b in range(2)])
    found = search_candidates(query, keys, engine="exact")
    for index, (match, key) in enumerate(zip(found, keys, strict=True)):
        alone = refine_subpixel(query, [key], search(query, [key], patch=3, engine="exact"))
        assert torch.equal(match.position_cells, alone.position_cells)
        assert torch.equal(match.score, alone.score)
        assert (match.reference == index).all()
    assert len(found) == count


@pytest.mark.parametrize("faint", [0.0, 0.2])
def test_cells_are_searched_together_with_their_neighbours(faint: float) -> None:
    """Where single cells are drowned in noise, most are found all the same, exactly and coarse to fine."""
    key = smooth_field(0, 60, 70)
    query = moved_view(key, 48, 52, 4, 7)
    query = F.normalize(query + faint * torch.randn(query.shape, generator=torch.Generator().manual_seed(1)), dim=1)
    single = search(query, [key], patch=1, engine="exact")

    def right(match: Match) -> float:
        offset = match.offset_cells.round()
        return ((offset[:, 0] == 4) & (offset[:, 1] == 7)).float().mean().item()

    for engine in ("exact", "coarse"):
        (found,) = search_candidates(query, [key], engine=engine)
        if faint:
            assert right(found) > right(single) + 0.1
        assert right(found) > (0.5 if faint else 0.95)


@pytest.mark.parametrize("engine", ["exact", "coarse"])
def test_each_place_searches_the_two_references_that_fit_best(engine: str) -> None:
    """The left half is seen in the second, the right half in the fourth, all of it faintly in the third."""
    left, right, other = smooth_field(0, 180, 170), smooth_field(1, 164, 180), smooth_field(2, 160, 160)
    query = torch.cat((moved_view(left, 128, 96, 9, 8), moved_view(right, 128, 96, 4, 51)), 3)
    faint = F.normalize(query + 0.5 * smooth_field(3, 128, 192), dim=1)
    first, second = search_candidates(query, [other, left, faint, right], engine=engine)  # type: ignore[arg-type]
    for columns, reference, offset in ((slice(0, 32), 1, (9.0, 8.0)), (slice(160, 192), 3, (4.0, -45.0))):
        assert (first.reference[..., columns] == reference).all()
        assert (second.reference[..., columns] == 2).all()
        whole = first.offset_cells[..., columns].round()[0].permute(1, 2, 0)
        assert (whole == torch.tensor(offset)).all(2).float().mean() > 0.9
        assert (second.offset_cells[..., columns].round() == 0).all(1).float().mean() > 0.5
    for match in (first, second):
        assert match.score.isfinite().all()
        assert (match.position_cells >= 0).all()


def test_choice_against_a_naive_loop() -> None:
    """Squares of 16x16 cells decide together with two to each side, by what is known of them."""
    scores = torch.randn(4, 70, 100, generator=torch.Generator().manual_seed(0))
    scores[:, torch.rand(70, 100, generator=torch.Generator().manual_seed(1)) < 0.7] = -torch.inf
    chosen = choose_references(scores)
    for square_y, square_x in product(range(5), range(7)):
        means = torch.zeros(4)
        for n in range(4):
            # The mean of the squares' sums over that of their counts, whole or cut off by the border alike.
            sums, counts = [], []
            for v, u in product(range(square_y - 2, square_y + 3), range(square_x - 2, square_x + 3)):
                if 0 <= v < 5 and 0 <= u < 7:
                    part = scores[n, v * 16 : v * 16 + 16, u * 16 : u * 16 + 16]
                    sums.append(part[part.isfinite()].sum() / part.numel())
                    counts.append(part.isfinite().float().mean())
            means[n] = torch.stack(sums).sum() / torch.stack(counts).sum()
        here = chosen[:, square_y * 16 : square_y * 16 + 16, square_x * 16 : square_x * 16 + 16]
        assert (here == means.argsort(descending=True)[:2, None, None]).all()


def mixed(height: int, width: int, references: int) -> Match:
    generator = torch.Generator().manual_seed(0)
    return Match(
        position_cells=torch.rand(2, 2, height, width, generator=generator) * 7,
        reference=torch.randint(references, (2, height, width), generator=generator),
        score=torch.rand(2, 1, height, width, generator=generator),
    )


def alone(match: Match, reference: int) -> Match:
    there = torch.full_like(match.reference, reference)
    return Match(position_cells=match.position_cells, reference=there, score=match.score)


def test_subpixel_refinement_treats_each_reference_alone() -> None:
    """Made finer as if there were no others, cell by cell."""
    match = mixed(9, 11, 3)
    keys = [smooth_field(n, 8 + n, 9 + n).expand(2, -1, -1, -1) for n in range(3)]
    query = smooth_field(7, 9, 11).expand(2, -1, -1, -1)
    finer = refine_subpixel(query, keys, match)
    for n in range(3):
        here = match.reference == n
        only = refine_subpixel(query, keys, alone(match, n))
        assert torch.equal(finer.position_cells.movedim(1, 3)[here], only.position_cells.movedim(1, 3)[here])


@pytest.mark.parametrize("scale", [1, 4])
def test_offsets_are_not_mixed_between_references(scale: int) -> None:
    """Both shifted, by different offsets, the border between them as sharp as if each were alone."""
    match = mixed(8, 10, 2)
    offsets = torch.tensor(((1.25, 2.5), (-0.75, 4.0)))[match.reference].permute(0, 3, 1, 2)
    grid = torch.stack(torch.meshgrid(torch.arange(8.0), torch.arange(10.0), indexing="ij"))
    match = Match(position_cells=grid + offsets, reference=match.reference, score=match.score)
    generator = torch.Generator().manual_seed(3)
    values = [torch.rand(2, 3, scale * (14 + n), scale * (16 - n), generator=generator) for n in range(2)]
    warped = warp(values, match, scale=scale)
    for n in range(2):
        offset = torch.tensor(((1.25, 2.5), (-0.75, 4.0)))[n].view(1, 2, 1, 1)
        shifted = Match(
            position_cells=(grid + offset).expand(2, -1, -1, -1),
            reference=torch.full_like(match.reference, n),
            score=match.score,
        )
        here = (match.reference == n).repeat_interleave(scale, 1).repeat_interleave(scale, 2)
        only = warp(values, shifted, scale=scale)
        assert torch.allclose(warped.movedim(1, 3)[here], only.movedim(1, 3)[here], atol=1e-4)


def test_neighbours_in_another_reference_do_not_count() -> None:
    """Two references half a cell apart, left and right: their border stays sharp."""
    match = mixed(12, 12, 1)
    right = (torch.arange(12) >= 6).expand(2, 12, 12)
    grid = torch.stack(torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij"))
    place = grid + 5 + 0.5 * right[:, None]
    found = smooth(Match(position_cells=place, reference=right.long(), score=match.score))
    assert torch.allclose(found.position_cells, place, atol=0.02)
    blurred = smooth(Match(position_cells=place, reference=match.reference, score=match.score))
    assert not torch.allclose(blurred.position_cells, place, atol=0.05)


def test_an_empty_pool_is_refused() -> None:
    with pytest.raises(UsageError, match="needs at least one reference"):
        search_candidates(smooth_field(0, 9, 9), [])
