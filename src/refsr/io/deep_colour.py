"""Colour with 16 bits per channel, which Pillow cuts to 8: by imagecodecs and tifffile, an extra."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refsr.extras import import_extra
from refsr.io.cmyk import cmyk_to_rgb
from refsr.io.metadata import XMP_TAG, Metadata, png_with_metadata, tiff_tags


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
    """Decode a file that `is_deep_colour` to pixels (H, W, C), uint16; CMYK becomes RGB of 8 bits.

    Raises:
        MissingExtraError: The extra is not installed.
        ValueError: The file is damaged.
    """
    codecs = require_codecs(name)
    try:
        return np.asarray(codecs.png_decode(data) if image.format == "PNG" else _decode_tiff(image, data))
    except Exception as error:  # each codec raises exceptions of its own
        raise ValueError(str(error)) from error


def _decode_tiff(image: Image.Image, data: bytes) -> NDArray[Any]:
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        array = np.asarray(page.asarray())
        photometric, extra = page.photometric.name, [sample.name for sample in page.extrasamples]
        planar = page.planarconfig == 2
    if planar and array.ndim == 3:
        array = np.moveaxis(array, 0, -1)
    if photometric == "SEPARATED":
        inks = Image.fromarray((array[..., :4] >> 8).astype(np.uint8), "CMYK")
        return np.asarray(cmyk_to_rgb(inks, image.info.get("icc_profile")))
    if photometric not in ("RGB", "MINISBLACK"):
        raise ValueError(photometric)
    if extra == ["ASSOCALPHA"]:
        alpha = array[..., -1:].astype(np.float64)
        colour = (array[..., :-1] * 65535.0 / np.maximum(alpha, 1)).round().clip(0, 65535)
        array = np.concatenate((colour.astype(np.uint16), array[..., -1:]), -1)
    return array


def encode_deep(array: NDArray[Any], file_format: str, metadata: Metadata) -> bytes:
    """Encode pixels (H, W, C), uint16, as PNG or TIFF; TIFF keeps only the text tags of the main EXIF directory.

    Raises:
        MissingExtraError: The extra is not installed.
    """
    codecs = require_codecs("the output")
    if file_format == "PNG":
        return png_with_metadata(codecs.png_encode(array), metadata)
    import tifffile

    if array.shape[2] == 2:
        array = array[..., (0, 0, 0, 1)]  # Pillow cannot open a TIFF of grey with alpha
    tags: Mapping[int, Any] = tiff_tags(metadata) or {}
    texts = [(tag, "s", 0, text.encode(), True) for tag, text in tags.items() if isinstance(text, str)]
    xmp = [(XMP_TAG, "B", len(metadata.xmp), metadata.xmp, True)] if metadata.xmp else []
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        array,
        photometric="rgb",
        extrasamples=("unassalpha",) if array.shape[2] == 4 else (),
        compression="zlib",
        iccprofile=metadata.icc_profile,
        metadata=None,
        software=False,
        extratags=texts + xmp,
    )
    return buffer.getvalue()


def require_codecs(name: str) -> Any:
    """The module imagecodecs; `name` is the file that needs it, for the error message.

    Raises:
        MissingExtraError: The extra is not installed.
    """
    import_extra("tifffile", f"{name}: colour with 16 bits a channel")
    return import_extra("imagecodecs", f"{name}: colour with 16 bits a channel")
