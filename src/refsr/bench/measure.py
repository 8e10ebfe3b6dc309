"""Measure a model on a data set.

sample ── choose references, prepare ──> lr, refs, truth
lr, refs ── upscale ──> with ──┐
lr       ── upscale ──> without┴── PSNR, SSIM, LPIPS against truth ──> ImageResult ──> journal ──> Result
"""

import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from refsr.bench.crops import write_crops
from refsr.bench.datasets import Dataset, LevelledReference, Sample
from refsr.bench.lpips import LPIPS
from refsr.bench.metrics import colour_levels, psnr_db, ssim
from refsr.bench.protocol import PROTOCOLS, Prepared, ProtocolName
from refsr.bench.results import ImageResult, Result, software_versions, source_commit
from refsr.bench.samples import Album, choose_references, measure_each, prepare_sample, spread
from refsr.data.degraded import DegradationName
from refsr.device import Precision
from refsr.errors import UsageError
from refsr.io.files import make_folder
from refsr.io.photo import Photo, write_photo
from refsr.io.progress import Progress, silent
from refsr.io.records import Journal, parse_record, write_record
from refsr.models import Blend, RefSRModel
from refsr.references.choose import FoundReference
from refsr.references.variants import VariantConfig
from refsr.resize import upscale_bicubic
from refsr.restore.condition import check_quality
from refsr.restore.passes import PassConfig
from refsr.restore.upscale import AnyReference, Upscaled, upscale


@dataclass(frozen=True, kw_only=True)
class BenchConfig(PassConfig):
    """Settings of a benchmark run.

    Attributes:
        references: 1 (the most similar), all, level:1 to level:5, self (the LR image), none, wrong (another sample's),
            or album (found by content among the references of all samples); auto is 1 where there are references, else
            none. A model without references is always measured with none.
        protocol: Preparation and comparison as in the paper's own code: refsr, ttsr, masa or c2.
        degrade: Degradation of the LR images in place of clean reduction: mild, night, jpeg or motion.
        texture: Share of the crisp weights, 0..1, for the model auto.
        limit: Maximum count of pictures, evenly spread; 0 for all.
        precision: Precision of the network; fp32 makes figures of different machines comparable.
    """

    references: str = "auto"
    protocol: ProtocolName = "refsr"
    degrade: DegradationName = "none"
    texture: int | float = 0
    limit: int = 0
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|1|all|level:[1-5]|self|none|wrong|album", self.references):
            raise UsageError(
                f"--references {self.references!r} is unknown: use 1, all, level:1 to 5, self, none, wrong or album"
            )

    def upscale(self, image: Photo, refs: Sequence[AnyReference], model: RefSRModel | Blend) -> Upscaled:
        """`upscale` as it is measured; the picture itself as a reference is taken as it is, not told from the photo."""
        return upscale(
            image,
            refs,
            model=model,
            engine=self.engine,
            precision=self.precision,
            memory_bytes=self.memory_bytes,
            variants=VariantConfig() if self.references == "self" else None,
            texture=self.texture,
            provenance=False,
        )

    def mode(self, dataset: Dataset, blend: Blend) -> str:
        """`references` with "auto" resolved."""
        if not blend.clean.uses_references:
            return "none"
        if self.references == "auto":
            return "1" if dataset.has_references else "none"
        return self.references


def run_benchmark(
    dataset: Dataset,
    model: RefSRModel | Blend,
    name: str,
    config: BenchConfig,
    *,
    out: Path | None = None,
    crops: Path | None = None,
    write_lr: Path | None = None,
    lpips: LPIPS | None = None,
    progress: Progress = silent,
) -> Result:
    """Measure every sample; one that cannot be measured is skipped, with its reason.

    Args:
        out: JSON file to write. A killed run resumes from the journal beside it.
        crops: Folder for one strip of crops per picture.
        write_lr: Folder for the LR images, named like the truths, for other programs or --lr.

    Raises:
        UsageError: The limit is negative, the texture is not in 0..1 or not of a blend, or no sample could be measured.
        OutputError: The file cannot be written, or a journal of another run is in its place.
    """
    blend, samples = Blend.of(model), spread(dataset.samples, config.limit)
    check_quality(blend, "auto", None, config.texture)
    mode = config.mode(dataset, blend)
    described = asdict(PROTOCOLS[config.protocol]) | {
        "scale": blend.clean.scale,
        "references": mode,
        "texture": config.texture,
        "search": config.engine,
        "precision": config.precision,
        "lr": _lr_kind(samples, config.degrade),
        "lpips": None if lpips is None else lpips.name,
    }
    versions = software_versions() | {"weights": blend.digest(), "threads": str(torch.get_num_threads())}
    settings = {
        "model": name,
        "weights": versions["weights"],
        "dataset": dataset.name,
        "protocol": described,
        "crops": None if crops is None else str(crops),
        "samples": [sample.name for sample in samples],
    }
    journal = Journal(out, settings)
    for folder in (crops, write_lr):
        if folder is not None:
            make_folder(folder)
    # Keep one-time costs out of the first sample's time.
    small, large = (Photo(pixels=torch.full((1, 3, side, side), 0.5)) for side in (16, 64))
    upscale(small, [large], model=blend, provenance=False)
    run = _Run(
        dataset=dataset, blend=blend, mode=mode, config=config, out=out, crops=crops, write_lr=write_lr, lpips=lpips,
        album=Album(dataset, blend.clean) if mode == "album" else None,
    )  # fmt: skip
    measured, skipped = measure_each(dataset.name, samples, lambda sample: _measure(sample, run), journal, progress)
    images = tuple(parse_record(part, ImageResult) for part in measured)
    result = Result(
        model=name, dataset=dataset.name, protocol=described, images=images, skipped=skipped, versions=versions,
        commit=source_commit(),
    )  # fmt: skip
    if out is not None:
        write_record(out, "bench", result.record())
    journal.close()
    return result


