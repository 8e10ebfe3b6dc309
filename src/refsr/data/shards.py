"""Tar shards, as WebDataset lays them out, read in place: sets larger than memory, on any number of machines.

    shard-0000.tar: 000.jpg, 001.jpg, ...                       photographs
                    000.input.png, 000.ref.png, 001.input.png   pairs
Only the headers are read at first. Any file can then be had at once, so that a resumed run sees what an unbroken one
would have seen, which a stream could not promise.
"""

import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from refsr.data.pack import HEADER_NAME, PACK_FORMAT, PACK_VERSION
from refsr.errors import ImageError
from refsr.io.photo import READABLE_SUFFIXES

FIELD_SUFFIX: Final = ".field.npz"
_END_BYTES: Final = 1024
"""A tar file ends with so many zeros."""


@dataclass(frozen=True, kw_only=True)
class TarMember:
    """A file inside a shard.

    Attributes:
        shard: The tar file.
        name: The file's own.
        offset: Of its first byte.
        size: In bytes.
    """

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
    """A shard itself, or those of a folder."""
    return sorted(path.glob("*.tar")) if path.is_dir() else [path] if path.suffix == ".tar" and path.is_file() else []


def read_pack_kind(shard: Path) -> str | None:
    """What a shard of a pack holds, "photos" or "views"; None for other shards.

    Raises:
        ImageError: It is damaged, or of another version.
    """
    try:
        with tarfile.open(shard, "r:") as file:
            first = file.next()
            if first is None or first.name != HEADER_NAME or (stream := file.extractfile(first)) is None:
                return None
            header = json.loads(stream.read())
        known, version = header["format"] == PACK_FORMAT, header["version"]
        kind = header["kind"] if known and version == PACK_VERSION else None
        with shard.open("rb") as tail:
            tail.seek(-_END_BYTES, io.SEEK_END)
            if tail.read().strip(b"\0"):
                raise tarfile.TarError("its end is missing")
    except (tarfile.TarError, OSError, ValueError, KeyError, TypeError) as error:
        raise ImageError(f"{shard}: damaged, or not a plain tar file ({error}): make it again") from error
    if kind not in ("photos", "views"):
        raise ImageError(
            f"{shard}: is a pack of version {version}, and this refsr reads version {PACK_VERSION}: pack the"
            " photographs again"
        )
    return str(kind)


def read_index(shards: Sequence[Path], suffixes: Sequence[str] = READABLE_SUFFIXES) -> list[TarMember]:
    """The pictures of some shards, or their members with other suffixes, in order.

    Raises:
        ImageError: One is damaged.
    """
    members = []
    for shard in shards:
        try:
            with tarfile.open(shard, "r:") as file:
                members += [
                    TarMember(shard=shard, name=info.name, offset=info.offset_data, size=info.size)
                    for info in file
                    if info.isfile() and info.name.lower().endswith(tuple(suffixes))
                ]
        except (tarfile.TarError, OSError) as error:
            raise ImageError(f"{shard}: damaged, or not a plain tar file ({error}): make it again") from error
    return members


def pair_up(members: Sequence[TarMember]) -> list[tuple[TarMember, TarMember]]:
    """Those called KEY.input.EXT and KEY.ref.EXT, in the order of their keys."""
    found: dict[str, dict[str, TarMember]] = {}
    for member in members:
        key, _, kind = member.name.rpartition(".")[0].rpartition(".")
        if kind in ("input", "ref"):
            found.setdefault(f"{member.shard}/{key}", {})[kind] = member
    return [(both["input"], both["ref"]) for _, both in sorted(found.items()) if len(both) == 2]
