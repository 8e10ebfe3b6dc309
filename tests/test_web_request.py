"""One job of the page: what it makes, its limits, what is said of it, and that it can be stopped."""

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import wait_for
from PIL import Image
from torch import Tensor

from refsr.errors import UsageError
from refsr.io.photo import Photo, as_photo, write_photo
from refsr.models import Blend, RefSRModel, load_blend, load_model
from refsr.restore.upscale import Upscaled, upscale
from refsr.web.estimate import Speed
from refsr.web.finished import JobResult
from refsr.web.request import Workshop, run_comparison, run_job
from refsr.web.turns import Status, StoppedError
from refsr.web.uploads import Order, Upload, as_upload, with_own_names
from refsr.web.visits import Visits
from refsr.web.web_config import WebConfig
from refsr.web.words import Words

EN = Words("en")


@pytest.fixture
def files(sample: dict[str, Tensor], tmp_path: Path) -> tuple[Upload, Upload]:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    Photo(pixels=sample["lr"]).to_pil().save(tmp_path / "0.jpg", exif=exif)
    write_photo(tmp_path / "1.png", Photo(pixels=sample["ref"]))
    return as_upload(tmp_path / "0.jpg", "blurry ü.jpg"), as_upload(tmp_path / "1.png", "sharp.png")


def shop(model: RefSRModel | Blend, folder: Path, config: WebConfig | None = None) -> Workshop:
    speed = Speed(scale=4, halo_cells=32, alone_s=1e-6)
    return Workshop(folder=folder, blend=Blend.of(model), config=config or WebConfig(), speed=speed)


def run(order: Order, folder: Path, shop: Workshop, words: Words = EN) -> Iterator[Status | JobResult]:
    (folder / "job").mkdir(exist_ok=True)
    (folder / "keep").mkdir(exist_ok=True)
    return run_job(order, folder / "job", folder / "keep", shop, words, threading.Event())


def last(told: Iterator[Status | JobResult]) -> JobResult:
    *_, shown = told
    assert isinstance(shown, JobResult)
    return shown


def test_a_job(shipped: RefSRModel, files: tuple[Upload, Upload], tmp_path: Path) -> None:
    place = shop(shipped, tmp_path)
    *told, shown = run(Order(photo=files[0], references=(files[1],), kind="JPEG"), tmp_path, place)
    assert isinstance(shown, JobResult)
    shares = [status.share for status in told if isinstance(status, Status)]
    assert len(shares) == len(told) > 3
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)
    assert shown.download.name == "blurry ü_x4.jpg"
    height, width = as_photo(files[0].path).size_px
    with Image.open(shown.download) as result:
        assert (result.format, result.size) == ("JPEG", (4 * width, 4 * height))
        assert result.getexif()[0x010F] == "a camera"
    with Image.open(shown.preview) as picture:
        assert picture.size == (4 * width, 4 * height)
    assert "% of it has detail of your references" in shown.summary
    assert place.speed.correction != 1  # it has learnt
    alone = last(run(Order(photo=files[0]), tmp_path, place))
    assert "all detail is guessed" in alone.summary
    assert alone.given == ()


