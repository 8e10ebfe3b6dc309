"""Measure a model on a data set.

sample ── read, choose references, prepare ──> lr, refs, truth
lr, refs ── upscale ──> with ──┐
lr       ── upscale ──> without┴── PSNR, SSIM, LPIPS against truth ──> ImageResult ──> journal ──> Result
"""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from refsr.bench.crops import SIDE_PX, cut, most_changed, reference_crop, write_strip
from refsr.bench.datasets import Dataset, LevelledReference, Sample
from refsr.bench.lpips import LPIPS
from refsr.bench.memory import peak_mib, reset_peak
from refsr.bench.metrics import psnr_db, ssim
from refsr.bench.protocol import PROTOCOLS, Prepared, ProtocolName
from refsr.bench.results import ImageResult, Result, Skipped, software_versions, source_commit
from refsr.data.leaks import find_leaks
from refsr.device import Precision
from refsr.errors import ImageError, RefSRError, UsageError
from refsr.io.files import check_writable, make_folder
from refsr.io.journal import Journal
from refsr.io.photo import Photo, read_photo
from refsr.io.progress import Progress, silent
from refsr.io.records import parse_record
from refsr.models import RefSRModel
from refsr.references.choose import find_references
from refsr.references.index import read_library
from refsr.resize import upscale_bicubic
from refsr.restore.upscale import DEFAULT_MEMORY_BYTES, Upscaled, upscale
from refsr.search import Engine


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """What is measured.

    Attributes:
        references: "1" the most similar one, "all", "level:K", "self" (the LR image itself), "none", "wrong" (the best
            reference of another sample), "album" (found among the references of all samples), or "auto": "1" where the
            data set has references, else "none". Models that use no references are always measured with "none".
        protocol: Whose way to prepare and compare.
        limit: Measure this many samples only, spread evenly; 0 for all.
        memory_bytes: Budget of each picture.
        engine: How the references are searched: see `refsr.search`.
        precision: Of the network; fp32, so that figures of different machines can be compared.
    """

    references: str = "auto"
    protocol: ProtocolName = "refsr"
    limit: int = 0
    memory_bytes: int = DEFAULT_MEMORY_BYTES
    engine: Engine = "auto"
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|1|all|level:[1-9]|self|none|wrong|album", self.references):
            raise UsageError(
                f"--references {self.references!r} is unknown: use 1, all, level:1 to 5, self, none, wrong or album"
            )
        if self.limit < 0:
            raise UsageError(f"--limit {self.limit}: give a count of pictures, or 0 for all")


def run_benchmark(
    dataset: Dataset,
    model: RefSRModel,
    name: str,
    config: BenchConfig,
    *,
    out: Path | None = None,
    crops: Path | None = None,
    lpips: LPIPS | None = None,
    progress: Progress = silent,
) -> Result:
    """Measure every picture; what cannot be measured is skipped, with its reason.

    Args:
        dataset: From `open_dataset`.
        model: From `load_model`.
        name: What the result calls the model.
        config: What is measured.
        out: JSON file to write. A killed run is taken up again where it stopped, from a journal beside it.
        crops: Folder for a strip of crops of each picture.
        lpips: To be measured as well.
        progress: Told of each finished picture.

    Raises:
        UsageError: No sample could be measured.
        OutputError: The file cannot be written, or a journal of another run is in its place.
    """
    samples = spread(dataset.samples, config.limit)
    mode = config.references
    if not model.uses_references:
        mode = "none"
    elif mode == "auto":
        mode = "1" if dataset.has_references else "none"
    protocol = PROTOCOLS[config.protocol]
    described = {
        "name": protocol.name,
        "about": protocol.about,
        "border_px": protocol.border_px,
        "scale": model.scale,
        "references": mode,
        "search": config.engine,
        "precision": config.precision,
        "lr": "given" if any(sample.lr for sample in samples) else "bicubic (Keys, a = -0.5, antialiased), 8 bits",
        "lpips": None if lpips is None else lpips.name,
    }
    versions = software_versions() | {"weights": model.digest(), "threads": str(torch.get_num_threads())}
    settings: dict[str, Any] = {
        "model": name,
        "weights": versions["weights"],
        "dataset": dataset.name,
        "protocol": described,
    }
    settings["crops"] = None if crops is None else str(crops)
    journal = open_journal(out, settings, samples)
    if crops is not None:
        make_folder(crops)
    _warm_up(model)
    album = None
    if mode == "album":
        album = _Album(dataset, model)
    parts = measure_each(
        samples,
        lambda sample: _measure(sample, dataset, model, mode, config, crops, out, lpips, album),
        journal,
        progress,
    )
    images = tuple(parse_record(part, ImageResult) for part in parts if "reason" not in part)
    skipped = tuple(parse_record(part, Skipped) for part in parts if "reason" in part)
    if not images:
        raise UsageError(
            f"no picture of {dataset.name} could be measured; the first: {skipped[0].name}: {skipped[0].reason}"
        )
    result = Result(
        model=name, dataset=dataset.name, protocol=described, images=images, skipped=skipped, versions=versions,
        commit=source_commit(),
    )  # fmt: skip
    if out is not None and journal is not None:
        result.save(out)
        journal.close()
    return result


