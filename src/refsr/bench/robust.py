"""How much of a reference's gain is left when the reference is turned, scaled, shifted, relit, blurred or another one.

The reference is the sample's most similar one; what is measured is the PSNR with the changed reference minus that
without any, by the protocol refsr.

Source: the question is that of Jiang et al., "Robust Reference-based Super-Resolution via C2-Matching", CVPR 2021,
section 4.3.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image, ImageFilter
from torch import Tensor

from refsr.bench.datasets import Dataset, Sample
from refsr.bench.measure import (
    choose_references,
    measure_each,
    open_journal,
    prepare_sample,
    spread,
)
from refsr.bench.metrics import psnr_db
from refsr.bench.results import rounded, software_versions, source_commit
from refsr.bench.statistics import Summary, summarise
from refsr.errors import RefSRError, UsageError
from refsr.io.photo import Photo
from refsr.io.progress import Progress, silent
from refsr.io.records import read_record, write_record
from refsr.models import RefSRModel
from refsr.references.variants import VariantConfig, make_variants
from refsr.restore.upscale import upscale

Picture = Float[Tensor, "1 3 _ _"]


@dataclass(frozen=True, kw_only=True)
class Change:
    """A way to change a reference.

    Attributes:
        name: For tables and plots, with its unit.
        strengths: How strong, in that unit.
        unchanged: The strength that changes nothing; None where every strength does.
        apply: Picture and strength to the changed picture.
    """

    name: str
    strengths: tuple[float, ...]
    unchanged: float | None
    apply: Callable[[Picture, float], Picture]


def _rotated(picture: Picture, degrees: float) -> Picture:
    return make_variants(picture, 0, VariantConfig(degrees=(degrees,)))[-1].image


def _scaled(picture: Picture, factor: float) -> Picture:
    return make_variants(picture, 0, VariantConfig(scales=(factor,)))[-1].image


def _shifted(picture: Picture, px: float) -> Picture:
    """To the right and down by so many pixels each; what comes in is mirrored."""
    step = int(px)
    height, width = picture.shape[-2:]
    step = min(step, height - 1, width - 1)
    return F.pad(picture, (step, 0, step, 0), mode="reflect")[..., :height, :width]


def _exposed(picture: Picture, stops: float) -> Picture:
    """Light times 2^stops, at a gamma of 2.2."""
    return (picture * 2 ** (stops / 2.2)).clamp(0, 1)


def _tinted(picture: Picture, stops: float) -> Picture:
    """Red more and blue less light by so many stops each: warm above zero, cold below."""
    gain = picture.new_tensor((2 ** (stops / 2.2), 1, 2 ** (-stops / 2.2))).view(1, 3, 1, 1)
    return (picture * gain).clamp(0, 1)


def _blurred(picture: Picture, sigma_px: float) -> Picture:
    return _from_pil(_to_pil(picture).filter(ImageFilter.GaussianBlur(sigma_px)))


def _compressed(picture: Picture, quality: float) -> Picture:
    buffer = io.BytesIO()
    _to_pil(picture).save(buffer, "JPEG", quality=int(quality))
    return _from_pil(Image.open(buffer))


def _to_pil(picture: Picture) -> Image.Image:
    return Photo(pixels=picture).to_pil()


def _from_pil(image: Image.Image) -> Picture:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255


CHANGES: Final = (
    Change(
        name="rotation (degrees)",
        strengths=(10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 135.0, 180.0),
        unchanged=0.0,
        apply=_rotated,
    ),
    Change(name="scale (factor)", strengths=(0.5, 0.67, 0.8, 1.25, 1.5, 2.0), unchanged=1.0, apply=_scaled),
    Change(name="shift (pixels)", strengths=(10.0, 20.0, 40.0, 80.0), unchanged=0.0, apply=_shifted),
    Change(name="light (stops)", strengths=(-1.0, -0.5, 0.5, 1.0), unchanged=0.0, apply=_exposed),
    Change(name="colour (stops warmer)", strengths=(-0.5, -0.25, 0.25, 0.5), unchanged=0.0, apply=_tinted),
    Change(name="blur (sigma, pixels)", strengths=(0.5, 1.0, 2.0, 4.0), unchanged=0.0, apply=_blurred),
    Change(name="JPEG (quality)", strengths=(90.0, 70.0, 50.0, 30.0, 10.0), unchanged=None, apply=_compressed),
)
UNCHANGED: Final = "unchanged"
UNRELATED: Final = "unrelated"


@dataclass(frozen=True, kw_only=True)
class ChangedGains:
    """Gains in dB under one change of the reference.

    Attributes:
        change: Name of the change, or "unchanged" or "unrelated".
        strength: In the unit of the change.
        images: By picture.
    """

    change: str
    strength: float
    images: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class RobustResult:
    """Gains of each picture under each change.

    Attributes:
        model: Name of the zoo, or of the weights file.
        dataset: Its name.
        changes: Of all changes and strengths, the unchanged and the unrelated reference first.
        skipped: Pictures that could not be measured, and why.
        versions: Of what computed it.
        commit: Of the source code.
    """

    model: str
    dataset: str
    changes: tuple[ChangedGains, ...]
    skipped: dict[str, str]
    versions: dict[str, str]
    commit: str | None

    @property
    def gains_db(self) -> dict[tuple[str, float], dict[str, float]]:
        """By change and strength ("rotation (degrees)", 30), then by picture."""
        return {(row.change, row.strength): row.images for row in self.changes}

    def summary(self, change: str, strength: float = 0.0) -> Summary:
        """The gains under one change in brief."""
        return summarise(list(self.gains_db[change, float(strength)].values()))

    def kept(self, change: str, strength: float) -> float:
        """The share of the unchanged reference's mean gain that is left."""
        return self.summary(change, strength).mean / self.summary(UNCHANGED).mean

    def unrelated_loss(self) -> tuple[float, float, str]:
        """Mean loss and worst loss in dB against no reference, and the picture that it is."""
        gains = self.gains_db[UNRELATED, 0.0]
        worst = min(gains, key=lambda name: gains[name])
        return -self.summary(UNRELATED).mean, -gains[worst], worst

    def save(self, path: Path) -> None:
        """Write as JSON, with a summary of each change.

        Raises:
            OutputError: It cannot be written.
        """
        mean, worst, name = self.unrelated_loss()
        rows = [asdict(row) | asdict(self.summary(row.change, row.strength)) for row in self.changes]
        unrelated = {"mean_loss_db": mean, "worst_loss_db": worst, "worst": name}
        write_record(path, "robust", rounded({**asdict(self), "changes": rows, "unrelated": unrelated}))


