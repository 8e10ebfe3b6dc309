"""Losses of one batch: the network's and the critic's.

    lr ────┬── with references: encode, match, transfer ──┬──> sr ──> losses against hr
    refs ──┘── without: transfer alone ───────────────────┘
Each loss is a mean over the pairs of the batch, with zero for pairs that it does not apply to, so that two processes
with half a batch each compute what one does with the whole.

In mixed precision only the network is rounded; images, matching and losses stay in float32, since bf16 has fewer levels
between black and white than a photo.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from refsr.bench.lpips import LPIPS
from refsr.device import moved, pick
from refsr.errors import UsageError
from refsr.models import DefaultModel, RefSRModel
from refsr.models.alignment import Aligned
from refsr.models.vgg import VGG19
from refsr.restore.pipeline import Encoded, Matched, encode, transfer, with_matches
from refsr.search import Match, cell_grid, strongest
from refsr.training.config import LossWeights, StageConfig, TrainConfig
from refsr.training.losses import (
    TEXTURE_LEVELS,
    TextureLoss,
    adversarial,
    alignment_loss,
    back_projection,
    charbonnier,
    choice_loss,
    contrast_loss,
    critic_loss,
    dissimilarity,
    frequency,
    grid,
    perceptual,
    reconstruction,
    viewed_alike,
)
from refsr.transfer.swap import swap

Batch = Mapping[str, Tensor]
_SWAP_PATCH = 3


@dataclass(frozen=True, kw_only=True)
class Perception:
    """Frozen networks for the losses on features, as far as these need them.

    Attributes:
        vgg: VGG19.
        layer: Layer of the perceptual loss, the deepest that the weights have.
        lpips: LPIPS.
    """

    vgg: VGG19 | None = None
    layer: str = ""
    lpips: LPIPS | None = None


class NetworkStep(nn.Module):
    """The network with its losses, as one module, so that processes can share the gradients of its `forward`."""

    def __init__(self, model: RefSRModel, config: TrainConfig, stage: StageConfig, perception: Perception) -> None:
        """Join a network and the losses of a stage.

        Args:
            model: The model to train.
            config: The run's config.
            stage: The stage's config.
            perception: The networks that the losses need.

        Raises:
            UsageError: The stage freezes or trains a part that the model does not have.
        """
        super().__init__()
        self.model = model
        self.config = config
        self.stage = stage
        self._perception = (perception,)  # in a tuple, so that it is neither trained nor saved
        self.texture = TextureLoss(perception.vgg) if perception.vgg and stage.losses.texture else None
        self.seconds = {"features": 0.0, "search": 0.0}
        parts = {name: part for name, part in model.named_children() if not f"{name}.".startswith(model.external)}
        for loss, needed in (("alignment", "align"), ("choice", "choice")):
            if getattr(stage.losses, loss) and needed not in parts:
                raise UsageError(f"{model.name} has no {loss} to train: leave out the loss {loss!r}")
        unknown = sorted(set(stage.frozen) - set(parts))
        if unknown:
            raise UsageError(f"{model.name} has no part {unknown[0]!r} to freeze: name some of {', '.join(parts)}")
        for name, part in parts.items():
            part.requires_grad_(name not in stage.frozen)
        self.frozen = [parts[name] for name in stage.frozen]
        weights = stage.losses if stage.references else LossWeights()
        reported = {"texture": weights.texture, "contrast": weights.contrast, "hits": weights.contrast,
                "choice": weights.choice, "alignment": weights.alignment, "cells": weights.alignment}  # fmt: skip
        self._matched = [name for name, weight in reported.items() if weight]

    def train(self, mode: bool = True) -> "NetworkStep":
        """Set the mode; frozen parts stay in evaluation, with the statistics of their batch norms."""
        super().train(mode)
        for part in self.frozen:
            part.eval()
        return self

    def forward(
        self, batch: Batch, critic: nn.Module | None = None
    ) -> tuple[dict[str, Tensor], Float[Tensor, "b 3 h w"]]:
        """Losses by name, with their "total", and the results.

        Args:
            batch: From `refsr.data.render.render`.
            critic: Critic of the adversarial loss.
        """
        hr, lr = batch["hr"], batch["lr"]
        counts = (batch["references"] * self.stage.references).tolist()  # on the CPU already: no synchronisation
        # Reported even where no pair has a reference, so that all processes report the same.
        losses: dict[str, list[Tensor]] = {name: [] for name in self._matched}
        order, parts = [], []
        for count in sorted(set(counts)):
            alike = [place for place, other in enumerate(counts) if other == count]
            part = {name: pick(values, alike) for name, values in batch.items()}
            order += alike
            parts.append(self._restore(part, count, losses))
        back = sorted(range(len(order)), key=order.__getitem__)
        sr = torch.cat(parts).index_select(0, moved(torch.tensor(back), hr))
        nothing = hr.new_zeros(1)
        found = {name: torch.cat(values or [nothing]).sum() / len(hr) for name, values in losses.items()}
        with _full_precision(hr):
            found |= {name: loss.mean() for name, loss in self._image_losses(sr, batch, critic)}
        if self.stage.truth and self.stage.references:
            found["truth_l1"] = self._truth_step(hr, lr)
        return found | {"total": self._weighted(found)}, sr

    def _restore(self, batch: Batch, count: int, losses: dict[str, list[Tensor]]) -> Float[Tensor, "b 3 h2 w2"]:
        """Results of pairs with this number of references; losses on matches are appended to `losses`."""
        lr = batch["lr"]
        if count == 0:
            return transfer(self.model, Matched(lr=lr)).to(lr.dtype)
        refs = batch["refs"][:, :count].unbind(1)
        with self._clock("features"):
            encoded = encode(self.model, lr, refs)
        with self._clock("search"), _full_precision(lr):
            searched = self.model.search(lr, encoded.query, encoded.references)
            matched = with_matches(self.model, encoded, searched)
        fields = self._trained_fields(batch, matched, losses) if self.stage.losses.alignment else None
        restored = transfer(self.model, matched, fields).to(lr.dtype)
        if self.stage.losses.contrast:
            for place, reference in enumerate(encoded.references):
                with _full_precision(lr):
                    loss, hits = contrast_loss(
                        encoded.query, reference.key, batch["truth_cells"][:, place], batch["number"],
                        self.config.contrast_queries, self.config.contrast_temperature,
                    )  # fmt: skip
                losses["contrast"].append(loss / count)
                losses["hits"].append(hits / count)
        if self.stage.losses.choice:
            for each in searched:  # since those of `matched` are mended by the choice itself
                losses["choice"].append(self._choice(batch, encoded, each) / len(searched))
        if self.texture is not None:
            with _full_precision(lr):
                losses["texture"].append(self._texture(restored, refs, strongest(matched.matches)))
        return restored

    def _trained_fields(self, batch: Batch, matched: Matched, losses: dict[str, list[Tensor]]) -> list[Aligned]:
        """The last field of each match, for the transfer; the losses of all fields are appended to `losses`."""
        last = []
        for each, begun in zip(matched.matches, matched.fields, strict=True):
            steps = self.model.fields(matched.lr, matched.values, each, begun)
            with _full_precision(matched.lr):
                truth_cells = _of_matched(batch["truth_cells"], each)
                lost, cells = alignment_loss(steps, begun.position_cells, truth_cells)
            losses["alignment"].append(lost / len(matched.matches))
            losses["cells"].append(cells / len(matched.matches))
            last.append(steps[-1].detach())
        return last

    def _choice(self, batch: Batch, encoded: Encoded, match: Match) -> Float[Tensor, " b"]:
        """Loss of the choice alone: descriptors learn nothing from it."""
        model = self.model
        assert isinstance(model, DefaultModel)
        references = [replace(reference, key=reference.key.detach()) for reference in encoded.references]
        positions, logits = model.choose(encoded.lr, encoded.query.detach(), references, match)
        with _full_precision(logits):
            return choice_loss(positions, logits, _of_matched(batch["truth_cells"], match))

    def _texture(self, restored: Tensor, refs: Sequence[Tensor], match: Match) -> Float[Tensor, " b"]:
        perception = self._perception[0]
        assert perception.vgg is not None
        assert self.texture is not None
        with torch.no_grad():
            levels = zip(*(perception.vgg(ref, TEXTURE_LEVELS) for ref in refs), strict=True)
            swapped = [swap(maps, match, scale=2**n, patch=_SWAP_PATCH) for n, maps in enumerate(levels)]
        return self.texture(restored, swapped, match.score)  # type: ignore[no-any-return]

    def _image_losses(
        self, sr: Float[Tensor, "b 3 h2 w2"], batch: Batch, critic: nn.Module | None
    ) -> Iterator[tuple[str, Float[Tensor, " b"]]]:
        """Losses between result and truth; L1 is always reported."""
        weights, hr, lr, numbers = self.stage.losses, batch["hr"], batch["lr"], batch["number"]
        yield "l1", reconstruction(sr, hr)
        if weights.charbonnier:
            yield "charbonnier", charbonnier(sr, hr)
        if weights.frequency:
            yield "frequency", frequency(sr, hr)
        if weights.back_projection:
            yield "back_projection", back_projection(sr, lr, self.model.scale)
        if weights.ms_ssim:
            yield "ms_ssim", dissimilarity(sr, hr)
        if weights.grid:
            yield "grid", grid(sr, hr, self.model.scale)
        perception = self._perception[0]
        if perception.lpips is not None and weights.lpips:
            yield "lpips", perception.lpips(*viewed_alike(sr, hr, numbers))
        if weights.perceptual and perception.vgg is not None:
            yield "perceptual", perceptual(sr, hr, perception.vgg, perception.layer)
        if weights.adversarial and critic is not None:
            yield "adversarial", adversarial(critic, sr)

    def _truth_step(self, hr: Tensor, lr: Tensor) -> Tensor:
        """L1 with the truth itself as the reference, matched cell by cell. Source: ZZUTK/SRNTT, train_with_truth."""
        batch, _, height, width = lr.shape
        itself = Match(
            position_cells=cell_grid((height, width), lr).expand(batch, 2, height, width),
            reference=torch.zeros(batch, height, width, dtype=torch.long, device=lr.device),
            score=lr.new_ones(batch, 1, height, width),
        )
        matched = with_matches(self.model, encode(self.model, lr, [hr]), [itself])
        return reconstruction(transfer(self.model, matched).to(hr.dtype), hr).mean()

    def _weighted(self, found: Mapping[str, Tensor]) -> Tensor:
        total = self.stage.losses.l1 * found["truth_l1"] if "truth_l1" in found else found["l1"].new_zeros(())
        for name in LossWeights.__dataclass_fields__:
            if name in found:
                total = total + getattr(self.stage.losses, name) * found[name]
        return total

    @contextmanager
    def _clock(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - begun


class CriticStep(nn.Module):
    """The critic with its loss, as one module."""

    def __init__(self, critic: nn.Module) -> None:
        super().__init__()
        self.critic = critic

    def forward(self, sr: Tensor, hr: Tensor, numbers: Tensor, turn: int) -> Tensor:
        """Mean loss.

        Args:
            sr: Results.
            hr: Truths.
            numbers: Numbers of the pairs, which seed the points where the gradient is penalised.
            turn: Number of the critic's step on this batch.
        """
        between = torch.stack(
            [torch.rand((), generator=torch.Generator().manual_seed(int(n) * 8 + turn)) for n in numbers.tolist()]
        ).to(hr)
        with _full_precision(hr):
            return critic_loss(self.critic, sr, hr, between).mean()


def _of_matched(truth_cells: Float[Tensor, "b n 2 h w"], match: Match) -> Float[Tensor, "b 2 h w"]:
    """True positions in the reference that each cell is matched in."""
    chosen = match.reference[:, None, None].expand(-1, 1, 2, -1, -1)
    return truth_cells.gather(1, chosen)[:, 0]


def _full_precision(like: Tensor) -> torch.autocast:
    return torch.autocast(like.device.type, enabled=False)
