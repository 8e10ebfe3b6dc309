"""refsr batch: many photos."""

import os
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from refsr.batch.jobs import JobOptions, read_jobs
from refsr.batch.restore_job import Setup
from refsr.batch.runner import run_batch
from refsr.cli.console import complain, count_bar
from refsr.cli.quantities import parse_bytes
from refsr.device import Device, Precision
from refsr.errors import UsageError
from refsr.search import Engine as Search

_Many = Parameter(negative=())
_SOME_FAILED = 3


def batch(
    jobs: Path,
    /,
    *,
    output: Annotated[Path, Parameter(name=("--output", "-o"))],
    ref: Annotated[list[Path] | None, _Many] = None,
    album: Path | None = None,
    format: Literal["same", "png", "jpg", "webp", "tif"] = "same",  # noqa: A002
    processes: int = 0,
    engine: Literal["local", "ray"] = "local",
    ray_address: str | None = None,
    model: str = "default",
    device: Device = "auto",
    memory: str = "2GiB",
    search: Search = "auto",
    precision: Precision = "auto",
    provenance: Annotated[bool, _Many] = False,
    vgg19: Path | None = None,
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
        processes: How many work; one for each core without it.
        engine: local, or ray: a cluster whose machines see the same files.
        ray_address: Of the cluster; without it, this machine's.
        model: A name that `refsr models` lists, or a weights file.
        device: auto, cpu, cuda or mps.
        memory: Working memory allowed for each process, such as 800MiB or 2GiB.
        search: exact, coarse, faiss or auto, as for `refsr upscale`.
        precision: auto, fp32 or bf16, as for `refsr upscale`.
        provenance: Also write a map beside each result, NAME.map.png.
        vgg19: File of VGG19 weights, for the model srntt.
    """
    if processes < 0:
        raise UsageError(f"--processes {processes}: give a count, or 0 for one each core")
    cores = os.cpu_count() or 1
    count = processes or cores
    options = JobOptions(
        references=tuple(ref or ()),
        album=album,
        search=search,
        precision=precision,
        memory_bytes=parse_bytes(memory),
        provenance=provenance,
    )
    listed = read_jobs(jobs, options, output, None if format == "same" else f".{format}")
    with count_bar(f"{len(listed)} photos") as progress:
        result = run_batch(
            listed,
            output,
            Setup(model=model, device=device, vgg19=vgg19, threads=max(1, cores // count)),
            processes=count,
            where=engine,
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
