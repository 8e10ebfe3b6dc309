"""The last fraction of a pixel: where exactly does the reference show what the LR image shows?"""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from refsr.models.descriptor import even_out
from refsr.resize import downscale_bicubic, upscale_bicubic
from refsr.search import Match
from refsr.transfer.swap import warp


class Alignment(nn.Module):
    """Moves each cell of a smooth field by up to a cell, learned on views whose true field is known.

    The reference is shrunk after it was warped: then its pixels mix as those of the LR image do, and what differs tells
    how far it is off.

    lr ──────────────────────────────── even out ──┬── and their difference ──┐
    refs ── warp ──┬── down ─────────── even out ──┘                          │
                   ├── minus up(down), pixels of a cell ──────────────────────┼── 3x3 convolutions ── (y, x)
                   └── slopes ── down ────────────────────────────────────────┤
    match: score, offset beyond the field's ──────────────────────────────────┘
    Differences and slopes are what Lucas and Kanade (1981) solve for the offset; given them, it learns much faster.
    """

    def __init__(self, width: int, scale: int) -> None:
        """Build; at first it moves nothing.

        Args:
            width: Channels.
            scale: Reference pixels per cell.
        """
        super().__init__()
        self.scale = scale
        layers: list[nn.Module] = []
        inputs = 3 * 3 + scale**2 + 2 + 1 + 2
        for channels, dilation in zip((inputs, width, width, width, width), (1, 1, 2, 2, 1), strict=True):
            layers += [nn.Conv2d(channels, width, 3, padding=dilation, dilation=dilation), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.move = nn.Conv2d(width, 2, 3, padding=1)
        nn.init.zeros_(self.move.weight)
        assert self.move.bias is not None
        nn.init.zeros_(self.move.bias)

    def forward(
        self, lr: Float[Tensor, "b 3 h w"], sharps: Sequence[Float[Tensor, "b 3 _ _"]], match: Match, field: Match
    ) -> Match:
        """The field, moved.

        Args:
            lr: The picture.
            sharps: The references' colours.
            match: As searched.
            field: The same, made smooth.
        """
        warped = warp(sharps, field, scale=self.scale)
        down = downscale_bicubic(warped, self.scale)
        (wanted, _), (there, deviation) = even_out(lr), even_out(down)
        grey = warped.mean(1, keepdim=True)
        detail = F.pixel_unshuffle(grey - upscale_bicubic(down.mean(1, keepdim=True), self.scale), self.scale)
        slopes = downscale_bicubic(_slopes(grey), self.scale) * self.scale
        beyond = (match.position_cells - field.position_cells).clamp(-2, 2)
        cues = (wanted, there, wanted - there, detail / deviation, slopes / deviation, match.score, beyond)
        moved = self.move(self.layers(torch.cat(cues, 1))).clamp(-1, 1)
        return replace(field, position_cells=field.position_cells + moved)


def _slopes(grey: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 2 h w"]:
    """In y and in x, a pixel, by central differences."""
    around = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    down = around[..., 2:, 1:-1] - around[..., :-2, 1:-1]
    right = around[..., 1:-1, 2:] - around[..., 1:-1, :-2]
    return torch.cat((down, right), 1) / 2
