"""What is refused before gradio sees it, and the server's folder."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from refsr.web.folder import server_folder, used_bytes
from refsr.web.guard import Guard
from refsr.web.web_config import WebConfig


def ask(
    guard: Guard, path: str, *, host: str | None = "127.0.0.1:7860", method: str = "GET", parts: tuple[bytes, ...] = ()
) -> tuple[int, bytes]:
    """Status and body of an answer; the application behind says 200 and repeats what came."""
    sent: list[dict[str, Any]] = []
    waiting = [{"type": "http.request", "body": part, "more_body": n < len(parts)} for n, part in enumerate(parts, 1)]

    async def receive() -> dict[str, Any]:
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [] if host is None else [(b"host", host.encode())]
    if len(parts) == 1:
        headers.append((b"content-length", str(len(parts[0])).encode()))
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    asyncio.run(guard(scope, receive, send))
    return sent[0]["status"], sent[-1]["body"]


async def echo(scope: Any, receive: Any, send: Any) -> None:
    body, message = b"", {"more_body": scope["method"] == "POST"}
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def guard(folder: Path, host: str = "127.0.0.1", config: WebConfig | None = None) -> Guard:
    return Guard(echo, host=host, folder=folder, config=config or WebConfig())


@pytest.mark.parametrize(
    ("served_at", "host", "code"),
    [
        ("127.0.0.1", "127.0.0.1:7860", 200),
        ("127.0.0.1", "localhost:7860", 200),
        ("127.0.0.1", "LOCALHOST", 200),
        ("127.0.0.1", "[::1]:7860", 200),
        ("127.0.0.1", "192.168.1.5:7860", 200),
        ("127.0.0.1", "evil.example:7860", 403),
        ("127.0.0.1", "localhost.evil.example", 403),
        ("127.0.0.1", "", 403),
        ("127.0.0.1", None, 403),
        ("photos.lan", "photos.lan:7860", 200),
        ("photos.lan", "evil.example", 403),
        ("0.0.0.0", "photos.lan:7860", 200),
        ("::", "photos.lan", 200),
    ],
)
def test_other_names_of_this_machine(tmp_path: Path, served_at: str, host: str | None, code: int) -> None:
    assert ask(guard(tmp_path, served_at), "/", host=host)[0] == code


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=http://93.184.216.34:81/x",
        "/gradio_api/file=HTTPS://a.example/x",
        "/gradio_api/file=http%3A%2F%2Fa.example/x",
        "/gradio_api/file/http://a.example/x",
        "/gradio_api/file= http://a.example",
        "/gradio_api/file=ftp://a.example/x",
        "/gradio_api/proxy=https://a.hf.space/x",
        "/gradio_api/run-history/connect",
    ],
)
def test_no_address_is_fetched(tmp_path: Path, path: str) -> None:
    assert ask(guard(tmp_path), path)[0] == 403


def test_own_files_are_served(tmp_path: Path) -> None:
    for path in ("/gradio_api/file=/tmp/refsr-web-x/uploads/a/b.png", "/gradio_api/file=C:/Temp/b.png", "/"):
        assert ask(guard(tmp_path), path)[0] == 200


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"path": "http://93.184.216.34/x.png", "meta": {"_type": "gradio.FileData"}}, 403),
        ([[{"deep": [{"path": "https://a.example"}]}]], 403),
        ({"path": "/tmp/x.png", "url": "http://127.0.0.1:7860/gradio_api/file=/tmp/x.png"}, 200),
        ({"path": None, "text": "see http://a.example"}, 200),
    ],
)
def test_no_address_in_place_of_a_file(tmp_path: Path, data: object, code: int) -> None:
    body = json.dumps({"data": [data, [], "PNG"]}).encode()
    assert ask(guard(tmp_path), "/gradio_api/call/upscale", method="POST", parts=(body,))[0] == code
    halves = (body[:20], body[20:])
    found, said = ask(guard(tmp_path), "/gradio_api/queue/join", method="POST", parts=halves)
    assert found == code
    assert code == 403 or said == body


def test_large_bodies(tmp_path: Path) -> None:
    one = guard(tmp_path, config=WebConfig(max_request_mib=1.0, max_total_mib=4.0))
    mib = bytes(2**20)
    assert ask(one, "/gradio_api/upload", method="POST", parts=(mib,)) == (200, mib)
    assert ask(one, "/gradio_api/upload", method="POST", parts=(mib * 2,))[0] == 413
    assert len(ask(one, "/gradio_api/upload", method="POST", parts=(mib, mib, mib))[1]) <= 2**20
    assert ask(one, "/gradio_api/call/upscale", method="POST", parts=(b" " * (2**20 + 1),))[0] == 413
    assert ask(one, "/gradio_api/call/upscale", method="POST", parts=(mib, mib))[0] == 413
    (tmp_path / "others").write_bytes(mib * 3 + bytes(2**19))
    assert ask(one, "/gradio_api/upload", method="POST", parts=(mib,))[0] == 507
    assert ask(one, "/gradio_api/upload", method="POST", parts=(b"small",))[0] == 200


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_the_folder_is_there_while_the_server_lives(temporary: Path) -> None:
    with server_folder() as folder:
        (folder / "uploads").mkdir()
        (folder / "uploads" / "a.png").write_bytes(b"12345")
        assert used_bytes(folder) == 5
        assert folder.name.startswith("refsr-web-")
        with server_folder() as other:  # which leaves the first one alone
            assert folder.is_dir()
            assert other != folder
        assert (folder / "uploads" / "a.png").exists()
    assert not list(temporary.iterdir())


def test_what_a_killed_server_left_is_swept(temporary: Path) -> None:
    script = (
        "import os\nfrom refsr.web.folder import server_folder\nwith server_folder() as f:\n (f / 'a.png').touch()\n"
    )
    subprocess.run(
        [sys.executable, "-c", script + " os._exit(9)"], check=False, env=os.environ | {"TMPDIR": str(temporary)}
    )
    (left,) = temporary.glob("refsr-web-*")
    assert (left / "a.png").exists()
    (temporary / "refsr-web-of-other-make").mkdir()
    elsewhere = temporary / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "lock").touch()
    (temporary / "refsr-web-link").symlink_to(elsewhere)
    alive = temporary / "refsr-web-alive"
    alive.mkdir()
    with FileLock(alive / "lock"), server_folder() as folder:
        kept = {path.name for path in temporary.iterdir()} - {folder.name}
    assert kept == {"refsr-web-of-other-make", "elsewhere", "refsr-web-link", "refsr-web-alive"}
    assert (elsewhere / "lock").exists()
