"""refsr serve: web page."""

from refsr.cli.options import RestoreOptions
from refsr.errors import UsageError
from refsr.web.page import serve as run_server
from refsr.web.request import WebConfig


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
    options: RestoreOptions = RestoreOptions(),
) -> None:
    """Serve a web page on which photos are dropped, enlarged, compared and downloaded; it needs no internet.

    Args:
        host: Address to listen at. The default is reachable from this machine only, 0.0.0.0 from every machine.
        port: TCP port, 1 to 65535.
        max_file_mib: Maximum size of one uploaded file in MiB.
        max_megapixels: Maximum size of a result, and of a reference, in megapixels.
        max_references: Maximum count of references for one photo.
        max_waiting: Maximum count of jobs in the queue; further ones are refused.
        max_seconds: Maximum time of one job in seconds.
        keep_seconds: Time in seconds after which uploads and results are deleted.

    Examples:
        refsr serve
        refsr serve --host 0.0.0.0 --port 8000 --max-megapixels 24
    """
    if not 1 <= port <= 65535:
        raise UsageError(f"--port {port}: give a number from 1 to 65535")
    config = WebConfig(
        file_mib=max_file_mib,
        megapixels=max_megapixels,
        references=max_references,
        waiting=max_waiting,
        seconds=max_seconds,
        kept_seconds=keep_seconds,
        memory_bytes=options.memory_bytes,
        engine=options.search,
        precision=options.precision,
    )
    run_server(options.load(), config, host=host, port=port)
