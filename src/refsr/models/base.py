"""The contract that every model keeps, so that one upscaler, trainer and benchmark serves them all."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from refsr.search import DEFAULT_SEARCH_BYTES, Engine, Match, Progress


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A sharp reference as a model sees it.

    Attributes:
        key: Where we look: features of the blurred reference, one vector a cell.
        values: What we take: the sharp reference's maps, finest last, each a whole number of pixels a cell.
    """

    key: Float[Tensor, "b c h w"]
    values: tuple[Float[Tensor, "b _ _ _"], ...]


class RefSRModel(nn.Module, ABC):
    """Reference-based super-resolution by matching and transfer.

    Subclasses give the five steps of `forward`. Images are RGB, float32, 0..1, (B, 3, H, W), of any size; the
    references' sides are multiples of `scale` (`refsr.restore.upscale` pads them).
    """

    name: ClassVar[str]
    config: Any
    """Its sizes, a frozen dataclass."""
    scale: int
    """Output pixels per LR pixel."""
    uses_references: ClassVar[bool] = True
    """False for models that are here to be compared with: references given to them are left aside."""
    matches_tell_the_pose: ClassVar[bool] = True
    """Whether matches hang together only where a reference is turned and scaled rightly: `refsr.references.pose`."""
    cell_px: ClassVar[int] = 4
    """Reference pixels per cell of its key."""
    halo_cells: ClassVar[int]
    """How far a cell's surroundings matter to `transfer`: tiles must overlap by this much on each side."""
    transfer_bytes_per_cell: ClassVar[int]
    """Peak working memory of `transfer`, measured."""
    encode_bytes_per_cell: ClassVar[int]
    """Peak working memory of `encode_query` and `encode_reference`, measured."""
    reference_bytes_per_cell: ClassVar[int]
    """What an encoded reference holds."""
    external: ClassVar[tuple[str, ...]] = ()
    """Prefixes of parameters that come from elsewhere and are not part of the weights file."""

    def forward(
        self,
        lr: Float[Tensor, "b 3 h w"],
        refs: Sequence[Float[Tensor, "b 3 _ _"]] = (),
        memory_bytes: int = DEFAULT_SEARCH_BYTES,
    ) -> Float[Tensor, "b 3 h2 w2"]:
        """Restore whole images, with any number of references, or none; nominally 0..1, but not clamped."""
        references = [self.encode_reference(ref) for ref in refs] if self.uses_references else []
        matches = self.search(self.encode_query(lr), references, memory_bytes=memory_bytes) if references else ()
        return self.transfer(lr, references, matches)

    @abstractmethod
    def encode_query(self, lr: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h w"]:
        """What we look for: one feature vector for each LR pixel."""

    @abstractmethod
    def encode_reference(self, ref: Float[Tensor, "b 3 h2 w2"]) -> Reference:
        """Where we look, and what we take."""

    @abstractmethod
    def search(
        self,
        query: Float[Tensor, "b c h w"],
        references: Sequence[Reference],
        *,
        engine: Engine = "auto",
        memory_bytes: int = DEFAULT_SEARCH_BYTES,
        progress: Progress | None = None,
    ) -> Sequence[Match]:
        """Where each cell's texture may lie in the references: one candidate or several, in no order."""

    @abstractmethod
    def transfer(
        self, lr: Float[Tensor, "b 3 h w"], references: Sequence[Reference], matches: Sequence[Match]
    ) -> Float[Tensor, "b 3 h2 w2"]:
        """Swap the texture in and restore; without matches, restore from the LR image alone."""

    def cells_at_once(self, height: int, width: int) -> int:
        """How many cells of a picture `encode_query` and `encode_reference` look at together.

        Args:
            height: Of the picture, in cells.
            width: The same.
        """
        return height * width

    @property
    def device(self) -> torch.device:
        """Where its parameters are."""
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    def own_state(self) -> dict[str, Tensor]:
        """The state dict without what is `external`: what a weights file holds."""
        return {name: tensor for name, tensor in self.state_dict().items() if not name.startswith(self.external)}

    def digest(self) -> str:
        """The first digits of the SHA-256 of its own weights."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.own_state().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]

    def parameter_count(self) -> int:
        """How many numbers were trained, without what is `external`."""
        return sum(p.numel() for name, p in self.named_parameters() if not name.startswith(self.external))
