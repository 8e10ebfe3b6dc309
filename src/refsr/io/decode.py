"""Decoding of picture files: bytes ── Pillow, or the codecs of 16-bit colour ──> pixels, metadata, notes.

Several threads may decode at once; lines that C libraries write to standard error are discarded.
"""

import io
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError, features

from refsr.errors import ImageError, MissingExtraError
from refsr.extras import import_extra
from refsr.io.cmyk import cmyk_to_rgb
from refsr.io.deep_colour import decode_deep, is_deep_colour
from refsr.io.gain_map import has_gain_map
from refsr.io.metadata import Metadata, read_exif, read_metadata, upright
from refsr.io.tiff_kind import SIGNATURES, describe_tiff

READABLE_SUFFIXES: Final = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".webp", ".tif", ".tiff", ".heic", ".heif", ".avif"),
    *(".bmp", ".gif", ".jp2", ".j2k", ".jpx", ".tga"),
)
_FORMATS: Final = ("PNG", "JPEG", "WEBP", "TIFF", "AVIF", "HEIF", "BMP", "GIF", "JPEG2000", "TGA")
_NAMES: Final = "PNG, JPEG, WebP, TIFF, HEIC, AVIF, BMP, GIF, JPEG 2000 or TGA"
_HEIF_BRANDS: Final = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_END_OF_JPEG: Final = b"\xff\xd9"
_MINIMUM_MISSING_SHARE: Final = 0.002
"""A JPEG that lacks its end marker alone is whole."""

_PHOTOMETRIC, _SAMPLE_FORMAT, _WHITE_IS_ZERO = 262, 339, 0

_DECODER_ERRORS: Final = (
    *(OSError, SyntaxError, ValueError, struct.error, zlib.error, EOFError, LookupError, TypeError, RuntimeError),
)


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """A decoded picture.

    Attributes:
        array: Upright pixels (H, W), or (H, W, C) for two channels and more, uint8 or uint16.
        metadata: Metadata of the file.
        notes: Lines for the user about what was not read.
    """

    array: NDArray[Any]
    metadata: Metadata
    notes: tuple[str, ...] = ()


def decode(data: bytes, name: str) -> Decoded:
    """Decode the bytes of a file, the first page or frame.

    Args:
        data: Content of the file.
        name: Name of the file in messages.

    Raises:
        ImageError: It cannot be decoded.
        MissingExtraError: An extra is needed that is not installed.
    """
    with opened(data, name) as image:
        count, notes = getattr(image, "n_frames", 1), _lost(image, data, name)
        if count > (2 if has_gain_map(data) else 1):
            notes += (f"{name}: holds {count} pictures: only the first is taken",)
        if is_deep_colour(image, data):
            array = decode_deep(image, data, name)
        else:
            array, missing = _pixels(image, data, name)
            notes += missing
        return Decoded(array=_turned(array, image), metadata=read_metadata(image, data), notes=notes)


def decode_pil(image: Image.Image, name: str) -> Decoded:
    """The same for a picture that Pillow has opened or made. Raises as `decode`."""
    return Decoded(array=_turned(_plain(image, name), image), metadata=read_metadata(image))


@contextmanager
def opened(data: bytes, name: str, *, to_its_end: bool = True) -> Iterator[Image.Image]:
    """The picture as Pillow opens it; any error inside becomes an `ImageError` of one line.

    Args:
        data: Content of the file.
        name: Name of the file in messages.
        to_its_end: Whether a JPEG that ends early is an error.
    """
    if not data:
        raise ImageError(f"{name}: the file is empty: copy it again from where it came")
    if data[4:8] == b"ftyp" and (data[8:12] in _HEIF_BRANDS or (data[8:12] == b"avif" and not features.check("avif"))):
        import_extra("pillow_heif", f"{name}: a HEIC photo").register_heif_opener()
    formats = [kind for kind in _FORMATS if kind != "HEIF" or kind in Image.OPEN]
    try:
        with warnings.catch_warnings(), _quiet_codecs:
            # Pillow warns at 89 megapixels, which is a large photo, and refuses at 179, which is our limit too.
            warnings.simplefilter("ignore")
            ending = b"" if to_its_end or not data.startswith(b"\xff\xd8") else _END_OF_JPEG
            with Image.open(io.BytesIO(data + ending), formats=formats) as image:
                yield image
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: claims more than 178 million pixels, refused: make it smaller first") from error
    except _DECODER_ERRORS as error:
        if isinstance(error, ImageError | MissingExtraError):
            raise
        identified, is_tiff = not isinstance(error, UnidentifiedImageError), data.startswith(SIGNATURES)
        if is_tiff and (kind := describe_tiff(data, identified=identified)) is not None:
            raise ImageError(f"{name}: {kind}, which is not read: convert it to RGB of 8 or 16 bits") from error
        if not identified and not is_tiff:
            raise ImageError(f"{name}: not a {_NAMES} picture: convert it to one of these") from error
        raise ImageError(f"{name}: damaged or truncated: copy it again from where it came") from error


