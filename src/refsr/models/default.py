"""The default model: SRNTT's idea computed on the LR grid, small enough for a laptop.

Differences to SRNTT: learned descriptors of 64 numbers in place of 2304; matches aligned to a fraction of a pixel;
texture sampled from the reference's pixels in place of VGG maps; and a gate that weighs each match by its reliability.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from refsr.models.alignment import Aligned, Alignment, even_out
from refsr.models.base import Costs, Reference, RefSRModel, Values
from refsr.models.placement import Choice, offer
from refsr.models.rectified import DESCRIPTOR_HALO_CELLS, search_rectified
from refsr.resize import downscale_bicubic, upscale_bicubic
from refsr.search import Match, search_candidates
from refsr.transfer.smoothing import SMOOTHING_HALO_CELLS, smooth
from refsr.transfer.stripes import by_stripes, cells_at_once
from refsr.transfer.swap import warp

_CUES = 6


@dataclass(frozen=True, kw_only=True)
class DefaultConfig:
    """Sizes of the network.

    Attributes:
        width: Channels of the trunk.
        blocks_before: Residual blocks on the LR image alone.
        blocks_after: Residual blocks on the LR image and the texture.
        descriptor_width: Channels of the descriptor's hidden layers.
        descriptor_size: Length of a descriptor.
        alignment_width: Channels of the alignment's layers.
        alignment_steps: Number of alignment steps.
        choice_width: Channels of the choice among near and far map and planes; 0 for a fixed rule, as in older weights.
    """

    width: int = 48
    blocks_before: int = 5
    blocks_after: int = 9
    descriptor_width: int = 48
    descriptor_size: int = 64
    alignment_width: int = 32
    alignment_steps: int = 3
    choice_width: int = 0


class Descriptor(nn.Module):
    """Gives each pixel a unit descriptor that is nearly invariant to brightness and contrast.

    lr (B, 3, h, w) ── normalise ── five 3x3 convolutions, 19 px wide ─┬───────────────────────(+)── (B, C, h, w)
                                                                       └─ two more, 43 px wide ─┘
    """

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels, dilation in zip((3, width, width, width, width), (1, 1, 2, 4, 1), strict=True):
            layers += [nn.Conv2d(channels, width, 3, padding=dilation, dilation=dilation), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, size, 1))
        context: list[nn.Module] = []
        for dilation in (4, 8):
            context += [nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation), nn.ReLU()]
        last = nn.Conv2d(width, size, 1)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.context = nn.Sequential(*context, last)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h w"]:
        even, _ = even_out(image)
        near = self.layers[:-1](even)
        return F.normalize((self.layers[-1](near) + self.context(near)).to(image.dtype), dim=1)


class ResidualBlock(nn.Module):
    """Residual block of EDSR (Lim et al., 2017), without normalisation.

    The identity before it is trained, so that a trained network can be deepened (`refsr train --init`).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        last = nn.Conv2d(width, width, 3, padding=1)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.layers = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True), last)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        changed: Tensor = self.layers(x)
        return changed.add_(x)


