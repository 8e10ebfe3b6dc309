"""How much the invented and the transferred detail flickers."""

from jaxtyping import Float
from torch import Tensor

from refsr.resize import upscale_bicubic
from refsr.search import Match, cell_grid
from refsr.transfer.flow import dense_flow
from refsr.transfer.swap import warp


class Flicker:
    """The mean change, from frame to frame, of what the result has beyond bicubic interpolation, along what moves."""

    def __init__(self, scale: int) -> None:
        """Begin.

        Args:
            scale: Of the enlargement.
        """
        self.scale = scale
        self._before: tuple[Tensor, Tensor] | None = None
        self._total, self._count = 0.0, 0

    @property
    def levels(self) -> float:
        """In grey levels of 0..255; zero before the second frame."""
        return self._total / self._count if self._count else 0.0

    def add(self, frame: Float[Tensor, "1 3 h w"], sr: Float[Tensor, "1 3 h2 w2"]) -> None:
        """Compare with the frame before, moved as the optical flow says.

        Args:
            frame: As it was.
            sr: Enlarged.
        """
        grey = frame.mean(1, keepdim=True)
        beyond = sr - upscale_bicubic(frame, self.scale)
        if self._before is not None:
            grey_before, beyond_before = self._before
            flow = dense_flow(grey, grey_before, "measuring flicker")
            match = Match(
                position_cells=cell_grid(grey.shape[-2:], grey) + flow,
                reference=flow[:, 0].new_zeros(flow[:, 0].shape).long(),
                score=flow.new_ones(flow[:, :1].shape),
            )
            moved = warp([beyond_before], match, scale=self.scale)
            self._total += (beyond - moved).abs().mean().item() * 255
            self._count += 1
        self._before = grey, beyond
