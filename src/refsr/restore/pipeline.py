"""The pipeline that every verb runs: three functions over frozen values.

    lr, refs ── encode ──> query, keys, values ── match ──> matches, values ── transfer ──> sr
Images of references are held until they are encoded, query and keys until they are matched.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from refsr.io.progress import Progress, silent
from refsr.models import RefSRModel
from refsr.models.alignment import Aligned
from refsr.models.base import Reference, Values
from refsr.resize import pad_to_multiple
from refsr.search import DEFAULT_SEARCH_BYTES, Engine, Match


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """An LR image and its references, encoded."""

    lr: Float[Tensor, "b 3 h w"]
    query: Float[Tensor, "b c h w"]
    references: tuple[Reference, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Matched:
    """An LR image and the texture matched to it.

    Attributes:
        lr: The LR image.
        values: Texture of each reference; empty to restore the image alone.
        matches: Candidates, each on the image's whole grid, mended where they were accidents.
        fields: The smooth field of each.
    """

    lr: Float[Tensor, "b 3 h w"]
    values: tuple[Values, ...] = ()
    matches: tuple[Match, ...] = ()
    fields: tuple[Match, ...] = ()

    def crop(self, rows: slice, columns: slice) -> "Matched":
        """A tile of the image; references stay whole."""
        matches, fields = (tuple(match.crop(rows, columns) for match in found) for found in (self.matches, self.fields))
        return Matched(lr=self.lr[..., rows, columns], values=self.values, matches=matches, fields=fields)


def encode(model: RefSRModel, lr: Float[Tensor, "b 3 h w"], refs: Iterable[Float[Tensor, "b 3 _ _"]] = ()) -> Encoded:
    """Encode an LR image and its references.

    Args:
        model: Model on the image's device.
        lr: The LR image.
        refs: References of any sizes. A generator may free each one as soon as it is encoded.
    """
    references = tuple(encode_reference(model, ref.to(lr)) for ref in refs)  # first, while least is held beside them
    return Encoded(lr=lr, query=model.encode_query(lr), references=references)


def encode_reference(model: RefSRModel, ref: Float[Tensor, "b 3 _ _"]) -> Reference:
    """Encode a reference of any size, padded to whole cells."""
    return model.encode_reference(pad_to_multiple(ref, model.cell_px))


def match(
    model: RefSRModel,
    encoded: Encoded,
    *,
    engine: Engine = "auto",
    memory_bytes: int = DEFAULT_SEARCH_BYTES,
    progress: Progress = silent,
) -> Matched:
    """Match each cell with the references, if there are any.

    Args:
        model: Model of `encode`.
        encoded: From `encode`.
        engine: See `refsr.search`.
        memory_bytes: Bound on the search's own working memory.
        progress: Told the finished share.

    Raises:
        MemoryBudgetError: The budget is too small for the least part of the search.
    """
    lr, query, references = encoded.lr, encoded.query, encoded.references
    if not references:
        return Matched(lr=lr)
    found = model.search(lr, query, references, engine=engine, memory_bytes=memory_bytes, progress=progress)
    return with_matches(model, encoded, found)


def with_matches(model: RefSRModel, encoded: Encoded, matches: Sequence[Match]) -> Matched:
    """An LR image with given matches.

    Args:
        model: Model of `encode`.
        encoded: From `encode`; query and keys are not kept.
        matches: Matches in the references, as searched.
    """
    lr, query, references = encoded.lr, encoded.query, encoded.references
    settled = [model.settle(lr, query, references, each) for each in matches]
    return Matched(
        lr=lr,
        values=tuple(reference.values for reference in references),
        matches=tuple(each for each, _ in settled),
        fields=tuple(field for _, field in settled),
    )


def transfer(
    model: RefSRModel, matched: Matched, fields: Iterable[Aligned] | None = None
) -> Float[Tensor, "b 3 h2 w2"]:
    """Restore an image with the matched texture; nominally 0..1, not clamped.

    Args:
        model: Model of `encode`.
        matched: From `match`; without matches, the image is restored alone.
        fields: The last field of each match, if it is known; by default computed one by one.
    """
    found = _fields(model, matched) if fields is None else fields
    return model.transfer(matched.lr, matched.values, matched.matches, found)


def _fields(model: RefSRModel, matched: Matched) -> Iterable[Aligned]:
    for each, field in zip(matched.matches, matched.fields, strict=True):
        with torch.no_grad():
            last = model.fields(matched.lr, matched.values, each, field)[-1]
        yield last
