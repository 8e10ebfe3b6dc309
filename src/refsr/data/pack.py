"""What a pack is: photographs and views in tar shards, for training on another machine.

    photos-0000.tar: pack.json, 000000.webp, 000001.webp, ...                   most diverse first
    views-0000.tar:  pack.json, 0000/00.webp, 0000/01.webp, 0000/00-01.field.npz, ...
A field says for places of one view of a scene where they lie in another view, as far as that is verified.
"""

import io
import json
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Literal

import numpy as np
from jaxtyping import Float

from refsr.errors import ImageError

PACK_FORMAT: Final = "refsr-pack"
PACK_VERSION: Final = 1
HEADER_NAME: Final = "pack.json"
"""The first member of each shard."""

NODE_PX: Final = 8
"""Node (i, j) of a field is pixel (y, x) = (8 i, 8 j) of the packed view."""

UNITS_PER_PX: Final = 32
UNKNOWN: Final = -32768

_BLOCK: Final = tarfile.BLOCKSIZE

Member = tuple[str, bytes]
"""A file in a shard."""

Field = Float[np.ndarray, "2 gh gw"]


def encode_header(kind: Literal["photos", "views"]) -> bytes:
    """The bytes of a shard's first member."""
    return (json.dumps({"format": PACK_FORMAT, "version": PACK_VERSION, "kind": kind}) + "\n").encode()


def encode_field(position_px: Field) -> bytes:
    """A field as .npz, in 1/32 of a pixel.

    Args:
        position_px: (y, x) of each node in the other view, pixel centres at whole numbers; NaN where it is unknown, and
            places that 16 bits cannot hold become so.
    """
    units = np.round(position_px.astype(np.float64) * UNITS_PER_PX)
    known = np.all(np.abs(np.nan_to_num(units, nan=np.inf)) <= np.iinfo(np.int16).max, axis=0)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, position_32nds=np.where(known, units, UNKNOWN).astype(np.int16))
    return buffer.getvalue()


def decode_field(data: bytes, name: str) -> Field:
    """What `encode_field` was given, to 1/64 of a pixel.

    Args:
        data: The bytes of a .field.npz.
        name: What an error calls it.

    Raises:
        ImageError: It is damaged.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            units = file["position_32nds"]
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        TypeError,
        AttributeError,
        NotImplementedError,
        RuntimeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise ImageError(f"{name}: damaged, or not a field of a pack: make or copy the pack again") from error
    if units.dtype != np.int16 or units.ndim != 3 or len(units) != 2:
        raise ImageError(f"{name}: holds {units.dtype} {units.shape}, not a field of a pack: make the pack again")
    known = np.all(units != UNKNOWN, axis=0)
    return np.where(known, units.astype(np.float32) / UNITS_PER_PX, np.float32(np.nan))


class ShardWriter:
    """Tar files of one kind, none larger than allowed, without a trace of when and by whom they were made."""

    def __init__(self, folder: Path, kind: Literal["photos", "views"], most_bytes: int) -> None:
        """Nothing is written yet.

        Args:
            folder: Of the shards.
            kind: What they hold, and are called by.
            most_bytes: No shard is larger, unless what is added at once is.
        """
        self.folder, self.kind, self.most_bytes = folder, kind, most_bytes
        self.sizes: dict[str, int] = {}
        self._file: tarfile.TarFile | None = None
        self._name, self._held_bytes = "", 0

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def size_with(self, members: Sequence[Member]) -> int:
        """Of all shards, if these were added to a new one."""
        return sum(self.sizes.values()) + tar_bytes(members)

    def add(self, members: Sequence[Member]) -> None:
        """All into one shard, a new one if the last is too full."""
        if self._file is None or tar_bytes(members, self._held_bytes) > self.most_bytes:
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
    """Size of a shard.

    Args:
        members: What it is to hold.
        held_bytes: What it holds already, blocks of headers and padding included; its first member at the least.
    """
    used = held_bytes + sum(map(_member_bytes, members)) + 2 * _BLOCK
    return -(-used // tarfile.RECORDSIZE) * tarfile.RECORDSIZE