def load_robust(path: Path) -> RobustResult:
    """Read what `RobustResult.save` wrote.

    Raises:
        UsageError: The file is missing, or not such a file.
    """
    return read_record(path, {"robust": RobustResult})


def run_robust(
    dataset: Dataset,
    model: RefSRModel,
    name: str,
    *,
    limit: int = 0,
    out: Path | None = None,
    changes: Sequence[Change] = CHANGES,
    progress: Progress = silent,
) -> RobustResult:
    """Measure every change on every picture that has a reference.

    Args:
        dataset: From `open_dataset`.
        model: From `load_model`.
        name: What the result calls the model.
        limit: Measure this many samples only, spread evenly; 0 for all.
        out: JSON file to write. A killed run is taken up again where it stopped, from a journal beside it.
        changes: Which.
        progress: Told of each finished picture.

    Raises:
        UsageError: No sample could be measured.
        OutputError: The file cannot be written, or a journal of another run is in its place.
    """
    samples = spread(dataset.samples, limit)
    versions = software_versions() | {"weights": model.digest()}
    asked = {change.name: list(change.strengths) for change in changes}
    settings = {"model": name, "weights": versions["weights"], "dataset": dataset.name, "changes": asked}
    journal = open_journal(out, settings, samples)
    parts = measure_each(samples, lambda sample: _measure(sample, dataset, model, changes), journal, progress)
    gains: dict[tuple[str, float], dict[str, float]] = {}
    skipped = {part["name"]: part["reason"] for part in parts if "reason" in part}
    for part in parts:
        for row in part.get("gains", ()):
            gains.setdefault((row["change"], float(row["strength"])), {})[part["name"]] = row["gain_db"]
    if not gains:
        first = next(iter(skipped.items()))
        raise UsageError(f"no picture of {dataset.name} could be measured; the first: {first[0]}: {first[1]}")
    rows = tuple(ChangedGains(change=c, strength=s, images=images) for (c, s), images in gains.items())
    result = RobustResult(
        model=name, dataset=dataset.name, changes=rows, skipped=skipped, versions=versions, commit=source_commit()
    )
    if out is not None and journal is not None:
        result.save(out)
        journal.close()
    return result


def _measure(sample: Sample, dataset: Dataset, model: RefSRModel, changes: Sequence[Change]) -> dict[str, Any]:
    try:
        prepared = prepare_sample(sample, choose_references(sample, dataset, "1"), "1", "refsr", model.scale)
        wrong = prepare_sample(sample, choose_references(sample, dataset, "wrong"), "wrong", "refsr", model.scale)

        def quality(*references: Picture) -> float:
            photos = [Photo(pixels=reference) for reference in references]
            restored = upscale(Photo(pixels=prepared.lr), photos, model=model, precision="fp32", provenance=False)
            return psnr_db(restored.photo.pixels, prepared.truth).item()

        reference = prepared.references[0]
        alone = quality()
        pictures = [(UNCHANGED, 0.0, reference), (UNRELATED, 0.0, wrong.references[0])]
        gains = [
            {"change": change, "strength": strength, "gain_db": quality(picture) - alone}
            for change, strength, picture in (
                *pictures,
                *((c.name, float(s), c.apply(reference, s)) for c in changes for s in c.strengths),
            )
        ]
    except RefSRError as error:
        return {"name": sample.name, "reason": str(error)}
    return {"name": sample.name, "gains": gains}
