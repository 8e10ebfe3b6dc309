"""The server as programs and its owner see it: API, limits, and its end."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import fails, wait_for
from PIL import Image

from refsr.assets import sample_path
from refsr.cli import main
from refsr.io.photo import Photo, as_photo, write_photo
from refsr.models import Blend
from refsr.resize import downscale_bicubic
from refsr.web.web_config import WebConfig

END_S = 30


def start(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    """A server, and its address, once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "refsr", "serve", "--port", str(port), "--device", "cpu", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == f"refsr is at http://127.0.0.1:{port} (Ctrl-C ends it)\n"
    return process, f"http://127.0.0.1:{port}"


def end(process: subprocess.Popen[str], how: int = signal.SIGTERM) -> tuple[int, str]:
    """Exit code of a server that is told to end, and what it said on standard error."""
    process.send_signal(how)
    try:
        _, said = process.communicate(timeout=END_S)
    finally:
        process.kill()
    return process.returncode, said


@contextmanager
def server(*arguments: str) -> Iterator[str]:
    """Its address, once it answers."""
    process, address = start(*arguments)
    try:
        yield address
    finally:
        code, said = end(process)
    assert code == 0
    assert "KeyboardInterrupt" not in said


def make_pictures(folder: Path) -> dict[str, Path]:
    """A blurry photo, a sharp one, and a broken one."""
    found = {name: folder / f"{name}.png" for name in ("blurry", "sharp", "broken")}
    write_photo(found["blurry"], Photo(pixels=downscale_bicubic(as_photo(sample_path("truth")).pixels, 4)))
    write_photo(found["sharp"], as_photo(sample_path("reference")))
    found["broken"].write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    return found


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with server() as found:
        yield found


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_pictures(tmp_path_factory.mktemp("pictures"))


def post(address: str, name: str, *data: object, language: str = "en") -> str:
    """Begin a call of the API; where its answer will be."""
    headers = {"Content-Type": "application/json", "Accept-Language": language}
    url = f"{address}/gradio_api/call/{name}"
    with urllib.request.urlopen(
        urllib.request.Request(url, json.dumps({"data": data}).encode(), headers), timeout=60
    ) as answer:
        return f"{url}/{json.load(answer)['event_id']}"


def hear(url: str) -> str:
    """What the API says at last."""
    with urllib.request.urlopen(url, timeout=120) as answer:
        return str(answer.read().decode())


def call(address: str, name: str, *data: object, language: str = "en") -> str:
    return hear(post(address, name, *data, language=language))


