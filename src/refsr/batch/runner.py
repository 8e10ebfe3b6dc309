"""Run of a batch: jobs without a result are distributed over processes, or a Ray cluster that sees the same files."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Final, Literal, TypeVar

import torch

from refsr.batch.jobs import Job
from refsr.device import Device
from refsr.errors import OutputError, RefSRError, UsageError
from refsr.extras import import_extra
from refsr.io.files import claim, clear_unfinished, make_folder
from refsr.io.photo import as_photo, check_output
from refsr.io.progress import Progress, silent
from refsr.io.records import read_record, write_record
from refsr.io.workers import MAXIMUM_TRIES, Workers
from refsr.models import AUTO, Blend, load_blend
from refsr.references.choose import find_references
from refsr.references.index import Library, open_library
from refsr.restore.condition import check_quality
from refsr.restore.upscale import AnyReference

STATE_FILE: Final = ".refsr-batch.json"

_Item = TypeVar("_Item")
_Found = TypeVar("_Found")


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Model, as for `load_blend`, CPU threads per process, and memory of a job that names none."""

    model: str = AUTO
    device: Device = "auto"
    vgg19: Path | None = None
    threads: int = 1
    memory_bytes: int | None = None

    def load(self) -> Blend:
        """The model, loaded once per process."""
        return _loaded(self)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Outcome of a job.

    Attributes:
        reason: Reason of its failure; None if it is done.
        unfit: References that show other things, and were not used.
        notes: Lines about what was not read of the pictures.
    """

    job: Job
    reason: str | None = None
    unfit: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _State:
    """Digest of each job that was begun, by its output. Earlier releases wrote the dict alone."""

    digests: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """Outcome of a batch.

    Attributes:
        done: Count of jobs done by this run.
        before: Count of jobs done by earlier runs.
        remarked: Jobs done without some of their references, which show other things, or with notes.
        left_out: Lines about what could not be read of the albums.
    """

    done: int
    before: int
    failed: tuple[Outcome, ...]
    remarked: tuple[Outcome, ...] = ()
    left_out: tuple[str, ...] = ()


def run_batch(
    jobs: Sequence[Job],
    out: Path,
    setup: Setup,
    *,
    processes: int,
    where: Literal["local", "ray"] = "local",
    address: str | None = None,
    progress: Progress = silent,
) -> BatchResult:
    """Run all jobs that have no result yet.

    Args:
        out: Folder of results; made if missing.
        processes: Count of local processes; 0 works in this one. A Ray cluster decides for itself.
        where: This machine, or a Ray cluster.
        address: Address of the cluster; None for the one on this machine, which is started if there is none.
        progress: Called after each job; jobs of earlier runs count as finished.

    Raises:
        OutputError: The folder holds other files of these names, is in use, or its state file is damaged.
        UsageError: A job asks for weights that the model does not have; see `refsr.upscale`.
        RefSRError: The model cannot be loaded, or an album holds no photo or cannot be indexed.
    """
    blend = setup.load()
    for job in jobs:
        check_quality(blend, job.options.quality, job.options.denoise, job.options.texture)
    make_folder(out)
    with claim(out / ".lock"):
        clear_unfinished(out)
        waiting = _unfinished(jobs, out, blend.digest())
        before = len(jobs) - len(waiting)
        left_out: list[str] = []
        for album in dict.fromkeys(job.options.album for job in waiting if job.options.album is not None):
            left_out += open_library(album, blend.clean).complaints()  # indexed before the processes share it
        task = partial(restore, out=out.resolve(), setup=setup)
        outcomes: list[Outcome] = []
        with Workers(processes) as workers:
            if where == "ray":
                finished = run_on_cluster(task, waiting, _killed, address=address, threads=setup.threads)
            else:
                finished = workers.map_unordered(task, waiting, _killed)
            for outcome in finished:
                outcomes.append(outcome)
                progress(before + len(outcomes), len(jobs))
    order = {job.output: place for place, job in enumerate(jobs)}
    outcomes.sort(key=lambda outcome: order[outcome.job.output])
    failed = tuple(outcome for outcome in outcomes if outcome.reason is not None)
    remarked = tuple(outcome for outcome in outcomes if outcome.unfit or outcome.notes)
    return BatchResult(
        done=len(outcomes) - len(failed), before=before, failed=failed, remarked=remarked, left_out=tuple(left_out)
    )


def _unfinished(jobs: Sequence[Job], out: Path, model: str) -> list[Job]:
    """Jobs without a result; the digests of all jobs are saved before the first result is made.

    Raises:
        OutputError: A result was not made by a batch, or from other inputs or options.
    """
    file = out / STATE_FILE
    known = _read_state(file) if file.exists() else {}
    waiting, begun = [], dict(known)
    for job in jobs:
        name, digest = str(job.output), job.digest(model)
        if not (out / job.output).exists():
            waiting.append(job)
        elif name not in known:
            raise OutputError(f"{out / job.output}: exists, and was not made by refsr batch: choose another folder")
        elif known[name] != digest:
            raise OutputError(
                f"{out / job.output}: was made from other inputs or options: delete it, or choose another folder"
            )
        begun[name] = digest
    write_record(file, "batch", {"digests": begun})
    return waiting


def _read_state(file: Path) -> dict[str, str]:
    try:
        state: _State | dict[str, str] = read_record(file, {"digests": dict, "batch": _State})
    except UsageError as error:
        raise OutputError(f"{file}: is unreadable, damaged or of a newer refsr: choose another folder") from error
    return state.digests if isinstance(state, _State) else state


def _killed(job: Job, code: int) -> Outcome:
    reason = f"its process was killed twice (exit code {code}), perhaps for want of memory: allow less (--memory)"
    return Outcome(job=job, reason=reason)


def run_on_cluster(
    task: Callable[[_Item], _Found],
    items: Sequence[_Item],
    killed: Callable[[_Item, int], _Found],
    *,
    address: str | None,
    threads: int,
) -> Iterator[_Found]:
    """Yield the result of a task for each item, in any order; an item whose process or machine dies is tried again.

    Args:
        task: Picklable function of one item that raises nothing.
        killed: Result for an item whose processes died twice, from the item and an exit code.
        address: Address of the cluster; None for the one on this machine, which is started if there is none.
        threads: Cores per item.

    Raises:
        MissingExtraError: Ray is not installed.
        UsageError: No cluster answers at the address.
    """
    ray = import_extra("ray", "a cluster")
    owned = not ray.is_initialized()
    if owned:
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise UsageError(f"no cluster at {address} ({reason}): start one with `ray start`") from error
    try:
        remote = ray.remote(_call).options(num_cpus=threads, max_retries=MAXIMUM_TRIES - 1)
        pending = {remote.remote(task, item): item for item in items}
        while pending:
            done, _ = ray.wait(list(pending), num_returns=1)
            for reference in done:
                item = pending.pop(reference)
                try:
                    yield ray.get(reference)
                except ray.exceptions.RayError:
                    yield killed(item, -9)
    finally:
        if owned:
            ray.shutdown()


def _call(task: Callable[[_Item], _Found], item: _Item) -> _Found:
    return task(item)


def restore(job: Job, out: Path, setup: Setup) -> Outcome:
    """Enlarge one photo into the folder `out`; the map is written first, so that a job with a result is complete."""
    try:
        torch.set_num_threads(setup.threads)
        blend, options = setup.load(), job.options
        photo = as_photo(job.image)
        target = out / job.output
        make_folder(target.parent)
        check_output(target, photo, options.result_px(photo, blend))
        references: list[AnyReference] = list(options.references)
        if options.album is not None:
            references += find_references(photo, _library(options.album, setup), blend.clean, apart_from=[job.image])
        memory_bytes = options.memory_bytes or setup.memory_bytes
        result = options.upscale(
            photo, references, model=blend, provenance=options.provenance, memory_bytes=memory_bytes
        )
        if job.map_file is not None:
            result.save_provenance(out / job.map_file)
        result.save(target)
    except (RefSRError, OSError, MemoryError) as error:
        return Outcome(job=job, reason=" ".join(str(error).split()) or type(error).__name__)
    unfit = tuple(f"{name} {why}" for name, why in result.unfit.items())
    notes = result.notes
    if not result.is_restored:
        notes = (*notes[:-1], f"{job.image}: {notes[-1]}")
    return Outcome(job=job, unfit=unfit, notes=notes)


@lru_cache(maxsize=1)
def _loaded(setup: Setup) -> Blend:
    return load_blend(setup.model, device=setup.device, vgg19=setup.vgg19)


@lru_cache(maxsize=4)
def _library(folder: Path, setup: Setup) -> Library:
    return open_library(folder, setup.load().clean)
