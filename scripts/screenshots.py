"""The pictures of the page in the docs: `python scripts/screenshots.py`, with refsr[web], playwright and Chromium."""

import io
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

IMAGES = Path(__file__).parent.parent / "docs" / "images"
PORT = 7899


def main() -> None:
    """Start a server, take the example, and photograph what is shown."""
    command = [sys.executable, "-m", "refsr", "serve", "--port", str(PORT)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, sync_playwright() as playwright:
        assert server.stdout is not None
        server.stdout.readline()
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, width in (("page", 1280), ("page_narrow", 390)):
            page = browser.new_page(viewport={"width": width, "height": 900})
            page.goto(f"http://127.0.0.1:{PORT}")
            _take_the_example(page)
            _keep(page.screenshot(full_page=width < 600), name)
            if width > 600:
                page.get_by_role("tab", name="What is real").click()
                page.wait_for_timeout(1000)
                _keep(page.screenshot(), f"{name}_map")
        server.terminate()


def _keep(screenshot: bytes, name: str) -> None:
    Image.open(io.BytesIO(screenshot)).save(IMAGES / f"{name}.webp", quality=85)


def _take_the_example(page: Page) -> None:
    page.locator("#example").click()
    page.locator("#references a").first.wait_for()
    page.locator("#start").click()
    page.get_by_text("comes from the references").wait_for(timeout=60_000)
    page.locator("#before-after img").first.wait_for()
    page.wait_for_timeout(1000)


if __name__ == "__main__":
    main()
