"""Packing of photos and views of scenes in tar shards, in the format of `refsr.data.shards`.

photos --> without damaged and held-out ones --> most diverse first -------------------------> photos-NNNN.tar
scenes --> the same                          --> verified pairs of views --> dense truth --> views-NNNN.tar
"""

import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float
from PIL import Image

from refsr.data.features import pool_of
from refsr.data.leaks import find_leaks
from refsr.data.shards import ShardWriter, tar_bytes
from refsr.errors import OutputError, RefSRError, UsageError
from refsr.extras import import_extra
from refsr.io.files import make_folder
from refsr.io.listing import list_photos
from refsr.io.photo import read_preview
from refsr.io.workers import Workers
from refsr.pairs.pack_scene import PackConfig, encode_picture, pack_scene
from refsr.wording import counted

_MAXIMUM_VIEWS_SHARE: Final = 0.5
_DESCRIPTOR_PX: Final = 64
_CELLS: Final = 4
_ORIENTATIONS: Final = 8

Report = Callable[[str], None]
"""Called with one line of text now and then."""

Vector = Float[np.ndarray, " d"]


@dataclass(kw_only=True)
class PackSummary:
    """Counts of a pack: photos, scenes, their views, and fields, two per pair of views.

    Attributes:
        known: Mean share of known nodes of the fields.
        shards: Size of each shard in bytes, by name.
        left_out: Reasons by picture or scene that was left out.
        over_limit: Count of photos and scenes beyond the maximum size.
    """

    photos: int = 0
    scenes: int = 0
    views: int = 0
    fields: int = 0
    known: float = 0.0
    shards: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    over_limit: int = 0


def pack_photos(
    photos: Sequence[Path],
    views: Sequence[Path],
    held_out: Sequence[Path],
    out: Path,
    config: PackConfig,
    *,
    processes: int = 1,
    report: Report | None = None,
) -> PackSummary:
    """Pack pictures; the same pictures make the same pack, byte by byte.

    Args:
        photos: Folders of photos, searched recursively.
        views: Folders of scenes: each folder in them is a scene, searched recursively.
        held_out: Folders of pictures for evaluation; pictures that show one of them are left out.
        out: A new or empty folder, written atomically.
        config: Settings.
        processes: Number of processes.
        report: Called with lines of progress.

    Raises:
        UsageError: A folder is missing, or nothing is left to be packed.
        OutputError: `out` is not empty, or cannot be written.
        MissingExtraError: OpenCV is not installed.
    """
    import_extra("cv2", "finding pairs")
    for folder in (*photos, *views, *held_out):
        if not folder.is_dir():
            raise UsageError(f"{folder}: no such folder of pictures: check the name")
    say = report or (lambda _line: None)
    with _atomic_folder(out) as unfinished, pool_of(processes) as pool:
        run = _Run(unfinished, config, pool, say, [path for folder in held_out for path in list_photos(folder)])
        run.pack_views([scene for folder in views for scene in sorted(folder.iterdir()) if scene.is_dir()])
        run.pack_photos([path for folder in photos for path in list_photos(folder)])
        if not run.packed.shards:
            raise UsageError("nothing is left to be packed: give other photographs or views")
    return run.packed


