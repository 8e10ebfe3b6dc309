"""HDR gain maps: a second picture in the file, by which a screen brightens the first. Results have none.

Sources: Ultra HDR Image Format 1.1; ISO 21496-1; Apple, "Applying Apple HDR effect to your photos".
"""

import re
import struct
from typing import Final

_MARKS: Final = (
    *(b"urn:com:apple:photo:2020:aux:hdrgainmap", b"HDRGainMapVersion"),
    *(b"hdrgm:Version", b"urn:iso:std:iso:ts:21496:-1"),
)
"""What the second picture calls itself."""
_NAMESPACES: Final = (
    *(b"http://ns.adobe.com/hdr-gain-map/1.0/", b"http://ns.apple.com/HDRGainMap/1.0/"),
    b"http://ns.google.com/photos/1.0/container/",
)
_TAG: Final = re.compile(rb"<[^<>]*>")
_ENDS_JPEG_HEADER: Final = 0xDA


def has_gain_map(data: bytes) -> bool:
    """Whether a JPEG, HEIC or AVIF file holds a gain map, and does not only promise one."""
    if data.startswith(b"\xff\xd8"):
        start = _end_of_jpeg_header(data)
        return any(data.find(mark, start) >= 0 for mark in _MARKS)
    if data[4:8] == b"ftyp":
        brands = data[8 : int.from_bytes(data[:4])]
        return b"tmap" in brands or _MARKS[0] in data
    return False


def without_gain_map(xmp: bytes) -> bytes:
    """An XMP packet without what it says of a gain map and of further pictures in the file; the rest stays."""
    declared = rb"xmlns:([\w.-]+)\s?=\s?[\"'](?:" + b"|".join(map(re.escape, _NAMESPACES)) + rb")[\"']"
    prefixes = b"|".join(re.escape(prefix) for prefix in {found[1] for found in re.finditer(declared, xmp)})
    if not prefixes:
        return xmp
    attribute = re.compile(rb"\s(?:xmlns:(?:%b)|(?:%b):[\w.-]+)\s*=\s*(?:\"[^\"]*\"|'[^']*')" % (prefixes, prefixes))
    element = re.compile(rb"<((?:%b):[\w.-]+)" % prefixes)
    kept, at, end = [], 0, b""
    for tag in _TAG.finditer(xmp):
        if end:  # inside an element that is left out
            if tag[0].startswith(end):
                at, end = tag.end(), b""
            continue
        kept.append(xmp[at : tag.start()])
        at = tag.end()
        if (begun := element.match(tag[0])) is None:
            kept.append(attribute.sub(b"", tag[0]))
        elif not tag[0].endswith(b"/>"):
            end = b"</" + begun[1]
    return xmp if end else b"".join((*kept, xmp[at:]))


def _end_of_jpeg_header(data: bytes) -> int:
    """Where the pixels of the first picture begin; past its thumbnail, which is a picture too."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != _ENDS_JPEG_HEADER:
        at += 2 + struct.unpack_from(">H", data, at + 2)[0] if data[at + 1] != 0xFF else 1
    return at
