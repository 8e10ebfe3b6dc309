"""Tar shards in WebDataset's layout, read in place: data sets larger than memory, on any number of machines.

    shard-0000.tar:  000.jpg, 001.jpg, ...                                      photos
                     000.input.png, 000.ref.png, 001.input.png                  pairs
    photos-0000.tar: pack.json, 000000.webp, 000001.webp, ...                   a pack, most diverse first
    views-0000.tar:  pack.json, 0000/00.webp, 0000/01.webp, 0000/00-01.field.npz, ...

Only the headers are read at first. Files are then read in any order, unlike from a stream, so that a resumed run sees
the same data as an unbroken one. A pack is for training on another machine. A field holds the verified correspondences
of one view of a scene in another.
"""

import io
import json
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float

from refsr.data.geometry import Matrix
from refsr.errors import ImageError
from refsr.io.decode import READABLE_SUFFIXES
from refsr.io.records import parse_object, parse_record
from refsr.wording import cause

PACK_FORMAT: Final = "refsr-pack"
PACK_VERSION: Final = 1
HEADER_NAME: Final = "pack.json"
"""Name of the first member of each shard."""

NODE_PX: Final = 8
"""Distance of nodes: node (i, j) of a field is pixel (y, x) = (8 i, 8 j) of the packed view."""

FIELD_SUFFIX: Final = ".field.npz"
UNITS_PER_PX: Final = 32
UNKNOWN: Final = -32768

_BLOCK: Final = tarfile.BLOCKSIZE
_TRAILER_BYTES: Final = 2 * _BLOCK  # zeros at the end of a tar file
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


def interpolate_field(field_px: Field, points_px: Matrix) -> Matrix:
    """Points (x, y) of a view in its partner, bilinear between nodes; NaN where a node around is unknown."""
    size = torch.tensor(field_px.shape[:0:-1], dtype=torch.float32)
    nodes = torch.from_numpy(points_px).float() / NODE_PX
    grid = 2 * nodes / (size - 1).clamp_min(1) - 1
    found = F.grid_sample(torch.from_numpy(field_px)[None], grid[None, None], align_corners=True)[0, :, 0]
    inside = ((nodes >= 0) & (nodes <= size - 1)).all(1)
    return np.asarray(found.masked_fill(~inside, torch.nan).flip(0).T.double().numpy())


def verified_points(field_px: Field, left: int, top: int, side: int) -> Matrix:
    """(x, y) in the partner of the verified nodes in a square of a view."""
    y, x = np.nonzero(np.isfinite(field_px[0]))
    places = np.stack((x, y), 1) * float(NODE_PX)
    inside = ((places >= (left, top)) & (places < (left + side, top + side))).all(1)
    return field_px[::-1, y[inside], x[inside]].T.astype(np.float64)


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
        raise ImageError(f"{shard}: damaged, or not a plain tar file ({cause(error)}): make it again") from error
