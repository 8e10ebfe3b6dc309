"""The server's life: folder, model, page; until Ctrl-C or SIGTERM, at which all that visitors sent is deleted."""

import errno
import os
import signal
import socket
import sys
import threading
from contextlib import closing, suppress
from typing import Any, Final

from refsr.errors import UsageError
from refsr.extras import import_extra
from refsr.models import Blend
from refsr.restore.condition import check_quality
from refsr.web import show
from refsr.web.estimate import measure_speed
from refsr.web.folder import server_folder
from refsr.web.guard import Guard
from refsr.web.page import build_page
from refsr.web.request import Workshop
from refsr.web.visits import Visits
from refsr.web.web_config import WebConfig

_SWEEP_INTERVAL_S: Final = 5.0
_PORTS_TRIED: Final = 100


def serve(blend: Blend, config: WebConfig, *, host: str, port: int) -> None:
    """Serve the page until Ctrl-C or SIGTERM; uploads and results are kept in a temporary folder.

    Args:
        blend: What restores.
        config: The limits.
        host: Address to listen at; 127.0.0.1 is reachable from this machine only.
        port: TCP port, 1 to 65535.

    Raises:
        MissingExtraError: gradio is not installed.
        UsageError: The address cannot be used, or the config asks for weights that the blend does not have.
    """
    check_quality(blend, config.quality, config.denoise, 0 if blend.is_single else config.texture)
    _check_address(host, port)
    ended = threading.Event()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: ended.set())
    with server_folder() as folder:
        # gradio reads these at import
        os.environ |= {"GRADIO_TEMP_DIR": str(folder / "uploads"), "GRADIO_ANALYTICS_ENABLED": "False"}
        gr = import_extra("gradio", "the web page")
        shop = Workshop(folder=folder, blend=blend, config=config, speed=measure_speed(blend, config))
        visits = Visits(shop=shop)
        page = _launch(gr, visits, host, port)
        print(f"refsr is at http://{_in_address(host)}:{port} (Ctrl-C ends it)", flush=True)
        with suppress(KeyboardInterrupt):
            while not ended.wait(_SWEEP_INTERVAL_S):
                visits.results.sweep(config.keep_seconds)
        visits.end()
        page.close(verbose=False)
    if not shop.line.is_empty():
        # A thread that comes back from torch while Python ends would abort the process.
        sys.stdout.flush()
        os._exit(0)


def _launch(gr: Any, visits: Visits, host: str, port: int) -> Any:
    from starlette.middleware import Middleware

    config = visits.shop.config
    page, texts = build_page(gr, visits)
    # Jobs wait in a queue of our own, which tells them their place; gradio's only bounds how many ask at all.
    page.queue(max_size=4 * config.max_waiting + 16, default_concurrency_limit=None)
    try:
        page.launch(
            server_name=host,
            server_port=port,
            max_file_size=round(config.max_file_mib * 2**20),
            footer_links=["api"],
            css=show.CSS,
            i18n=texts,
            quiet=True,
            ssr_mode=False,
            run_history=False,
            prevent_thread_lock=True,
            app_kwargs={"middleware": [Middleware(Guard, host=host, folder=visits.shop.folder, config=config)]},
        )
    except OSError as error:  # taken since it was checked
        raise _in_use(host, port) from error
    return page


def _check_address(host: str, port: int) -> None:
    """Refuse an address that cannot be used, before anything is loaded."""
    try:
        with closing(_bound(host, port)):
            pass
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise _in_use(host, port) from error
        if error.errno == errno.EACCES:
            raise UsageError(f"--port {port}: only root may use it: choose another, such as --port 7860") from error
        reason = error.strerror or type(error).__name__
        raise UsageError(f"--host {host}: cannot be used ({reason}): choose an address of this machine") from error


def _in_use(host: str, port: int) -> UsageError:
    """The error of a port that is taken; it names a free one."""
    for other in range(port + 1, min(port + _PORTS_TRIED, 65535) + 1):
        with suppress(OSError), closing(_bound(host, other)):
            return UsageError(f"port {port} is in use: choose another, such as --port {other}")
    return UsageError(f"port {port} is in use: choose another with --port")


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host.strip("[]"), port), family=family)


def _in_address(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
