"""One scene of a pack: its views, in verified pairs, with dense correspondences.

views --> features --> pairs to compare --> verified, best partners --> fields in both directions --> members
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float
from PIL import Image

from refsr.data.features import LocalFeatures, detect
from refsr.data.shards import Member, encode_field, tar_bytes
from refsr.data.truth import Grey, dense_positions, enough_known, resized_nodes
from refsr.errors import ImageError, UsageError
from refsr.io.photo import read_preview
from refsr.pairs.shortlist import learn_words, nearest_pairs, vlad
from refsr.pairs.verify import Overlap, verify

WORK_PX: Final = 2048
"""Long side of the copies for features and correspondences; smaller photos are not enlarged."""

_SMALL_SCENE_VIEWS: Final = 12  # scenes of at most this many views are compared exhaustively
_NEIGHBOURS: Final = 8
_CACHED_VIEWS: Final = 8


@dataclass(frozen=True, kw_only=True)
class PackConfig:
    """Settings of a pack.

    Attributes:
        shard_mib: Maximum size of a shard in MiB.
        most_mib: Maximum size of the pack in MiB, at most half of it for views; 0 for no limit.
        longest_px: Long side of the packed pictures, at most 1024, so that positions in them fit 16 bits.
        quality: Quality of WebP, 1..100.
        partners: Maximum count of views that each view is paired with.
    """

    shard_mib: int = 50
    most_mib: int = 0
    longest_px: int = 1024
    quality: int = 95
    partners: int = 3

    def __post_init__(self) -> None:
        if self.shard_mib < 1 or self.most_mib < 0:
            raise UsageError(f"--shard-mib {self.shard_mib}, --most-mib {self.most_mib}: give whole numbers of MiB")
        if not 64 <= self.longest_px <= 1024:
            raise UsageError(f"--longest-px {self.longest_px}: give 64 to 1024")
        if not 1 <= self.quality <= 100:
            raise UsageError(f"--quality {self.quality}: give 1 to 100")
        if self.partners < 1:
            raise UsageError(f"--partners {self.partners}: give 1 or more")


def encode_picture(longest_px: int, quality: int, path: Path) -> bytes:
    """A photo as WebP; a WebP file that is small enough, upright and still is copied."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror}): check its permissions") from error
    with Image.open(io.BytesIO(data)) as image:
        plain = image.format == "WEBP" and not image.getexif() and getattr(image, "n_frames", 1) == 1
        if plain and image.mode == "RGB" and max(image.size) <= longest_px:
            return data
    buffer = io.BytesIO()
    read_preview(path, longest_px).image.save(buffer, "WEBP", quality=quality, method=4)
    return buffer.getvalue()


@dataclass(kw_only=True)
class PackedScene:
    """A packed scene: members, count of views, share of known nodes of each field, and reasons for what is left out."""

    members: list[Member] = field(default_factory=list)
    views: int = 0
    known: list[float] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _View:
    path: Path
    features: LocalFeatures
    packed_px: tuple[int, int]
    webp: bytes


def pack_scene(config: PackConfig, files: Sequence[Path]) -> PackedScene:
    """Pack a scene, up to the size of a shard; only features and packed pictures of all views are held in memory."""
    scene = PackedScene()
    views: list[_View] = []
    for path in files:
        try:
            views.append(_read_view(config, path))
        except ImageError as error:
            scene.left_out[str(path)] = str(error)
    numbers: dict[int, int] = {}
    maximum_bytes, full = config.shard_mib * 2**20, False
    for first, second in choose_pairs(_overlaps([view.features for view in views]), config.partners):
        fields = {(a, b): _field(views[a], views[b]) for a, b in ((first, second), (second, first))}
        good = {pair: nodes for pair, nodes in fields.items() if nodes is not None}
        new = [number for number in (first, second) if number not in numbers] if good else []
        names = numbers | {number: len(numbers) + i for i, number in enumerate(new)}
        members = [(f"{names[number]:02}.webp", views[number].webp) for number in new]
        members += [(f"{names[a]:02}-{names[b]:02}.field.npz", encode_field(nodes)) for (a, b), nodes in good.items()]
        if tar_bytes([*scene.members, *members]) > maximum_bytes:
            full = True
            break
        numbers = names
        scene.members += members
        scene.known += [float(np.isfinite(nodes[0]).mean()) for nodes in good.values()]
    if full:
        scene.left_out[str(files[0].parent)] = "a part of it, which exceeds a shard: give a larger --shard-mib"
    scene.views = len(numbers)
    for number, view in enumerate(views):
        if number not in numbers and not full:
            scene.left_out[str(view.path)] = "no other view of its scene is verified to show the same"
    scene.members.sort()
    return scene


def _read_view(config: PackConfig, path: Path) -> _View:
    features = detect(path, WORK_PX)
    webp = encode_picture(config.longest_px, config.quality, path)
    with Image.open(io.BytesIO(webp)) as image:
        packed_px = (image.height, image.width)
    return _View(path=path, features=features, packed_px=packed_px, webp=webp)


@lru_cache(maxsize=_CACHED_VIEWS)
def _grey(path: Path) -> Grey:
    return np.asarray(read_preview(path, WORK_PX).image.convert("L"))


def _overlaps(features: Sequence[LocalFeatures]) -> list[Overlap]:
    """Verified overlaps among the views, without near-duplicates."""
    count = len(features)
    pairs = [(a, b) for a in range(count) for b in range(a + 1, count)]
    if count > _SMALL_SCENE_VIEWS:
        roots = [found.root_descriptors() for found in features]
        words = learn_words(roots)
        pairs = nearest_pairs(np.stack([vlad(root, words) for root in roots]), _NEIGHBOURS)
    found = (verify(features[a], features[b], (a, b), crop_px=0, maximum_crops=0) for a, b in pairs)
    return [overlap for overlap in found if overlap is not None and not overlap.duplicate]


def choose_pairs(overlaps: Sequence[Overlap], partners: int) -> list[tuple[int, int]]:
    """Pairs of each view and up to `partners` views with the most matches, each pair once, sorted."""
    best: dict[int, list[Overlap]] = {}
    for overlap in sorted(overlaps, key=lambda o: (-o.matches, o.first, o.second)):
        for number in (overlap.first, overlap.second):
            best.setdefault(number, []).append(overlap)
    return sorted({(o.first, o.second) for found in best.values() for o in found[:partners]})


def _field(first: _View, second: _View) -> Float[np.ndarray, "2 gh gw"] | None:
    """Field of two packed views, from correspondences between the photos themselves; None if too little is known."""
    grey, other = _grey(first.path), _grey(second.path)
    positions = dense_positions(grey, other, first.features, second.features)
    if positions is None:
        return None
    nodes = resized_nodes(positions, first.packed_px, other.shape, second.packed_px)
    return nodes if enough_known(nodes) else None