def upload(address: str, path: Path) -> str:
    """Where the server keeps it."""
    body = b"--x\r\nContent-Disposition: form-data; name=files; filename=" + path.name.encode() + b"\r\n\r\n"
    request = urllib.request.Request(
        f"{address}/gradio_api/upload",
        body + path.read_bytes() + b"\r\n--x--\r\n",
        {"Content-Type": "multipart/form-data; boundary=x"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(json.load(answer)[0])


def as_file(path: str, name: str | None = None) -> dict[str, object]:
    return {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}


def test_the_api(address: str, pictures: dict[str, Path]) -> None:
    blurry, sharp = (as_file(upload(address, pictures[name])) for name in ("blurry", "sharp"))
    said = call(address, "upscale", blurry, [sharp], "JPEG")
    assert "event: complete" in said
    assert "blurry_x4.jpg" in said
    said = call(address, "upscale_to", blurry | {"orig_name": "沙滩.png"}, [sharp], "PNG", 2, 1.0, language="zh")
    assert "event: complete" in said
    assert "_x2.png" in said
    assert "\\u6765\\u81ea\\u53c2\\u8003\\u7167\\u7247" in said  # from the references


def test_the_example_of_the_docs(address: str, pictures: dict[str, Path]) -> None:
    """With gradio's client, word for word."""
    gradio_client = pytest.importorskip("gradio_client")
    text = (Path(__file__).parent.parent / "docs" / "web.md").read_text()
    lines = [line[4:] for line in text.splitlines() if line.startswith((">>> ", "... "))]
    source = "\n".join(lines).replace("http://127.0.0.1:7860", address)
    for name in ("blurry", "sharp"):
        source = source.replace(f'"{name}.jpg"', repr(str(pictures[name])))
    source = source.replace("Client(", "Client(verbose=False, src=")
    known: dict[str, object] = {}
    exec(source, known)
    assert isinstance(known["client"], gradio_client.Client)
    with Image.open(str(known["download"])) as result:
        assert result.size == (720, 540)
    assert "720 x 540 pixels" in str(known["summary"])


def test_errors_have_the_visitors_names_and_no_path(address: str, pictures: dict[str, Path]) -> None:
    broken, blurry = (upload(address, pictures[name]) for name in ("broken", "blurry"))
    said = call(address, "upscale", as_file(broken, "../holiday/beach.jpg"), [], "PNG")
    assert "event: error" in said
    assert "beach.jpg: is no picture that can be read, or is damaged" in said
    said = call(address, "upscale", as_file(blurry, "a.png"), [as_file(broken, "b.png")], "PNG", language="zh")
    assert "b.png" in said
    assert "\\u6216\\u5df2\\u635f\\u574f" in said  # or is damaged
    assert "refsr-web" not in said
    assert "Give a blurry photo first" in call(address, "upscale", None, [], "PNG")


def test_other_files_of_the_machine_cannot_be_read(address: str, pictures: dict[str, Path]) -> None:
    outside = as_file(str(pictures["blurry"]))
    inside = as_file(upload(address, pictures["blurry"]))
    for data in ((outside, [], "PNG"), (inside, [outside], "PNG"), (as_file("/etc/passwd"), [], "PNG")):
        said = call(address, "upscale", *data)
        assert "event: error" in said
        assert "event: complete" not in said
    for path in (str(pictures["blurry"]), "/etc/passwd"):
        with pytest.raises(urllib.error.HTTPError, match="40[34]"):
            urllib.request.urlopen(f"{address}/gradio_api/file={path}", timeout=60)


def test_no_address_is_fetched(address: str) -> None:
    """A server of ours stands for another's: it hears nothing."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(0.2)
        url = f"http://127.0.0.1:{other.getsockname()[1]}/x.png"
        for path in (f"file={url}", f"proxy={url}", f"file/{url}"):
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(f"{address}/gradio_api/{path}", timeout=60)
        with pytest.raises(urllib.error.HTTPError, match="403"):
            call(address, "upscale", as_file(url), [], "PNG")
        with pytest.raises(TimeoutError):
            other.accept()
    request = urllib.request.Request(address, headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(request, timeout=60)


def test_only_this_machine_unless_told(address: str) -> None:
    port = int(address.rpartition(":")[2])
    table = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()]
    listening = [fields[1] for fields in table if fields[3] == "0A" and fields[1].endswith(f":{port:04X}")]
    assert listening == [f"0100007F:{port:04X}"]


def test_uploads_are_deleted_and_large_ones_refused(pictures: dict[str, Path]) -> None:
    limits = ("--keep-seconds", "1", "--max-file-mib", "0.3", "--max-total-mib", "3")
    with server(*limits) as address:
        kept = Path(upload(address, pictures["blurry"]))
        assert kept.is_file()
        assert pictures["sharp"].stat().st_size > 0.3 * 2**20
        with pytest.raises(urllib.error.HTTPError, match="413"):
            upload(address, pictures["sharp"])
        wait_for(lambda: not kept.exists())
        folder = kept.parents[2]
        assert folder.name.startswith("refsr-web-")
        (folder / "of another visitor").write_bytes(bytes(3 * 2**20))
        with pytest.raises(urllib.error.HTTPError, match="507"):
            upload(address, pictures["blurry"])
    assert not folder.exists()


def test_the_queue_has_an_end(pictures: dict[str, Path]) -> None:
    with server("--max-waiting", "1") as address:
        blurry, sharp = (as_file(upload(address, pictures[name])) for name in ("blurry", "sharp"))
        said = [hear(url) for url in [post(address, "upscale", blurry, [sharp], "PNG") for _ in range(6)]]
    done = sum("event: complete" in each for each in said)
    refused = sum("1 others wait already" in each for each in said)
    assert done + refused == 6
    assert done >= 2
    assert refused >= 1
    assert any("Waiting: 1 before you" in each for each in said)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_the_end_deletes_what_visitors_sent(pictures: dict[str, Path], how: int) -> None:
    if how == signal.SIGINT and signal.getsignal(how) == signal.SIG_IGN:
        pytest.skip("Ctrl-C is ignored where the tests were started in the background of a script")
    process, address = start()
    try:
        kept = Path(upload(address, pictures["blurry"]))
        large, sharp = (as_file(upload(address, sample_path(name))) for name in ("truth", "reference"))
        post(address, "upscale", large, [sharp], "PNG")  # a job that runs
        assert kept.exists()
        time.sleep(4 if how == signal.SIGTERM else 0)  # in the middle of it, or at its beginning
    finally:
        code, said = end(process, how)
    assert (code, said) == (0, "")
    assert not kept.parents[2].exists()


def test_the_shared_flags_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[tuple[Blend, WebConfig]] = []

    def run_server(blend: Blend, config: WebConfig, *, host: str, port: int) -> None:
        served.append((blend, config))

    monkeypatch.setattr("refsr.cli.serve.run_server", run_server)
    flags = ["--search", "coarse", "--precision", "bf16", "--memory", "1GiB", "--device", "cpu"]
    assert main(["serve", *flags, "--model", "bicubic"]) == 0
    assert main(["serve", *flags]) == 0
    for blend, config in served:
        assert (config.engine, config.precision, config.memory_bytes) == ("coarse", "bf16", 2**30)
        assert blend.clean.device.type == "cpu"
    assert [blend.clean.name for blend, _ in served] == ["bicubic", "default"]
    assert [blend.is_single for blend, _ in served] == [True, False]


def test_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    fails(capsys, 2, "give a number from 1 to 65535", "serve", "--port", "0")
    fails(capsys, 2, "--scale 3: give 1, 2, 4 or 8", "serve", "--scale", "3")
    fails(capsys, 2, "--texture 5: give a share between 0 and 1", "serve", "--texture", "5", "--device", "cpu")
    fails(capsys, 2, "use --model auto", "serve", "--quality", "real", "--model", "default", "--device", "cpu")
    fails(capsys, 2, "--size: visitors choose the scale on the page", "serve", "--size", "800x600")
    fails(capsys, 2, "the limit seconds is -1", "serve", "--max-seconds", "-1")
    fails(capsys, 2, "--host 192.0.2.1: cannot be used", "serve", "--host", "192.0.2.1", "--device", "cpu")


def test_a_port_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        fails(capsys, 2, rf"port {port} is in use: choose another, such as --port \d+", "serve", "--port", port)
