"""Packs: photos and views in tar shards, for training on another machine.

    photos-0000.tar: pack.json, 000000.webp, 000001.webp, ...                   most diverse first
    views-0000.tar:  pack.json, 0000/00.webp, 0000/01.webp, 0000/00-01.field.npz, ...

A field holds the verified correspondences of one view of a scene in another.
"""

import io
import json
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from jaxtyping import Float

from refsr.errors import ImageError

PACK_FORMAT: Final = "refsr-pack"
PACK_VERSION: Final = 1
HEADER_NAME: Final = "pack.json"
"""Name of the first member of each shard."""

NODE_PX: Final = 8
"""Distance of nodes: node (i, j) of a field is pixel (y, x) = (8 i, 8 j) of the packed view."""

UNITS_PER_PX: Final = 32
UNKNOWN: Final = -32768

_BLOCK: Final = tarfile.BLOCKSIZE
_NPZ_ERRORS: Final = (
    OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, RuntimeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip

Member = tuple[str, bytes]
"""Name and bytes of a file in a shard."""

Field = Float[np.ndarray, "2 gh gw"]


@dataclass(frozen=True, kw_only=True)
class ShardHeader:
    """The first member of a shard; `kind` is "photos" or "views"."""

    format: str
    version: int
    kind: str


def encode_header(kind: Literal["photos", "views"]) -> bytes:
    """The bytes of a shard's first member."""
    return (json.dumps(asdict(ShardHeader(format=PACK_FORMAT, version=PACK_VERSION, kind=kind))) + "\n").encode()


def encode_field(position_px: Field) -> bytes:
    """Encode a field as .npz, in units of 1/32 pixel.

    Args:
        position_px: (y, x) of each node in the other view, pixel centres at integers; NaN where unknown. Positions that
            16 bits cannot hold become unknown.
    """
    units = np.round(position_px.astype(np.float64) * UNITS_PER_PX)
    known = np.all(np.abs(np.nan_to_num(units, nan=np.inf)) <= np.iinfo(np.int16).max, axis=0)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, position_32nds=np.where(known, units, UNKNOWN).astype(np.int16))
    return buffer.getvalue()


def decode_field(data: bytes, name: str) -> Field:
    """Decode `encode_field`, exact to 1/64 pixel; `name` is for error messages.

    Raises:
        ImageError: The data are damaged.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            units = file["position_32nds"]
    except _NPZ_ERRORS as error:
        raise ImageError(f"{name}: damaged, or not a field of a pack: make or copy the pack again") from error
    if units.dtype != np.int16 or units.ndim != 3 or len(units) != 2:
        raise ImageError(f"{name}: holds {units.dtype} {units.shape}, not a field of a pack: make the pack again")
    known = np.all(units != UNKNOWN, axis=0)
    return np.where(known, units.astype(np.float32) / UNITS_PER_PX, np.float32(np.nan))


class ShardWriter(AbstractContextManager["ShardWriter"]):
    """Writer of tar shards of limited size, without time stamps or owners."""

    def __init__(self, folder: Path, kind: Literal["photos", "views"], maximum_bytes: int) -> None:
        """Write nothing yet; members that are added together may exceed the maximum size of a shard."""
        self.folder, self.kind, self.maximum_bytes = folder, kind, maximum_bytes
        self.sizes: dict[str, int] = {}
        self._file: tarfile.TarFile | None = None
        self._name, self._held_bytes = "", 0

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def size_with(self, members: Sequence[Member]) -> int:
        """Size of all shards in bytes, if these members were added in a new one."""
        return sum(self.sizes.values()) + tar_bytes(members)

    def add(self, members: Sequence[Member]) -> None:
        """Add members to the last shard, or to a new one if they do not fit."""
        if self._file is None or tar_bytes(members, self._held_bytes) > self.maximum_bytes:
            if self._file is not None:
                self._file.close()
            name = f"{self.kind}-{len(self.sizes):04}.tar"
            self._file = tarfile.open(self.folder / name, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
            self._held_bytes = self._write(self._file, (HEADER_NAME, encode_header(self.kind)))
            self._name = name
        self._held_bytes += sum([self._write(self._file, member) for member in members])
        self.sizes[self._name] = tar_bytes([], self._held_bytes)

    @staticmethod
    def _write(file: tarfile.TarFile, member: Member) -> int:
        info = tarfile.TarInfo(member[0])
        info.size = len(member[1])
        file.addfile(info, io.BytesIO(member[1]))
        return _member_bytes(member)


def _member_bytes(member: Member) -> int:
    return _BLOCK + -(-len(member[1]) // _BLOCK) * _BLOCK


def tar_bytes(members: Sequence[Member], held_bytes: int = 2 * _BLOCK) -> int:
    """Size of a shard in bytes, with these members after `held_bytes`, by default those of the shard's header."""
    used = held_bytes + sum(map(_member_bytes, members)) + 2 * _BLOCK
    return -(-used // tarfile.RECORDSIZE) * tarfile.RECORDSIZE
