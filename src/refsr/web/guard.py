"""What is refused before gradio sees it.

Host           a page of another name that leads here (DNS rebinding) must not speak in a visitor's name
file=, proxy=  gradio would fetch an address that a visitor names, or keep what he does elsewhere
JSON           so it would for an address in place of an uploaded file
upload         more at once than one request may hold, or than there is room for
"""

import ipaddress
import json
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from refsr.web.folder import used_bytes
from refsr.web.web_config import WebConfig

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_MIB: Final = 2**20
_MAXIMUM_JSON_BYTES: Final = _MIB
_MULTIPART_BYTES: Final = 64 * 1024
"""What the form around uploaded files may add."""


class Guard:
    """A layer around the server's application."""

    def __init__(self, app: App, *, host: str, folder: Path, config: WebConfig) -> None:
        """Put it around an application.

        Args:
            app: An ASGI application.
            host: Address at which it is served.
            folder: The server's folder.
            config: The limits.
        """
        self.app, self.folder, self.config = app, folder, config
        self.any_host = host in ("0.0.0.0", "::", "")
        self.hosts = {host.lower(), "localhost"}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        path = unquote(scope["path"])
        if not self._is_known(headers.get(b"host", "")):
            await _answer(send, 403, "this server is not called that")
        elif _names_an_address(path):
            await _answer(send, 403, "this server fetches nothing")
        elif scope["type"] == "http" and scope["method"] in ("POST", "PUT", "PATCH"):
            await self._body(scope, receive, send, headers, is_upload=path.rstrip("/").endswith("/upload"))
        else:
            await self.app(scope, receive, send)

    def _is_known(self, host: str) -> bool:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        name = name.strip("[]").lower()
        return self.any_host or name in self.hosts or _is_ip_address(name)

    async def _body(
        self, scope: Message, receive: Receive, send: Send, headers: dict[bytes, str], *, is_upload: bool
    ) -> None:
        """A request with a body: uploads are counted as they come, all else is read and looked at."""
        most = _MAXIMUM_JSON_BYTES
        if is_upload:
            most = round(self.config.max_request_mib * _MIB) + _MULTIPART_BYTES
            room = round(self.config.max_total_mib * _MIB) - used_bytes(self.folder)
            most, code = (room, 507) if room < most else (most, 413)
        else:
            code = 413
        if _length(headers) > most:
            await _answer(send, code, "this is more than is allowed here, or than there is room for")
        elif is_upload:
            await self.app(scope, _counted(receive, most), send)
        else:
            body = await _whole(receive, most)
            if body is None:
                await _answer(send, 413, "this is more than is allowed here")
            elif _asks_for_an_address(body):
                await _answer(send, 403, "this server fetches nothing")
            else:
                await self.app(scope, _again(body, receive), send)


def _is_ip_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _names_an_address(path: str) -> bool:
    """Whether a path asks to fetch an address; a file of the server's own is named by its path."""
    if "/proxy=" in path or "/run-history/" in path:
        return True
    return any(mark in path and _is_address(path.partition(mark)[2]) for mark in ("/file=", "/file/", "/stream/"))


def _is_address(text: str) -> bool:
    scheme = text.strip().lower().lstrip("/\\").partition("/")[0]
    return scheme.endswith(":") and scheme[:-1].isalpha() and len(scheme) > 2  # a drive has one letter


def _asks_for_an_address(body: bytes) -> bool:
    """Whether a file of a JSON body is an address."""
    try:
        waiting = [json.loads(body)]
    except (ValueError, RecursionError):
        return b"://" in body
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            if isinstance(found.get("path"), str) and _is_address(found["path"]):
                return True
            waiting += found.values()
        elif isinstance(found, list):
            waiting += found
    return False


def _length(headers: dict[bytes, str]) -> int:
    told = headers.get(b"content-length", "0")
    return int(told) if told.isdigit() else 0


def _counted(receive: Receive, most: int) -> Receive:
    """Receive until more has come than is allowed; the sender is gone then, as far as the application knows."""
    seen = 0

    async def receive_counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        return {"type": "http.disconnect"} if seen > most else message

    return receive_counted


async def _whole(receive: Receive, most: int) -> bytes | None:
    """The body of a request; None if it is larger than allowed."""
    body: bytes = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return body
        body += message.get("body", b"")
        if len(body) > most:
            return None
        if not message.get("more_body", False):
            return body


def _again(body: bytes, receive: Receive) -> Receive:
    """Receive a body that was read before, and then what comes after it."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return waiting.pop() if waiting else await receive()

    return receive_again


async def _answer(send: Send, code: int, text: str) -> None:
    head = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": code, "headers": head})
    await send({"type": "http.response.body", "body": text.encode()})
