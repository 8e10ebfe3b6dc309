"""One job of the page: what it makes, its limits, and that it can be stopped."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import wait_for
from PIL import Image
from torch import Tensor

from refsr.errors import ImageError, UsageError
from refsr.io.photo import Photo, as_photo, write_photo
from refsr.models import RefSRModel
from refsr.restore.upscale import Upscaled, upscale
from refsr.web.request import JobResult, Status, StoppedError, WebConfig, run_job

CONFIG = WebConfig()


@pytest.fixture
def files(sample: dict[str, Tensor], tmp_path: Path) -> tuple[Path, Path]:
    blurry, sharp = tmp_path / "blurry ü.jpg", tmp_path / "sharp.png"
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    Photo(pixels=sample["lr"]).to_pil().save(blurry, exif=exif)
    write_photo(sharp, Photo(pixels=sample["ref"]))
    return blurry, sharp


def test_a_job(shipped: RefSRModel, files: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    *told, shown = run_job(files[0], [files[1]], "JPEG", tmp_path / "job", shipped, CONFIG, threading.Event())
    assert isinstance(shown, JobResult)
    shares = [status.share for status in told if isinstance(status, Status)]
    assert len(shares) == len(told) > 3
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)
    assert shown.download.name == "blurry ü_x4.jpg"
    height, width = as_photo(files[0]).size_px
    with Image.open(shown.download) as result:
        assert (result.format, result.size) == ("JPEG", (4 * width, 4 * height))
        assert result.getexif()[0x010F] == "a camera"
    for path in (shown.before, shown.without, shown.after):
        with Image.open(path) as picture:
            assert picture.size == (4 * width, 4 * height)
    assert "comes from the references" in shown.summary
    *_, alone = run_job(files[0], [], "PNG", tmp_path / "job", shipped, CONFIG, threading.Event())
    assert isinstance(alone, JobResult)
    assert "all detail is guessed" in alone.summary


def test_a_reference_that_was_not_used_is_named(
    shipped: RefSRModel, files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refsr.references.pose._MINIMUM_FIT", 2.0)
    *_, shown = run_job(files[0], [files[1]], "PNG", tmp_path, shipped, CONFIG, threading.Event())
    assert isinstance(shown, JobResult)
    assert "all detail is guessed. Not used, since they show other things: sharp.png." in shown.summary


def test_search_and_precision_reach_the_work(
    shipped: RefSRModel, files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, object]] = []

    def recorded(*pictures: Any, **options: Any) -> Upscaled:
        asked.append(options)
        return upscale(*pictures, **options)

    monkeypatch.setattr("refsr.restore.upscale.upscale", recorded)
    config = WebConfig(engine="coarse", precision="fp32", memory_bytes=2**30)
    list(run_job(files[0], [files[1]], "PNG", tmp_path, shipped, config, threading.Event()))
    told = [(options["engine"], options["precision"], options["memory_bytes"]) for options in asked]
    assert told == [("coarse", "fp32", 2**30)] * 2


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (WebConfig(max_file_mib=0.001), r"blurry ü.jpg: is larger than 0.001 MiB"),
        (WebConfig(max_megapixels=0.1), r"sharp.png: it has 0.389 megapixels, 0.1 are allowed"),
        (WebConfig(max_megapixels=0.05), r"blurry ü.jpg: its result would have 0.0819 megapixels"),
        (WebConfig(max_references=1), "2 references: no more than 1 are allowed here"),
        (WebConfig(max_seconds=0.01), "took more than 0.01 seconds, which is the limit"),
    ],
)
def test_limits(shipped: RefSRModel, files: tuple[Path, Path], tmp_path: Path, limits: WebConfig, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        list(run_job(files[0], [files[1]] * 2, "PNG", tmp_path, shipped, limits, threading.Event()))
    with pytest.raises(UsageError, match="the limit waiting is 0: give more than 0"):
        WebConfig(max_waiting=0)


def test_broken_files(shipped: RefSRModel, files: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(files[1].read_bytes()[:2000])
    (tmp_path / "text.png").write_text("no picture")
    for photo, reference in (("broken.png", "sharp.png"), ("blurry ü.jpg", "text.png")):
        damaged = next(name for name in (photo, reference) if name in ("broken.png", "text.png"))
        with pytest.raises(ImageError, match=f"{damaged}: "):
            list(run_job(tmp_path / photo, [tmp_path / reference], "PNG", tmp_path, shipped, CONFIG, threading.Event()))


@pytest.mark.parametrize("how", ["closed", "told"])
def test_a_job_can_be_stopped(shipped: RefSRModel, tmp_path: Path, how: str) -> None:
    """A picture that takes many seconds is let go within one part of it."""
    write_photo(tmp_path / "large.png", Photo(pixels=torch.rand(1, 3, 900, 900)))
    stop = threading.Event()
    running: Iterator[Status | JobResult] = run_job(tmp_path / "large.png", [], "PNG", tmp_path, shipped, CONFIG, stop)
    next(running)
    next(running)
    threads = threading.active_count()
    if how == "closed":
        running.close()  # type: ignore[attr-defined]
    else:
        stop.set()
        with pytest.raises(StoppedError):
            list(running)
    wait_for(lambda: threading.active_count() < threads, 20)
    assert not list(tmp_path.glob("*_x4.png"))