class _Run:
    """State of one run; `room` is the count of bytes left for the pack."""

    def __init__(self, out: Path, config: PackConfig, pool: Workers, say: Report, held_out: Sequence[Path]) -> None:
        self.out, self.config, self.pool, self.say, self.held_out = out, config, pool, say, held_out
        self.packed = PackSummary()
        self.room = config.most_mib * 2**20 if config.most_mib else math.inf

    def pack_views(self, folders: Sequence[Path]) -> None:
        """Pack scenes up to the maximum size."""
        listed = [list_photos(folder) for folder in folders]
        files = self._usable([path for scene in listed for path in scene])
        scenes = [found for scene in listed if (found := [path for path in scene if path in files])]
        if not scenes:
            return
        ordered = [scenes[i] for i in diverse_order(np.stack([files[scene[len(scene) // 2]] for scene in scenes]))]
        room, known = self.room * _MAXIMUM_VIEWS_SHARE, 0.0
        task = partial(pack_scene, self.config)
        with ShardWriter(self.out, "views", self.config.shard_mib * 2**20) as shards:
            for count, scene in enumerate(self._in_order(task, ordered), 1):
                self.packed.left_out |= scene.left_out
                if count % 10 == 0 or count == len(ordered):
                    self.say(f"{count} of {counted(len(ordered), 'scene')}")
                named = [(f"{self.packed.scenes:04}/{name}", data) for name, data in scene.members]
                if not named:
                    continue
                if shards.size_with(named) > room:
                    self.packed.over_limit += len(ordered) - count + 1
                    break
                shards.add(named)
                self.packed.scenes += 1
                self.packed.views += scene.views
                self.packed.fields += len(scene.known)
                known += sum(scene.known)
        self.packed.known = known / max(1, self.packed.fields)
        self._close(shards)

    def pack_photos(self, paths: Sequence[Path]) -> None:
        """Pack photos up to the maximum size."""
        vectors = self._usable(paths)
        if not vectors:
            return
        files = list(vectors)
        ordered = [files[i] for i in diverse_order(np.stack(list(vectors.values())))]
        task = partial(encode_picture, self.config.longest_px, self.config.quality)
        with ShardWriter(self.out, "photos", self.config.shard_mib * 2**20) as shards:
            for count, data in enumerate(self._in_order(task, ordered), 1):
                member = [(f"{self.packed.photos:06}.webp", data)]
                if tar_bytes(member) > self.config.shard_mib * 2**20:
                    self.packed.left_out[str(ordered[count - 1])] = "larger than a shard: give a larger --shard-mib"
                    continue
                if shards.size_with(member) > self.room:
                    self.packed.over_limit += len(ordered) - count + 1
                    break
                shards.add(member)
                self.packed.photos += 1
                if count % 250 == 0 or count == len(ordered):
                    self.say(f"{count} of {counted(len(ordered), 'photograph')}")
        self._close(shards)

    def _close(self, shards: ShardWriter) -> None:
        self.packed.shards |= shards.sizes
        self.room -= sum(shards.sizes.values())

    def _usable(self, paths: Sequence[Path]) -> dict[Path, Vector]:
        """Descriptors of the readable pictures that show no held-out one."""
        paths = list(dict.fromkeys(paths))
        if not paths:
            return {}
        self.say(f"looking through {counted(len(paths), 'picture')}")
        vectors = dict(zip(paths, self._in_order(_describe_photo, paths), strict=True))
        damaged = {path: found for path, found in vectors.items() if isinstance(found, str)}
        self.packed.left_out |= {str(path): reason for path, reason in damaged.items()}
        readable = [path for path in paths if path not in damaged]
        leaks = find_leaks(readable, self.held_out)
        for number, shown in leaks.items():
            self.packed.left_out[str(readable[number])] = f"shows the held-out picture {shown}"
        kept = (path for number, path in enumerate(readable) if number not in leaks)
        return {path: found for path in kept if not isinstance(found := vectors[path], str)}

    def _in_order(self, task: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        """Results of a task in the order of the items."""
        early: dict[int, Any] = {}
        due = 0  # number of the next result to yield
        for number, found in self.pool.map_unordered(partial(_numbered, task), enumerate(items)):
            early[number] = found
            while due in early:
                yield early.pop(due)
                due += 1


def _numbered(task: Callable[[Any], Any], item: tuple[int, Any]) -> tuple[int, Any]:
    return item[0], task(item[1])


@contextmanager
def _atomic_folder(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out` that takes its place at the end, or is deleted after an error."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out}: is there already, and not empty: choose another folder")
    make_folder(out.parent)
    try:
        unfinished = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name[:40]}.", suffix=".part"))
    except OSError as error:
        raise OutputError(f"{out}: cannot be made ({error.strerror}): choose another folder") from error
    try:
        yield unfinished
        unfinished.chmod(0o755)
        if out.exists():
            out.rmdir()
        unfinished.rename(out)
    except OSError as error:
        if isinstance(error, RefSRError):
            raise
        raise OutputError(f"{out}: cannot be written ({error.strerror}): free some room or choose another") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def diverse_order(vectors: Float[np.ndarray, "n d"]) -> list[int]:
    """Farthest-point order: first the vector nearest to the mean, then always the one farthest from all before it.

    Source: Gonzalez, "Clustering to minimize the maximum intercluster distance", Theoretical Computer Science 1985.
    """
    order = [int(((vectors - vectors.mean(0)) ** 2).sum(1).argmin())]
    distance = np.full(len(vectors), np.inf, dtype=np.float32)
    while len(order) < len(vectors):
        distance = np.minimum(distance, ((vectors - vectors[order[-1]]) ** 2).sum(1))
        distance[order] = -1
        order.append(int(distance.argmax()))
    return order


def _describe_photo(path: Path) -> Vector | str:
    """Descriptor of a photo: colours and gradient histograms of a grid, contrast; the reason if it cannot be read."""
    try:
        image = read_preview(path, _DESCRIPTOR_PX).image
    except RefSRError as error:
        return str(error)
    square = image.resize((_DESCRIPTOR_PX, _DESCRIPTOR_PX), Image.Resampling.BILINEAR)
    colours = np.asarray(square.convert("YCbCr").resize((2 * _CELLS, 2 * _CELLS), Image.Resampling.BOX)) / 255
    dy, dx = np.gradient(np.asarray(square.convert("L")) / 255)
    strength = np.hypot(dy, dx)
    direction = ((np.arctan2(dy, dx) % np.pi) / np.pi * _ORIENTATIONS).astype(int) % _ORIENTATIONS
    cell = np.arange(_DESCRIPTOR_PX) * _CELLS // _DESCRIPTOR_PX
    place = (cell[:, None] * _CELLS + cell) * _ORIENTATIONS + direction
    histogram = np.bincount(place.ravel(), strength.ravel(), minlength=_CELLS**2 * _ORIENTATIONS)
    shares = np.sqrt(histogram / max(float(histogram.sum()), 1e-9))
    texture = [math.log10(float(strength.mean()) + 1e-3)]
    # The factor gives all parts similar weight: the 192 colours vary by some tenths.
    return np.concatenate((colours.ravel() / 4, shares, texture)).astype(np.float32)
