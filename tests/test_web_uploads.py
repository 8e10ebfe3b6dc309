"""Files that visitors send: named as they named them, whatever is wrong with them."""

from pathlib import Path

import pytest
from PIL import Image
from test_web_request import EN, files, last, run, shop

from refsr.errors import ImageError, OutputError
from refsr.models import RefSRModel
from refsr.web.turns import Status
from refsr.web.uploads import Order, Upload, as_upload, reason_of

__all__ = ["files"]  # a fixture


def test_broken_files_are_named_as_the_visitor_named_them(
    shipped: RefSRModel, files: tuple[Upload, Upload], tmp_path: Path
) -> None:
    data = files[1].path.read_bytes()
    (tmp_path / "2.png").write_bytes(data[:2000])
    (tmp_path / "3.png").write_text("no picture")
    Image.new("RGB", (9, 9)).save(tmp_path / "4.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "5.png")
    broken = [as_upload(tmp_path / f"{number}.png", f"holiday {number}.png") for number in range(2, 6)]
    orders = [Order(photo=files[0], references=(files[1], each)) for each in broken]
    orders += [Order(photo=each, references=(files[1],)) for each in broken if each.name != "holiday 4.png"]
    for order in orders:
        with pytest.raises(ImageError) as raised:
            list(run(order, tmp_path, shop(shipped, tmp_path)))
        said = reason_of(raised.value, order.photo, order.references, EN)
        assert said.startswith("holiday "), said
        assert str(tmp_path) not in said


def test_no_path_of_the_server_is_told(files: tuple[Upload, Upload], tmp_path: Path) -> None:
    for error in (
        OSError(28, "No space left on device", str(tmp_path / "x.png")),
        OutputError(f"{tmp_path}/deep/er/x.png: cannot be written (No space left on device)"),
        FileNotFoundError(2, "No such file or directory", str(tmp_path)),
        MemoryError(str(tmp_path)),
        ImageError(f"reference 1: is bad\nin two lines of {tmp_path}/x.png: so"),
    ):
        said = reason_of(error, files[0], files[1:], EN)
        assert str(tmp_path) not in said
        assert "/tmp" not in said
        assert "\n" not in said
        assert said


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ("beach.jpg", "beach.jpg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\Bild 1.PNG", "Bild 1.PNG"),
        ("a\nb\x00c\u202e.png", "a b c .png"),
        ("", "on disk.png"),
        (None, "on disk.png"),
        ("...", "photo"),
        ("沙滩.jpg", "沙滩.jpg"),
        ("x" * 999 + ".png", "x" * 120 + ".png"),
    ],
)
def test_names_are_shown_and_written_safely(told: str | None, name: str) -> None:
    upload = as_upload("/somewhere/on disk.png", told)
    assert upload.name == name
    assert "/" not in Order(photo=upload).file_name


def test_notes_name_files_as_the_visitor_did(shipped: RefSRModel, files: tuple[Upload, Upload], tmp_path: Path) -> None:
    data = files[0].path.read_bytes()
    files[0].path.write_bytes(data[: int(len(data) * 0.6)])
    shown = last(run(Order(photo=files[0], references=(files[1],)), tmp_path, shop(shipped, tmp_path)))
    assert len(shown.notes) == 1
    assert shown.notes[0].startswith("blurry ü.jpg: ")


def test_transparency_as_jpeg_is_refused_before_the_work(shipped: RefSRModel, tmp_path: Path) -> None:
    Image.new("RGBA", (64, 48), (9, 9, 9, 90)).save(tmp_path / "a.png")
    order = Order(photo=as_upload(tmp_path / "a.png", "logo.png"), kind="JPEG")
    running = run(order, tmp_path, shop(shipped, tmp_path))
    assert isinstance(first := next(running), Status)
    assert first.share == 0
    with pytest.raises(OutputError, match="logo.png: is transparent in places, which JPEG cannot keep"):
        next(running)
