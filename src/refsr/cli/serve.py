"""refsr serve: the page in the browser."""

from pathlib import Path

from refsr.cli.quantities import parse_bytes
from refsr.device import Device
from refsr.errors import UsageError
from refsr.models import load_model
from refsr.web.page import serve as run_server
from refsr.web.request import Limits


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    model: str = "default",
    device: Device = "auto",
    memory: str = "2GiB",
    max_file_mib: float = 50.0,
    max_megapixels: float = 64.0,
    max_references: int = 8,
    max_waiting: int = 8,
    max_seconds: float = 600.0,
    keep_seconds: float = 900.0,
    vgg19: Path | None = None,
) -> None:
    """Serve a page on which photos are dropped, compared and downloaded; it needs no network.

    Args:
        host: Address to listen at. The default is this machine alone; 0.0.0.0 is everyone who can reach it.
        port: To listen at.
        model: A name that `refsr models` lists, or a weights file.
        device: auto, cpu, cuda or mps.
        memory: Working memory allowed for a job, such as 800MiB or 2GiB.
        max_file_mib: Size of one uploaded file.
        max_megapixels: Of a result, and of a reference.
        max_references: For one photo.
        max_waiting: Jobs in the queue; further ones are turned away.
        max_seconds: One job's time.
        keep_seconds: Uploads and results are deleted after so long.
        vgg19: File of VGG19 weights, for the model srntt.
    """
    if not 1 <= port <= 65535:
        raise UsageError(f"--port {port}: give a number from 1 to 65535")
    limits = Limits(
        file_mib=max_file_mib,
        megapixels=max_megapixels,
        references=max_references,
        waiting=max_waiting,
        seconds=max_seconds,
        kept_seconds=keep_seconds,
        memory_bytes=parse_bytes(memory),
    )
    run_server(load_model(model, device=device, vgg19=vgg19), limits, host=host, port=port)
