"""Files as people have them: more formats, odd TIFFs, metadata, transparency, files that end early."""

import io
import struct
import sys
import zlib
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
import torch
from conftest import random_pixels
from numpy.typing import NDArray
from PIL import Image, ImageFilter, PngImagePlugin, features

from refsr.errors import ImageError, MissingExtraError, OutputError
from refsr.io.gain_map import has_gain_map, without_gain_map
from refsr.io.listing import list_photos
from refsr.io.metadata import Metadata
from refsr.io.photo import as_photo, check_output, read_photo, read_preview, write_photo
from refsr.io.tiff_kind import describe_tiff
from refsr.models import RefSRModel
from refsr.restore.upscale import upscale

COPYRIGHT = "© 2020 Jürgen 山田"
SMOOTH = np.add.outer(np.arange(48), 2 * np.arange(64))[..., None].repeat(3, 2).astype(np.uint8)


def grey_png(bits: int, row: bytes, transparent: int) -> bytes:
    """16x16 grey pixels, of which one value is transparent."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, bits, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress((b"\0" + row) * 16))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"tRNS", struct.pack(">H", transparent)) + pixels + chunk(b"IEND", b"")


def tiff(array: NDArray[np.generic], **how: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, metadata=None, **how)
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", [".bmp", ".gif", ".jp2", ".tga", ".avif"])
def test_formats_that_pillow_reads(tmp_path: Path, suffix: str) -> None:
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    Image.fromarray(SMOOTH).save(tmp_path / f"a{suffix}")
    found = np.asarray(read_photo(tmp_path / f"a{suffix}").to_pil().convert("RGB")).astype(int)
    assert np.abs(found - SMOOTH).mean() < 8  # AVIF and GIF are lossy


def test_heic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(Image.fromarray(SMOOTH)).save(tmp_path / "a.heic")
    found = np.asarray(read_photo(tmp_path / "a.heic").to_pil()).astype(int)
    assert np.abs(found - SMOOTH).mean() < 8
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    with pytest.raises(MissingExtraError, match=r"a.heic: a HEIC photo needs an extra: pip install 'refsr\[heic\]'"):
        read_photo(tmp_path / "a.heic")


@pytest.mark.parametrize(("suffix", "bits"), [(".avif", 8), (".jxl", 16)])
def test_formats_that_are_written(tmp_path: Path, suffix: str, bits: int) -> None:
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    write_photo(tmp_path / f"a{suffix}", as_photo(SMOOTH if bits == 8 else SMOOTH.astype(np.uint16) * 257))
    data = (tmp_path / f"a{suffix}").read_bytes()
    if suffix == ".jxl":
        codecs = pytest.importorskip("imagecodecs")
        found = codecs.jpegxl_decode(data) // 257
    else:
        found = np.asarray(Image.open(io.BytesIO(data)))
    assert np.abs(found.astype(int) - SMOOTH).mean() < 2


@pytest.mark.parametrize(("lost", "rows"), [(2, 120), (0.1, 64), (0.5, 16)])
def test_a_jpeg_that_ends_early(tmp_path: Path, lost: float, rows: int) -> None:
    pixels = np.tile(np.arange(160, dtype=np.uint8), (120, 1))[..., None].repeat(3, 2)
    pixels = (pixels + np.arange(120, dtype=np.uint8)[:, None, None]).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=92)
    whole = buffer.getvalue()
    left = len(whole) - (int(lost * len(whole)) if lost < 1 else int(lost))
    (tmp_path / "a.jpg").write_bytes(whole[:left])
    photo = read_photo(tmp_path / "a.jpg")
    noted = rows < 120
    found = np.asarray(photo.to_pil())[:rows].astype(int)
    assert np.abs(found - np.asarray(Image.open(buffer))[:rows]).max() <= 1
    assert len(photo.notes) == noted
    if noted:
        assert "a.jpg: ends early: the last" in photo.notes[0]
    assert read_preview(tmp_path / "a.jpg", 80).full_px == (120, 160)


def test_a_jpeg_with_a_second_picture_that_ends_early(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "MPO", save_all=True, append_images=[Image.fromarray(noise)])
    (tmp_path / "a.jpg").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 4])
    photo = read_photo(tmp_path / "a.jpg")
    assert photo.size_px == (200, 200)
    assert "a.jpg: ends early: the last " in photo.notes[-1]


def test_only_the_first_picture_of_an_animation_is_taken(tmp_path: Path) -> None:
    first, second = (Image.fromarray(SMOOTH + shade) for shade in (0, 40))
    first.save(tmp_path / "a.png", save_all=True, append_images=[second])
    photo = read_photo(tmp_path / "a.png")
    assert photo.notes == (f"{tmp_path / 'a.png'}: holds 2 pictures: only the first is taken",)
    assert np.array_equal(np.asarray(photo.to_pil()), SMOOTH)


def test_texts_of_exif_keep_their_bytes(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x8298] = COPYRIGHT.encode()
    exif.get_ifd(0x8769)[0xA434] = "Objektiv ü".encode()
    exif[0x8769] = exif.get_ifd(0x8769)
    Image.fromarray(SMOOTH).save(tmp_path / "in.jpg", exif=exif)
    for suffix in (".jpg", ".png", ".webp", ".tiff"):
        write_photo(tmp_path / f"out{suffix}", read_photo(tmp_path / "in.jpg"))
        written = (tmp_path / f"out{suffix}").read_bytes()
        assert COPYRIGHT.encode() in written
        assert "Objektiv ü".encode() in written
    assert read_preview(tmp_path / "in.jpg", 32).copyright == COPYRIGHT


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff", ".tif16", ".png16"])
def test_xmp_and_tags_of_windows_survive(tmp_path: Path, suffix: str) -> None:
    exif, xmp = Image.Exif(), b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
    exif[0x9C9B] = "Title".encode("utf-16le") + b"\0\0"
    exif[0x010D], exif[0x4749] = "Document", 99
    Image.fromarray(SMOOTH).save(tmp_path / "in.jpg", exif=exif, xmp=xmp)
    photo = read_photo(tmp_path / "in.jpg")
    if suffix.endswith("16"):
        deep = as_photo(SMOOTH.astype(np.uint16) * 257)
        photo = type(photo)(pixels=deep.pixels, bits=16, metadata=photo.metadata)
    path = tmp_path / f"out{suffix.removesuffix('16')}"
    write_photo(path, photo)
    with Image.open(path) as image:
        found = image.getexif()
        assert xmp in path.read_bytes()
        assert found[0x010D] == "Document"
        if suffix != ".tif16":  # which keeps texts alone
            assert found[0x9C9B] == exif[0x9C9B]
            assert found[0x4749] == 99


def test_exif_that_is_too_large_for_jpeg_loses_the_makers_note(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8769)[0x927C] = b"M" * 70_000
    exif[0x8769] = exif.get_ifd(0x8769)
    Image.fromarray(SMOOTH).save(tmp_path / "in.png", exif=exif)
    write_photo(tmp_path / "out.jpg", read_photo(tmp_path / "in.png"))
    with Image.open(tmp_path / "out.jpg") as image:
        assert image.getexif()[0x010F] == "Maker"
        assert 0x927C not in image.getexif().get_ifd(0x8769)
    large = Metadata(exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0", xmp=b"x" * 70_000).within(65533)
    assert large.exif is not None
    assert large.xmp is None


def test_chunks_of_png_about_colours_stay_in_png(tmp_path: Path) -> None:
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"gAMA", struct.pack(">I", 100_000))
    chunks.add(b"cICP", bytes([9, 16, 0, 1]))
    Image.fromarray(SMOOTH).save(tmp_path / "in.png", pnginfo=chunks, dpi=(300, 300))
    write_photo(tmp_path / "out.png", read_photo(tmp_path / "in.png"))
    with Image.open(tmp_path / "out.png") as image:
        assert image.info["gamma"] == 1.0
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert b"cICP\x09\x10\x00\x01" in (tmp_path / "out.png").read_bytes()


@pytest.mark.parametrize(
    ("bits", "row"), [(1, b"\0\xff"), (2, b"\0\0\xff\xff"), (4, b"\0" * 4 + b"\xff" * 4), (8, b"\0" * 8 + b"\xff" * 8),
                      (16, b"\0" * 16 + b"\xff" * 16)]
)  # fmt: skip
def test_transparency_of_grey_png(tmp_path: Path, bits: int, row: bytes) -> None:
    (tmp_path / "a.png").write_bytes(grey_png(bits, row, 2**bits - 1))
    photo = read_photo(tmp_path / "a.png")
    assert photo.alpha is not None
    assert (photo.alpha[..., :8] == 1).all()
    assert (photo.alpha[..., 8:] == 0).all()


def test_tiffs_of_sixteen_bits_in_other_colours(tmp_path: Path) -> None:
    inks = np.empty((48, 64, 4), np.uint16)
    inks[:] = (52428, 13107, 0, 6554)
    (tmp_path / "inks.tif").write_bytes(tiff(inks, photometric="separated"))
    photo = read_photo(tmp_path / "inks.tif")
    assert photo.alpha is None
    expected = Image.new("CMYK", (1, 1), tuple(int(ink) >> 8 for ink in inks[0, 0])).convert("RGB").getpixel((0, 0))
    assert (photo.pixels[0, :, 9, 9] * 255).round().tolist() == list(expected)  # type: ignore[arg-type]

    (tmp_path / "negative.tif").write_bytes(tiff(np.full((48, 64), 6000, np.uint16), photometric="miniswhite"))
    assert read_photo(tmp_path / "negative.tif").pixels[0, 0, 9, 9].item() == pytest.approx(59535 / 65535)

    half = np.zeros((48, 64, 4), np.uint16)
    half[..., 0] = half[..., 3] = 32768
    (tmp_path / "premultiplied.tif").write_bytes(tiff(half, photometric="rgb", extrasamples=("assocalpha",)))
    photo = read_photo(tmp_path / "premultiplied.tif")
    assert photo.pixels[0, :, 9, 9].tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (tiff(np.zeros((48, 64, 3), np.float32), photometric="rgb"), "a TIFF of RGB, 32-bit floats, compression NONE"),
        (tiff(np.zeros((48, 64, 3), np.uint16), photometric="cielab"), "a TIFF of CIELAB, 16-bit integers"),
        (tiff(np.zeros((48, 64, 3), np.uint8), photometric="rgb", bigtiff=True, byteorder=">"), "a BigTIFF of RGB"),
        (tiff(np.zeros((48, 64), np.int8), photometric="minisblack"), "a TIFF of signed integers"),
        (tiff(np.zeros((48, 64), np.float64), photometric="minisblack"), "a TIFF of MINISBLACK, 64-bit floats"),
        (tiff(np.zeros((48, 64, 3), np.float16), photometric="rgb"), "a TIFF of RGB, 16-bit floats"),
        (tiff(np.zeros((48, 64, 3), np.uint32), photometric="rgb"), "a TIFF of RGB, 32-bit integers"),
        (tiff(np.zeros((48, 64, 3), np.uint8), photometric="ycbcr"), "a TIFF of YCBCR, 8-bit integers"),
        (tiff(np.zeros((48, 64, 5), np.uint8), photometric="minisblack", planarconfig="contig"), ".*channels: 5"),
        (tiff(np.zeros((48, 64, 3), np.uint8), photometric="rgb", compression="jpeg2000"), ".*compression JPEG2000"),
        (tiff(np.zeros((48, 64, 3), np.uint8), photometric="rgb", compression="lerc"), ".*compression LERC"),
    ],
)
def test_the_kind_of_a_tiff_that_is_not_read_is_told(
    tmp_path: Path, data: bytes, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the extra for TIFFs too."""
    monkeypatch.setitem(sys.modules, "tifffile", None)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(ImageError, match=f"a.tif: {kind}.*, which is not read: convert it"):
        read_photo(tmp_path / "a.tif")


