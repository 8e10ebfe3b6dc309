"""Encoding of pictures: pixels and metadata ──> the bytes of a file in the format of its suffix."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from refsr.errors import OutputError
from refsr.extras import import_extra
from refsr.io.deep_colour import encode_deep, require_codecs
from refsr.io.metadata import Metadata, png_with_metadata, tiff_tags

FORMATS: Final = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".jif": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".avif": "AVIF",
    ".jxl": "JXL",
}
DEEP_FORMATS: Final = ("PNG", "TIFF", "JXL")
"""Formats that keep 16 bits per channel."""

_MAXIMUM_SIDE_PX: Final = {"JPEG": 65535, "WEBP": 16383, "AVIF": 65535}
_QUALITY: Final = 95
_JPEG_SEGMENT_BYTES: Final = 65533


def check_format(path: Path, side_px: int, has_alpha: bool, is_deep: bool) -> str:
    """The format of an output path, if it can hold the picture.

    Args:
        path: File to write.
        side_px: Long side of the picture.
        has_alpha: Whether it has transparency.
        is_deep: Whether it has several channels of 16 bits.

    Raises:
        OutputError: The format is unknown, cannot be written here, has no alpha, or has a smaller maximum size.
        MissingExtraError: The format needs an extra that is not installed.
    """
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise OutputError(f"{path}: no format is known for {path.suffix!r}: use .png, .jpg, .webp, .tiff or .avif")
    if side_px > _MAXIMUM_SIDE_PX.get(kind, side_px):
        raise OutputError(f"{path}: {kind} holds at most {_MAXIMUM_SIDE_PX[kind]} pixels a side: use .png")
    if has_alpha and kind == "JPEG":
        raise OutputError(f"{path}: JPEG cannot keep the picture's transparency: use .png or .webp")
    if kind == "AVIF" and not features.check("avif"):
        raise OutputError(f"{path}: this Pillow was built without AVIF: use .webp")
    if kind == "JXL":
        import_extra("imagecodecs", f"{path}: writing JPEG XL")
    if is_deep and kind in ("PNG", "TIFF"):
        require_codecs(str(path))
    return kind


def encode(array: NDArray[Any], kind: str, metadata: Metadata) -> bytes:
    """Encode a picture; JPEG, WebP, AVIF and JPEG XL have quality 95.

    EXIF, XMP and ICC profile are kept, except that TIFF of 16-bit colour keeps only the text tags of the main EXIF
    directory, and JPEG XL none of them.

    Args:
        array: Pixels (H, W), or (H, W, C) for two channels and more; uint8, or uint16 for `DEEP_FORMATS`.
        kind: From `check_format`.
        metadata: Metadata to write.
    """
    if kind == "JXL":
        return bytes(import_extra("imagecodecs", "writing JPEG XL").jpegxl_encode(array, level=_QUALITY))
    if array.dtype == np.uint16 and array.ndim == 3:
        return encode_deep(array, kind, metadata)
    buffer = io.BytesIO()
    _ENCODERS[kind](Image.fromarray(array), metadata, buffer)
    data = buffer.getvalue()
    return png_with_metadata(data, metadata) if kind == "PNG" else data


def _jpeg(image: Image.Image, metadata: Metadata, buffer: io.BytesIO) -> None:
    fitting = metadata.within(_JPEG_SEGMENT_BYTES)
    image.save(buffer, "JPEG", quality=_QUALITY, subsampling="4:4:4", **_options(fitting))


def _tiff(image: Image.Image, metadata: Metadata, buffer: io.BytesIO) -> None:
    tags = tiff_tags(metadata)
    # Pillow's compressed TIFF cannot hold an EXIF directory.
    options: dict[str, Any] = {"compression": "tiff_adobe_deflate"} if tags is None else {"exif": tags}
    image.save(buffer, "TIFF", icc_profile=metadata.icc_profile, **options)


def _options(metadata: Metadata) -> dict[str, Any]:
    options = {"icc_profile": metadata.icc_profile, "exif": metadata.exif, "xmp": metadata.xmp}
    return {name: value for name, value in options.items() if value is not None}


_ENCODERS: Final[dict[str, Callable[[Image.Image, Metadata, io.BytesIO], None]]] = {
    "PNG": lambda image, _, buffer: image.save(buffer, "PNG"),
    "JPEG": _jpeg,
    "WEBP": lambda image, metadata, buffer: image.save(buffer, "WEBP", quality=_QUALITY, **_options(metadata)),
    "AVIF": lambda image, metadata, buffer: image.save(buffer, "AVIF", quality=_QUALITY, **_options(metadata)),
    "TIFF": _tiff,
}
