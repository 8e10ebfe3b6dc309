"""The mark of a result: what it was made with, and of what, so that its guessed detail is never taken for real.

EXIF Software, and an XMP description:
    refsr:version, refsr:model     of the program and its network
    refsr:references               name of each reference, with the share of the picture that it changed
    DigitalSourceType              that a trained network had a part in it

Source: IPTC Photo Metadata Standard 2023.2, Digital Source Type.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from xml.sax.saxutils import escape

from PIL import ExifTags

from refsr.io.metadata import Metadata, encoded_exif, loaded_exif, text_of

_NAMESPACE: Final = "urn:refsr:result:1"
_SOFTWARE: Final = "refsr "
_END: Final = "</rdf:RDF>"
_TYPE: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
_EMPTY: Final = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF'
    ' xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What a result was made with.

    Attributes:
        version: Of refsr.
        model: Name of the network.
        references: Share of the picture that each reference changed, by name; None where it was not measured.
    """

    version: str
    model: str
    references: Mapping[str, float | None] = field(default_factory=dict)


def marked(metadata: Metadata, mark: Mark) -> Metadata:
    """The metadata of a result; marks of earlier results stay."""
    exif = loaded_exif(metadata.exif or b"")
    earlier = text_of(exif.get(ExifTags.Base.Software, ""))
    exif[ExifTags.Base.Software] = "; ".join(filter(None, (earlier, f"{_SOFTWARE}{mark.version}")))
    packet = (metadata.xmp or b"").decode(errors="replace")
    if _END not in packet:
        packet = _EMPTY
    head, end, tail = packet.rpartition(_END)
    return replace(metadata, exif=encoded_exif(exif), xmp=(head + _description(mark) + end + tail).encode())


def is_marked(metadata: Metadata) -> bool:
    """Whether a picture is a result of refsr."""
    software = loaded_exif(metadata.exif or b"").get(ExifTags.Base.Software, "")
    return _NAMESPACE.encode() in (metadata.xmp or b"") or _SOFTWARE in text_of(software)


def _description(mark: Mark) -> str:
    names = (
        " ".join(name.split()) + ("" if share is None else f" ({share:.0%})") for name, share in mark.references.items()
    )
    items = "".join(f"<rdf:li>{escape(name)}</rdf:li>" for name in names)
    return (
        f'<rdf:Description rdf:about="" xmlns:refsr="{_NAMESPACE}"'
        ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
        f"><refsr:version>{escape(mark.version)}</refsr:version><refsr:model>{escape(mark.model)}</refsr:model>"
        f"<refsr:references><rdf:Bag>{items}</rdf:Bag></refsr:references>"
        f"<Iptc4xmpExt:DigitalSourceType>{_TYPE}</Iptc4xmpExt:DigitalSourceType></rdf:Description>"
    )