@pytest.mark.parametrize("length", [9, 100, 1000, -1])
def test_a_tiff_that_ends_early_is_called_damaged(tmp_path: Path, length: int) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(np.zeros((48, 64, 3), np.float32), photometric="rgb")[:length])
    with pytest.raises(ImageError, match="a.tif: damaged or truncated"):
        read_photo(tmp_path / "a.tif")


def test_c_libraries_say_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(tiff(np.full((48, 64, 3), 9, np.uint8), compression="lzw", photometric="rgb"))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        start = file.pages[0].dataoffsets[0]
    data[start + 3 : start + 9] = b"\xff" * 6
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(ImageError, match="a.tif: damaged or truncated"):
        read_photo(tmp_path / "a.tif")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["shipped", "bicubic"])
def test_transparent_edges_have_no_rim(shipped: RefSRModel, name: str) -> None:
    """A white disc on transparent black, laid on white, is all white."""
    y, x = np.mgrid[0:40, 0:40]
    disc = np.zeros((40, 40, 4), np.uint8)
    disc[(x - 19.5) ** 2 + (y - 19.5) ** 2 < 220] = 255
    result = upscale(disc, model=shipped if name == "shipped" else None)
    assert result.photo.alpha is not None
    over_white = result.photo.pixels * result.photo.alpha + 1 - result.photo.alpha
    assert over_white.min() > 245 / 255


