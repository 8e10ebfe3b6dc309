"""The contract of all models, by which one upscaler, trainer and benchmark serves them."""

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
"""Texture of one reference: sharp images or feature maps, finest last, each a whole number of pixels per cell."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """An encoded reference.

    Attributes:
        key: Features of the blurred reference, one vector a cell; the search compares the query with them.
        values: Texture to transfer.
    """

    key: Float[Tensor, "b c h w"]
    values: Values


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Peak working memory of each step in bytes per cell; measured, rounded up.

    Attributes:
        encode: Encoding, per cell encoded at once.
        query: Size of an encoded LR image, per cell.
        reference: Size of an encoded reference, per cell.
        search: Search beside its budget, per cell of the LR image and of all references.
        smooth: Smoothing, per cell smoothed at once.
        transfer: Transfer, per cell restored at once.
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
    ref ── encode_reference ─┬> key ───┴── search ──> matches ── settle ──┐
                             └> values ───────────────────────────────────┴── fields ── transfer ──> sr

    `refsr.restore.pipeline` calls the steps. Images are RGB, float32, 0..1, (B, 3, H, W), of any size; the references'
    sides are multiples of `cell_px`.
    """

    name: ClassVar[str]
    config: Any
    """Sizes of the network, a frozen dataclass."""
    scale: int
    """Output pixels per LR pixel."""
    uses_references: ClassVar[bool] = True
    """False for single-image baselines, which ignore references."""
    matches_tell_the_pose: ClassVar[bool] = True
    """Whether matches are coherent only for a reference in the right rotation and scale: `refsr.references.pose`."""
    cell_px: ClassVar[int] = 4
    """Reference pixels per cell of its key."""
    halo_cells: ClassVar[int]
    """Radius of the receptive field of `fields` and `transfer`: tiles overlap by this much on each side."""
    external: ClassVar[tuple[str, ...]] = ()
    """Prefixes of parameters that are loaded from elsewhere, and not part of the weights file."""

    @abstractmethod
    def encode_query(self, lr: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h w"]:
        """Features of the LR image to match, one vector a cell."""

    @abstractmethod
    def encode_reference(self, ref: Float[Tensor, "b 3 h2 w2"]) -> Reference:
        """Features of a reference to match, and its texture."""

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
        """Match each cell with the references: one candidate match or several, in no order.

        Args:
            lr: The LR image.
            query: The same, encoded.
            references: Encoded references.
            engine: See `refsr.search`.
            memory_bytes: Bound on the search's own working memory.
            progress: Told the finished share.
        """

    def settle(
        self,
        lr: Float[Tensor, "b 3 h w"],  # noqa: ARG002
        query: Float[Tensor, "b c h w"],  # noqa: ARG002
        references: Sequence[Reference],  # noqa: ARG002
        match: Match,
    ) -> tuple[Match, Match]:
        """A match of the whole picture, mended where it is an accident, and a smooth field, where alignment begins.

        By default both are the match itself.

        Args:
            lr: The LR image.
            query: The same, encoded.
            references: Encoded references.
            match: One of those searched.
        """
        return match, match

    def fields(
        self,
        lr: Float[Tensor, "b 3 h w"],  # noqa: ARG002
        values: Sequence[Values],  # noqa: ARG002
        match: Match,
        field: Match,
    ) -> Sequence[Aligned]:
        """Fields after each step of alignment; texture is sampled at the last. By default that field itself.

        Args:
            lr: The LR image, or a tile of it.
            values: Texture of each reference.
            match: From `settle`.
            field: From `settle`.
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
        """Transfer the texture and restore, nominally 0..1; without matches, from the LR image alone.

        Args:
            lr: The LR image.
            values: Texture of each reference.
            matches: Candidates, from `settle`.
            fields: The last field of each match, computed when iterated over. Detached: image losses do not train the
                alignment.
        """

    @property
    @abstractmethod
    def costs(self) -> Costs:
        """Working memory by the config, for `--memory`."""

    def cells_at_once(self, height: int, width: int) -> int:
        """Number of cells that are encoded or smoothed at once, of a picture of `height` x `width` cells."""
        return height * width

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    def own_state(self) -> dict[str, Tensor]:
        """State dict without `external` parameters: the content of a weights file."""
        return {name: tensor for name, tensor in self.state_dict().items() if not name.startswith(self.external)}

    def digest(self) -> str:
        """First 12 digits of the SHA-256 of `own_state`."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.own_state().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]

    def parameter_count(self) -> int:
        """Number of parameters, without `external` ones."""
        return sum(p.numel() for name, p in self.named_parameters() if not name.startswith(self.external))
