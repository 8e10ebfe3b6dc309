"""Alignment of a match to a fraction of a pixel, by a small recurrent network."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from refsr.resize import downscale_bicubic, upscale_bicubic
from refsr.search import Match
from refsr.transfer.swap import warp

_MAXIMUM_STEP_CELLS: Final = 2.0
_MAXIMUM_MOVED_CELLS: Final = 4.0
_MAXIMUM_DOUBT: Final = 4.0
_RIDGE: Final = 0.05
_MINIMUM_DEVIATION: Final = 0.02


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """A field after a step of the alignment.

    Attributes:
        field: Where texture is sampled.
        doubt: Logarithm of the expected error in cells, -4..4.
    """

    field: Match
    doubt: Float[Tensor, "b 1 h w"]

    def detach(self) -> "Aligned":
        """The same without gradient."""
        field = replace(self.field, position_cells=self.field.position_cells.detach())
        return Aligned(field=field, doubt=self.doubt.detach())


class Alignment(nn.Module):
    """Moves each cell of a smooth field in steps that share their weights; trained on views with a known true field.

    Each step warps the reference and reduces it afterwards: its pixels then mix as those of the LR image do, and the
    difference between the two tells the remaining error.

    lr ──────────────────────────── normalise ──┬── and their difference ──┐
    refs ── warp ──┬── down ─────── normalise ──┘                          │
                   ├── minus up(down), the pixels of a cell ───────────────┼── 3x3 convolutions ── (y, x), doubt
                   └── gradient ── down ───────────────────────────────────┤
    match: score, offset relative to the field's; movement so far ─────────┤
    offset by Lucas and Kanade ────────────────────────────────────────────┘

    Source: Teed and Deng, "RAFT", ECCV 2020, section 3.3, for steps with shared weights and without gradient between
        them; Lucas and Kanade, "An iterative image registration technique", IJCAI 1981, section 4.
    """

    def __init__(self, width: int, scale: int, steps: int) -> None:
        """Build a network that moves nothing before it is trained.

        Args:
            width: Channels.
            scale: Reference pixels per cell.
            steps: Number of steps.
        """
        super().__init__()
        self.scale = scale
        self.steps = steps
        layers: list[nn.Module] = []
        inputs = 3 * 3 + scale**2 + 2 + 1 + 2 + 2 + 2
        for channels, dilation in zip((inputs, width, width, width, width), (1, 1, 2, 2, 1), strict=True):
            layers += [nn.Conv2d(channels, width, 3, padding=dilation, dilation=dilation), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.move = nn.Conv2d(width, 3, 3, padding=1)
        nn.init.zeros_(self.move.weight)
        assert self.move.bias is not None
        nn.init.zeros_(self.move.bias)

    def forward(
        self, lr: Float[Tensor, "b 3 h w"], sharps: Sequence[Float[Tensor, "b 3 _ _"]], match: Match, field: Match
    ) -> list[Aligned]:
        """The field after each step.

        Args:
            lr: The LR image.
            sharps: The references' pixels.
            match: The match as searched.
            field: The smooth match.
        """
        wanted, _ = even_out(lr)
        begun, found = field.position_cells, []
        for _ in range(self.steps):
            cues = self._cues(wanted, sharps, match, field, begun)
            moved, doubt = self.move(self.layers(cues)).split((2, 1), 1)
            position = field.position_cells.detach() + _softly(moved, _MAXIMUM_STEP_CELLS)
            field = replace(field, position_cells=position)
            found.append(Aligned(field=field, doubt=_softly(doubt, _MAXIMUM_DOUBT)))
        return found

    def _cues(
        self,
        wanted: Float[Tensor, "b 3 h w"],
        sharps: Sequence[Float[Tensor, "b 3 _ _"]],
        match: Match,
        field: Match,
        begun: Float[Tensor, "b 2 h w"],
    ) -> Float[Tensor, "b c h w"]:
        """Inputs of a step."""
        field = replace(field, position_cells=field.position_cells.detach())
        warped = warp(sharps, field, scale=self.scale)
        down = downscale_bicubic(warped, self.scale)
        there, deviation = even_out(down)
        grey = warped.mean(1, keepdim=True)
        detail = F.pixel_unshuffle(grey - upscale_bicubic(down.mean(1, keepdim=True), self.scale), self.scale)
        slopes = downscale_bicubic(_slopes(grey), self.scale) * self.scale / deviation
        beyond = (match.position_cells - field.position_cells).clamp(-2, 2)
        so_far = (field.position_cells - begun).clamp(-_MAXIMUM_MOVED_CELLS, _MAXIMUM_MOVED_CELLS)
        solved = solve_offset(slopes, (wanted - there).mean(1, keepdim=True))
        cues = (wanted, there, wanted - there, detail / deviation, slopes, match.score, beyond, so_far, solved)
        return torch.cat(cues, 1)


def _slopes(grey: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 2 h w"]:
    """Gradient (y, x) per pixel, by central differences."""
    around = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    down = around[..., 2:, 1:-1] - around[..., :-2, 1:-1]
    right = around[..., 1:-1, 2:] - around[..., 1:-1, :-2]
    return torch.cat((down, right), 1) / 2


def solve_offset(slopes: Float[Tensor, "b 2 h w"], lacking: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 2 h w"]:
    """Offset (y, x) in cells that best explains a difference over 5x5 cells, within two cells; ridge regression.

    Args:
        slopes: Gradient (y, x) of the warped reference, per cell.
        lacking: The LR image minus the warped reference.

    Source: Lucas and Kanade, 1981, equation 9.
    """
    y, x = torch.split(slopes, 1, 1)
    sums = F.avg_pool2d(torch.cat((y * y, x * x, y * x, y * lacking, x * lacking), 1), 5, stride=1, padding=2)
    yy, xx, yx, yl, xl = torch.split(sums, 1, 1)
    yy, xx = yy + _RIDGE, xx + _RIDGE
    solved: Tensor = torch.cat((xx * yl - yx * xl, yy * xl - yx * yl), 1) / (yy * xx - yx * yx)
    return solved.clamp(-_MAXIMUM_STEP_CELLS, _MAXIMUM_STEP_CELLS)


def _softly(values: Float[Tensor, "b c h w"], limit: float) -> Float[Tensor, "b c h w"]:
    """Soft clamp to -limit..limit; near the identity for small values."""
    return limit * torch.tanh(values / limit)


def even_out(image: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b 3 h w"], Float[Tensor, "b 1 h w"]]:
    """Local contrast normalisation over 9x9 pixels: (image - mean) / deviation; and that deviation, at least 0.02."""
    centred = image - _local_mean(image)
    deviation = _local_mean(centred.square().mean(1, keepdim=True)).sqrt() + _MINIMUM_DEVIATION
    return centred / deviation, deviation


def _local_mean(image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    return box_mean(image, 9)


def box_mean(image: Float[Tensor, "b c h w"], side: int) -> Float[Tensor, "b c h w"]:
    """Mean over a square as far as it lies inside, along one axis after the other."""
    down = F.avg_pool2d(image, (side, 1), 1, (side // 2, 0), count_include_pad=False)
    return F.avg_pool2d(down, (1, side), 1, (0, side // 2), count_include_pad=False)