def _lost(image: Image.Image, data: bytes, name: str) -> tuple[str, ...]:
    """Notes about a gain map, and about pixels that no network was trained on."""
    notes = (f"{name}: its HDR gain map is left out: the result is SDR",) if has_gain_map(data) else ()
    if image.mode != "1":
        return notes
    remedy = "make it grey and blur it by a pixel first"
    return (*notes, f"{name}: has black and white only, and dithered greys come out too bright: {remedy}")


def _pixels(image: Image.Image, data: bytes, name: str) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Pixels, and a note about a JPEG that ends early."""
    bits = data[24] if image.format == "PNG" else 8
    try:
        image.load()
        return _plain(image, name, bits), ()
    except OSError as error:
        if image.format not in ("JPEG", "MPO") or isinstance(error, ImageError):
            raise
    with Image.open(io.BytesIO(data + _END_OF_JPEG), formats=["JPEG"]) as whole:
        array = _plain(whole, name)
    # The decoder fills the missing rows with copies of the last one.
    copied = (array[1:] == array[:-1]).reshape(len(array) - 1, -1).all(1)
    missing = len(array) if copied.all() else int(np.argmin(copied[::-1]))
    share = missing / len(array)
    note = f"{name}: ends early: the last {share:.0%} of the picture is missing"
    return array, (note,) if share > _MINIMUM_MISSING_SHARE else ()


def _plain(image: Image.Image, name: str, bits: int = 8) -> NDArray[Any]:
    """Pixels as grey or RGB, with alpha if there is any; `bits` are those of a grey PNG."""
    tags = getattr(image, "tag_v2", {})
    if 2 in np.atleast_1d(tags.get(_SAMPLE_FORMAT, 1)):
        raise ImageError(f"{name}: a TIFF of signed integers, which is not read: convert it to 8 or 16 bits")
    if image.mode == "CMYK":
        return np.asarray(cmyk_to_rgb(image, image.info.get("icc_profile")))
    if image.mode in ("I", "F"):
        raise ImageError(f"{name}: has 32 bits a channel: convert it to 8 or 16 bits")
    transparency = image.info.get("transparency")
    is_grey = image.mode in ("1", "L", "LA", "La")
    if image.mode.startswith("I;16") or (is_grey and isinstance(transparency, int)):
        grey = np.asarray(image if image.mode.startswith("I;16") else image.convert("L"))
        most = np.iinfo(grey.dtype).max
        if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO and most > 255:  # Pillow inverts 8 bits alone
            grey = most - grey
        if not isinstance(transparency, int):
            return grey
        # Pillow widens pixels of two and four bits to eight, but not the transparent value.
        key = transparency * 255 // (2**bits - 1) if image.mode == "L" else transparency
        seen = np.where(grey == key, 0, most)
        return np.stack((grey, seen.astype(grey.dtype)), -1)
    has_alpha = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or transparency is not None
    return np.asarray(image.convert(("LA" if is_grey else "RGBA") if has_alpha else ("L" if is_grey else "RGB")))


def _turned(array: NDArray[Any], image: Image.Image) -> NDArray[Any]:
    return upright(array, read_exif(image).get(ExifTags.Base.Orientation, 1))


class _QuietCodecs:
    """Standard error of C libraries is discarded while any thread is inside."""

    def __init__(self) -> None:
        self._lock, self._inside, self._kept = Lock(), 0, -1

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._kept = os.dup(2)
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, 2)
                os.close(nowhere)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                os.dup2(self._kept, 2)
                os.close(self._kept)


_quiet_codecs = _QuietCodecs()
