"""Tar shards in WebDataset's layout, read in place: data sets larger than memory, on any number of machines.

    shard-0000.tar: 000.jpg, 001.jpg, ...                       photos
                    000.input.png, 000.ref.png, 001.input.png   pairs

Only the headers are read at first. Files are then read in any order, unlike from a stream, so that a resumed run sees
the same data as an unbroken one.
"""

import io
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from refsr.data.pack import HEADER_NAME, PACK_FORMAT, PACK_VERSION, ShardHeader
from refsr.errors import ImageError
from refsr.io.decode import READABLE_SUFFIXES
from refsr.io.records import parse_object, parse_record

FIELD_SUFFIX: Final = ".field.npz"
_TRAILER_BYTES: Final = 1024  # zeros at the end of a tar file


@dataclass(frozen=True, kw_only=True)
class TarMember:
    """A file inside a shard: `size` bytes of the tar file, from byte `offset`."""

    shard: Path
    name: str
    offset: int
    size: int

    def read_bytes(self) -> bytes:
        """The whole file."""
        with self.shard.open("rb") as stream:
            stream.seek(self.offset)
            return stream.read(self.size)

    def __str__(self) -> str:
        return f"{self.shard}:{self.name}"


def list_shards(path: Path) -> list[Path]:
    """The shards of a folder, or the shard itself; none for other paths."""
    if path.is_dir():
        return sorted(path.glob("*.tar"))
    return [path] if path.suffix == ".tar" and path.is_file() else []


def read_pack_kind(shard: Path) -> str | None:
    """The kind of a pack's shard, "photos" or "views"; None for other shards.

    Raises:
        ImageError: The shard is damaged or of another version.
    """
    with _open_tar(shard) as file:
        first = file.next()
        if first is None or first.name != HEADER_NAME or (stream := file.extractfile(first)) is None:
            return None
        header = parse_record(parse_object(stream.read()), ShardHeader)
        with shard.open("rb") as tail:
            tail.seek(-_TRAILER_BYTES, io.SEEK_END)
            if tail.read().strip(b"\0"):
                raise tarfile.TarError("its end is missing")
    if (header.format, header.version) != (PACK_FORMAT, PACK_VERSION) or header.kind not in ("photos", "views"):
        raise ImageError(
            f"{shard}: is a pack of version {header.version}, and this refsr reads version {PACK_VERSION}: pack the"
            " photographs again"
        )
    return header.kind


def read_index(shards: Sequence[Path], suffixes: Sequence[str] = READABLE_SUFFIXES) -> list[TarMember]:
    """The members of some shards with one of some suffixes, by default those of pictures, in order.

    Raises:
        ImageError: A shard is damaged.
    """
    members = []
    for shard in shards:
        with _open_tar(shard) as file:
            members += [
                TarMember(shard=shard, name=info.name, offset=info.offset_data, size=info.size)
                for info in file
                if info.isfile() and info.name.lower().endswith(tuple(suffixes))
            ]
    return members


def pair_up(members: Sequence[TarMember]) -> list[tuple[TarMember, TarMember]]:
    """Pairs of KEY.input.EXT and KEY.ref.EXT, sorted by their keys."""
    found: dict[str, dict[str, TarMember]] = {}
    for member in members:
        key, _, kind = member.name.rpartition(".")[0].rpartition(".")
        if kind in ("input", "ref"):
            found.setdefault(f"{member.shard}/{key}", {})[kind] = member
    return [(pair["input"], pair["ref"]) for _, pair in sorted(found.items()) if len(pair) == 2]


@contextmanager
def _open_tar(shard: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(shard, "r:") as file:
            yield file
    except (tarfile.TarError, OSError, ValueError) as error:
        raise ImageError(f"{shard}: damaged, or not a plain tar file ({error}): make it again") from error
