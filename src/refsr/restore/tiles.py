"""Transfer in tiles.

picture ── parts, matched at once ── tiles, restored at once ──> sr, reduced tile by tile
"""

import ctypes
import sys
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from refsr.io.progress import Progress, silent
from refsr.models import RefSRModel
from refsr.resize import resize, resize_box
from refsr.restore.pipeline import Matched, transfer

PART_HALO_CELLS: Final = 88
"""Cells around a part that are matched with it, so that its fields are those of the whole picture."""

REDUCING_HALO_CELLS: Final = 4
"""Cells around a tile that its reduction sees: bicubic reduction to a quarter reaches over two."""


Spans = tuple[slice, slice]
"""Rows and columns."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A rectangle of a picture that is matched at once, without and with the cells around it that are matched too."""

    inside: Spans
    seen: Spans

    @property
    def inside_seen(self) -> Spans:
        """The inside, counted from the corner of what is seen."""
        return _shifted(self.inside, self.seen)

    def enlarged(self, factors: tuple[int | float, int | float]) -> Spans:
        """Its rectangle in a result that is larger by these factors."""
        return _enlarged(self.inside, factors)


@dataclass(frozen=True, kw_only=True)
class Gentle:
    """A model of the same config for the delicate places of a picture.

    Attributes:
        model: The model.
        mask: Its share at each pixel of the picture, 0..1.
    """

    model: RefSRModel
    mask: Float[Tensor, "1 1 h w"]

    def resized(self, size_px: tuple[int, int]) -> "Gentle":
        """The same for the picture at another size."""
        return replace(self, mask=resize(self.mask, size_px))

    def restored(self, piece: Matched, spans: Spans, crisp: Float[Tensor, "1 3 h2 w2"]) -> Float[Tensor, "1 3 h2 w2"]:
        """A piece of the picture at these spans, gentle where it is delicate."""
        mask = self.mask[..., *spans].to(crisp)
        if not mask.any():
            return crisp
        share = F.interpolate(mask, size=crisp.shape[-2:], mode="bilinear")
        return crisp.lerp(transfer(self.model, piece), share)


def parts_of(size: tuple[int, int], side: int) -> list[Part]:
    """A picture in parts, no side of which is longer than `side`."""
    whole = (slice(0, size[0]), slice(0, size[1]))
    return [Part(inside=inside, seen=_widened(inside, PART_HALO_CELLS, whole)) for inside in _tiles(whole, side)]


def transfer_tiled(
    model: RefSRModel,
    matched: Matched,
    tile: int,
    *,
    part: Part | None = None,
    factors: tuple[int | float, int | float] | None = None,
    gentle: Gentle | None = None,
    measure: bool = False,
    progress: Progress = silent,
) -> tuple[Float[Tensor, "1 3 h2 w2"], Float[Tensor, "h w"] | None]:
    """Restore a picture, or a part of it, in tiles, each computed with a halo around it.

    Args:
        model: Model of `match`.
        matched: From `match`, of the rows that the part sees.
        tile: Maximum side of a tile in cells, without its halo.
        part: Part of the picture; by default all of it.
        factors: Height and width of the whole result, divided by those of the whole picture; at most the model's
            scale, which is the default. The network's result is reduced to it.
        gentle: What restores delicate places.
        measure: Restore each tile a second time without references, to compare.
        progress: Told the finished share.

    Returns:
        The result, 0..1; and if measured, the RMS change in grey levels that the references made to each cell.
    """
    whole = (slice(0, matched.lr.shape[-2]), slice(0, matched.lr.shape[-1]))
    part = part or Part(inside=whole, seen=whole)
    scale = model.scale
    factors = factors or (scale, scale)
    is_reduced = factors != (scale, scale)
    halo = model.halo_cells + is_reduced * REDUCING_HALO_CELLS
    result = part.enlarged(factors)
    sr = torch.empty(1, 3, *size_of(result))
    used = torch.zeros(size_of(part.inside)) if measure else None
    tiles = _tiles(part.inside, tile)

    def restore(piece: Matched, seen: Spans) -> Tensor:
        crisp = transfer(model, piece)
        return crisp if gentle is None else gentle.restored(piece, seen, crisp)

    for done, inside in enumerate(tiles, 1):
        seen = _widened(inside, halo, part.seen)
        piece = matched.crop(*_shifted(seen, part.seen))
        restored = restore(piece, seen).clamp(0, 1)
        kept = (..., *_enlarged(_shifted(inside, seen), (scale, scale)))
        out = _enlarged(inside, factors)
        sr[..., *_shifted(out, result)] = (
            _reduced(restored, out, seen, factors, scale) if is_reduced else restored[kept].cpu()
        )
        if used is not None and matched.matches:
            alone = restore(Matched(lr=piece.lr), seen).clamp(0, 1)
            change = (restored[kept] - alone[kept]).square().mean(1, keepdim=True)
            used[_shifted(inside, part.inside)] = (F.avg_pool2d(change, scale).sqrt() * 255)[0, 0].cpu()
        _return_freed_memory()
        progress(done / len(tiles))
    return sr, used


def _return_freed_memory() -> None:
    """Give what is freed back to the system: glibc keeps it, in holes that the next tile does not fit exactly."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
        if trim is not None:
            trim(0)


def _reduced(
    restored: Float[Tensor, "1 3 h w"], out: Spans, seen: Spans, factors: tuple[int | float, int | float], scale: int
) -> Float[Tensor, "1 3 h2 w2"]:
    """The pixels `out` of the result, from what the network made of the cells that were seen."""
    (top, bottom), (left, right) = (
        [(edge / factor - origin.start) * scale for edge in (span.start, span.stop)]
        for span, factor, origin in zip(out, factors, seen, strict=True)
    )
    return resize_box(restored, size_of(out), (top, left, bottom, right))


def _tiles(whole: Spans, side: int) -> list[Spans]:
    """Tiles of nearly equal size, no side of which is longer than `side`."""
    return [(rows, columns) for rows in _cut(whole[0], side) for columns in _cut(whole[1], side)]


def _cut(span: slice, longest: int) -> list[slice]:
    length = span.stop - span.start
    count = ceil(length / longest)
    edges = [span.start + round(index * length / count) for index in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def size_of(spans: Spans) -> tuple[int, int]:
    """Height and width of a rectangle."""
    return spans[0].stop - spans[0].start, spans[1].stop - spans[1].start


def _widened(spans: Spans, halo: int, limits: Spans) -> Spans:
    rows, columns = (
        slice(max(limit.start, span.start - halo), min(limit.stop, span.stop + halo))
        for span, limit in zip(spans, limits, strict=True)
    )
    return rows, columns


def _shifted(spans: Spans, origin: Spans) -> Spans:
    """Spans counted from the corner of other ones."""
    rows, columns = (
        slice(span.start - first.start, span.stop - first.start) for span, first in zip(spans, origin, strict=True)
    )
    return rows, columns


def _enlarged(spans: Spans, factors: tuple[int | float, int | float]) -> Spans:
    rows, columns = (
        slice(round(span.start * factor), round(span.stop * factor))
        for span, factor in zip(spans, factors, strict=True)
    )
    return rows, columns
