"""Metadata of a picture: EXIF, XMP, colour profile, and PNG's chunks about colours and resolution."""

import struct
import zlib
from dataclasses import dataclass, field, replace
from typing import Any, Final

from numpy.typing import NDArray
from PIL import ExifTags, Image

from refsr.io.gain_map import without_gain_map

_KEPT_TAGS: Final = frozenset(
    ExifTags.Base[name]
    for name in (
        *("ImageDescription", "DocumentName", "Make", "Model", "XResolution", "YResolution", "ResolutionUnit"),
        *("Software", "DateTime", "Artist", "HostComputer", "Copyright", "Rating", "RatingPercent"),
        *("XPTitle", "XPComment", "XPAuthor", "XPKeywords", "XPSubject"),
    )
)
_LARGE_TAGS: Final = (ExifTags.Base.MakerNote, ExifTags.Base.UserComment)
_MOVABLE_NOTES: Final = (b"Nikon\0\2", b"Apple iOS\0", b"FUJIFILM", b"OLYMPUS\0", b"OM SYSTEM\0", b"PENTAX \0")
"""Beginnings of maker's notes whose offsets count from themselves. Those of all others, such as Canon, Sony and
Panasonic, count from the file's EXIF, which is written anew: they would lead to other bytes. Source: ExifTool,
"Makernote Types"."""
_PNG_CHUNKS: Final = (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"pHYs")
XMP_TAG: Final = 700
_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER_END: Final = 33
_PILLOW_ERRORS: Final = (SyntaxError, ValueError, KeyError, TypeError, IndexError, struct.error, OSError)
"""Exceptions of Pillow on damaged EXIF."""


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """Metadata of a picture.

    Attributes:
        exif: Descriptive EXIF, without the orientation, which is applied to the pixels.
        icc_profile: ICC colour profile.
        xmp: XMP packet.
        png_chunks: PNG's chunks about colours and resolution, by kind; only PNG keeps them.
    """

    exif: bytes | None = None
    icc_profile: bytes | None = None
    xmp: bytes | None = None
    png_chunks: dict[bytes, bytes] = field(default_factory=dict)

    def with_size(self, size_px: tuple[int, int]) -> "Metadata":
        """The same for a picture of another size (height, width)."""
        if self.exif is None:
            return self
        exif = loaded_exif(self.exif)
        details = exif.get_ifd(ExifTags.IFD.Exif)
        for tag, value in zip((ExifTags.Base.ExifImageHeight, ExifTags.Base.ExifImageWidth), size_px, strict=True):
            if tag in details:
                details[tag] = value
        return replace(self, exif=encoded_exif(exif))

    def within(self, segment_bytes: int) -> "Metadata":
        """The same for a format with limited segments: first the maker's note goes, then all of EXIF or XMP."""
        exif = self.exif
        if exif is not None and len(exif) > segment_bytes:
            smaller = loaded_exif(exif)
            for tag in _LARGE_TAGS:
                smaller.get_ifd(ExifTags.IFD.Exif).pop(tag, None)
            exif = encoded_exif(smaller)
        return replace(
            self,
            exif=exif if exif is None or len(exif) <= segment_bytes else None,
            xmp=self.xmp if self.xmp is None or len(self.xmp) <= segment_bytes - 30 else None,
        )


class _Text(str):
    """Text that Pillow, which writes ASCII, writes as the bytes that it was read from."""

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:  # noqa: ARG002
        try:
            return super().encode("latin-1")
        except UnicodeEncodeError:
            return super().encode("utf-8")


def read_metadata(image: Image.Image, data: bytes = b"") -> Metadata:
    """Metadata of a picture that Pillow has opened, of the file `data` if there is one.

    The profile of CMYK is left out, since its pixels are converted.
    """
    xmp, profile = image.info.get("xmp"), image.info.get("icc_profile")
    return Metadata(
        exif=_descriptive(read_exif(image)),
        icc_profile=None if image.mode == "CMYK" else profile,
        xmp=without_gain_map(xmp.encode() if isinstance(xmp, str) else xmp) if xmp else None,
        png_chunks=_chunks_of(data) if image.format == "PNG" else {},
    )


