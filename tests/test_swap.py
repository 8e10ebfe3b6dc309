"""Equation 3 against a naive loop, and sampling against known shifts."""

import pytest
import torch
from conftest import texture

from refsr.search import Match, cell_grid, search
from refsr.transfer.swap import _warp_everywhere, swap, warp


def identity_match(height: int, width: int, shift: tuple[float, float] = (0, 0)) -> Match:
    position = cell_grid((height, width), torch.zeros(1)) + torch.tensor(shift).view(2, 1, 1)
    return Match(
        position_cells=position[None],
        reference=torch.zeros(1, height, width, dtype=torch.long),
        score=torch.ones(1, 1, height, width),
    )


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("patch", [1, 3])
def test_swap_equals_a_naive_loop(scale: int, patch: int, rng: torch.Generator) -> None:
    query = torch.randn(2, 4, 6, 7, generator=rng)
    keys = [torch.randn(2, 4, 8, 6, generator=rng), torch.randn(2, 4, 5, 9, generator=rng)]
    values = [torch.randn(2, 3, k.shape[2] * scale, k.shape[3] * scale, generator=rng) for k in keys]
    match = search(query, keys, patch=patch)

    reach = patch // 2
    total, count = torch.zeros(2, 3, 6 * scale, 7 * scale), torch.zeros(2, 1, 6 * scale, 7 * scale)
    for b in range(2):
        for y in range(reach, 6 - reach):
            for x in range(reach, 7 - reach):
                v, u = (match.position_cells[b, :, y, x].long() - reach).tolist()
                value = values[int(match.reference[b, y, x])]
                side = patch * scale
                piece = value[b, :, v * scale : v * scale + side, u * scale : u * scale + side]
                top, left = (y - reach) * scale, (x - reach) * scale
                total[b, :, top : top + side, left : left + side] += piece
                count[b, :, top : top + side, left : left + side] += 1
    assert torch.allclose(swap(values, match, scale=scale, patch=patch), total / count, atol=1e-5)


def test_warp_by_nothing_changes_nothing(rng: torch.Generator) -> None:
    value = torch.rand(1, 3, 24, 32, generator=rng)
    assert torch.allclose(warp([value], identity_match(6, 8), scale=4), value, atol=1e-4)


def test_warp_by_a_quarter_cell_is_one_pixel(rng: torch.Generator) -> None:
    value = torch.rand(1, 3, 24, 32, generator=rng)
    warped = warp([value], identity_match(6, 8, shift=(0.25, -0.5)), scale=4)
    assert torch.allclose(warped[..., :-1, 2:], value[..., 1:, :-2], atol=1e-4)


def test_warp_takes_each_cell_from_its_own_reference() -> None:
    match = identity_match(4, 4)
    reference = torch.tensor([[[0, 0, 1, 1]] * 4])
    match = Match(position_cells=match.position_cells, reference=reference, score=match.score)
    warped = warp([torch.zeros(1, 1, 16, 16), torch.ones(1, 1, 24, 20)], match, scale=4)
    assert warped[0, 0, 0].tolist() == pytest.approx([0.0] * 8 + [1.0] * 8, abs=1e-5)


def test_a_cropped_match_warps_the_same(rng: torch.Generator) -> None:
    value = torch.rand(1, 3, 40, 40, generator=rng)
    match = identity_match(8, 8, shift=(1.3, 0.7))
    whole = warp([value], match, scale=4)
    part = warp([value], match.crop(slice(2, 6), slice(3, 7)), scale=4)
    assert torch.allclose(part, whole[..., 8:24, 12:28], atol=1e-4)


@pytest.mark.parametrize(("place", "cell"), [((0, 0), 0), ((2, 3), 2)])
def test_a_patch_that_overhangs_repeats_the_border(place: tuple[int, int], cell: int) -> None:
    """Matches of single cells may lie at a border, where a patch of 3x3 has no room."""
    value = torch.arange(12.0).view(1, 1, 3, 4)
    match = Match(
        position_cells=torch.tensor(place).float().view(1, 2, 1, 1).expand(1, 2, 3, 3),
        reference=torch.zeros(1, 3, 3, dtype=torch.long),
        score=torch.ones(1, 1, 3, 3),
    )
    assert swap([value], match, scale=1)[0, 0, cell, cell] == value[0, 0, place[0], place[1]]


@pytest.mark.parametrize("scale", [1, 4])
def test_accelerators_sample_the_same(scale: int) -> None:
    """All references everywhere, then chosen; one of the three is matched nowhere."""
    values = [texture(20 * scale, 24 * scale, seed) for seed in range(3)]
    generator = torch.Generator().manual_seed(0)
    position = torch.rand(1, 2, 9, 11, generator=generator) * 15
    match = Match(
        position_cells=position, reference=2 * torch.randint(2, (1, 9, 11), generator=generator),
        score=torch.ones(1, 1, 9, 11),
    )  # fmt: skip
    torch.testing.assert_close(_warp_everywhere(values, match, scale), warp(values, match, scale=scale))