def test_formats_without_alpha_or_unknown_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no format is known for '.heic': use .png, .jpg"):
        check_output(tmp_path / "a.heic", as_photo(random_pixels(10, 14, 3)), (40, 56))
    with pytest.raises(OutputError, match="AVIF holds at most 65535 pixels a side"):
        check_output(tmp_path / "a.avif", as_photo(torch.zeros(1, 3, 8, 20_000)), (32, 80_000))


def test_transparency_of_a_grey_pil_image_of_sixteen_bits() -> None:
    row = np.repeat(np.array([0x1234, 0x0102], ">u2"), 8).tobytes()
    with Image.open(io.BytesIO(grey_png(16, row, 0x0102))) as image:
        alpha = as_photo(image).alpha
    assert alpha is not None
    assert (alpha[..., :8] == 1).all()
    assert (alpha[..., 8:] == 0).all()


def test_a_compression_that_not_every_libtiff_knows_is_named() -> None:
    pytest.importorskip("imagecodecs")
    for compression in ("webp", "zstd", "lzma"):
        data = tiff(random_pixels(48, 64, 3), photometric="rgb", compression=compression)
        assert f"compression {compression.upper()}" in (describe_tiff(data, identified=True) or "")
        assert describe_tiff(data[:-20], identified=True) is None, "damaged"