def test_the_texture_asked_for_is_that_of_the_result_and_of_its_comparison(
    files: tuple[Upload, Upload], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def recorded(photo: Any, refs: Any, **options: Any) -> Upscaled:
        asked.append(options["texture"])
        return upscale(photo, refs, **options)

    monkeypatch.setattr("refsr.restore.upscale.upscale", recorded)
    place = shop(load_blend(device="cpu"), tmp_path)
    shown = last(run(Order(photo=files[0], references=(files[1],), texture=0.3), tmp_path, place))
    assert shown.summary.endswith(" Texture 0.3.")
    list(run_comparison(shown.kept, place, EN, threading.Event()))
    assert asked == [0.3, 0.3]
    single = shop(load_model("default", device="cpu"), tmp_path)
    last(run(Order(photo=files[0], texture=0.3), tmp_path, single))
    assert asked[2:] == [0.0]


@pytest.mark.parametrize("scale", [1.0, 2.0, 8.0])
def test_scales(shipped: RefSRModel, files: tuple[Upload, Upload], tmp_path: Path, scale: float) -> None:
    photo = as_photo(files[0].path)
    height, width = photo.size_px
    soft = Image.fromarray(np.asarray(photo.to_pil())).resize((2 * width, 2 * height), Image.Resampling.BICUBIC)
    soft.save(tmp_path / "soft.png")
    upload = as_upload(tmp_path / "soft.png") if scale < 4 else files[0]
    size = (2 * width, 2 * height) if scale < 4 else (width, height)
    place = shop(shipped, tmp_path)
    shown = last(run(Order(photo=upload, references=(files[1],), scale=scale), tmp_path, place))
    assert shown.download.name == f"{upload.stem}_x{scale:g}.png"
    with Image.open(shown.download) as result:
        assert result.size == (round(scale * size[0]), round(scale * size[1]))
    assert "% of it has detail of your references" in shown.summary
    *_, seconds = run_comparison(shown.kept, place, EN, threading.Event())
    assert isinstance(seconds, float)
    assert len({part.size for _, part in shown.kept.crops(100)}) == 1


def test_a_sharp_photo_at_its_own_size(shipped: RefSRModel, files: tuple[Upload, Upload], tmp_path: Path) -> None:
    order = Order(photo=files[1], references=(files[1],), scale=1.0)
    shown = last(run(order, tmp_path, shop(shipped, tmp_path)))
    assert "as sharp as its size allows, and stays as it is" in shown.summary
    assert shown.notes == ()
    assert shown.given == ()
    assert torch.equal(as_photo(shown.download).pixels, as_photo(files[1].path).pixels)


def test_a_run_restores_once_and_the_comparison_on_demand(
    shipped: RefSRModel, files: tuple[Upload, Upload], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, dict[str, Any]]] = []

    def recorded(photo: Any, refs: Any, **options: Any) -> Upscaled:
        asked.append((len(refs), options))
        return upscale(photo, refs, **options)

    monkeypatch.setattr("refsr.restore.upscale.upscale", recorded)
    config = WebConfig(engine="coarse", precision="fp32", memory_bytes=2**30)
    place = shop(shipped, tmp_path, config)
    shown = last(run(Order(photo=files[0], references=(files[1],)), tmp_path, place))
    assert [count for count, _ in asked] == [1]
    assert shown.kept.read("without") is None
    assert [name for name, _ in shown.kept.crops(100)] == ["before", "after"]
    *told, seconds = run_comparison(shown.kept, place, EN, threading.Event())
    assert all(isinstance(status, Status) and "restoring without references" in status.text for status in told)
    assert isinstance(seconds, float)
    assert [count for count, _ in asked] == [1, 0]
    for _, options in asked:
        assert (options["engine"], options["precision"], options["memory_bytes"]) == ("coarse", "fp32", 2**30)
    assert [name for name, _ in shown.kept.crops(100)] == ["before", "without", "after"]
    shown.kept.delete()
    with pytest.raises(UsageError, match="deleted already"):
        list(run_comparison(shown.kept, place, EN, threading.Event()))


def test_the_loupe_shows_the_full_size(shipped: RefSRModel, files: tuple[Upload, Upload], tmp_path: Path) -> None:
    """Its parts are those of the download, and of the photo enlarged as a whole."""
    shown = last(run(Order(photo=files[0], references=(files[1],)), tmp_path, shop(shipped, tmp_path)))
    whole = as_photo(shown.download).to_pil()
    photo = as_photo(files[0].path).to_pil().resize(whole.size, Image.Resampling.BICUBIC)
    for x, y in ((0.0, 0.0), (1.0, 1.0), (0.5, 0.3), (0.37, 0.91), shown.kept.place):
        shown.kept.place = (x, y)
        left, top = (
            min(max(round(part * side - 50), 0), side - 100) for part, side in zip((x, y), whole.size, strict=True)
        )
        box = (left, top, left + 100, top + 100)
        crops = dict(shown.kept.crops(100))
        assert np.array_equal(np.asarray(crops["after"]), np.asarray(whole.crop(box)))
        assert np.abs(np.asarray(crops["before"], float) - np.asarray(photo.crop(box), float)).max() <= 2
    assert {part.size for _, part in shown.kept.crops(10_000)} == {whole.size}


