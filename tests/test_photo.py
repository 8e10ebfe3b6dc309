"""Every kind of picture in, and the same kind out."""

import contextlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import torch
from conftest import bomb, encoded, random_pixels
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from refsr.errors import ImageError, MissingExtraError, OutputError
from refsr.io.metadata import Metadata
from refsr.io.photo import Photo, as_photo, check_output, read_photo, write_photo

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def photo_exif(orientation: int = 1) -> Image.Exif:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif[0x0112] = orientation
    details = exif.get_ifd(0x8769)
    details[0x829A] = 0.01
    details[0xA002] = 20
    exif[0x8769] = details
    return exif


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".webp", ".jpg"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
def test_round_trip_of_eight_bits(tmp_path: Path, suffix: str, mode: str) -> None:
    pixels = random_pixels(10, 14, len(mode)) if len(mode) > 1 else random_pixels(10, 14)
    photo = as_photo(pixels)
    path = tmp_path / f"a{suffix}"
    if suffix == ".jpg" and mode.endswith("A"):
        with pytest.raises(OutputError, match="JPEG cannot keep the picture's transparency"):
            write_photo(path, photo)
        return
    write_photo(path, photo)
    back = read_photo(path)
    assert (back.alpha is not None) == mode.endswith("A")
    if suffix in (".png", ".tiff"):
        assert back.grey == (mode in ("L", "LA"))
        assert np.array_equal(np.asarray(back.to_pil()), pixels.squeeze())
    assert back.size_px == (10, 14)
    assert back.bits == 8


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_round_trip_of_sixteen_bits(tmp_path: Path, suffix: str, channels: int) -> None:
    pixels = random_pixels(10, 14, channels, dtype=np.uint16)
    photo = as_photo(pixels)
    write_photo(tmp_path / f"a{suffix}", photo)
    back = read_photo(tmp_path / f"a{suffix}")
    assert back.bits == 16
    assert torch.equal(back.pixels, photo.pixels)
    if channels in (1, 3):
        assert back.alpha is photo.alpha is None
    else:
        assert back.alpha is not None
        assert photo.alpha is not None
        assert torch.equal(back.alpha, photo.alpha)


