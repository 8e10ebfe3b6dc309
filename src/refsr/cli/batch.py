"""refsr batch: many photos."""

import os
from pathlib import Path
from typing import Literal

from refsr.batch.jobs import JobOptions, read_jobs
from refsr.batch.restore_job import Setup
from refsr.batch.runner import run_batch
from refsr.cli.console import complain, progress_bar
from refsr.cli.options import Output, Processes, RestoreOptions, count_processes

_SOME_FAILED = 3


def batch(
    jobs: Path,
    /,
    *,
    output: Output,
    ref: list[Path] | None = None,
    album: Path | None = None,
    format: Literal["same", "png", "jpg", "webp", "tif"] = "same",  # noqa: A002
    provenance: bool = False,
    processes: Processes = "auto",
    where: Literal["local", "ray"] = "local",
    ray_address: str | None = None,
    options: RestoreOptions = RestoreOptions(),
) -> int:
    """Enlarge many photos by many processes; the same command again goes on with a broken run.

    Ends with 0 if all are done, and with 3 if some failed, which are listed with their reasons.

    Args:
        jobs: Folder of photos, or a list: .csv with a head (several references separated by semicolons) or .jsonl; its
            keys are input, references, output, album, search, precision and provenance.
        output: Folder of the results; made if missing.
        ref: A sharp picture for all jobs that name none; give the option again for more.
        album: Folder in which references are found for each job.
        format: Of the results; same is that of each input.
        provenance: Also write a map beside each result, NAME.map.png.
        processes: How many work; auto is one for each core.
        where: On this machine, or by ray on a cluster whose machines see the same files.
        ray_address: Of the cluster; without it, this machine's.

    Examples:
        refsr batch PHOTOS -o OUT --ref sharp.jpg
        refsr batch jobs.csv -o OUT --format png --processes 2
        refsr batch jobs.jsonl -o OUT --where ray --ray-address auto
    """
    cores, count = os.cpu_count() or 1, count_processes(processes)
    told = JobOptions(
        references=tuple(ref or ()),
        album=album,
        search=options.search,
        precision=options.precision,
        memory_bytes=options.memory_bytes,
        provenance=provenance,
    )
    listed = read_jobs(jobs, told, output, None if format == "same" else f".{format}")
    with progress_bar(f"{len(listed)} photos") as progress:
        result = run_batch(
            listed,
            output,
            Setup(model=options.model, device=options.device, vgg19=options.vgg19, threads=max(1, cores // count)),
            processes=count,
            where=where,
            address=ray_address,
            progress=progress,
        )
    for partly_used in result.partly_used:
        for name in partly_used.unfit:
            complain(f"{name}: shows other things than {partly_used.job.image}, and was not used")
    for failed in result.failed:
        complain(f"failed {failed.job.image}: {failed.reason}")
    earlier = f", {result.before} were before" if result.before else ""
    print(f"{result.done} of {len(listed)} photos done{earlier}, {len(result.failed)} failed: {output}")
    return _SOME_FAILED if result.failed else 0
