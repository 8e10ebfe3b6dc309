"""The one pipeline: what every verb does with a picture, its references and a model.

    lr, refs ── encode ──> query, keys, values ── match ──> matches, values ── transfer ──> sr
Each arrow is a function, and each value between them is frozen. Images of references are needed until they are encoded,
query and keys until they are matched; nothing here holds them longer.
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
    """A picture and its references as a model sees them.

    Attributes:
        lr: The picture.
        query: What is looked for.
        references: Where it is looked for.
    """

    lr: Float[Tensor, "b 3 h w"]
    query: Float[Tensor, "b c h w"]
    references: tuple[Reference, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Matched:
    """A picture, and where its texture lies.

    Attributes:
        lr: The picture.
        values: The texture of each reference; none where the picture is to be restored alone.
        matches: Candidates, each on the picture's whole grid.
        fields: The matches made smooth.
    """

    lr: Float[Tensor, "b 3 h w"]
    values: tuple[Values, ...] = ()
    matches: tuple[Match, ...] = ()
    fields: tuple[Match, ...] = ()

    def crop(self, rows: slice, columns: slice) -> "Matched":
        """The same for a part of the picture; references stay whole."""
        matches, fields = (tuple(match.crop(rows, columns) for match in found) for found in (self.matches, self.fields))
        return Matched(lr=self.lr[..., rows, columns], values=self.values, matches=matches, fields=fields)


def encode(model: RefSRModel, lr: Float[Tensor, "b 3 h w"], refs: Iterable[Float[Tensor, "b 3 _ _"]] = ()) -> Encoded:
    """Encode a picture and its references.

    Args:
        model: On the picture's device.
        lr: The picture.
        refs: References, of any sizes; large ones from a generator, which lets each go as soon as it is encoded.
    """
    references = tuple(encode_reference(model, ref.to(lr)) for ref in refs)  # first, while least is held beside them
    return Encoded(lr=lr, query=model.encode_query(lr), references=references)


def encode_reference(model: RefSRModel, ref: Float[Tensor, "b 3 _ _"]) -> Reference:
    """Encode a reference, padded to whole cells.

    Args:
        model: On the reference's device.
        ref: Of any size.
    """
    return model.encode_reference(pad_to_multiple(ref, model.cell_px))


def match(
    model: RefSRModel,
    encoded: Encoded,
    *,
    engine: Engine = "auto",
    memory_bytes: int = DEFAULT_SEARCH_BYTES,
    progress: Progress = silent,
) -> Matched:
    """Find where in the references each cell's texture lies; without references, nothing is looked for.

    Args:
        model: That encoded.
        encoded: From `encode`.
        engine: See `refsr.search`.
        memory_bytes: Bound on the search's own working memory.
        progress: Told of the share that is done.

    Raises:
        MemoryBudgetError: The budget is too small for the least part of the search.
    """
    lr, references = encoded.lr, encoded.references
    if not references:
        return Matched(lr=lr)
    found = model.search(lr, encoded.query, references, engine=engine, memory_bytes=memory_bytes, progress=progress)
    return with_matches(model, lr, references, found)


def with_matches(
    model: RefSRModel, lr: Float[Tensor, "b 3 h w"], references: Sequence[Reference], matches: Sequence[Match]
) -> Matched:
    """A picture with matches that are known.

    Args:
        model: That encoded.
        lr: The picture.
        references: Encoded; their keys are not kept.
        matches: In these references.
    """
    return Matched(
        lr=lr,
        values=tuple(reference.values for reference in references),
        matches=tuple(matches),
        fields=tuple(model.smooth(each) for each in matches),
    )


def transfer(
    model: RefSRModel, matched: Matched, fields: Iterable[Aligned] | None = None
) -> Float[Tensor, "b 3 h2 w2"]:
    """Restore a picture with the texture that was found; nominally 0..1, not clamped.

    Args:
        model: That encoded.
        matched: From `match`; without matches, the picture is restored alone.
        fields: For each match the last of its fields, where they are known; else they are computed one by one.
    """
    found = _fields(model, matched) if fields is None else fields
    return model.transfer(matched.lr, matched.values, matched.matches, found)


def _fields(model: RefSRModel, matched: Matched) -> Iterable[Aligned]:
    for each, field in zip(matched.matches, matched.fields, strict=True):
        with torch.no_grad():
            last = model.fields(matched.lr, matched.values, each, field)[-1]
        yield last