SAYS_GAIN_MAP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Container="http://ns.google.com/photos/1.0/container/"
  xmlns:Item="http://ns.google.com/photos/1.0/container/item/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
  xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0" hdrgm:GainMapMax='2.3' xmp:Rating="4">
<Container:Directory><rdf:Seq><rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="Primary"/></rdf:li>
<rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="GainMap" Item:Length="99"/></rdf:li></rdf:Seq>
</Container:Directory><hdrgm:Gamma><rdf:Seq><rdf:li>1</rdf:li></rdf:Seq></hdrgm:Gamma><xmp:Label>Red</xmp:Label>
</rdf:Description></rdf:RDF></x:xmpmeta>"""
APPLE_GAIN_MAP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:HDRGainMap="http://ns.apple.com/HDRGainMap/1.0/" xmlns:t="tiff"
  HDRGainMap:HDRGainMapVersion="65536" t:Make="A"/></rdf:RDF></x:xmpmeta>"""


def jpeg_with_gain_map(first: str, second: str, others: int = 0) -> bytes:
    """Pictures one after the other with an index of them, as MPF."""
    buffer = io.BytesIO()
    images = [Image.fromarray(SMOOTH) for _ in range(2 + others)]
    for image, xmp in zip(images, (first, second), strict=False):
        image.encoderinfo = {"xmp": xmp.encode()}
    images[0].save(buffer, "MPO", save_all=True, append_images=images[1:], xmp=first.encode())
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("first", "second", "others"),
    [(SAYS_GAIN_MAP, SAYS_GAIN_MAP, 0), ("<x/>", APPLE_GAIN_MAP, 0), ("<x/>", APPLE_GAIN_MAP, 1)],
)
def test_a_gain_map_is_left_out_and_not_promised(tmp_path: Path, first: str, second: str, others: int) -> None:
    path = tmp_path / "in.jpg"
    path.write_bytes(jpeg_with_gain_map(first, second, others))
    photo = read_photo(path)
    said = [f"{path}: its HDR gain map is left out: the result is SDR"]
    assert list(photo.notes) == said + [f"{path}: holds 3 pictures: only the first is taken"] * others
    for suffix in (".jpg", ".png", ".tif"):
        write_photo(tmp_path / f"out{suffix}", photo)
        written = read_photo(tmp_path / f"out{suffix}")
        assert written.notes == ()
        for gone in (b"hdrgm", b"Container:", b"GainMap"):
            assert gone not in (tmp_path / f"out{suffix}").read_bytes()


