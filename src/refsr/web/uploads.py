"""Files that a visitor sent: their names as the visitor knows them, their limits, and what is said of them.

The server keeps uploads under names and in folders of its own, which are nobody's business.
"""

import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Final

from refsr.errors import ImageError, RefSRError, UsageError
from refsr.io.decode import opened
from refsr.io.photo import Photo, decode_photo
from refsr.web.web_config import Format, WebConfig
from refsr.web.words import Words

MIB: Final = 2**20
_MAXIMUM_NAME_BYTES: Final = 120


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A file that a visitor sent.

    Attributes:
        path: The server's file.
        name: Its name as the visitor knows it.
    """

    path: Path
    name: str

    @property
    def stem(self) -> str:
        """The name without suffix, fit to be a file's."""
        return PurePosixPath(self.name).stem or "photo"

    def photo(self) -> Photo:
        """Decode it; errors and notes name it as the visitor does.

        Raises:
            ImageError: It cannot be used.
        """
        return decode_photo(self.path.read_bytes(), self.name)


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a visitor asks for.

    Attributes:
        photo: The blurry photo.
        references: Sharp photos, each with a name of its own.
        kind: Format of the download.
        scale: How many times as large the result shall be.
        denoise: Share of the weights for real photographs, 0..1; None to measure the photo.
        texture: Share of the crisp weights, 0..1.
    """

    photo: Upload
    references: tuple[Upload, ...] = ()
    kind: Format = "PNG"
    scale: float = 4.0
    denoise: float | None = None
    texture: float = 0.0

    @property
    def file_name(self) -> str:
        """Name of the download."""
        return f"{self.photo.stem}_x{self.scale:g}{'.png' if self.kind == 'PNG' else '.jpg'}"


def as_upload(path: str | Path, original_name: str | None = None) -> Upload:
    """A file under a name that can be shown and written.

    Args:
        path: The server's file.
        original_name: As the visitor's browser tells it; may be anything.
    """
    name = re.split(r"[/\\]", original_name or Path(path).name)[-1]
    name = " ".join("".join(letter if letter.isprintable() else " " for letter in name).split()).lstrip(".")
    suffix = PurePosixPath(name).suffix[:10]
    stem = PurePosixPath(name).stem.encode(errors="ignore")[:_MAXIMUM_NAME_BYTES].decode(errors="ignore")
    return Upload(path=Path(path), name=f"{stem or 'photo'}{suffix}")


def with_own_names(uploads: Sequence[Upload]) -> tuple[Upload, ...]:
    """The same files, where several of one name are numbered."""
    seen: Counter[str] = Counter()
    found = []
    for upload in uploads:
        seen[upload.name] += 1
        number = f" ({seen[upload.name]})" if seen[upload.name] > 1 else ""
        found.append(replace(upload, name=upload.name + number))
    return tuple(found)


def check_files(photo: Upload, references: Sequence[Upload], config: WebConfig, words: Words) -> list[tuple[int, int]]:
    """Refuse files beyond the limits before they are decoded.

    Args:
        photo: The blurry photo.
        references: Sharp photos.
        config: The limits.
        words: Language of the refusals.

    Returns:
        Height and width of the photo, and of each reference, as they lie in the files.

    Raises:
        UsageError: They are too many, too large, or too large together.
        ImageError: One is no picture.
        MissingExtraError: One needs an extra that is not installed.
    """
    if len(references) > config.max_references:
        raise UsageError(words("many", count=len(references), limit=config.max_references))
    sizes = [upload.path.stat().st_size for upload in (photo, *references)]
    for upload, size in zip((photo, *references), sizes, strict=True):
        if size > config.max_file_mib * MIB:
            raise UsageError(words("large_file", name=upload.name, limit=f"{config.max_file_mib:g}"))
    if sum(sizes) > config.max_request_mib * MIB:
        limit = f"{config.max_request_mib:g}"
        raise UsageError(words("large_request", size=f"{sum(sizes) / MIB:.3g}", limit=limit))
    shapes = [size_of(upload, words) for upload in (photo, *references)]
    for reference, (height, width) in zip(references, shapes[1:], strict=True):
        megapixels = width * height / 1e6
        if megapixels > config.max_megapixels:
            values = {"size": f"{megapixels:.3g}", "limit": f"{config.max_megapixels:g}"}
            raise UsageError(words("large_reference", name=reference.name, **values))
    return shapes


def size_of(upload: Upload, words: Words) -> tuple[int, int]:
    """Height and width that a file claims. Raises as `check_files`."""
    try:
        with opened(upload.path.read_bytes(), upload.name, to_its_end=False) as image:
            return image.height, image.width
    except ImageError as error:
        raise ImageError(words("broken", name=upload.name)) from error


def reason_of(error: Exception, photo: Upload, references: Sequence[Upload], words: Words) -> str:
    """One line about a failure, in which files have the visitor's names and the server's paths are left out.

    Args:
        error: A `RefSRError`, an `OSError` or a `MemoryError`.
        photo: The blurry photo.
        references: Sharp photos.
        words: Language of what is said of the server itself.
    """
    if not isinstance(error, RefSRError):
        if isinstance(error, OSError):
            return words("trouble", reason=error.strerror or type(error).__name__)
        return words("memory")
    line = " ".join(str(error).split())
    for place, upload in (("image", photo), *((f"reference {n}", each) for n, each in enumerate(references, 1))):
        if line.startswith(f"{place}: "):
            line = upload.name + line.removeprefix(place)
            break
    return re.sub(re.escape(tempfile.gettempdir()) + r"/[^:]*/", "", line)
