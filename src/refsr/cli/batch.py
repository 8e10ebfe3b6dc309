"""refsr batch: many photos."""

import os
from dataclasses import fields
from pathlib import Path
from typing import Final, Literal

from refsr.batch.jobs import JobOptions, read_jobs
from refsr.batch.runner import BatchResult, Setup, run_batch
from refsr.cli.console import complain, progress_bar
from refsr.cli.options import Output, Processes, RestoreOptions, count_processes
from refsr.cli.verbs import verb
from refsr.errors import ImageError
from refsr.restore.memory import spare_bytes
from refsr.restore.size import check_asked
from refsr.restore.upscale import RestoreConfig
from refsr.wording import counted, told

_SOME_FAILED_CODE: Final = 3


@verb
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
    """Enlarge many photos in parallel; the same command resumes a run that was broken off.

    Args:
        jobs: Folder of photos, or a list: .csv with a head (semicolons separate references) or .jsonl, with the keys
            input, references, output, album, search, precision and provenance.
        output: Folder of results; made if missing.
        ref: Sharp photo for all jobs that name none; repeat the option for more.
        album: Folder in which references are found for each job.
        format: Format of the results; same is the format of each input.
        provenance: Also write the provenance map NAME.map.png beside each result.
        processes: Count of processes; auto is one per core.
        where: local is this machine, ray a cluster whose machines see the same files.
        ray_address: Address of the cluster; by default the one on this machine.

    Examples:
        refsr batch PHOTOS -o OUT --ref sharp.jpg
        refsr batch jobs.csv -o OUT --format png --processes 2
        refsr batch jobs.jsonl -o OUT --where ray --ray-address auto
    """
    for path in ref or ():
        if not path.is_file():
            raise ImageError(f"{path}: no such file: check the name")
    count = count_processes(processes)
    check_asked(options.scale, options.size)
    defaults = JobOptions(
        references=tuple(ref or ()),
        album=album,
        provenance=provenance,
        **{each.name: getattr(options, each.name) for each in fields(RestoreConfig)},
    )
    listed = read_jobs(jobs, defaults, output, None if format == "same" else f".{format}", complain)
    threads = max(1, (os.cpu_count() or 1) // count)
    setup = Setup(
        model=options.model,
        device=options.device,
        vgg19=options.vgg19,
        threads=threads,
        memory_bytes=spare_bytes(count) if where == "local" else None,
    )
    with progress_bar(counted(len(listed), "photo")) as progress:
        result = run_batch(listed, output, setup, processes=count, where=where, address=ray_address, progress=progress)
    _report(result, len(listed), output)
    return _SOME_FAILED_CODE if result.failed else 0


def _report(result: BatchResult, photos: int, output: Path) -> None:
    """What was remarkable, and how many photos are done."""
    for line in result.left_out:
        complain(line)
    for note in dict.fromkeys(note for outcome in result.remarked for note in outcome.notes):
        complain(note)
    for outcome in result.remarked:
        for line in outcome.unfit:
            complain(f"{outcome.job.image}: {line}, and was not used")
    for failed in result.failed:
        complain(f"failed {told(failed.job.image, failed.reason or '')}")
    earlier = f", {result.before} were before" if result.before else ""
    print(f"{result.done} of {counted(photos, 'photo')} done{earlier}, {len(result.failed)} failed: {output}")
