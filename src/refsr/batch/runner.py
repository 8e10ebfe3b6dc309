"""A batch from beginning to end."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

from refsr.batch.cluster import spread_on_cluster
from refsr.batch.jobs import Job
from refsr.batch.restore_job import Outcome, Setup, restore
from refsr.errors import OutputError, RefSRError
from refsr.io.files import claim, clear_unfinished, make_folder, write_atomically
from refsr.io.progress import Progress, silent
from refsr.io.workers import Workers
from refsr.references.index import open_library

STATE: Final = ".refsr-batch.json"


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """What became of all jobs.

    Attributes:
        done: Count of those that were done now.
        before: Count of those that an earlier run had done.
        failed: The others, with their reasons.
        partly_used: Those of the done ones for which a reference was not used.
    """

    done: int
    before: int
    failed: tuple[Outcome, ...]
    partly_used: tuple[Outcome, ...] = ()


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
    """Do all jobs that have no result yet.

    Args:
        jobs: From `refsr.batch.jobs.read_jobs`.
        out: Folder of the results; made if missing.
        setup: With what.
        processes: How many; on a cluster, it decides itself.
        where: On this machine, or on a Ray cluster.
        address: Of the cluster.
        progress: Told of each finished job, those of an earlier run included.

    Raises:
        OutputError: The folder holds other files of these names, or is in use.
        RefSRError: The model cannot be loaded.
    """
    make_folder(out)
    with claim(out / ".lock"):
        clear_unfinished(out)
        waiting = _begin(jobs, out, setup.load().digest())
        before = len(jobs) - len(waiting)
        for album in {job.options.album for job in waiting if job.options.album is not None}:
            with suppress(RefSRError):  # told by each job
                open_library(album, setup.load())  # here, so that the processes need not all read the same photos
        task = partial(restore, out=out.resolve(), setup=setup)
        failed, partly_used, done = [], [], 0
        with Workers(processes) as workers:
            if where == "ray":
                outcomes = spread_on_cluster(task, waiting, _killed, address=address, threads=setup.threads)
            else:
                outcomes = workers.map_unordered(task, waiting, _killed)
            for outcome in outcomes:
                failed += [outcome] if outcome.reason is not None else []
                partly_used += [outcome] if outcome.unfit else []
                done += 1
                progress(before + done, len(jobs))
    order = {str(job.output): place for place, job in enumerate(jobs)}
    for found in (failed, partly_used):
        found.sort(key=lambda outcome: order[str(outcome.job.output)])
    return BatchResult(done=done - len(failed), before=before, failed=tuple(failed), partly_used=tuple(partly_used))


def _begin(jobs: Sequence[Job], out: Path, model: str) -> list[Job]:
    """Note which job each result is of, before the first is made; those that have none yet.

    Raises:
        OutputError: A file is there that no run made, or that was made in another way.
    """
    file = out / STATE
    try:
        known: dict[str, str] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except (OSError, ValueError) as error:
        raise OutputError(f"{file}: cannot be read ({error}): choose another folder") from error
    waiting, begun = [], dict(known)
    for job in jobs:
        name, digest = str(job.output), job.digest(model)
        if not (out / job.output).exists():
            waiting.append(job)
        elif name not in known:
            raise OutputError(f"{out / job.output}: is there already, and not of this command: choose another folder")
        elif known[name] != digest:
            raise OutputError(
                f"{out / job.output}: was made from other inputs or options: delete it, or choose another folder"
            )
        begun[name] = digest
    write_atomically(file, (json.dumps(begun, indent=1) + "\n").encode())
    return waiting


def _killed(job: Job, code: int) -> Outcome:
    reason = f"its process was killed twice (exit code {code}), perhaps for want of memory: allow less (--memory)"
    return Outcome(job=job, reason=reason)
