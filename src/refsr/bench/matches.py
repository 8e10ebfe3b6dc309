"""Where matches land, and what better ones would bring.

truth, reference ── local features, dense flow ──> true position of each cell, where it is verified ──┐
lr, reference ── posed, encoded ── match ── settle, align ──> match and field ── shares within 0.1 .. 2 cells
                                                              field ── transfer ──> gain over no reference
                                                   field, corrected ── transfer ──> headroom above this gain

The reference is the sample's most similar one; the LR image is made by the protocol refsr.
"""

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from refsr.bench.datasets import Dataset, Sample
from refsr.bench.match_figures import WITHIN_CELLS, ImageMatches, MatchesResult
from refsr.bench.metrics import psnr_db
from refsr.bench.protocol import Prepared
from refsr.bench.results import software_versions, source_commit
from refsr.bench.samples import choose_references, measure_each, prepare_sample, spread
from refsr.data.features import detect
from refsr.data.truth import dense_positions, resized_nodes
from refsr.errors import UsageError
from refsr.extras import import_extra
from refsr.io.photo import Photo, read_preview
from refsr.io.progress import Progress, silent
from refsr.io.records import Journal, parse_record, write_record
from refsr.models import RefSRModel
from refsr.models.alignment import Aligned
from refsr.references.variants import Origin
from refsr.restore.pipeline import Matched, encode, transfer, with_matches
from refsr.restore.posed import posed_references
from refsr.restore.sharpness import shrinkable

_LARGEST_PX: Final = 2**16  # photos are not reduced to find their correspondences

Cells = Float[Tensor, "2 h w"]
"""(y, x) of each cell of the LR image in a reference, NaN where it is not known."""


def run_matches(
    dataset: Dataset,
    model: RefSRModel,
    name: str,
    *,
    limit: int = 0,
    out: Path | None = None,
    progress: Progress = silent,
) -> MatchesResult:
    """Measure the matches of every sample that has a reference.

    Args:
        limit: Maximum count of samples, evenly spread over the data set; 0 for all.
        out: JSON file to write. A killed run resumes from the journal beside it.

    Raises:
        UsageError: The model uses no references, the limit is negative, or no sample could be measured.
        MissingExtraError: OpenCV is not installed.
        OutputError: The file cannot be written, or a journal of another run is in its place.
    """
    if not model.uses_references:
        raise UsageError(f"{name}: uses no references, so it has no matches: measure another model")
    cv2 = import_extra("cv2", "the truth of matches")
    samples = spread(dataset.samples, limit)
    versions = software_versions() | {"weights": model.digest(), "opencv": str(cv2.__version__)}
    settings = {"model": name, "weights": versions["weights"], "dataset": dataset.name}
    journal = Journal(out, settings | {"matches": WITHIN_CELLS, "samples": [sample.name for sample in samples]})
    measure = partial(_measure, dataset=dataset, model=model)
    measured, skipped = measure_each(dataset.name, samples, measure, journal, progress)
    result = MatchesResult(
        model=name,
        dataset=dataset.name,
        images=tuple(parse_record(part, ImageMatches) for part in measured),
        skipped=skipped,
        versions=versions,
        commit=source_commit(),
    )
    if out is not None:
        write_record(out, "matches", result.record())
    journal.close()
    return result


def _measure(sample: Sample, dataset: Dataset, model: RefSRModel) -> dict[str, Any]:
    """`ImageMatches` of a sample, as a dict."""
    (chosen,) = choose_references(sample, dataset, "1")
    prepared = prepare_sample(sample, (chosen,), "refsr", model.scale)
    size = (prepared.lr.shape[-2], prepared.lr.shape[-1])
    true_px = true_positions(sample.truth, chosen.path, size, model.scale)
    verified = true_px[0].isfinite().float().mean().item()
    found = ImageMatches(name=sample.name, reference=chosen.path.name, verified=verified)
    with torch.inference_mode():
        return asdict(_match(found, prepared, true_px.to(model.device), model))


def _match(found: ImageMatches, prepared: Prepared, true_px: Cells, model: RefSRModel) -> ImageMatches:
    """The same picture with all figures; the reference is posed, and refused, as `refsr.restore.upscale` does it."""
    lr = prepared.lr.to(model.device)
    (posed,) = posed_references(model, lr, [Photo(pixels=ref) for ref in prepared.references], [None], None)
    refused = posed.left_out
    if not refused and not posed.is_sharper(model, 1, shrinkable(lr)):
        refused = posed.why_no_sharper(lr)
    if refused:
        none = (0.0,) * len(WITHIN_CELLS) if found.verified else None
        return replace(found, match_within=none, field_within=none, refused=refused)
    (variant,) = posed.variants(1, keep=False)
    encoded = encode(model, lr, [variant.image])
    (searched,) = model.search(lr, encoded.query, encoded.references)
    matched = with_matches(model, encoded, [searched])
    (mended,), (smooth,) = matched.matches, matched.fields
    field = model.fields(lr, matched.values, mended, smooth)[-1]
    true_cells = cells_of(true_px, variant.origin, model.cell_px)

    def quality(matched: Matched, *fields: Aligned) -> float:
        sr = prepared.inside(transfer(model, matched, fields).clamp(0, 1).cpu())
        return psnr_db(sr, prepared.truth).item()

    with_reference = quality(matched, field)
    return replace(
        found,
        match_within=shares_within(searched.position_cells[0], true_cells),
        field_within=shares_within(field.field.position_cells[0], true_cells),
        gain_db=with_reference - quality(Matched(lr=lr)),
        headroom_db=quality(matched, corrected(field, true_cells)) - with_reference,
    )


def true_positions(truth: Path, reference: Path, size: tuple[int, int], scale: int) -> Cells:
    """Where the middle of each LR pixel lies in the reference, in its pixels.

    Args:
        truth: File of the truth.
        reference: File of the reference.
        size: Height and width of the LR image, that of the truth divided by `scale` and rounded down.
        scale: Truth pixels per LR pixel.

    Raises:
        ImageError: A picture cannot be read, or is flat.
    """
    files = (truth, reference)
    first, second = (np.asarray(read_preview(path, _LARGEST_PX).image.convert("L")) for path in files)
    positions = dense_positions(first, second, *(detect(path, _LARGEST_PX) for path in files))
    if positions is None:
        return torch.full((2, *size), torch.nan)
    inside = positions[:, : size[0] * scale, : size[1] * scale]
    return torch.from_numpy(resized_nodes(inside, size, second.shape, second.shape, step_px=1))


def cells_of(position_px: Cells, origin: Origin, cell_px: int) -> Cells:
    """Positions in a reference's pixels as cells of a copy of it."""
    to_reference = origin.to_reference.to(position_px)
    from_corner = position_px - to_reference[:, 2].view(2, 1, 1)
    copy_px = torch.einsum("ij,jhw->ihw", to_reference[:, :2].inverse(), from_corner)
    return (copy_px - (cell_px - 1) / 2) / cell_px


def shares_within(found: Cells, true: Cells) -> tuple[float, ...] | None:
    """Shares of the verified cells that are found within each of `WITHIN_CELLS`; None if none is verified."""
    distance = (found - true).norm(dim=0)
    distance = distance[distance.isfinite()]
    if not len(distance):
        return None
    return tuple((distance <= within).float().mean().item() for within in WITHIN_CELLS)


def corrected(aligned: Aligned, true: Cells) -> Aligned:
    """A field at the true positions where they are verified, with its doubt as it is."""
    position = torch.where(true.isfinite(), true, aligned.field.position_cells)
    return replace(aligned, field=replace(aligned.field, position_cells=position))