def test_sixteen_bits_become_eight_in_jpeg(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.jpg", as_photo(random_pixels(16, 16, 3, dtype=np.uint16)))
    assert read_photo(tmp_path / "a.jpg").bits == 8


def test_sixteen_bit_colour_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = as_photo(random_pixels(10, 14, 3, dtype=np.uint16))
    write_photo(tmp_path / "a.png", photo)
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(MissingExtraError, match=r"a.png: .* pip install 'refsr\[deep\]'"):
        read_photo(tmp_path / "a.png")
    with pytest.raises(MissingExtraError, match=r"b.png: .* pip install 'refsr\[deep\]'"):
        check_output(tmp_path / "b.png", photo, (40, 56))


def test_sixteen_bits_keep_exif_and_profile(tmp_path: Path) -> None:
    photo = as_photo(random_pixels(10, 14, 3, dtype=np.uint16))
    photo = Photo(pixels=photo.pixels, bits=16, metadata=Metadata(exif=photo_exif().tobytes(), icc_profile=PROFILE))
    write_photo(tmp_path / "a.png", photo)
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["icc_profile"] == PROFILE
        assert image.getexif()[0x010F] == "Maker"
    write_photo(tmp_path / "a.tiff", photo)
    assert read_photo(tmp_path / "a.tiff").metadata.icc_profile == PROFILE
    with Image.open(tmp_path / "a.tiff") as image:
        assert image.getexif()[0x010F] == "Maker"


def test_planar_tiff_of_sixteen_bits(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    pixels = random_pixels(3, 10, 14, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", planarconfig="separate")
    back = read_photo(tmp_path / "a.tif")
    assert np.array_equal((back.pixels[0] * 65535).round().numpy().astype(np.uint16), pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff"])
def test_orientation_is_applied_and_removed(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(random_pixels(10, 14, 3)).save(path, exif=photo_exif(orientation))
    photo = read_photo(path)
    with Image.open(path) as image:
        expected = ImageOps.exif_transpose(image).convert("RGB")
    assert np.array_equal(np.asarray(photo.to_pil()), np.asarray(expected))
    exif = Image.Exif()
    exif.load(photo.metadata.exif or b"")
    assert exif[0x010F] == "Maker"
    assert 0x0112 not in exif


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff"])
@pytest.mark.parametrize("source", [".jpg", ".tiff"])
def test_exif_and_profile_survive(tmp_path: Path, source: str, suffix: str) -> None:
    Image.fromarray(random_pixels(10, 14, 3)).save(tmp_path / f"in{source}", exif=photo_exif(6), icc_profile=PROFILE)
    photo = read_photo(tmp_path / f"in{source}")
    large = Photo(pixels=torch.rand(1, 3, 56, 40), metadata=photo.metadata)
    write_photo(tmp_path / f"out{suffix}", large)
    with Image.open(tmp_path / f"out{suffix}") as image:
        exif = image.getexif()
        assert exif[0x010F] == "Maker"
        assert float(exif.get_ifd(0x8769)[0x829A]) == pytest.approx(0.01)
        assert exif.get_ifd(0x8769)[0xA002] == 40
        assert exif.get(0x0112, 1) == 1
        assert image.size == (40, 56)
        assert image.info["icc_profile"] == PROFILE


def test_damaged_exif_is_ignored(tmp_path: Path) -> None:
    Image.fromarray(random_pixels(10, 14, 3)).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01")
    assert read_photo(tmp_path / "a.jpg").size_px == (10, 14)


def test_palette_and_its_transparency(tmp_path: Path) -> None:
    image = Image.fromarray(random_pixels(10, 14, 3)).quantize(16)
    image.save(tmp_path / "a.png")
    assert read_photo(tmp_path / "a.png").alpha is None
    assert np.array_equal(np.asarray(read_photo(tmp_path / "a.png").to_pil()), np.asarray(image.convert("RGB")))
    image.save(tmp_path / "b.png", transparency=3)
    alpha = read_photo(tmp_path / "b.png").alpha
    assert alpha is not None
    assert np.array_equal(alpha[0, 0].numpy() == 0, np.asarray(image) == 3)


def test_one_bit_is_grey(tmp_path: Path) -> None:
    Image.fromarray(random_pixels(10, 14) > 127).save(tmp_path / "a.png")
    photo = read_photo(tmp_path / "a.png")
    assert photo.grey
    assert set(photo.pixels.flatten().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("profile", [None, b"not a profile"])
def test_cmyk_becomes_rgb(tmp_path: Path, profile: bytes | None) -> None:
    image = Image.new("CMYK", (14, 10), (0, 255, 255, 0))
    image.save(tmp_path / "a.jpg", icc_profile=profile, quality=100)
    photo = read_photo(tmp_path / "a.jpg")
    assert photo.metadata.icc_profile is None
    assert photo.pixels[0, :, 5, 5].tolist() == pytest.approx([1, 0, 0], abs=0.02)


def test_sources_of_other_kinds_agree() -> None:
    pixels = random_pixels(10, 14, 3)
    expected = as_photo(pixels).pixels
    tensor = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    for source in (Image.fromarray(pixels), tensor, tensor[None], tensor.double(), pixels.astype(np.float64) / 255):
        assert torch.allclose(as_photo(source).pixels, expected)
    assert as_photo(pixels[..., 0]).grey


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.full((16, 16, 3), np.nan), "picture: holds NaN"),
        (np.full((16, 16, 3), 200.0), "picture: floats range over 200..200: scale them to 0..1"),
        (np.zeros((16, 16, 3), dtype=np.int64), "picture: values of type int64"),
        (np.zeros((16, 16, 5), dtype=np.uint8), r"picture: an array of shape \(16, 16, 5\)"),
        (np.zeros(16, dtype=np.uint8), r"picture: an array of shape \(16,\)"),
        (np.zeros((7, 16, 3), dtype=np.uint8), "picture: 16x7 pixels is too small"),
        (torch.rand(2, 3, 16, 16), r"picture: a tensor of shape \(2, 3, 16, 16\)"),
        (torch.rand(16, 16), r"picture: a tensor of shape \(16, 16\)"),
        (Image.new("F", (16, 16)), "picture: has 32 bits a channel"),
    ],
)
def test_unusable_arrays_are_refused(source: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        as_photo(source, "picture")


DEEP_PNG = imagecodecs.png_encode(random_pixels(16, 16, 3, dtype=np.uint16))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"hello, this is text", "not a PNG, JPEG, .* or TGA picture"),
        (bomb(), "more than 178 million pixels"),
        *((encoded(f)[: len(encoded(f)) // 2], "damaged or truncated") for f in ("PNG", "WEBP", "TIFF")),
        (encoded("ICO"), "not a PNG, JPEG, .* or TGA picture"),
    ],
)
def test_unusable_files_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "bad.png").write_bytes(data)
    with pytest.raises(ImageError, match=f"bad.png: .*{message}"):
        read_photo(tmp_path / "bad.png")


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(("PNG", "JPEG", "WEBP", "TIFF", "deep")),
    st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=2)), min_size=1, max_size=8),
)
def test_damaged_files_are_read_or_refused(file_format: str, damage: list[tuple[float, bytes]]) -> None:
    data = bytearray(DEEP_PNG if file_format == "deep" else encoded(file_format))
    for place, junk in damage:
        start = 8 + int(place * (min(len(data), 800) - 8 - len(junk)))
        data[start : start + len(junk)] = junk
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(ImageError):
        path = Path(folder) / "damaged"
        path.write_bytes(data)
        photo = read_photo(path)
        assert photo.pixels.isfinite().all()


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"none.png: no such file"):
        read_photo(tmp_path / "none.png")
    with pytest.raises(ImageError, match="is a folder"):
        read_photo(tmp_path)


def test_impossible_outputs_are_refused(tmp_path: Path) -> None:
    photo = as_photo(random_pixels(10, 14, 3))
    with pytest.raises(OutputError, match=r"no format is known for '.bmp': use .png"):
        check_output(tmp_path / "a.bmp", photo, (40, 56))
    wide = Photo(pixels=torch.zeros(1, 3, 8, 5000))
    with pytest.raises(OutputError, match="WEBP holds at most 16383 pixels a side"):
        check_output(tmp_path / "a.webp", wide, (32, 20_000))
    check_output(tmp_path / "a.jpg", wide, (32, 20_000))
