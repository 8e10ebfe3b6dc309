"""EXIF of a photo: its orientation, and the tags worth keeping."""

import struct
from typing import Any, Final

from numpy.typing import NDArray
from PIL import ExifTags, Image

_KEPT_TAGS: Final = frozenset(
    ExifTags.Base[name]
    for name in (
        *("ImageDescription", "Make", "Model", "XResolution", "YResolution", "ResolutionUnit"),
        *("Software", "DateTime", "Artist", "HostComputer", "Copyright", "Rating"),
    )
)

_PILLOW_ERRORS: Final = (SyntaxError, ValueError, KeyError, TypeError, IndexError, struct.error, OSError)
"""Exceptions of Pillow on damaged EXIF."""


def read_exif(image: Image.Image) -> Image.Exif:
    """The EXIF of a picture, empty if missing or damaged."""
    try:
        return image.getexif()
    except _PILLOW_ERRORS:
        return Image.Exif()  # a picture with damaged EXIF is still a picture


def descriptive_exif(exif: Image.Exif) -> bytes | None:
    """The tags that describe the photo, without those that describe the file: in TIFF both share one directory.

    Returns:
        None if there are none, or none that can be written again.
    """
    kept = Image.Exif()
    for tag in _KEPT_TAGS & set(exif):
        kept[tag] = exif[tag]
    for directory in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        try:
            values = exif.get_ifd(directory)
        except _PILLOW_ERRORS:
            continue
        if values:
            kept.get_ifd(directory).update(values)
            kept[directory] = kept.get_ifd(directory)
    try:
        return kept.tobytes() if len(kept) else None
    except _PILLOW_ERRORS:
        return None


def exif_with_size(data: bytes | None, size_px: tuple[int, int]) -> bytes | None:
    """The same EXIF for a picture of another size (height, width)."""
    if data is None:
        return None
    exif = Image.Exif()
    exif.load(data)
    details = exif.get_ifd(ExifTags.IFD.Exif)
    for tag, value in zip((ExifTags.Base.ExifImageHeight, ExifTags.Base.ExifImageWidth), size_px, strict=True):
        if tag in details:
            details[tag] = value
    return exif.tobytes()


def upright(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Undo the camera's rotation. Source: EXIF 2.32, tag 0x0112."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array