def open_journal(out: Path | None, settings: dict[str, Any], samples: Sequence[Sample]) -> Journal | None:
    """The journal beside a result's file; none without one.

    Args:
        out: The result's file.
        settings: All that the figures depend on but for the samples.
        samples: Those that are measured.

    Raises:
        OutputError: The file cannot be written, or a journal of another run is in its place.
    """
    if out is None:
        return None
    check_writable(out)
    return Journal(out, settings | {"samples": [sample.name for sample in samples]})


def measure_each(
    samples: Sequence[Sample],
    measure: Callable[[Sample], dict[str, Any]],
    journal: Journal | None,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Measure samples one by one; those that the journal already holds are not measured again.

    Args:
        samples: In order.
        measure: Gives what of JSON's types is to be kept of a sample, its "name" among it.
        journal: From `open_journal`.
        progress: Told of each finished sample.
    """
    done = {} if journal is None else {part["name"]: part for part in journal.done}
    parts = []
    for count, sample in enumerate(samples, 1):
        part = done.get(sample.name)
        if part is None:
            part = measure(sample)
            if journal is not None:
                journal.add(part)
        parts.append(part)
        progress(count, len(samples))
    return parts


def choose_references(sample: Sample, dataset: Dataset, mode: str) -> tuple[LevelledReference, ...]:
    """The references that a mode wants, but for "self" and "album".

    Raises:
        ImageError: The sample has none of that kind.
    """
    if mode in ("none", "self", "album"):
        return ()
    if mode == "wrong":
        others = [other for other in dataset.samples if other.references or not dataset.has_references]
        place = dataset.samples.index(sample) + len(dataset.samples) // 2
        other = others[place % len(others)]
        if other is sample:
            raise ImageError("there is no other sample to take a wrong reference from")
        path = other.references[0].path if other.references else other.truth
        return (LevelledReference(path=path, level=0),)
    if not sample.references:
        raise ImageError("has no reference: measure it with --references none, self or wrong")
    if mode == "all":
        return sample.references
    if mode == "1":
        return sample.references[:1]
    level = int(mode.partition(":")[2])
    chosen = tuple(reference for reference in sample.references if reference.level == level)
    if not chosen:
        raise ImageError(f"has no reference of level {level}")
    return chosen[:1]


class _Album:
    """The references of all samples, mixed."""

    def __init__(self, dataset: Dataset, model: RefSRModel) -> None:
        self.model = model
        files = list(dict.fromkeys(ref.path for sample in dataset.samples for ref in sample.references))
        self.library = read_library(files, model)
        # One sample's reference may be another's truth.
        leaks = find_leaks(files, [sample.truth for sample in dataset.samples])
        self.shows_truth = {files[number]: truth for number, truth in leaks.items()}

    def found(self, sample: Sample, protocol: ProtocolName) -> tuple[LevelledReference, ...]:
        """What is found for the sample's LR image; of level 0 where it is another sample's."""
        lr = Photo(pixels=prepare_sample(sample, (), "none", protocol, self.model.scale).lr)
        levels = {reference.path: reference.level for reference in sample.references}
        told = [path for path, truth in self.shows_truth.items() if truth == sample.truth]
        found = find_references(lr, self.library, self.model, apart_from=told)
        return tuple(LevelledReference(path=one.path, level=levels.get(one.path, 0)) for one in found)


def prepare_sample(
    sample: Sample, references: Sequence[LevelledReference], mode: str, protocol: ProtocolName, scale: int
) -> Prepared:
    """Read a sample's pictures and make them ready.

    Raises:
        ImageError: One of them cannot be read or used.
    """
    truth = read_photo(sample.truth).pixels
    lr = None if sample.lr is None else read_photo(sample.lr).pixels
    refs = [read_photo(reference.path).pixels for reference in references]
    prepared = PROTOCOLS[protocol].prepare(truth, refs, scale, lr)
    if mode != "self":
        return prepared
    return replace(prepared, references=(prepared.lr,))


def _measure(
    sample: Sample,
    dataset: Dataset,
    model: RefSRModel,
    mode: str,
    config: BenchConfig,
    crops: Path | None,
    out: Path | None,
    lpips: LPIPS | None,
    album: "_Album | None",
) -> dict[str, Any]:
    """An `ImageResult`, or a `Skipped`, as a dict."""
    try:
        references = choose_references(sample, dataset, mode)
        if album is not None:
            references = album.found(sample, config.protocol)
        prepared = prepare_sample(sample, references, mode, config.protocol, model.scale)
        reset_peak()
        begun = time.perf_counter()
        helped = _restore(model, prepared, prepared.references, config)
        seconds = time.perf_counter() - begun
        peak = peak_mib()
        with_sr, alone = (prepared.inside(helped.photo.pixels),) * 2
        if prepared.references:
            alone = prepared.inside(_restore(model, prepared, (), config).photo.pixels)
        bicubic = prepared.inside(upscale_bicubic(prepared.lr, model.scale))
        border = PROTOCOLS[config.protocol].border_px
        quality = psnr_db(with_sr, prepared.truth, border).item()
        strip = None
        if crops is not None:
            strip = crops / f"{sample.name}.png"
            _write_crops(strip, prepared, helped, with_sr, alone, bicubic, model.scale)
        result = ImageResult(
            name=sample.name,
            psnr_db=quality,
            ssim=ssim(with_sr, prepared.truth, border).item(),
            gain_db=quality - psnr_db(alone, prepared.truth, border).item(),
            seconds=seconds,
            bicubic_db=psnr_db(bicubic, prepared.truth, border).item(),
            psnr_rgb_db=psnr_db(with_sr, prepared.truth, border, "rgb").item(),
            peak_memory_mib=peak,
            size_px=(prepared.truth.shape[-2], prepared.truth.shape[-1]),
            references=tuple(reference.path.name for reference in references),
            level=references[0].level if references else 0,
            score=helped.provenance.score.mean().item() if prepared.references else None,
            lpips=None if lpips is None else lpips(with_sr, prepared.truth).item(),
            cropped=prepared.cropped,
            crops=None if strip is None else _relative(strip, out),
        )
    except RefSRError as error:
        return asdict(Skipped(name=sample.name, reason=str(error)))
    return asdict(result)


def _restore(
    model: RefSRModel, prepared: Prepared, references: Sequence[Float[Tensor, "1 3 _ _"]], config: BenchConfig
) -> Upscaled:
    photos = [Photo(pixels=reference) for reference in references]
    lr = Photo(pixels=prepared.lr)
    return upscale(
        lr,
        photos,
        model=model,
        engine=config.engine,
        precision=config.precision,
        memory_bytes=config.memory_bytes,
        provenance=False,
    )


def _write_crops(
    path: Path, prepared: Prepared, helped: Upscaled, with_sr: Tensor, alone: Tensor, bicubic: Tensor, scale: int
) -> None:
    """Where the references changed most; without any, where the model changed the bicubic image most."""
    corner = most_changed(with_sr, bicubic if torch.equal(with_sr, alone) else alone)
    top, left = corner[0] + prepared.top_px, corner[1] + prepared.left_px
    centre = (top + SIDE_PX // 2, left + SIDE_PX // 2)
    write_strip(
        path,
        {
            "LR": cut(prepared.lr, (top, left), scale),
            "bicubic": cut(bicubic, corner),
            "without": cut(alone, corner),
            "with": cut(with_sr, corner),
            "truth": cut(prepared.truth, corner),
            "reference": reference_crop(prepared.references, helped.provenance, centre, scale),
        },
    )


def _relative(path: Path, out: Path | None) -> str:
    """As seen from the result's file, where that is possible."""
    if out is None:
        return str(path)
    try:
        return path.resolve().relative_to(out.resolve().parent).as_posix()
    except ValueError:
        return str(path.resolve())


def spread(samples: Sequence[Sample], limit: int) -> list[Sample]:
    """All, or so many of them at even distances."""
    if not limit or limit >= len(samples):
        return list(samples)
    return [samples[index * len(samples) // limit] for index in range(limit)]


def _warm_up(model: RefSRModel) -> None:
    """What is slow only the first time shall not count."""
    small = Photo(pixels=torch.full((1, 3, 16, 16), 0.5))
    upscale(small, [Photo(pixels=torch.full((1, 3, 64, 64), 0.5))], model=model, provenance=False)
