"""The pictures of the page: `python scripts/screenshots.py`, with `pip install 'refsr[web]' playwright` and Chromium.

`python scripts/screenshots.py --figure` makes the picture that explains the idea, out of the bundled sample.
"""

import io
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Page, sync_playwright

from refsr.assets import figure_path, sample_path
from refsr.io.photo import Photo, as_photo
from refsr.models import load_model
from refsr.resize import downscale_bicubic
from refsr.restore.upscale import upscale

IMAGES = Path(__file__).parent.parent / "docs" / "images"
PORT = 7899
ADDRESS = f"http://127.0.0.1:{PORT}"
MAXIMUM_BYTES = 120_000


def main() -> None:
    """Start a server, take the example, and photograph what is shown."""
    if "--figure" in sys.argv:
        _make_figure()
        return
    command = [sys.executable, "-m", "refsr", "serve", "--port", str(PORT)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, sync_playwright() as playwright:
        try:
            assert server.stdout is not None
            server.stdout.readline()
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            _photograph(browser)
        finally:
            server.terminate()


def _photograph(browser: Browser) -> None:
    with _page(browser, 1280, 1080) as page:
        _take_the_example(page)
        _keep(page.screenshot(), "page")
        page.locator("#map button").first.click()
        page.locator("#overlay img").wait_for()
        page.wait_for_timeout(1000)
        _keep(page.screenshot(full_page=True), "page_map", width=900)
    with _page(browser, 390, 900) as page:
        _take_the_example(page)
        _keep(page.screenshot(full_page=True), "page_narrow")
    with _page(browser, 1280, 1080, "zh-CN") as page:
        _take_the_example(page)
        _keep(page.screenshot(), "page_zh")
    with _page(browser, 1280, 900) as first, _page(browser, 1280, 900) as second:
        first.locator("#photo input[type=file]").set_input_files(sample_path("truth"))
        first.locator("#photo img").wait_for()
        first.locator("#start").click()
        first.locator("#status").get_by_text(re.compile("restoring")).wait_for()
        second.locator("#example").click()
        second.locator("#references a").first.wait_for()
        second.locator("#start").click()
        second.locator("#status").get_by_text(re.compile("before you")).wait_for()
        _keep(second.screenshot(), "page_waiting")
        first.locator("#cancel").click()


@contextmanager
def _page(browser: Browser, width: int, height: int, locale: str = "en-US") -> Iterator[Page]:
    context = browser.new_context(viewport={"width": width, "height": height}, locale=locale)
    page = context.new_page()
    page.goto(ADDRESS)
    page.wait_for_selector("#start")
    yield page
    context.close()


def _keep(screenshot: bytes, name: str, width: int = 1280) -> None:
    image = Image.open(io.BytesIO(screenshot)).convert("RGB")
    image.thumbnail((width, image.height))
    for quality in (85, 75, 65, 50):
        image.save(IMAGES / f"{name}.webp", quality=quality, method=6)
        if (IMAGES / f"{name}.webp").stat().st_size < MAXIMUM_BYTES:
            return
    raise SystemExit(f"{name}.webp has more than {MAXIMUM_BYTES} bytes")


def _take_the_example(page: Page) -> None:
    page.locator("#example").click()
    page.locator("#references a").first.wait_for()
    page.locator("#start").click()
    page.locator("#loupe img").first.wait_for(timeout=120_000)
    page.locator("#preview img").wait_for()
    page.wait_for_timeout(1500)


def _make_figure() -> None:
    """Blurry + sharp -> restored, without words, since the page has several languages."""
    truth, reference = as_photo(sample_path("truth")), as_photo(sample_path("reference"))
    blurry = Photo(pixels=downscale_bicubic(truth.pixels, 4).clamp(0, 1))
    restored = upscale(blurry, [reference], model=load_model(device="cpu"), provenance=False)
    side, gap = (360, 270), 56
    before = blurry.to_pil().resize(truth.to_pil().size, Image.Resampling.BICUBIC)
    box = (180, 90, 180 + side[0], 90 + side[1])
    panels = [before.crop(box), reference.to_pil().crop(box), restored.to_pil().crop(box)]
    figure = Image.new("RGB", (3 * side[0] + 2 * gap, side[1]), "white")
    draw = ImageDraw.Draw(figure)
    for index, panel in enumerate(panels):
        figure.paste(panel, (index * (side[0] + gap), 0))
    middle, arm, width, ink = side[1] // 2, 14, 6, (90, 90, 90)
    plus, arrow = side[0] + gap // 2, 2 * side[0] + gap + gap // 2
    draw.line((plus - arm, middle, plus + arm, middle), ink, width)
    draw.line((plus, middle - arm, plus, middle + arm), ink, width)
    draw.line((arrow - arm, middle, arrow + arm, middle), ink, width)
    draw.polygon([(arrow + arm + 6, middle), (arrow + 2, middle - arm), (arrow + 2, middle + arm)], ink)
    figure.save(figure_path(), quality=70, method=6)


if __name__ == "__main__":
    main()