def read_exif(image: Image.Image) -> Image.Exif:
    """The EXIF of a picture, empty if missing or damaged."""
    try:
        return image.getexif()
    except _PILLOW_ERRORS:
        return Image.Exif()  # a picture with damaged EXIF is still a picture


def text_of(value: Any) -> str:
    """A text of EXIF; Pillow decodes as Latin-1 what is UTF-8 most often."""
    text = str(value).strip("\0 ")
    try:
        return text.encode("latin-1").decode()
    except UnicodeError:
        return text


def upright(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Undo the camera's rotation. Source: EXIF 2.32, tag 0x0112."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array


def png_with_metadata(data: bytes, metadata: Metadata) -> bytes:
    """A PNG file with metadata in its chunks."""
    chunks = dict(metadata.png_chunks)
    if metadata.icc_profile:
        chunks[b"iCCP"] = b"ICC profile\0\0" + zlib.compress(metadata.icc_profile)
    if metadata.exif:
        chunks[b"eXIf"] = metadata.exif.removeprefix(b"Exif\0\0")
    if metadata.xmp:
        chunks[b"iTXt"] = b"XML:com.adobe.xmp\0\0\0\0\0" + metadata.xmp
    added = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks.items()
    )
    return data[:_PNG_HEADER_END] + added + data[_PNG_HEADER_END:]


def tiff_tags(metadata: Metadata) -> Image.Exif | None:
    """EXIF with the XMP packet among its tags, as TIFF holds it; None if there is neither."""
    if metadata.exif is None and metadata.xmp is None:
        return None
    exif = loaded_exif(metadata.exif or b"")
    if metadata.xmp is not None:
        exif[XMP_TAG] = metadata.xmp
    return _marked(exif)


def _chunks_of(data: bytes) -> dict[bytes, bytes]:
    """Chunks of a PNG to keep; they precede the pixels."""
    found, at = {}, len(_PNG_SIGNATURE)
    while data.startswith(_PNG_SIGNATURE) and at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IDAT":
            break
        if kind in _PNG_CHUNKS:
            found[kind] = data[at + 8 : at + 8 + length]
        at += length + 12
    return found


def _descriptive(exif: Image.Exif) -> bytes | None:
    """The tags that describe the photo, without those that describe the file: in TIFF both share one directory.

    A maker's note that could not be read in its new place is left out.

    Returns:
        None if there are none, or none that can be written again.
    """
    kept = Image.Exif()
    for tag in _KEPT_TAGS & set(exif):
        kept[tag] = exif[tag]
    for directory in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        try:
            values = _movable(exif, directory)
        except _PILLOW_ERRORS:
            continue
        if values:
            kept.get_ifd(directory).update(values)
            kept[directory] = kept.get_ifd(directory)
    try:
        return encoded_exif(kept) if len(kept) else None
    except _PILLOW_ERRORS:
        return None


def _movable(exif: Image.Exif, directory: ExifTags.IFD) -> dict[int, Any]:
    """The values of a directory that hold in any place of a file."""
    values = dict(exif.get_ifd(directory))
    note = values.get(ExifTags.Base.MakerNote, b"")
    if not (isinstance(note, bytes) and note.startswith(_MOVABLE_NOTES)):
        values.pop(ExifTags.Base.MakerNote, None)
    if ExifTags.IFD.Interop in values:  # its offset in the file
        values[ExifTags.IFD.Interop] = exif.get_ifd(ExifTags.IFD.Interop)
    return values


def loaded_exif(data: bytes) -> Image.Exif:
    """EXIF of its bytes, empty if they are damaged."""
    exif = Image.Exif()
    try:
        exif.load(data)
    except _PILLOW_ERRORS:
        return Image.Exif()
    return exif


def encoded_exif(exif: Image.Exif) -> bytes:
    """The bytes of EXIF."""
    return _marked(exif).tobytes()


def _marked(exif: Image.Exif) -> Image.Exif:
    """The same EXIF with texts that Pillow writes byte by byte."""
    for directory in (exif, exif.get_ifd(ExifTags.IFD.Exif), exif.get_ifd(ExifTags.IFD.GPSInfo)):
        for tag, value in list(directory.items()):
            if isinstance(value, str):
                directory[tag] = _Text(value)
    return exif
