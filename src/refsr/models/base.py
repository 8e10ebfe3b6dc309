"""The contract that every model keeps, so that one upscaler, trainer and benchmark serves them all."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from refsr.io.progress import Progress, silent
from refsr.models.alignment import Aligned
from refsr.search import DEFAULT_SEARCH_BYTES, Engine, Match

Values = tuple[Float[Tensor, "b _ _ _"], ...]
"""What we take of one reference: its sharp maps, finest last, each a whole number of pixels a cell."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A sharp reference as a model sees it.

    Attributes:
        key: Where we look: features of the blurred reference, one vector a cell.
        values: What we take.
    """

    key: Float[Tensor, "b c h w"]
    values: Values


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Working memory of each step at its peak, in bytes for each cell; measured, a little rounded up.

    Attributes:
        encode: Encoding, for each cell that is encoded at once.
        query: What an encoded picture holds.
        reference: What an encoded reference holds, for each of its cells.
        search: The search, beside its budget, for each cell of the picture and of all references.
        smooth: Smoothing, for each cell that is looked at at once.
        transfer: The transfer, for each cell that is restored at once.
    """

    encode: int = 0
    query: int = 0
    reference: int = 0
    search: int = 0
    smooth: int = 0
    transfer: int


class RefSRModel(nn.Module, ABC):
    """Reference-based super-resolution by matching and transfer.

    lr ── encode_query ──────> query ──┐
    ref ── encode_reference ─┬> key ───┴── search ──> matches ── smooth ──┐
                             └> values ───────────────────────────────────┴── fields ── transfer ──> sr

    `refsr.restore.pipeline` calls the steps. Images are RGB, float32, 0..1, (B, 3, H, W), of any size; the references'
    sides are multiples of `cell_px`.
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
    external: ClassVar[tuple[str, ...]] = ()
    """Prefixes of parameters that come from elsewhere and are not part of the weights file."""

    @abstractmethod
    def encode_query(self, lr: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h w"]:
        """What we look for: one feature vector for each LR pixel."""

    @abstractmethod
    def encode_reference(self, ref: Float[Tensor, "b 3 h2 w2"]) -> Reference:
        """Where we look, and what we take."""

    @abstractmethod
    def search(
        self,
        lr: Float[Tensor, "b 3 h w"],
        query: Float[Tensor, "b c h w"],
        references: Sequence[Reference],
        *,
        engine: Engine = "auto",
        memory_bytes: int = DEFAULT_SEARCH_BYTES,
        progress: Progress = silent,
    ) -> Sequence[Match]:
        """Where each cell's texture may lie in the references: one candidate or several, in no order.

        Args:
            lr: The picture.
            query: Of it, encoded.
            references: Encoded.
            engine: See `refsr.search`.
            memory_bytes: Bound on the search's own working memory.
            progress: Told of each finished part.
        """

    def smooth(self, match: Match) -> Match:
        """The field that a match begins with, for the whole picture; without smoothing, the match itself.

        Args:
            match: As searched.
        """
        return match

    def fields(
        self,
        lr: Float[Tensor, "b 3 h w"],  # noqa: ARG002
        values: Sequence[Values],  # noqa: ARG002
        match: Match,
        field: Match,
    ) -> Sequence[Aligned]:
        """The field after each step of an alignment, of which texture is sampled at the last; by default, as it begins.

        Args:
            lr: The picture, or a part of it.
            values: Of each reference.
            match: As searched.
            field: The same, made smooth.
        """
        return (Aligned(field=field, doubt=torch.zeros_like(match.score)),)

    @abstractmethod
    def transfer(
        self,
        lr: Float[Tensor, "b 3 h w"],
        values: Sequence[Values],
        matches: Sequence[Match],
        fields: Iterable[Aligned],
    ) -> Float[Tensor, "b 3 h2 w2"]:
        """Swap the texture in and restore, nominally 0..1; without matches, restore from the LR image alone.

        Args:
            lr: The picture.
            values: Of each reference.
            matches: As searched.
            fields: For each match the last of its fields, without gradient: what is made of the texture does not teach
                where it lies. Each is computed when it is asked for.
        """

    @property
    @abstractmethod
    def costs(self) -> Costs:
        """Working memory, by the sizes of the network."""

    def cells_at_once(self, height: int, width: int) -> int:
        """How many cells of a picture are encoded or made smooth at once.

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
