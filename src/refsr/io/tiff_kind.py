"""The kind of a TIFF in words, from its header alone: for files that are sound, but of a kind that is not read."""

import struct
from collections.abc import Mapping
from typing import Final

SIGNATURES: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PHOTOMETRICS: Final = {
    **{0: "MINISWHITE", 1: "MINISBLACK", 2: "RGB", 3: "PALETTE", 4: "MASK", 5: "SEPARATED", 6: "YCBCR", 8: "CIELAB"},
    **{9: "ICCLAB", 10: "ITULAB", 32803: "CFA (raw)", 32844: "LOGL", 32845: "LOGLUV", 34892: "LINEAR_RAW"},
}
_COMPRESSIONS: Final = {
    **{1: "NONE", 2: "CCITTRLE", 3: "CCITT_T4", 4: "CCITT_T6", 5: "LZW", 6: "OJPEG", 7: "JPEG", 8: "ADOBE_DEFLATE"},
    **{32773: "PACKBITS", 32946: "DEFLATE", 34712: "JPEG2000", 34925: "LZMA", 50000: "ZSTD", 50001: "WEBP"},
    **{34887: "LERC", 50002: "JPEGXL", 52546: "JPEGXL"},
}
_READ_COMPRESSIONS: Final = (*range(1, 9), 32773, 32946)
"""Those of every libtiff; LZMA, ZSTD and WebP are options of it."""

_SUBSAMPLED: Final = (6, 7)
_NUMBERS: Final = {2: "signed integers", 3: "floats", 5: "complex numbers", 6: "complex numbers"}
_TYPES: Final = {1: "B", 3: "H", 4: "I", 16: "Q"}
_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _SAMPLE_FORMAT = 258, 259, 262, 277, 339
_OFFSETS_AND_SIZES: Final = ((273, 279), (324, 325))
_MAXIMUM_TAGS: Final = 4096


def describe_tiff(data: bytes, *, identified: bool) -> str | None:
    """The kind of a TIFF in words; None for a damaged one, and for one of a kind that is read.

    Args:
        data: Content of a file that could not be decoded, beginning with one of `SIGNATURES`.
        identified: Whether the decoder knew the kind.
    """
    try:
        tags = _first_directory(data)
    except (struct.error, ValueError, KeyError):
        return None
    offsets, sizes = next(
        ((tags[offset], tags[size]) for offset, size in _OFFSETS_AND_SIZES if offset in tags and size in tags), ((), ())
    )
    whole = len(offsets) == len(sizes) > 0
    if not whole or any(at + size > len(data) for at, size in zip(offsets, sizes, strict=True)):
        return None
    bits, compression = max(tags.get(_BITS, (1,))), tags.get(_COMPRESSION, (1,))[0]
    photometric = tags.get(_PHOTOMETRIC, (1,))[0]
    plain_ycbcr = photometric == 6 and compression not in _SUBSAMPLED
    if identified and compression in _READ_COMPRESSIONS and not plain_ycbcr:
        return None
    numbers = _NUMBERS.get(tags.get(_SAMPLE_FORMAT, (1,))[0], "integers")
    colours = _PHOTOMETRICS.get(photometric, f"colours {photometric}")
    packed = _COMPRESSIONS.get(compression, str(compression))
    samples = tags.get(_SAMPLES, (1,))[0]
    big = "Big" if data[2:4] in (b"+\0", b"\0+") else ""
    return f"a {big}TIFF of {colours}, {bits}-bit {numbers}, compression {packed}, channels: {samples}"


def _first_directory(data: bytes) -> Mapping[int, tuple[int, ...]]:
    """Tags of whole numbers.

    Raises:
        struct.error: The file ends early.
        ValueError: The directory has too many tags to be one.
    """
    order = "<" if data.startswith(b"II") else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    start = struct.unpack_from(f"{order}Q" if big else f"{order}I", data, 8 if big else 4)[0]
    count = struct.unpack_from(f"{order}Q" if big else f"{order}H", data, start)[0]
    if count > _MAXIMUM_TAGS:
        raise ValueError(count)
    size, inside = (20, 8) if big else (12, 4)
    found = {}
    for number in range(count):
        at = start + (8 if big else 2) + number * size
        tag, kind = struct.unpack_from(f"{order}HH", data, at)
        length = struct.unpack_from(f"{order}Q" if big else f"{order}I", data, at + 4)[0]
        if kind not in _TYPES or not 0 < length <= len(data):
            continue
        form = f"{order}{length}{_TYPES[kind]}"
        at += size - inside
        if struct.calcsize(form) > inside:
            at = struct.unpack_from(f"{order}Q" if big else f"{order}I", data, at)[0]
        found[tag] = struct.unpack_from(form, data, at)
    return found
