"""Choice of each cell's place among what is on offer: near and far map, and the planes of the scene."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from refsr.models.alignment import box_mean, even_out
from refsr.search import Match
from refsr.transfer.planes import Planes, fit_planes
from refsr.transfer.smoothing import near_and_far
from refsr.transfer.stripes import stripes
from refsr.transfer.swap import warp

_AGREEING_CELLS: Final = 1.5
_FAR_CELLS: Final = 4.0
_MAXIMUM_DIFFERENCE: Final = 2.0
_MINIMUM_MOVE_CELLS: Final = 1.0
"""The near map stays where the choice lies within this distance of it: it is the finest one where it is right."""

_NEVER: Final = -1e9
_OWN_CUES: Final = 12
_ALL_CUES: Final = 2 * _OWN_CUES + 2
CHOICE_HALO_CELLS: Final = 12
"""Distance at which other cells still matter."""


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What the place of each cell of a picture is chosen among.

    Attributes:
        near: Positions by the near map.
        far: Positions by the far map.
        support: Share of the cells around each that agree with its near map.
        planes: The planes of the scene.
    """

    near: Float[Tensor, "b 2 h w"]
    far: Float[Tensor, "b 2 h w"]
    support: Float[Tensor, "b 1 h w"]
    planes: Planes

    def positions(self, match: Match, rows: slice) -> list[Float[Tensor, "b 2 h w"]]:
        """All positions of some rows, the near ones first; NaN where there is no plane.

        Args:
            match: The match, cropped to these rows.
            rows: Their numbers.
        """
        here = (..., rows, slice(None))
        return [self.near[here], self.far[here], *self.planes.positions(match.reference, rows)]


def offer(match: Match) -> Offer:
    """The offer for a match of the whole picture, as searched."""
    near, far, support = near_and_far(match)
    return Offer(near=near, far=far, support=support, planes=fit_planes(match, support))


class Choice(nn.Module):
    """Tells, for each cell, which of several positions in the reference is the right one.

    each position ──┬── descriptors of query and key: cosine, its means over 3x3, 7x7 and 15x15 cells ──┐
                    ├── evened LR image and reduced reference: difference, means over 3x3 and 9x9 ──────┤
                    ├── does the match agree? means over 7x7 and 15x15; how far is it? inside the ref? ─┼── 3x3
                    └── all of this minus its mean over the positions ──────────────────────────────────┤  convolutions
    score of the match, contrast ───────────────────────────────────────────────────────────────────────┘  ── logit
    """

    def __init__(self, width: int) -> None:
        """Build a network that takes the near map everywhere before it is trained; `width` is its channels."""
        super().__init__()
        last = nn.Conv2d(width, 1, 1)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.layers = nn.Sequential(
            nn.Conv2d(_ALL_CUES, width, 1), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=2, dilation=2), nn.ReLU(),
            last,
        )  # fmt: skip

    def forward(
        self,
        lr: Float[Tensor, "b 3 h w"],
        query: Float[Tensor, "b c h w"],
        keys: Sequence[Float[Tensor, "b c _ _"]],
        downs: Sequence[Float[Tensor, "b 3 _ _"]],
        match: Match,
        offered: Offer,
    ) -> tuple[Match, Match]:
        """The match, moved where another position inside the reference is chosen, and the chosen field; in stripes.

        Args:
            lr: The LR image.
            query: Its unit descriptors.
            keys: Unit descriptors of the references.
            downs: The references, reduced to a pixel a cell.
            match: As searched, of the whole picture.
            offered: The offer for it.
        """
        height, width = match.score.shape[-2:]
        parts = []
        for inside, seen in stripes(height, width, CHOICE_HALO_CELLS):
            rows, cropped = (..., seen, slice(None)), match.crop(seen, slice(None))
            positions = offered.positions(cropped, seen)
            with torch.no_grad():
                logits = self.logits(lr[rows], query[rows], keys, downs, cropped, positions)
            near = positions[0]
            best = torch.stack(positions, 1).take_along_dim(logits.argmax(1)[:, None, None], 1)[:, 0]
            moved = (best - near).square().sum(1, keepdim=True) > _MINIMUM_MOVE_CELLS**2
            moved &= is_inside(replace(cropped, position_cells=best), keys)
            field = torch.where(moved, best, near)
            cosine = _cosine(query[rows], keys, replace(cropped, position_cells=field))
            position = torch.where(moved, field, cropped.position_cells)
            settled = torch.cat((field, position, torch.where(moved, cosine, cropped.score)), 1)
            parts.append(settled[..., inside.start - seen.start : inside.stop - seen.start, :])
        found = torch.cat(parts, 2)
        mended = replace(match, position_cells=found[:, 2:4], score=found[:, 4:])
        return mended, replace(match, position_cells=found[:, :2])

    def logits(
        self,
        lr: Float[Tensor, "b 3 h w"],
        query: Float[Tensor, "b c h w"],
        keys: Sequence[Float[Tensor, "b c _ _"]],
        downs: Sequence[Float[Tensor, "b 3 _ _"]],
        match: Match,
        positions: Sequence[Float[Tensor, "b 2 h w"]],
    ) -> Float[Tensor, "b n h w"]:
        """How likely each position is the right one, to choose by and to train; arguments as for `forward`."""
        with torch.autocast(lr.device.type, enabled=False):  # small numbers tell positions apart, and bf16 has none
            even, deviation = even_out(lr)
            known = [position.isfinite().all(1, keepdim=True) for position in positions]
            there = [torch.where(here, each, positions[0]) for here, each in zip(known, positions, strict=True)]
            own = [_cues(even, query, keys, downs, match, position) for position in there]
            counts = torch.stack(known).to(lr)
            mean = (torch.stack(own) * counts).sum(0) / counts.sum(0)
            shared = torch.cat((match.score, deviation.log() / 4), 1)
            logits = [self.layers(torch.cat((cues, cues - mean, shared), 1)) for cues in own]
            return torch.cat(logits, 1).masked_fill(~torch.cat(known, 1), _NEVER)