def _lr_kind(samples: Sequence[Sample], degradation: DegradationName) -> str:
    if any(sample.lr for sample in samples):
        return "given"
    return "bicubic (Keys, a = -0.5, antialiased), 8 bits" if degradation == "none" else f"degraded: {degradation}"


@dataclass(frozen=True, kw_only=True)
class _Run:
    """Everything that all samples of a run share."""

    dataset: Dataset
    blend: Blend
    mode: str
    config: BenchConfig
    album: Album | None
    out: Path | None
    crops: Path | None
    write_lr: Path | None
    lpips: LPIPS | None


def _measure(sample: Sample, run: _Run) -> dict[str, Any]:
    """`ImageResult` of a sample, as a dict."""
    config, scale = run.config, run.blend.clean.scale
    chosen, prepared, references = _prepare(sample, run)
    if run.write_lr is not None:
        write_photo(run.write_lr / f"{sample.truth.stem}.png", Photo(pixels=prepared.lr))
    reset_peak()
    begun = time.perf_counter()
    restored = config.upscale(Photo(pixels=prepared.lr), references, run.blend)
    seconds = time.perf_counter() - begun
    peak = peak_mib()
    with_sr, without_sr = (prepared.inside(restored.photo.pixels),) * 2
    if references:
        alone = config.upscale(Photo(pixels=prepared.lr), (), run.blend)
        without_sr = prepared.inside(alone.photo.pixels)
    bicubic = prepared.inside(upscale_bicubic(prepared.lr, scale))
    border = PROTOCOLS[config.protocol].border_px
    quality = psnr_db(with_sr, prepared.truth, border).item()
    strip = None if run.crops is None else run.crops / f"{sample.name}.png"
    if strip is not None:
        write_crops(strip, prepared, restored.provenance, bicubic, without_sr, with_sr, scale)
    result = ImageResult(
        name=sample.name,
        psnr_db=quality,
        ssim=ssim(with_sr, prepared.truth, border).item(),
        gain_db=quality - psnr_db(without_sr, prepared.truth, border).item(),
        seconds=seconds,
        bicubic_db=psnr_db(bicubic, prepared.truth, border).item(),
        psnr_rgb_db=psnr_db(with_sr, prepared.truth, border, "rgb").item(),
        peak_memory_mib=peak,
        size_px=(prepared.truth.shape[-2], prepared.truth.shape[-1]),
        references=tuple(reference.path.name for reference in chosen),
        level=chosen[0].level if chosen else 0,
        score=restored.provenance.score.mean().item() if references else None,
        lpips=None if run.lpips is None else run.lpips(with_sr, prepared.truth).item(),
        colour_levels=colour_levels(with_sr, prepared.truth).item() if min(prepared.truth.shape[-2:]) >= 16 else None,
        cropped=prepared.cropped,
        crops=None if strip is None else _relative(strip, run.out),
    )
    return asdict(result)


def _prepare(sample: Sample, run: _Run) -> tuple[tuple[LevelledReference, ...], Prepared, Sequence[AnyReference]]:
    """Files of the references, the prepared pictures, and the references as `upscale` takes them."""
    found: Sequence[FoundReference] = ()
    if run.album is not None:
        prepared, found = run.album.prepare(sample, run.config.protocol, run.config.degrade)
        levels = {reference.path: reference.level for reference in sample.references}
        chosen = tuple(LevelledReference(path=one.path, level=levels.get(one.path, 0)) for one in found)
    else:
        chosen = choose_references(sample, run.dataset, run.mode)
        prepared = prepare_sample(sample, chosen, run.config.protocol, run.blend.clean.scale, run.config.degrade)
        if run.mode == "self":
            prepared = replace(prepared, references=(prepared.lr,))
    if run.config.protocol == "refsr" and found:
        return chosen, prepared, found  # the protocol keeps references as they are, so their poses hold
    return chosen, prepared, [Photo(pixels=reference) for reference in prepared.references]


def _relative(path: Path, out: Path | None) -> str:
    """Path relative to the result's folder, or absolute outside of it."""
    if out is None:
        return str(path)
    try:
        return path.resolve().relative_to(out.resolve().parent).as_posix()
    except ValueError:
        return str(path.resolve())


def reset_peak() -> None:
    """Restart the measurement on Linux; elsewhere the peak covers the whole life of the process."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_mib() -> float:
    """Peak resident memory in MiB, since `reset_peak` on Linux."""
    try:
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource  # not on Windows

        largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return largest / 2**20 if sys.platform == "darwin" else largest / 1024
