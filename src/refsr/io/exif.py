"""What a photo's EXIF says: which way is up, and what is worth keeping."""

import struct
from typing import Any, Final

from numpy.typing import NDArray
from PIL import ExifTags, Image

_KEPT_TAGS: Final = frozenset(
    {
        ExifTags.Base.ImageDescription,
        ExifTags.Base.Make,
        ExifTags.Base.Model,
        ExifTags.Base.XResolution,
        ExifTags.Base.YResolution,
        ExifTags.Base.ResolutionUnit,
        ExifTags.Base.Software,
        ExifTags.Base.DateTime,
        ExifTags.Base.Artist,
        ExifTags.Base.HostComputer,
        ExifTags.Base.Copyright,
        ExifTags.Base.Rating,
    }
)

_DAMAGED: Final = (SyntaxError, ValueError, KeyError, TypeError, IndexError, struct.error, OSError)
"""What Pillow raises on EXIF that makes no sense."""


def read_exif(image: Image.Image) -> Image.Exif:
    """A picture's EXIF, empty if there is none or if it is damaged."""
    try:
        return image.getexif()
    except _DAMAGED:
        return Image.Exif()  # a picture with damaged EXIF is still a picture


def descriptive(exif: Image.Exif) -> bytes | None:
    """What describes the photo, without what describes the file (in TIFF the two share one directory); None if there
    is nothing, or nothing that could be written again."""
    kept = Image.Exif()
    for tag in _KEPT_TAGS & set(exif):
        kept[tag] = exif[tag]
    for directory in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        try:
            values = exif.get_ifd(directory)
        except _DAMAGED:
            continue
        if values:
            kept.get_ifd(directory).update(values)
            kept[directory] = kept.get_ifd(directory)
    try:
        return kept.tobytes() if len(kept) else None
    except _DAMAGED:
        return None


def exif_with_size(data: bytes | None, size_px: tuple[int, int]) -> bytes | None:
    """The same EXIF for a picture of another size (height, width)."""
    if data is None:
        return None
    exif = Image.Exif()
    exif.load(data)
    details = exif.get_ifd(ExifTags.IFD.Exif)
    for tag, value in (
        (ExifTags.Base.ExifImageHeight, size_px[0]),
        (ExifTags.Base.ExifImageWidth, size_px[1]),
    ):
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
