"""The page as visitors see it, in a real browser."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import wait_for
from test_web_server import make_pictures, server

from refsr.assets import figure_path, sample_path
from refsr.io.photo import Photo, as_photo, write_photo

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with server() as found:
        yield found


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@contextmanager
def opened(browser: Any, address: str, width: int = 1280, language: str = "en-US") -> Iterator[Any]:
    """The page of a visitor of its own; every request of it goes to the server itself."""
    context = browser.new_context(viewport={"width": width, "height": 900}, locale=language)
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.wait_for_selector("#start")
    yield page
    elsewhere = [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    context.close()
    assert elsewhere == []


def said(page: Any, pattern: str, place: str = "#status", seconds: float = 90) -> str:
    """Wait for what the page says."""
    text = ""

    def is_said() -> bool:
        nonlocal text
        found = page.locator(place)
        text = str(found.inner_text()) if found.count() else ""
        return re.search(pattern, text) is not None

    wait_for(is_said, seconds)
    return text


def give(page: Any, photo: Path, *references: Path) -> None:
    page.locator("#photo input[type=file]").set_input_files(photo)
    page.locator("#photo [aria-label='Clear']").or_(page.locator("#photo img")).first.wait_for()
    if references:
        page.locator("#references input[type=file]").set_input_files(list(references))
        page.locator("#references a").nth(len(references) - 1).wait_for()


def take_the_example(page: Any) -> None:
    page.locator("#example").click()
    page.locator("#references a").first.wait_for(timeout=90_000)


def test_upload_wait_look_and_download(browser: Any, address: str, pictures: dict[str, Path]) -> None:
    with opened(browser, address) as page:
        page.locator(".figure img").wait_for()  # what it is all about
        give(page, pictures["blurry"], pictures["sharp"])
        page.locator("#start").click()
        assert re.search(r"\d+ %, about \d+ (s|min) left", said(page, "left"))
        said(page, "Done in")
        assert "% of it has detail of your references" in said(page, "720 x 540 pixels", "#summary")
        assert not page.locator(".figure img").is_visible()
        page.locator("#preview img").wait_for()
        first = page.locator("#loupe img").first.get_attribute("src")
        assert said(page, "after", "#loupe").split() == ["before", "after"]
        box = page.locator("#preview img").bounding_box()
        page.mouse.click(box["x"] + 0.9 * box["width"], box["y"] + 0.9 * box["height"])
        wait_for(lambda: page.locator("#loupe img").first.get_attribute("src") != first)
        assert page.evaluate("getComputedStyle(document.querySelector('#loupe img')).objectFit") == "none"
        assert re.search(r"sharp.png\s+\d+ % of the picture", said(page, "sharp", "#cards"))
        assert page.locator("#preview :is(a, [aria-label=Download]), #photo :is(a, [aria-label=Download])").count() == 0
        with page.expect_download() as download:
            page.locator("#download").click()
        assert as_photo(Path(download.value.path())).size_px == (540, 720)
        assert download.value.suggested_filename == "blurry_x4.png"


def test_the_comparison_is_made_on_demand(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        take_the_example(page)
        page.locator("#start").click()
        said(page, "It takes about", "#compare-note")
        page.locator("#compare").click()
        said(page, r"Without references: \d+ s", "#compare-note")
        assert page.locator("#loupe img").count() == 3
        page.locator("#map button").first.click()
        page.locator("#overlay img").wait_for()


def test_a_phone_scrolls_to_the_result(browser: Any, address: str) -> None:
    with opened(browser, address, width=390) as page:
        take_the_example(page)
        page.locator("#start").scroll_into_view_if_needed()
        page.locator("#start").click()
        said(page, "Done in")
        wait_for(lambda: abs(page.locator("#result").bounding_box()["y"]) < 200)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.locator("#preview img").bounding_box()["width"] > 300


def test_trouble_is_told_and_goes_away(browser: Any, address: str, pictures: dict[str, Path]) -> None:
    with opened(browser, address) as page:
        page.locator("#start").click()
        said(page, "Give a blurry photo first")
        page.locator("#photo input[type=file]").set_input_files(pictures["broken"])
        page.wait_for_timeout(1000)
        page.locator("#start").click()
        said(page, "broken.png: is no picture that can be read, or is damaged")
        assert not page.locator("#result").is_visible()
        take_the_example(page)
        page.locator("#start").click()
        assert "broken" not in said(page, "left|Done")
        said(page, "Done in")
        assert page.locator(".problem").count() == 0


def test_cancel(browser: Any, address: str, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    write_photo(large, Photo(pixels=as_photo(sample_path("truth")).pixels.repeat(1, 1, 2, 2)))
    with opened(browser, address) as page:
        give(page, large)
        page.locator("#start").click()
        said(page, "restoring")
        page.locator("#cancel").click()
        said(page, "Cancelled")
        # The next job is not kept waiting by the one that was cancelled.
        take_the_example(page)
        page.locator("#start").click()
        said(page, "Done in")


def test_a_second_visitor_sees_the_place_in_the_queue(browser: Any, address: str, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    write_photo(large, as_photo(sample_path("truth")))
    with opened(browser, address) as first, opened(browser, address, language="zh-CN") as second:
        give(first, large)
        first.locator("#start").click()
        said(first, "restoring")
        take_the_example(second)
        second.locator("#start").click()
        said(second, r"前面有 1 个.约 \d+ (秒|分钟)后轮到您")
        first.locator("#cancel").click()
        said(second, "完成")


def test_chinese(browser: Any, address: str, pictures: dict[str, Path]) -> None:
    with opened(browser, address, language="zh-CN") as page:
        assert page.locator("#start").inner_text() == "开始修复"
        assert "忠实" in page.locator("#texture").inner_text()
        assert "百万像素" in page.locator("#limits").inner_text()
        give(page, pictures["blurry"], pictures["sharp"])
        page.locator("#kind").get_by_text("JPEG").click()
        page.locator("#texture input[type=number]").fill("1")
        page.locator("#scale").get_by_text("2x").click()
        page.locator("#start").click()
        said(page, "完成")
        said(page, "360 x 270", "#summary")
        for place in ("#summary", "#loupe", "#cards", "#compare-note", "#download", "#compare"):
            said(page, "[\u4e00-\u9fff]", place)
        english = re.findall("[A-Za-z]{4,}", page.locator("#result").inner_text().replace("sharp.png", ""))
        assert english == []


def test_the_figure_is_small() -> None:
    assert figure_path().stat().st_size <= 60 * 1024
