"""The page as visitors see it, in a real browser, and as programs see it."""

import json
import re
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import fails, wait_for

from refsr.assets import sample_path
from refsr.cli import main
from refsr.io.photo import Photo, as_photo, write_photo
from refsr.models import RefSRModel
from refsr.resize import downscale_bicubic
from refsr.web.request import WebConfig

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@contextmanager
def server(*arguments: str) -> Iterator[str]:
    """Its address, once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "refsr", "serve", "--port", str(port), "--device", "cpu", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            said = process.stdout.readline()
            assert said == f"refsr is at http://127.0.0.1:{port} (Ctrl-C ends it)\n"
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()  # Ctrl-C is ignored where the tests were started in the background of a script
            try:
                process.wait(30)
            finally:
                process.kill()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with server() as found:
        yield found


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pictures")
    found = {name: folder / f"{name}.png" for name in ("blurry", "sharp", "broken")}
    write_photo(found["blurry"], Photo(pixels=downscale_bicubic(as_photo(sample_path("truth")).pixels, 4)))
    write_photo(found["sharp"], as_photo(sample_path("reference")))
    found["broken"].write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@contextmanager
def opened(browser: Any, address: str, width: int = 1280) -> Iterator[Any]:
    """The page; every request of it goes to the server itself."""
    page = browser.new_page(viewport={"width": width, "height": 900})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.wait_for_selector("#start")
    yield page
    elsewhere = [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    page.close()
    assert elsewhere == []


def status(page: Any, pattern: str, seconds: float = 60) -> str:
    """Wait for what the page says."""
    said = ""

    def is_said() -> bool:
        nonlocal said
        said = str(page.locator("#status").inner_text())
        return re.search(pattern, said) is not None

    wait_for(is_said, seconds)
    return said


@in_browser
def test_upload_wait_slide_and_look(browser: Any, address: str, pictures: dict[str, Path]) -> None:
    with opened(browser, address) as page:
        page.locator("#photo input[type=file]").set_input_files(pictures["blurry"])
        page.locator("#references input[type=file]").set_input_files([pictures["sharp"]])
        page.locator("#references").get_by_text("sharp.png").wait_for()
        page.locator("#photo img").wait_for()
        page.locator("#start").click()
        assert re.search(r"\d+%", status(page, "left|real|refer"))
        assert "comes from the references" in status(page, "720 x 540 pixels")
        slider = page.locator("#before-after img")
        slider.first.wait_for()
        assert slider.count() == 2
        handle = page.locator("#before-after .outer").first
        box = handle.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] - 100, box["y"] + box["height"] / 2, steps=5)
        page.mouse.up()
        moved = page.locator("#before-after .outer").first.bounding_box()
        assert moved["x"] < box["x"] - 50
        page.get_by_role("tab", name="What is real").click()
        page.locator("#overlay img").wait_for()
        page.get_by_role("tab", name="Without, with").click()
        page.locator("#without-with img").first.wait_for()
        with page.expect_download() as download:
            page.locator("#download a").first.click()
        photo = as_photo(Path(download.value.path()))
        assert photo.size_px == (540, 720)


@in_browser
def test_the_example_on_a_narrow_screen(browser: Any, address: str) -> None:
    with opened(browser, address, width=390) as page:
        page.locator("#example").click()
        page.locator("#photo img").wait_for()
        page.locator("#start").click()
        status(page, "comes from the references")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.locator("#before-after").bounding_box()["width"] > 300


@in_browser
def test_a_broken_file_and_no_file_are_told(browser: Any, address: str, pictures: dict[str, Path]) -> None:
    with opened(browser, address) as page:
        page.locator("#start").click()
        page.get_by_text("Give a blurry photo first").wait_for()
    with opened(browser, address) as page:
        page.locator("#photo input[type=file]").set_input_files(pictures["broken"])
        page.wait_for_timeout(1000)
        page.locator("#start").click()
        page.get_by_text("broken.png: is no picture that can be read, or is damaged").wait_for()


@in_browser
def test_cancel(browser: Any, address: str, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    write_photo(large, Photo(pixels=as_photo(sample_path("truth")).pixels.repeat(1, 1, 2, 2)))
    with opened(browser, address) as page:
        page.locator("#photo input[type=file]").set_input_files(large)
        page.locator("#photo img").wait_for()
        page.locator("#start").click()
        status(page, "enlarging")
        page.locator("#cancel").click()
        status(page, "Cancelled")
        # The next job is not kept waiting by the one that was cancelled.
        page.locator("#example").click()
        page.locator("#references a").first.wait_for(timeout=90_000)
        page.locator("#start").click()
        status(page, "comes from the references")


def call(address: str, *data: object) -> str:
    """What the API says to a call."""
    request = urllib.request.Request(
        f"{address}/gradio_api/call/upscale",
        json.dumps({"data": data}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{address}/gradio_api/call/upscale/{event}", timeout=120) as answer:
        return str(answer.read().decode())


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


def as_file(path: str) -> dict[str, object]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def test_the_api(address: str, pictures: dict[str, Path]) -> None:
    blurry, sharp = (as_file(upload(address, pictures[name])) for name in ("blurry", "sharp"))
    said = call(address, blurry, [sharp], "JPEG")
    assert "event: complete" in said
    assert "blurry_x4.jpg" in said


def test_other_files_of_the_machine_cannot_be_read(address: str, pictures: dict[str, Path]) -> None:
    outside = as_file(str(pictures["blurry"]))
    inside = as_file(upload(address, pictures["blurry"]))
    for data in ((outside, [], "PNG"), (inside, [outside], "PNG"), (as_file("/etc/passwd"), [], "PNG")):
        said = call(address, *data)
        assert "event: error" in said
        assert "event: complete" not in said
    for path in (str(pictures["blurry"]), "/etc/passwd"):
        with pytest.raises(urllib.error.HTTPError, match="40[34]"):
            urllib.request.urlopen(f"{address}/gradio_api/file={path}", timeout=60)


def test_only_this_machine_unless_told(address: str) -> None:
    port = int(address.rpartition(":")[2])
    table = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()]
    listening = [fields[1] for fields in table if fields[3] == "0A" and fields[1].endswith(f":{port:04X}")]
    assert listening == [f"0100007F:{port:04X}"]


def test_uploads_are_deleted_and_large_ones_refused(pictures: dict[str, Path]) -> None:
    with server("--keep-seconds", "1", "--max-file-mib", "0.3") as address:
        kept = Path(upload(address, pictures["blurry"]))
        assert kept.is_file()
        assert pictures["sharp"].stat().st_size > 0.3 * 2**20
        with pytest.raises(urllib.error.HTTPError, match="413"):
            upload(address, pictures["sharp"])
        wait_for(lambda: not kept.exists())
        folder = kept.parents[2]
        assert folder.name.startswith("refsr-web-")
    assert not folder.exists()


def test_the_queue_has_an_end(pictures: dict[str, Path]) -> None:
    with server("--max-waiting", "1") as address:
        blurry = as_file(upload(address, pictures["blurry"]))
        request = json.dumps({"data": [blurry, [], "PNG"]}).encode()
        refused = 0
        for _ in range(6):
            asked = urllib.request.Request(
                f"{address}/gradio_api/call/upscale", request, {"Content-Type": "application/json"}
            )
            try:
                urllib.request.urlopen(asked, timeout=60).close()
            except urllib.error.HTTPError as error:
                refused += error.code == 503

        assert refused > 0


def test_the_shared_flags_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[tuple[RefSRModel, WebConfig]] = []

    def run_server(model: RefSRModel, config: WebConfig, *, host: str, port: int) -> None:
        served.append((model, config))

    monkeypatch.setattr("refsr.cli.serve.run_server", run_server)
    flags = ["--search", "coarse", "--precision", "bf16", "--memory", "1GiB", "--device", "cpu", "--model", "bicubic"]
    assert main(["serve", *flags]) == 0
    ((model, config),) = served
    assert (config.engine, config.precision, config.memory_bytes) == ("coarse", "bf16", 2**30)
    assert (model.name, model.device.type) == ("bicubic", "cpu")


def test_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    fails(capsys, 2, "give a number from 1 to 65535", "serve", "--port", "0")
    fails(capsys, 2, "the limit seconds is -1", "serve", "--max-seconds", "-1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "refsr", "serve", "--port", str(port), "--device", "cpu"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 2
        assert f"127.0.0.1:{port} cannot be used" in done.stderr.splitlines()[-1]
