"""A second search, in references as they would look from the photo: for planes that are seen from the side.

Descriptors match a facade that is somewhat turned, but not one that is shortened to two thirds. Once some of its cells
are matched, its homography is known, and the reference can be warped as the photo sees it:

steep plane ── reference, warped ── descriptors ── search ──> match ──┬── mapped back into the reference ──> its cells
                                       where it fits clearly better ──┘
Source: rectification before matching, as in Wu et al., "3D model matching with viewpoint-invariant patches", CVPR 2008.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from refsr.models.placement import Offer, is_inside
from refsr.search import Match, cell_grid, search_candidates
from refsr.transfer.planes import MAXIMUM_PLANES, MINIMUM_SUPPORT
from refsr.transfer.smoothing import near_and_far
from refsr.transfer.stripes import stripes
from refsr.transfer.swap import matched_references, warp

_CELL_PX: Final = 4
DESCRIPTOR_HALO_CELLS: Final = 32
"""Distance at which other cells still matter to a descriptor."""

_MAXIMUM_CELLS: Final = 2**18
"""Larger pictures are not searched again: what is held beside the first search stays below 100 MiB."""

_STEEP: Final = 1.25
"""A plane is steep if it appears this many times longer or shorter in some direction: from about 40 degrees on."""

_MINIMUM_SHARE: Final = 0.05
"""Share of the picture's cells that must lie on a plane for it to be worth a search."""

_AGREEING_CELLS: Final = 2.0
_LEAD: Final = 0.02
_MINIMUM_NEW_SUPPORT: Final = 0.5
"""Cells are matched anew where the score rises by the lead and the cells around agree."""


def search_rectified(
    describe: Callable[[Float[Tensor, "b 3 h2 w2"]], Float[Tensor, "b c h w"]],
    query: Float[Tensor, "b c h w"],
    keys: Sequence[Float[Tensor, "b c _ _"]],
    sharps: Sequence[Float[Tensor, "b 3 _ _"]],
    match: Match,
    offered: Offer,
) -> Match:
    """Match cells anew in references as warped by each of their steep planes.

    Args:
        describe: From a sharp picture to descriptors of its cells.
        query: Descriptors of the LR image.
        keys: Descriptors of the references.
        sharps: Their pixels.
        match: As searched, of the whole picture.
        offered: The offer for it.

    Returns:
        The match, with positions in the references as they are; the same object where no plane is steep.
    """
    height, width = match.score.shape[-2:]
    if height * width > _MAXIMUM_CELLS:
        return match
    improved, cells = match, cell_grid((height, width), match.position_cells).expand_as(match.position_cells)
    for reference in matched_references(match):
        for index in range(MAXIMUM_PLANES):
            position = offered.planes.through(reference, index, cells)
            steep = _is_steep(position, match, offered, reference, index)
            if not steep.any():
                continue
            key = _warped_key(describe, sharps[reference], replace(match, position_cells=position))
            (found,) = search_candidates(query, [key])
            place = offered.planes.through(reference, index, found.position_cells)
            better = (found.score > improved.score + _LEAD) & (near_and_far(found)[2] > _MINIMUM_NEW_SUPPORT)
            better &= is_inside(replace(match, position_cells=place), keys) & steep.view(-1, 1, 1, 1)
            better &= (match.reference == reference)[:, None]
            improved = replace(
                improved,
                position_cells=torch.where(better, place, improved.position_cells),
                score=torch.where(better, found.score, improved.score),
            )
    return improved


def _is_steep(
    position: Float[Tensor, "b 2 h w"], match: Match, offered: Offer, reference: int, index: int
) -> Bool[Tensor, " b"]:
    """Whether a plane of each picture, which maps all cells to `position`, is seen much longer or shorter in some
    direction, where its cells are."""
    near = (position - match.position_cells).norm(dim=1, keepdim=True) < _AGREEING_CELLS
    _, is_plane = offered.planes.found[reference]
    here = (match.reference == reference)[:, None] & is_plane[:, index].view(-1, 1, 1, 1)
    its = (near & (offered.support > MINIMUM_SUPPORT) & here)[..., :-1, :-1].to(position)
    down = position[..., 1:, :-1] - position[..., :-1, :-1]
    right = position[..., :-1, 1:] - position[..., :-1, :-1]
    count = its.sum((2, 3)).clamp_min(1)
    jacobian = torch.stack([torch.where(its > 0, step, 0).sum((2, 3)) / count for step in (down, right)], 2)
    lengths = torch.linalg.svdvals(jacobian.cpu()).to(position)
    stretch = torch.maximum(lengths[:, 0], 1 / lengths[:, 1].clamp_min(1e-6))
    steep: Tensor = (stretch > _STEEP) & (its.mean((1, 2, 3)) > _MINIMUM_SHARE)
    return steep


def _warped_key(
    describe: Callable[[Tensor], Tensor], sharp: Float[Tensor, "b 3 _ _"], there: Match
) -> Float[Tensor, "b c h w"]:
    """Descriptors of a reference as one of its planes, which maps all cells, is seen in the photo; in stripes."""
    height, width = there.score.shape[-2:]
    parts = []
    for inside, seen in stripes(height, width, DESCRIPTOR_HALO_CELLS):
        described = describe(warp([sharp], there.crop(seen, slice(None)), scale=_CELL_PX))
        parts.append(described[..., inside.start - seen.start : inside.stop - seen.start, :])
    return torch.cat(parts, 2)
