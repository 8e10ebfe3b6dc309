"""Colour with 16 bits per channel, which Pillow cuts to 8: by imagecodecs and tifffile, an extra."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refsr.extras import import_extra


def is_deep_colour(image: Image.Image, data: bytes) -> bool:
    """Whether a file opened by Pillow is a PNG or TIFF with several channels of 16 bits."""
    if image.mode.startswith("I;16"):
        return False
    if image.format == "PNG":
        return data[24] == 16
    if image.format == "TIFF":
        bits = image.tag_v2.get(258, (8,))  # type: ignore[attr-defined]
        return 16 in (bits if isinstance(bits, tuple) else (bits,))
    return False


def decode_deep(image: Image.Image, data: bytes, name: str) -> NDArray[Any]:
    """Decode a file that `is_deep_colour` to pixels (H, W, C), uint16.

    Raises:
        MissingExtraError: The extra is not installed.
        ValueError: The file is damaged.
    """
    codecs = require_codecs(name)
    try:
        array = codecs.png_decode(data) if image.format == "PNG" else _decode_tiff(data)
    except Exception as error:  # each codec raises exceptions of its own
        raise ValueError(str(error)) from error
    return np.asarray(array)


def _decode_tiff(data: bytes) -> NDArray[Any]:
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        array = np.asarray(file.pages[0].asarray())
        planar = file.pages[0].planarconfig == 2
    return np.moveaxis(array, 0, -1) if planar and array.ndim == 3 else array


def encode_deep(array: NDArray[Any], file_format: str, exif: bytes | None, profile: bytes | None) -> bytes:
    """Encode pixels (H, W, C), uint16, as PNG or TIFF; TIFF keeps only the text tags of the main EXIF directory.

    Raises:
        MissingExtraError: The extra is not installed.
    """
    if file_format == "TIFF":
        import tifffile

        buffer = io.BytesIO()
        if array.shape[2] == 2:
            array = array[..., (0, 0, 0, 1)]  # Pillow cannot open a TIFF of grey with alpha
        tags = Image.Exif()
        tags.load(exif or b"")
        tifffile.imwrite(
            buffer,
            array,
            photometric="rgb",
            extrasamples=("unassalpha",) if array.shape[2] == 4 else (),
            compression="zlib",
            iccprofile=profile,
            metadata=None,
            software=False,
            extratags=[(tag, "s", 0, text, True) for tag, text in tags.items() if isinstance(text, str)],
        )
        return buffer.getvalue()
    data: bytes = require_codecs("the output").png_encode(array)
    chunks = b""
    if profile:
        chunks += _png_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(profile))
    if exif:
        chunks += _png_chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))
    header_end = 8 + 25
    return data[:header_end] + chunks + data[header_end:]


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def require_codecs(name: str) -> Any:
    """The module imagecodecs; `name` is the file that needs it, for the error message.

    Raises:
        MissingExtraError: The extra is not installed.
    """
    import_extra("tifffile", f"{name}: colour with 16 bits a channel")
    return import_extra("imagecodecs", f"{name}: colour with 16 bits a channel")
