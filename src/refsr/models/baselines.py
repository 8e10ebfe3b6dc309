"""Baselines: interpolation, single-image super-resolution, and references by optical flow."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from refsr.io.progress import Progress, silent
from refsr.models.alignment import Aligned
from refsr.models.base import Costs, Reference, RefSRModel, Values
from refsr.models.default import DefaultModel
from refsr.resize import resize, upscale_bicubic
from refsr.search import Match, cell_grid, search
from refsr.transfer.flow import dense_flow
from refsr.transfer.swap import warp


@dataclass(frozen=True, kw_only=True)
class NoConfig:
    """Config of a model without sizes."""


class Bicubic(RefSRModel):
    """Bicubic interpolation, 4x."""

    name: ClassVar[str] = "bicubic"
    uses_references: ClassVar[bool] = False
    halo_cells: ClassVar[int] = 4
    costs = Costs(transfer=600)

    def __init__(self, config: NoConfig | None = None) -> None:
        super().__init__()
        self.config = config or NoConfig()
        self.scale = 4

    def encode_query(self, lr: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h w"]:
        return lr

    def encode_reference(self, ref: Float[Tensor, "b 3 h2 w2"]) -> Reference:
        return Reference(key=F.avg_pool2d(ref, self.cell_px), values=())

    def search(
        self,
        lr: Float[Tensor, "b 3 h w"],  # noqa: ARG002
        query: Float[Tensor, "b c h w"],
        references: Sequence[Reference],
        **how: Any,
    ) -> Sequence[Match]:
        return (search(query, [reference.key for reference in references], patch=1, **how),)

    def transfer(
        self,
        lr: Float[Tensor, "b 3 h w"],
        values: Sequence[Values],  # noqa: ARG002
        matches: Sequence[Match],  # noqa: ARG002
        fields: Iterable[Aligned],  # noqa: ARG002
    ) -> Float[Tensor, "b 3 h2 w2"]:
        return upscale_bicubic(lr, self.scale)


class SISR(DefaultModel):
    """The default model without references: single-image super-resolution with the same weights."""

    name: ClassVar[str] = "sisr"
    uses_references: ClassVar[bool] = False


class Flow(DefaultModel):
    """The default model with dense optical flow in place of its search and alignment.

    The approach of CrossNet (Zheng et al., ECCV 2018), with the flow of OpenCV. Each reference is first stretched to
    the picture's size, and is a candidate of its own.

    Source: Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016.
    """

    name: ClassVar[str] = "flow"
    matches_tell_the_pose: ClassVar[bool] = False
    # The flow is compared as it is: neither smoothed nor aligned.
    settle = RefSRModel.settle
    fields = RefSRModel.fields

    def search(
        self,
        lr: Float[Tensor, "b 3 h w"],
        query: Float[Tensor, "b c h w"],
        references: Sequence[Reference],
        *,
        progress: Progress = silent,
        **_: Any,
    ) -> Sequence[Match]:
        found = []
        for index, reference in enumerate(references):
            found.append(self._follow(lr, query, reference, index))
            progress((index + 1) / len(references))
        return found

    def _follow(
        self, lr: Float[Tensor, "b 3 h w"], query: Float[Tensor, "b c h w"], reference: Reference, index: int
    ) -> Match:
        """Flow from the LR image to one reduced reference, as a match."""
        height, width = query.shape[-2:]
        key = reference.key
        size_px = (height * self.cell_px, width * self.cell_px)
        first, second = (resize(image.mean(1, keepdim=True), size_px) for image in (lr, reference.values[0]))
        flow_px = dense_flow(first, second, "the model 'flow'")
        flow_cells = F.avg_pool2d(flow_px, self.cell_px) / self.cell_px
        stretch = query.new_tensor((key.shape[-2] / height, key.shape[-1] / width)).view(1, 2, 1, 1)
        position = (cell_grid((height, width), query) + flow_cells + 0.5) * stretch - 0.5
        last = query.new_tensor(key.shape[-2:]).view(1, 2, 1, 1) - 1
        match = Match(
            position_cells=position.clamp_min(0).minimum(last),
            reference=torch.full_like(query[:, 0], index, dtype=torch.long),
            score=query[:, :1],
        )
        there = warp([key], match, scale=1)
        return replace(match, score=(query * F.normalize(there, dim=1)).sum(1, keepdim=True))
