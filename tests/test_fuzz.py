"""Damaged and odd pictures: an error of ours or a picture, without hanging, and never an output half-written.

`make fuzz` looks at tens of thousands, also guided by coverage; the tests at a few hundred.
"""

import io
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from refsr.batch.jobs import JobOptions, read_jobs
from refsr.bench.datasets import open_dataset
from refsr.cli import main
from refsr.errors import RefSRError
from refsr.io.photo import as_photo
from refsr.io.weights import read_weights

EXAMPLES = int(os.environ.get("REFSR_FUZZ", "300"))
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP")
MODES = ("L", "LA", "RGB", "RGBA", "P", "1", "I;16", "CMYK")
often = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@contextmanager
def guarded() -> Iterator[None]:
    """Fail where a file keeps the reader for a minute, so that the tests do not hang."""

    def hanging(*_: object) -> None:
        pytest.fail("a file kept the reader for a minute")

    before = signal.signal(signal.SIGALRM, hanging)
    signal.alarm(60)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@st.composite
def pictures(draw: st.DrawFn) -> bytes:
    """A picture of any kind and size, whole or cut short, with a few bytes changed, or with other bytes after it."""
    mode, kind = draw(st.sampled_from(MODES)), draw(st.sampled_from(FORMATS))
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    seed = draw(st.integers(0, 999))
    base = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = draw(st.integers(0, 9))
    try:
        base.convert("I" if mode == "I;16" else mode).convert(mode).save(buffer, kind, exif=exif)
    except (OSError, ValueError, KeyError):
        base.save(buffer, kind)
    data = bytearray(buffer.getvalue())
    for _ in range(draw(st.integers(0, 8))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    if draw(st.booleans()):
        del data[draw(st.integers(0, len(data))) :]
    return bytes(data) + draw(st.binary(max_size=20))


@often
@given(data=st.one_of(pictures(), st.binary(max_size=300)), suffix=st.sampled_from((".png", ".jpg", ".webp", ".tif")))
def test_any_file_is_read_as_a_picture_or_refused(tmp_path: Path, data: bytes, suffix: str) -> None:
    path = tmp_path / f"odd{suffix}"
    path.write_bytes(data)
    with guarded(), suppress(RefSRError):
        pixels = as_photo(path).pixels
        assert pixels.isfinite().all()
        assert 0 <= pixels.min() <= pixels.max() <= 1


@settings(often, max_examples=max(1, EXAMPLES // 10))
@given(image=pictures(), ref=pictures())
def test_the_command_ends_well(tmp_path: Path, image: bytes, ref: bytes) -> None:
    """Zero and an output, or two and none; with bicubic, which is quick."""
    (tmp_path / "a.png").write_bytes(image)
    (tmp_path / "b.png").write_bytes(ref)
    out = tmp_path / "out.png"
    out.unlink(missing_ok=True)
    arguments = ["upscale", str(tmp_path / "a.png"), "--ref", str(tmp_path / "b.png"), "-o", str(out)]
    with guarded():
        code = main([*arguments, "--model", "bicubic"])
    assert code in (0, 2)
    assert out.exists() == (code == 0)
    assert {path.name for path in tmp_path.iterdir()} <= {"a.png", "b.png", "out.png"}


@often
@given(data=st.binary(max_size=400), head=st.sampled_from((b"", b"\x08\0\0\0\0\0\0\0", b"\xff" * 8)))
def test_random_files_are_refused_as_weights(tmp_path: Path, data: bytes, head: bytes) -> None:
    (tmp_path / "odd.safetensors").write_bytes(head + data)
    with pytest.raises(RefSRError):
        read_weights(tmp_path / "odd.safetensors")


@often
@given(text=st.one_of(st.text(max_size=200), st.binary(max_size=200)), kind=st.sampled_from((".csv", ".jsonl")))
def test_any_list_is_read_or_refused(tmp_path: Path, text: str | bytes, kind: str) -> None:
    file = tmp_path / f"list{kind}"
    file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    for read in (lambda: read_jobs(file, JobOptions(), tmp_path / "out"), lambda: open_dataset(file)):
        with suppress(RefSRError):
            read()


def test_odd_names_and_a_read_only_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a b", "ü 照片", "-dash", "quote'\"", "[square]", "new\nline", "x" * 200):
        picture = tmp_path / f"{name}.png"
        Image.new("RGB", (8, 8)).save(picture)
        assert main(["upscale", str(picture), "-o", str(tmp_path / "out.png"), "--model", "bicubic"]) == 0
    assert main(["upscale", str(tmp_path / "a b.png"), "-o", "/proc/out.png", "--model", "bicubic"]) == 2
    assert "/proc/out.png" in capsys.readouterr().err


def test_a_full_disk_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, out = tmp_path / "a.png", tmp_path / "out.png"
    Image.new("RGB", (8, 8)).save(picture)
    out.write_bytes(b"the old one")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert main(["upscale", str(picture), "-o", str(out), "--model", "bicubic"]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert out.read_bytes() == b"the old one"
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "out.png"}