def _cues(
    even: Float[Tensor, "b 3 h w"],
    query: Float[Tensor, "b c h w"],
    keys: Sequence[Float[Tensor, "b c _ _"]],
    downs: Sequence[Float[Tensor, "b 3 _ _"]],
    match: Match,
    position: Float[Tensor, "b 2 h w"],
) -> Float[Tensor, "b 12 h w"]:
    """What tells whether one position is right."""
    there = replace(match, position_cells=position)
    cosine = _cosine(query, keys, there)
    seen, _ = even_out(warp(downs, there, scale=1))
    difference = (even - seen).abs().mean(1, keepdim=True).clamp_max(_MAXIMUM_DIFFERENCE)
    away = (match.position_cells - position).square().sum(1, keepdim=True).sqrt()
    agrees = (away < _AGREEING_CELLS).to(away)
    means = (*(box_mean(cosine, side) for side in (3, 7, 15)), *(box_mean(difference, side) for side in (3, 9)))
    agreeing = (agrees, *(box_mean(agrees, side) for side in (7, 15)))
    inside = is_inside(there, keys).to(away)
    return torch.cat((cosine, difference, *means, *agreeing, away.clamp_max(_FAR_CELLS) / _FAR_CELLS, inside), 1)


def _cosine(
    query: Float[Tensor, "b c h w"], keys: Sequence[Float[Tensor, "b c _ _"]], there: Match
) -> Float[Tensor, "b 1 h w"]:
    return F.cosine_similarity(warp(keys, there, scale=1), query)[:, None]


def is_inside(there: Match, keys: Sequence[Float[Tensor, "b c _ _"]]) -> Bool[Tensor, "b 1 h w"]:
    """Whether the reference shows anything at the positions."""
    last = torch.tensor([key.shape[-2:] for key in keys]).to(there.position_cells)[there.reference] - 0.5
    inside = (there.position_cells >= -0.5) & (there.position_cells <= last.movedim(-1, 1))
    return inside.all(1, keepdim=True)
