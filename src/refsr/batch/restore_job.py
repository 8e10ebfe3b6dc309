"""Enlargement of one photo, in a worker process."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from refsr.batch.jobs import Job
from refsr.device import Device
from refsr.errors import RefSRError
from refsr.io.files import make_folder
from refsr.io.photo import as_photo, check_output
from refsr.models import RefSRModel, load_model
from refsr.references.choose import find_references
from refsr.references.index import Library, open_library
from refsr.restore.upscale import AnyReference, upscale


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Model, as for `load_model`, and CPU threads per process: settings that all jobs share."""

    model: str = "default"
    device: Device = "auto"
    vgg19: Path | None = None
    threads: int = 1

    def load(self) -> RefSRModel:
        """The model, loaded once per process."""
        return _loaded(self)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Outcome of a job.

    Attributes:
        reason: Reason of its failure; None if it is done.
        unfit: References that show other things, and were not used.
    """

    job: Job
    reason: str | None = None
    unfit: tuple[str, ...] = ()


def restore(job: Job, out: Path, setup: Setup) -> Outcome:
    """Enlarge one photo into the folder `out`; the map is written first, so that a job with a result is complete."""
    try:
        torch.set_num_threads(setup.threads)
        model, options = setup.load(), job.options
        photo = as_photo(job.image)
        target = out / job.output
        make_folder(target.parent)
        check_output(target, photo, model.scale)
        references: list[AnyReference] = list(options.references)
        if options.album is not None:
            references += find_references(photo, _library(options.album, setup), model, apart_from=[job.image])
        result = upscale(
            photo,
            references,
            model=model,
            memory_bytes=options.memory_bytes,
            engine=options.search,
            precision=options.precision,
            provenance=options.provenance,
        )
        if options.provenance:
            result.save_provenance(target.with_suffix(".map.png"))
        result.save(target)
    except (RefSRError, OSError, MemoryError) as error:
        return Outcome(job=job, reason=" ".join(str(error).split()) or type(error).__name__)
    return Outcome(job=job, unfit=result.unfit)


@lru_cache(maxsize=1)
def _loaded(setup: Setup) -> RefSRModel:
    return load_model(setup.model, device=setup.device, vgg19=setup.vgg19)


@lru_cache(maxsize=4)
def _library(folder: Path, setup: Setup) -> Library:
    return open_library(folder, setup.load())
