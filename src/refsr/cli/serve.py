"""refsr serve: the page in the browser."""

from refsr.cli.options import MemoryOptions
from refsr.errors import UsageError
from refsr.web.page import serve as run_server
from refsr.web.request import Limits


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    max_file_mib: float = 50.0,
    max_megapixels: float = 64.0,
    max_references: int = 8,
    max_waiting: int = 8,
    max_seconds: float = 600.0,
    keep_seconds: float = 900.0,
    options: MemoryOptions = MemoryOptions(),
) -> None:
    """Serve a page on which photos are dropped, compared and downloaded; it needs no network.

    Args:
        host: Address to listen at. The default is this machine alone; 0.0.0.0 is everyone who can reach it.
        port: To listen at.
        max_file_mib: Size of one uploaded file.
        max_megapixels: Of a result, and of a reference.
        max_references: For one photo.
        max_waiting: Jobs in the queue; further ones are turned away.
        max_seconds: One job's time.
        keep_seconds: Uploads and results are deleted after so long.

    Examples:
        refsr serve
        refsr serve --host 0.0.0.0 --port 8000 --max-megapixels 24
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
        memory_bytes=options.memory_bytes,
    )
    run_server(options.load(), limits, host=host, port=port)
