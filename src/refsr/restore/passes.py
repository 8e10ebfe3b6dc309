"""Passes of the network over a whole picture, within a memory budget.

    references ── encode ──────────┐
    lr ── parts: encode ── match ──┴── transfer in tiles, reduced ──> sr, and the origin of each cell's detail
The search sees whole references; a picture that is too large for the budget is matched in parts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from refsr.device import Precision, autocast
from refsr.errors import MemoryBudgetError
from refsr.io.progress import Progress, part_of, silent, stage_of
from refsr.models import RefSRModel
from refsr.models.base import Reference
from refsr.references.variants import Origin, Variant
from refsr.resize import resize
from refsr.restore.memory import plan_memory, spare_bytes, too_little
from refsr.restore.pipeline import Encoded, Matched, encode_reference, match
from refsr.restore.posed import PosedReference
from refsr.restore.provenance import Provenance
from refsr.restore.size import Pass
from refsr.restore.tiles import Gentle, Part, parts_of, size_of, transfer_tiled
from refsr.search import Engine, strongest


@dataclass(frozen=True, kw_only=True)
class PassConfig:
    """How the work of `refsr.restore.upscale.upscale` is done; see there."""

    engine: Engine = "auto"
    precision: Precision = "auto"
    memory_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Restored:
    """A restored picture, 0..1, and the origin of its detail."""

    sr: Float[Tensor, "1 3 h w"]
    provenance: Provenance


def run_passes(
    model: RefSRModel,
    photo: Float[Tensor, "1 3 h w"],
    steps: Sequence[Pass],
    references: Sequence[PosedReference],
    softness: int | float,
    config: PassConfig,
    *,
    names: tuple[str, ...],
    gentle: Gentle | None = None,
    measure: bool = True,
    progress: Progress = silent,
) -> Restored:
    """Restore a photo in as many passes as its size asks for; without any, it is returned.

    Args:
        model: The model.
        photo: The photo.
        steps: From `refsr.restore.size.passes`.
        references: References of the photo. Those that are no sharper are marked, and all are let go at last.
        softness: Factor by which the photo can be shrunk without loss.
        config: Engine, precision and memory.
        names: Names of all references, for the map.
        gentle: What restores delicate places of the photo.
        measure: See `refsr.restore.tiles.transfer_tiled`.
        progress: Told the finished share of the stages "matching" and "restoring".

    Raises:
        MemoryBudgetError: The work does not fit the budget.
    """
    sr, provenance = photo, None
    fitting = [ref for ref in references if not ref.left_out]
    for index, step in enumerate(steps):
        zoom = step.lr_px[0] / photo.shape[-2]
        variants = []
        for ref in fitting:
            if ref.is_sharper(model, zoom, max(1.0, softness * zoom)):
                variants += ref.variants(zoom, keep=step is not steps[-1])
            elif index == 0:
                ref.left_out = ref.why_no_sharper(photo)
        found = _run_pass(
            model,
            resize(sr, step.lr_px).to(model.device),
            step.out_px,
            variants,
            config,
            names=names,
            gentle=None if gentle is None else gentle.resized(step.lr_px),
            measure=measure,
            progress=part_of(progress, index, len(steps)),
        )
        sr, provenance = found.sr, found.provenance if provenance is None else found.provenance.over(provenance)
    return Restored(sr=sr, provenance=provenance or Provenance.guessed(photo.shape[-2:], names))


def _run_pass(
    model: RefSRModel,
    lr: Float[Tensor, "1 3 h w"],
    out_px: tuple[int, int],
    variants: list[Variant],
    config: PassConfig,
    *,
    names: tuple[str, ...],
    gentle: Gentle | None,
    measure: bool,
    progress: Progress,
) -> Restored:
    """Restore a picture at a size; the variants are removed from their list as they are encoded."""
    memory_bytes = config.memory_bytes or spare_bytes()
    origins = [variant.origin for variant in variants]
    height, width = lr.shape[-2:]
    factors = (out_px[0] / height, out_px[1] / width)
    refs_px = [variant.image.shape[-2:] for variant in variants]
    plan = plan_memory(model, (height, width), refs_px, memory_bytes, out_px)
    references = [encode_reference(model, image.to(lr)) for image in _let_go(variants)]  # while least is held beside
    parts = parts_of((height, width), plan.part)
    whole = None
    if len(parts) > 1:
        guessed = Provenance.guessed((height, width), names, measured=measure)
        whole = Restored(sr=torch.empty(1, 3, *out_px), provenance=guessed)
    for index, part in enumerate(parts):
        tell = part_of(progress, index, len(parts))
        try:
            matched = match(
                model,
                _encoded(model, lr[..., *part.seen], references, keep=part is not parts[-1]),
                engine=config.engine,
                memory_bytes=plan.search_bytes,
                progress=stage_of(tell, "matching"),
            )
        except MemoryBudgetError as error:
            if error.minimum_search_bytes is None:
                raise
            needed = memory_bytes - plan.search_bytes + error.minimum_search_bytes
            raise too_little((height, width), len(origins), needed, memory_bytes) from error
        with autocast(model.device, config.precision):
            sr, used = transfer_tiled(
                model,
                matched,
                plan.tile,
                part=part,
                factors=factors,
                gentle=gentle,
                measure=measure,
                progress=stage_of(tell, "restoring"),
            )
        restored = Restored(sr=sr, provenance=_provenance(model, matched, part, used, origins, names))
        if whole is None:
            return restored
        whole.sr[..., *part.enlarged(factors)] = sr
        whole.provenance.put(part.inside, restored.provenance)
    assert whole is not None
    return whole


def _let_go(variants: list[Variant]) -> Iterator[Float[Tensor, "1 3 _ _"]]:
    """Images one by one, each removed from the list."""
    while variants:
        yield variants.pop(0).image


def _encoded(model: RefSRModel, lr: Float[Tensor, "1 3 h w"], references: list[Reference], *, keep: bool) -> Encoded:
    """A part and all references; these are let go with the last part, once their keys are matched."""
    encoded = Encoded(lr=lr, query=model.encode_query(lr), references=tuple(references))
    if not keep:
        references.clear()
    return encoded


def _provenance(
    model: RefSRModel,
    matched: Matched,
    part: Part,
    used_levels: Float[Tensor, "h w"] | None,
    origins: Sequence[Origin],
    names: tuple[str, ...],
) -> Provenance:
    if not matched.matches:
        return Provenance.guessed(size_of(part.inside), names, measured=used_levels is not None)
    best = strongest(matched.matches).crop(*part.inside_seen)
    copy = best.reference[0].cpu()
    centre_px = (best.position_cells[0].cpu() + 0.5) * model.cell_px - 0.5
    maps = torch.stack([origin.to_reference for origin in origins])[copy]
    position = torch.einsum("hwij,jhw->ihw", maps[..., :2], centre_px) + maps[..., 2].permute(2, 0, 1)
    return Provenance(
        reference=torch.tensor([origin.reference for origin in origins])[copy],
        position_px=position,
        score=best.score[0, 0].cpu(),
        used_levels=used_levels,
        names=names,
    )