class DefaultModel(RefSRModel):
    """Reference-based super-resolution, 4x, by matching, alignment and gated transfer.

    Source: after Zhang et al., CVPR 2019; descriptors trained by contrast (InfoNCE, van den Oord et al., 2018).
    """

    name: ClassVar[str] = "default"
    halo_cells: ClassVar[int] = 32

    def __init__(self, config: DefaultConfig | None = None) -> None:
        super().__init__()
        self.config = config or DefaultConfig()
        self.scale = 4
        width = self.config.width
        texture = 2 * 3 * self.scale**2
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.before = nn.Sequential(*(ResidualBlock(width) for _ in range(self.config.blocks_before)))
        self.after = nn.Sequential(*(ResidualBlock(width) for _ in range(self.config.blocks_after)))
        self.tail = nn.Conv2d(width, 3 * self.scale**2, 3, padding=1)
        self.descriptor = Descriptor(self.config.descriptor_width, self.config.descriptor_size)
        self.align = Alignment(self.config.alignment_width, self.scale, self.config.alignment_steps)
        self.choice = Choice(self.config.choice_width) if self.config.choice_width else None
        self.believe = nn.Sequential(nn.Conv2d(width + texture + _CUES, width, 3, padding=1), nn.ReLU())
        self.gate = nn.Conv2d(width, 1, 3, padding=1)
        self.fuse = nn.Conv2d(width, width, 3, padding=1)

    def encode_query(self, lr: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h w"]:
        (described,) = by_stripes(lambda part: (self.descriptor(part),), lr, cell_px=1, halo=DESCRIPTOR_HALO_CELLS)
        return described

    def encode_reference(self, ref: Float[Tensor, "b 3 h2 w2"]) -> Reference:
        key, *values = by_stripes(self._encode, ref, cell_px=self.scale, halo=DESCRIPTOR_HALO_CELLS)
        return Reference(key=key, values=tuple(values))

    def _encode(self, ref: Float[Tensor, "b 3 h2 w2"]) -> tuple[Tensor, Tensor, Tensor]:
        """Descriptors, the reduced reference, and the reference's pixels with their high frequencies."""
        down = downscale_bicubic(ref, self.scale)
        detail = ref - upscale_bicubic(down, self.scale)
        return self.descriptor(down), down, torch.cat((ref, detail), 1)

    @property
    def costs(self) -> Costs:
        described = self.config.descriptor_size
        return Costs(
            encode=700 + 8 * self.config.descriptor_width + 18 * described,
            query=4 * described,
            reference=4 * (described + 3 + 6 * self.scale**2),
            search=100,
            smooth=1650,
            transfer=2850 + 20 * self.config.width,
        )

    def cells_at_once(self, height: int, width: int) -> int:
        return cells_at_once(height, width, SMOOTHING_HALO_CELLS)

    def search(
        self,
        lr: Float[Tensor, "b 3 h w"],  # noqa: ARG002
        query: Float[Tensor, "b c h w"],
        references: Sequence[Reference],
        **how: Any,
    ) -> Sequence[Match]:
        return search_candidates(query, [reference.key for reference in references], **how)

    def settle(
        self,
        lr: Float[Tensor, "b 3 h w"],
        query: Float[Tensor, "b c h w"],
        references: Sequence[Reference],
        match: Match,
    ) -> tuple[Match, Match]:
        if self.choice is None:
            return match, smooth(match)
        offered, (keys, downs) = offer(match), _keys_and_downs(references)
        if not torch.is_grad_enabled():  # in training it would take most of the time
            sharps = [reference.values[1][:, :3] for reference in references]
            rectified = search_rectified(self._describe, query, keys, sharps, match, offered)
            if rectified is not match:
                match, offered = rectified, offer(rectified)
        settled: tuple[Match, Match] = self.choice(lr, query, keys, downs, match, offered)
        return settled

    def _describe(self, sharp: Float[Tensor, "b 3 h2 w2"]) -> Float[Tensor, "b c h w"]:
        described: Tensor = self.descriptor(downscale_bicubic(sharp, self.scale))
        return described

    def choose(
        self,
        lr: Float[Tensor, "b 3 h w"],
        query: Float[Tensor, "b c h w"],
        references: Sequence[Reference],
        match: Match,
    ) -> tuple[list[Float[Tensor, "b 2 h w"]], Float[Tensor, "b n h w"]]:
        """The positions among which `settle` chooses, and their logits, to train the choice."""
        assert self.choice is not None
        positions = offer(match).positions(match, slice(None))
        return positions, self.choice.logits(lr, query, *_keys_and_downs(references), match, positions)

    def fields(
        self, lr: Float[Tensor, "b 3 h w"], values: Sequence[Values], match: Match, field: Match
    ) -> Sequence[Aligned]:
        steps: list[Aligned] = self.align(lr, [sharp[:, :3] for _, sharp in values], match, field)
        return steps

    def transfer(
        self,
        lr: Float[Tensor, "b 3 h w"],
        values: Sequence[Values],
        matches: Sequence[Match],
        fields: Iterable[Aligned],
    ) -> Float[Tensor, "b 3 h2 w2"]:
        """Restore from LR image and matched texture.

        lr ── head ── before ──┬─────────────────────(+)── after ── tail ── pixel shuffle ──(+)── sr
                 each match ── candidate ── weigh ────┘                          bicubic ────┘
        """
        up = upscale_bicubic(lr, self.scale)
        features = self.before(self.head(lr - 0.5))
        if matches:
            pairs = zip(matches, fields, strict=True)
            features = features + _believed(self._candidate(features, lr, up, values, *pair) for pair in pairs)
        residual = self.tail(self.after(features))
        return up + F.pixel_shuffle(residual, self.scale)

    def _candidate(
        self,
        features: Float[Tensor, "b c h w"],
        lr: Float[Tensor, "b 3 h w"],
        up: Float[Tensor, "b 3 h2 w2"],
        values: Sequence[Values],
        match: Match,
        aligned: Aligned,
    ) -> tuple[Float[Tensor, "b 1 h w"], Float[Tensor, "b c h w"]]:
        """The gate's logit for one match, and the change to the features; all on the LR grid.

        match ──┬── score, spread ───────────┬── believe ──┬── gate
                └── field ─┬─ doubt ─────────┤             └── fuse
                           └─ warp ── texture ┘
        """
        downs, sharps = zip(*values, strict=True)
        cues = torch.cat((match.score, _spread(match), lr - warp(downs, aligned.field, scale=1), aligned.doubt), 1)
        colour, detail = warp(sharps, aligned.field, scale=self.scale).chunk(2, 1)
        texture = (F.pixel_unshuffle(colour - up, self.scale), F.pixel_unshuffle(detail, self.scale))
        believed = self.believe(torch.cat((features, cues, *texture), 1))
        return self.gate(believed), self.fuse(believed)


def _keys_and_downs(references: Sequence[Reference]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    keys, downs = zip(*((reference.key, reference.values[0]) for reference in references), strict=True)
    return keys, downs


def _believed(
    candidates: Iterator[tuple[Float[Tensor, "b 1 h w"], Float[Tensor, "b c h w"]]],
) -> Float[Tensor, "b c h w"]:
    """Softmax average over the candidates' changes and "no change", whose logit is 0.

    Candidates are added one by one, so that memory does not grow with their number.

    Source: Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018, algorithm 3.
    """
    logit, change = next(candidates)
    # The highest logit so far; the sums of weights and of weighted changes, both divided by its exponential.
    top = logit.clamp_min(0)
    share = (logit - top).exp()
    weights, total = (-top).exp() + share, change * share
    for logit, change in candidates:
        higher = torch.maximum(top, logit)
        kept, share = (top - higher).exp(), (logit - higher).exp()
        weights, total = weights * kept + share, total * kept + change * share
        top = higher
    return total / weights


def _spread(match: Match) -> Float[Tensor, "b 1 h w"]:
    """log(1 + standard deviation in cells) of the offsets of 3x3 cells: near zero where they agree."""
    patches = rearrange(
        F.unfold(F.pad(match.offset_cells, (1, 1, 1, 1), mode="replicate"), 3), "b (yx n) c -> b yx n c", yx=2, n=9
    )
    spread = patches.var(2, correction=0).sum(1).sqrt().log1p()
    return spread.view_as(match.score)
