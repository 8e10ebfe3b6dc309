"""Gain that is left when the reference is rotated, scaled, shifted, relit, blurred, compressed or an unrelated one.

The reference is the sample's most similar one. The gain is the PSNR with the changed reference minus the PSNR without
references, by the protocol refsr.

Source: experiment of Jiang et al., "Robust Reference-based Super-Resolution via C2-Matching", CVPR 2021, section 4.3.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Final

import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image, ImageFilter
from torch import Tensor

from refsr.bench.datasets import Dataset, Sample
from refsr.bench.measure import BenchConfig
from refsr.bench.metrics import psnr_db
from refsr.bench.results import Summary, rounded, software_versions, source_commit, summarise
from refsr.bench.samples import choose_references, measure_each, prepare_sample, spread
from refsr.io.photo import Photo, as_photo
from refsr.io.progress import Progress, silent
from refsr.io.records import Journal, write_record
from refsr.models import RefSRModel
from refsr.references.variants import VariantConfig, make_variants

Picture = Float[Tensor, "1 3 _ _"]


@dataclass(frozen=True, kw_only=True)
class Change:
    """Change of a reference, at several strengths.

    Attributes:
        name: Name with the unit of the strengths.
        unchanged: Strength that changes nothing; None where every strength changes the picture.
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
    """Shift to the right and down by `px` each; the margin is a mirror image."""
    height, width = picture.shape[-2:]
    step = min(int(px), height - 1, width - 1)
    return F.pad(picture, (step, 0, step, 0), mode="reflect")[..., :height, :width]


def _exposed(picture: Picture, stops: float) -> Picture:
    """Light times 2^stops, at a gamma of 2.2."""
    return (picture * 2 ** (stops / 2.2)).clamp(0, 1)


def _tinted(picture: Picture, stops: float) -> Picture:
    """Red light times 2^stops and blue light divided by it: warm above zero, cold below."""
    gain = picture.new_tensor((2 ** (stops / 2.2), 1, 2 ** (-stops / 2.2))).view(1, 3, 1, 1)
    return (picture * gain).clamp(0, 1)


def _blurred(picture: Picture, sigma_px: float) -> Picture:
    return as_photo(Photo(pixels=picture).to_pil().filter(ImageFilter.GaussianBlur(sigma_px))).pixels


def _compressed(picture: Picture, quality: float) -> Picture:
    buffer = io.BytesIO()
    Photo(pixels=picture).to_pil().save(buffer, "JPEG", quality=int(quality))
    return as_photo(Image.open(buffer)).pixels


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
_CONFIG: Final = BenchConfig()
UNCHANGED: Final = "unchanged"
UNRELATED: Final = "unrelated"


@dataclass(frozen=True, kw_only=True)
class ChangedGains:
    """Gains under one change of the reference.

    Attributes:
        change: Name of the change, or "unchanged" or "unrelated".
        images: Gain in dB by name of picture.
    """

    change: str
    strength: float
    images: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class RobustResult:
    """Gains of each picture under each change.

    Attributes:
        changes: Gains of every change and strength, the unchanged and the unrelated reference first.
        skipped: Reason for each picture that could not be measured.
    """

    model: str
    dataset: str
    changes: tuple[ChangedGains, ...]
    skipped: dict[str, str]
    versions: dict[str, str]
    commit: str | None

    @property
    def gains_db(self) -> dict[tuple[str, float], dict[str, float]]:
        """Gains by change and strength ("rotation (degrees)", 30), then by picture."""
        return {(row.change, row.strength): row.images for row in self.changes}

    def summary(self, change: str, strength: float = 0.0) -> Summary:
        """Summary of the gains in dB under one change."""
        return summarise(list(self.gains_db[change, float(strength)].values()))

    def kept_share(self, change: str, strength: float) -> float:
        """Mean gain under a change, as a share of the unchanged reference's mean gain."""
        return self.summary(change, strength).mean / self.summary(UNCHANGED).mean

    def unrelated_loss(self) -> tuple[float, float, str]:
        """Mean and worst loss in dB by an unrelated reference, and the picture of the worst."""
        gains = self.gains_db[UNRELATED, 0.0]
        worst = min(gains, key=lambda name: gains[name])
        return -self.summary(UNRELATED).mean, -gains[worst], worst

    def record(self) -> dict[str, Any]:
        """Content of the JSON file, with a summary of each change."""
        mean, worst, name = self.unrelated_loss()
        rows = [asdict(row) | asdict(self.summary(row.change, row.strength)) for row in self.changes]
        unrelated = {"mean_loss_db": mean, "worst_loss_db": worst, "worst": name}
        found: dict[str, Any] = rounded({**asdict(self), "changes": rows, "unrelated": unrelated})
        return found


def run_robust(
    dataset: Dataset,
    model: RefSRModel,
    name: str,
    config: BenchConfig = _CONFIG,
    *,
    limit: int = 0,
    out: Path | None = None,
    changes: Sequence[Change] = CHANGES,
    progress: Progress = silent,
) -> RobustResult:
    """Measure every change on every sample that has a reference.

    Args:
        config: Memory, search and precision.
        limit: Maximum count of samples, evenly spread over the data set; 0 for all.
        out: JSON file to write. A killed run resumes from the journal beside it.

    Raises:
        UsageError: The limit is negative, or no sample could be measured.
        OutputError: The file cannot be written, or a journal of another run is in its place.
    """
    samples = spread(dataset.samples, limit)
    versions = software_versions() | {"weights": model.digest()}
    asked = {change.name: list(change.strengths) for change in changes}
    settings = {"model": name, "weights": versions["weights"], "dataset": dataset.name, "changes": asked}
    settings |= {"search": config.engine, "precision": config.precision}
    journal = Journal(out, settings | {"samples": [sample.name for sample in samples]})
    measure = partial(_measure, dataset=dataset, model=model, config=config, changes=changes)
    measured, skipped = measure_each(dataset.name, samples, measure, journal, progress)
    gains: dict[tuple[str, float], dict[str, float]] = {}
    for part in measured:
        for row in part["gains"]:
            gains.setdefault((row["change"], float(row["strength"])), {})[part["name"]] = row["gain_db"]
    result = RobustResult(
        model=name,
        dataset=dataset.name,
        changes=tuple(ChangedGains(change=c, strength=s, images=images) for (c, s), images in gains.items()),
        skipped={one.name: one.reason for one in skipped},
        versions=versions,
        commit=source_commit(),
    )
    if out is not None:
        write_record(out, "robust", result.record())
    journal.close()
    return result


def _measure(
    sample: Sample, dataset: Dataset, model: RefSRModel, config: BenchConfig, changes: Sequence[Change]
) -> dict[str, Any]:
    """Gains of one sample under every change."""
    own, wrong = (choose_references(sample, dataset, mode)[0] for mode in ("1", "wrong"))
    prepared = prepare_sample(sample, (own, wrong), "refsr", model.scale)
    reference, unrelated = prepared.references

    def quality(*references: Picture) -> float:
        refs = [Photo(pixels=each) for each in references]
        restored = config.upscale(Photo(pixels=prepared.lr), refs, model)
        return psnr_db(restored.photo.pixels, prepared.truth).item()

    without = quality()
    changed = ((c.name, float(s), c.apply(reference, s)) for c in changes for s in c.strengths)
    pictures = chain([(UNCHANGED, 0.0, reference), (UNRELATED, 0.0, unrelated)], changed)
    gains = [{"change": name, "strength": s, "gain_db": quality(picture) - without} for name, s, picture in pictures]
    return {"name": sample.name, "gains": gains}