def test_references_and_what_each_gave(
    shipped: RefSRModel, files: tuple[Upload, Upload], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twins = with_own_names([files[1], files[1]])
    shown = last(run(Order(photo=files[0], references=twins), tmp_path, shop(shipped, tmp_path)))
    assert [given.name for given in shown.given] == ["sharp.png", "sharp.png (2)"]
    assert all(max(given.thumbnail.size) == 160 for given in shown.given)
    assert any("% of the picture" in given.text for given in shown.given)
    monkeypatch.setattr("refsr.web.finished._LEAST_SHARE", 2.0)
    shown = last(run(Order(photo=files[0], references=(files[1],)), tmp_path, shop(shipped, tmp_path)))
    assert shown.given[0].text == "no sharper than your photo: nothing was taken"
    itself = as_upload(files[0].path, "again.jpg")
    shown = last(run(Order(photo=files[0], references=(itself,)), tmp_path, shop(shipped, tmp_path)))
    assert shown.given[0].text == "is the photo itself: not used"
    monkeypatch.setattr("refsr.references.pose._MINIMUM_FIT", 2.0)
    shown = last(run(Order(photo=files[0], references=(files[1],)), tmp_path, shop(shipped, tmp_path)))
    assert shown.given[0].text == "shows other things: not used"
    assert "all detail is guessed" in shown.summary


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (WebConfig(max_file_mib=0.001), r"blurry ü.jpg: is larger than 0.001 MiB"),
        (WebConfig(max_request_mib=0.5), r"the pictures have 0.996 MiB together, 0.5 are allowed here"),
        (WebConfig(max_megapixels=0.1), r"sharp.png: has 0.389 megapixels, 0.1 are allowed"),
        (WebConfig(max_references=1), "2 sharp photos: no more than 1 are allowed here"),
        (WebConfig(max_seconds=0.001), "would take about 1 s on this machine"),
        (WebConfig(max_total_mib=0.5), "no room for more pictures"),
    ],
)
def test_limits(
    shipped: RefSRModel, files: tuple[Upload, Upload], tmp_path: Path, limits: WebConfig, message: str
) -> None:
    order = Order(photo=files[0], references=(files[1], files[1]))
    with pytest.raises(UsageError, match=message):
        list(run(order, tmp_path, shop(shipped, tmp_path, limits)))
    with pytest.raises(UsageError, match="[\u4e00-\u9fff]"):
        list(run(order, tmp_path, shop(shipped, tmp_path, limits), Words("zh")))
    with pytest.raises(UsageError, match="the limit waiting is 0: give more than 0"):
        WebConfig(max_waiting=0)


def test_a_job_that_takes_longer_than_was_thought(
    shipped: RefSRModel, files: tuple[Upload, Upload], tmp_path: Path
) -> None:
    place = shop(shipped, tmp_path, WebConfig(max_seconds=0.1))
    place.speed.alone_s = 1e-9
    with pytest.raises(UsageError, match="this took more than about 1 s, which is the limit here"):
        list(run(Order(photo=files[0], references=(files[1],)), tmp_path, place))


@pytest.mark.parametrize("how", ["closed", "told"])
def test_a_job_can_be_stopped(shipped: RefSRModel, tmp_path: Path, how: str) -> None:
    """A picture that takes many seconds is let go within one part of it."""
    write_photo(tmp_path / "large.png", Photo(pixels=torch.rand(1, 3, 900, 900)))
    stop, place = threading.Event(), shop(shipped, tmp_path)
    (tmp_path / "job").mkdir()
    order = Order(photo=as_upload(tmp_path / "large.png"))
    running = run_job(order, tmp_path / "job", tmp_path, place, EN, stop)
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
    assert not list((tmp_path / "job").iterdir())
    wait_for(place.line.is_empty)


def test_a_visitor_keeps_the_last_result_for_a_while(
    shipped: RefSRModel, files: tuple[Upload, Upload], tmp_path: Path
) -> None:
    visits = Visits(shop=shop(shipped, tmp_path))
    visitor = SimpleNamespace(session_hash="a", headers={"accept-language": "zh"})
    for _ in range(2):
        list(visits.restore(files[0], [files[1]], "PNG", 4.0, 0.0, None, visitor))
    assert len(list(tmp_path.glob("kept-*"))) == 1
    assert not list(tmp_path.glob("job-*"))
    assert "之前" in visits.look([10.0, 10.0], visitor)
    assert "已被删除" in visits.look(None, SimpleNamespace(session_hash="b", headers=visitor.headers))
    visits.results.sweep(1000.0)
    assert visits.results.of("a")
    visits.results.sweep(0.0)
    assert not list(tmp_path.glob("kept-*"))
    assert "已被删除" in visits.look(None, visitor)