def test_of_xmp_only_the_gain_map_is_left_out() -> None:
    left = without_gain_map(SAYS_GAIN_MAP.encode())
    description = ElementTree.fromstring(left)[0][0]
    xmp = "{http://ns.adobe.com/xap/1.0/}"
    assert description.attrib[f"{xmp}Rating"] == "4"
    assert [(each.tag, each.text) for each in description] == [(f"{xmp}Label", "Red")]
    renamed = SAYS_GAIN_MAP.replace("Container:", "GContainer:").replace(":Container=", ":GContainer=")
    assert without_gain_map(renamed.encode()) == left
    apple = ElementTree.fromstring(without_gain_map(APPLE_GAIN_MAP.encode()))[0][0]
    assert list(apple.attrib.values()) == ["", "A"]
    for untouched in (b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>", SAYS_GAIN_MAP.encode()[:700], b"<<<" * 9, b""):
        assert without_gain_map(untouched) == untouched


def test_an_sdr_photo_that_kept_its_xmp_has_no_gain_map(tmp_path: Path) -> None:
    Image.fromarray(SMOOTH).save(tmp_path / "a.jpg", xmp=SAYS_GAIN_MAP.encode())
    assert read_photo(tmp_path / "a.jpg").notes == ()


def test_a_gain_map_of_heic_is_told(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    file = heif.from_pillow(Image.fromarray(SMOOTH))
    file.save(tmp_path / "a.heic")
    data = (tmp_path / "a.heic").read_bytes()
    assert not has_gain_map(data)
    assert has_gain_map(data + b"urn:com:apple:photo:2020:aux:hdrgainmap\0")
    assert has_gain_map(data.replace(b"heix" if b"heix" in data[12:32] else data[16:20], b"tmap", 1))


@pytest.mark.parametrize(
    ("note", "stays"),
    [
        (b"Nikon\0\2\x10\0\0MM\0*\0\0\0\x08", True),
        (b"Apple iOS\0\0\1MM", True),
        (b"FUJIFILM\x0c\0\0\0", True),
        (b"OLYMPUS\0II\3\0", True),
        (b"OLYMP\0\1\0", False),  # the older kind
        (b"Nikon\0\1\0", False),
        (b"SONY DSC \0\0\0", False),
        (b"Panasonic\0\0\0", False),
        (b"\x2a\0\1\0\3\0", False),  # Canon: no name
    ],
)
def test_a_makers_note_stays_where_its_offsets_hold(tmp_path: Path, note: bytes, stays: bool) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769).update({0x927C: note + bytes(40), 0xA434: "Lens", 0xA005: {1: "R03"}})
    exif[0x8769] = exif.get_ifd(0x8769)
    Image.fromarray(SMOOTH).save(tmp_path / "in.jpg", exif=exif)
    for suffix in (".jpg", ".png", ".webp"):
        write_photo(tmp_path / f"out{suffix}", read_photo(tmp_path / "in.jpg"))
        with Image.open(tmp_path / f"out{suffix}") as image:
            found = image.getexif()
            assert found.get_ifd(0x8769).get(0x927C) == (note + bytes(40) if stays else None)
            assert found.get_ifd(0x8769)[0xA434] == "Lens"
            assert found.get_ifd(0xA005) == {1: "R03"}


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".jif"])
def test_other_suffixes_of_jpeg(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_photo(path, as_photo(SMOOTH))
    assert path.read_bytes().startswith(b"\xff\xd8")
    assert list_photos(tmp_path) == [path]
    assert np.abs(np.asarray(read_photo(path).to_pil()).astype(int) - SMOOTH).mean() < 8


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_black_and_white_is_told(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(SMOOTH).convert("1").save(path)
    (note,) = read_photo(path).notes
    assert note.startswith(f"{path}: has black and white only, and dithered greys come out too bright: ")


def test_dithered_greys_keep_their_level_when_they_are_blurred(shipped: RefSRModel) -> None:
    """What the note about black and white says."""
    dithered = Image.fromarray(np.full((48, 48), 100, np.uint8)).convert("1").convert("L")
    blurred = dithered.filter(ImageFilter.GaussianBlur(1))
    levels = [np.asarray(upscale(each, model=shipped).to_pil()).mean() for each in (dithered, blurred)]
    assert levels[0] > 115
    assert levels[1] == pytest.approx(100, abs=6)
