"""Flicker of the detail that a result adds to bicubic interpolation."""

import torch
from jaxtyping import Float
from torch import Tensor

from refsr.resize import upscale_bicubic
from refsr.search import Match, cell_grid
from refsr.transfer.flow import dense_flow
from refsr.transfer.swap import warp


class Flicker:
    """Mean change of the added detail from frame to frame, after motion compensation."""

    def __init__(self, scale: int) -> None:
        self.scale = scale
        self._before: tuple[Tensor, Tensor] | None = None
        self._total, self._count = 0.0, 0

    @property
    def levels(self) -> float:
        """Flicker in grey levels of 0..255; zero before the second frame."""
        return self._total / self._count if self._count else 0.0

    def add(self, frame: Float[Tensor, "1 3 h w"], sr: Float[Tensor, "1 3 h2 w2"]) -> None:
        """Compare the detail of an LR frame and its enlargement, both 0..1, with the last frame's, warped by flow."""
        grey = frame.mean(1, keepdim=True)
        detail = sr - upscale_bicubic(frame, self.scale)
        if self._before is not None:
            grey_before, detail_before = self._before
            flow = dense_flow(grey, grey_before, "measuring flicker")
            match = Match(
                position_cells=cell_grid(grey.shape[-2:], grey) + flow,
                reference=torch.zeros_like(flow[:, 0], dtype=torch.long),
                score=torch.ones_like(flow[:, :1]),
            )
            moved = warp([detail_before], match, scale=self.scale)
            self._total += (detail - moved).abs().mean().item() * 255
            self._count += 1
        self._before = grey, detail
