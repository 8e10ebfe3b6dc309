"""refsr serve: web page."""

from dataclasses import dataclass

from cyclopts import Parameter

from refsr.cli.options import RestoreOptions
from refsr.cli.verbs import verb
from refsr.errors import UsageError
from refsr.web.server import serve as run_server
from refsr.web.web_config import SCALES, WebConfig


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ServeOptions(RestoreOptions, WebConfig):
    """Limits of the server, and the model.

    Attributes:
        texture: Share of crisp weights with which the page begins, 0 to 1; visitors move it.
    """

    texture: float = WebConfig.texture


@verb
def serve(*, host: str = "127.0.0.1", port: int = 7860, options: ServeOptions = ServeOptions()) -> None:
    """Serve a web page on which photos are dropped, enlarged, compared and downloaded; it needs no internet.

    Args:
        host: Address to listen at. The default is reachable from this machine only, 0.0.0.0 from every machine.
        port: TCP port, 1 to 65535.

    Examples:
        refsr serve
        refsr serve --host 0.0.0.0 --port 8000 --max-megapixels 24
    """
    if not 1 <= port <= 65535:
        raise UsageError(f"--port {port}: give a number from 1 to 65535")
    if options.size is not None:
        raise UsageError("--size: visitors choose the scale on the page: leave it out")
    if options.scale is not None and options.scale not in SCALES:
        raise UsageError(f"--scale {options.scale:g}: give 1, 2, 4 or 8, one of those that the page offers")
    run_server(options.load_blend(), options, host=host, port=port)
