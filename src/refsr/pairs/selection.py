"""Selection from an album's overlaps: near-duplicates to leave out, split into test and training, groups, crops.

    photos, overlaps ── near-duplicates left out ── units without overlap ──┬── test: groups as in CUFED5
                                                                            └── training: crops

The result is deterministic; random numbers are seeded by the photos' paths. Everywhere, `photos` are the photos of the
album, other arguments refer to them by index, and `allowed` are those that may be used.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from refsr.pairs.output_folder import BuildConfig
from refsr.pairs.verify import Overlap

CROPS_A_PAIR: Final = 4  # training crops of two photos, or of a single photo, at most
_PAIRS_A_PHOTO: Final = 5  # training pairs of photos that one photo is part of, at most


@dataclass(frozen=True, kw_only=True)
class AlbumPhoto:
    """A readable photo: path in the album, (height, width) of its working copy, and its own count of pixels."""

    path: str
    size_px: tuple[int, int]
    pixels: int
    licence: str | None

    @property
    def folder(self) -> str:
        """Folder inside the album; empty for photos directly in it."""
        return self.path.rpartition("/")[0]


@dataclass(frozen=True, kw_only=True)
class Group:
    """A test group: the index of the truth, and its overlaps with the references by level, 1 to 5."""

    truth: int
    references: dict[int, Overlap]


@dataclass(frozen=True, kw_only=True)
class Square:
    """A square of a photo's working copy: centre (x, y), side, and counter-clockwise rotation."""

    photo: int
    centre_px: tuple[float, float]
    side_px: float
    degrees: float = 0.0


@dataclass(frozen=True, kw_only=True)
class CropPair:
    """A training pair: input, reference, and the overlap of their photos, None if both are of one photo."""

    first: Square
    second: Square
    overlap: Overlap | None


@dataclass(frozen=True, kw_only=True)
class BuildPlan:
    """Content of both sets, photos for testing only, and near-duplicates left out, each with the photo kept."""

    duplicates: dict[int, int]
    test: frozenset[int]
    groups: tuple[Group, ...]
    crops: tuple[CropPair, ...]


def make_plan(photos: Sequence[AlbumPhoto], overlaps: Sequence[Overlap], config: BuildConfig) -> BuildPlan:
    """Select the content of both sets."""
    duplicates = find_duplicates(photos, overlaps)
    test = split(photos, overlaps, config.test_share)
    kept = [o for o in overlaps if o.first not in duplicates and o.second not in duplicates]
    usable = frozenset(range(len(photos))) - frozenset(duplicates)
    training = usable - test
    crops: list[CropPair] = []
    if config.train_from in ("matches", "both"):
        crops += matched_crops(kept, training, config.crop_px, _PAIRS_A_PHOTO)
    if config.train_from in ("single", "both"):
        crops += single_crops(photos, sorted(training), config.crop_px, CROPS_A_PAIR)
    groups = make_groups(photos, kept, usable & test)
    return BuildPlan(duplicates=duplicates, test=test, groups=groups, crops=tuple(crops))


def find_duplicates(photos: Sequence[AlbumPhoto], overlaps: Sequence[Overlap]) -> dict[int, int]:
    """Near-duplicates to leave out, each with the photo kept, which has more pixels.

    A photo is left out only if a kept photo is its near-duplicate: of a slow pan, in which only neighbours are alike,
    several photos are kept.
    """

    def rank(index: int) -> tuple[int, str]:
        return -photos[index].pixels, photos[index].path

    alike: dict[int, set[int]] = defaultdict(set)
    for overlap in overlaps:
        if overlap.duplicate:
            alike[overlap.first].add(overlap.second)
            alike[overlap.second].add(overlap.first)
    found: dict[int, int] = {}
    for index in sorted(alike, key=rank):
        better = [other for other in alike[index] - found.keys() if rank(other) < rank(index)]
        if better:
            found[index] = min(better, key=rank)
    return found


def split(photos: Sequence[AlbumPhoto], overlaps: Sequence[Overlap], test_share: float) -> frozenset[int]:
    """Choose the photos for testing, so that training sees nothing of them.

    Photos of one folder and photos with an overlap, near-duplicates included, form units that stay together. Units are
    taken, in order of a hash of their paths, up to the share 0..1 of the photos that have an overlap.
    """
    together = [(overlap.first, overlap.second) for overlap in overlaps]
    matched = {index for pair in together for index in pair}
    first_of_folder: dict[str, int] = {}
    for index, photo in enumerate(photos):
        if photo.folder:
            together.append((first_of_folder.setdefault(photo.folder, index), index))
    units = [unit for unit in _clusters(len(photos), together) if matched & unit]
    units.sort(key=lambda unit: hashlib.sha256(min(photos[i].path for i in unit).encode()).digest())
    wanted = test_share * len(matched)
    chosen: set[int] = set()
    for unit in units:
        # A unit stays in training if it would exceed the share by more than it would fall short without it.
        count, added = len(chosen & matched), len(unit & matched)
        if count + added / 2 <= wanted + 1e-9:
            chosen |= unit
    if not chosen and test_share > 0 and len(units) > 1:
        chosen |= min(units, key=len)
    return frozenset(chosen)


def make_groups(
    photos: Sequence[AlbumPhoto], overlaps: Sequence[Overlap], allowed: frozenset[int]
) -> tuple[Group, ...]:
    """Test groups, greedily by the count of levels with a reference; no photo is in two groups."""
    partners: dict[int, list[Overlap]] = defaultdict(list)
    # In ascending order, so that the last overlap of a level is the one with the most matches, of equals the first.
    for overlap in sorted(overlaps, key=lambda overlap: overlap.matches, reverse=True)[::-1]:
        if overlap.first in allowed and overlap.second in allowed:
            partners[overlap.first].append(overlap)
            partners[overlap.second].append(overlap)
    free = set(partners)
    groups: list[Group] = []
    while True:
        best: tuple[tuple[int, int, str], Group] | None = None
        for truth in free:
            references = {overlap.level: overlap for overlap in partners[truth] if overlap.partner(truth) in free}
            if references:
                matches = sum(overlap.matches for overlap in references.values())
                rank = (-len(references), -matches, photos[truth].path)
                if best is None or rank < best[0]:
                    best = (rank, Group(truth=truth, references=dict(sorted(references.items()))))
        if best is None:
            return tuple(groups)
        group = best[1]
        groups.append(group)
        free -= {group.truth, *(overlap.partner(group.truth) for overlap in group.references.values())}


def matched_crops(
    overlaps: Sequence[Overlap], allowed: frozenset[int], crop_px: int, pairs_a_photo: int
) -> list[CropPair]:
    """Training pairs of crops of side `crop_px` around matches, from the overlaps with the most matches.

    One photo is part of at most `pairs_a_photo` of these overlaps.
    """
    used: dict[int, int] = defaultdict(int)
    crops = []
    half = crop_px / 2
    for overlap in sorted(overlaps, key=lambda o: (-o.matches, o.first, o.second)):
        both = (overlap.first, overlap.second)
        if not allowed.issuperset(both) or max(used[index] for index in both) >= pairs_a_photo or not overlap.crops:
            continue
        for index in both:
            used[index] += 1
        for x1, y1, x2, y2 in overlap.crops:
            first, second = (
                Square(photo=index, centre_px=(x + half, y + half), side_px=float(crop_px))
                for index, x, y in zip(both, (x1, x2), (y1, y2), strict=True)
            )
            crops.append(CropPair(first=first, second=second, overlap=overlap))
    return crops


def single_crops(
    photos: Sequence[AlbumPhoto], allowed: Sequence[int], crop_px: int, pairs_a_photo: int
) -> list[CropPair]:
    """Up to `pairs_a_photo` training pairs of disjoint squares of each photo.

    The first square has side `crop_px`; the second is scaled by 0.5 to 2 and rotated.

    Source: as the authors of SRNTT made training pairs of DIV2K.
    """
    crops = []
    for index in allowed:
        photo = photos[index]
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(photo.path.encode()).digest()[:8], "big"))
        made = 0
        for _ in range(50 * pairs_a_photo):
            side = crop_px * 2 ** rng.uniform(-1, 1)
            degrees = rng.uniform(-180, 180)
            angle = math.radians(degrees)
            reach = (abs(math.cos(angle)) + abs(math.sin(angle))) * side / 2
            first = _random_centre(photo.size_px, crop_px / 2, rng)
            second = _random_centre(photo.size_px, reach, rng)
            if first is None or second is None:
                continue
            if max(abs(a - b) for a, b in zip(first, second, strict=True)) >= crop_px / 2 + reach:
                upright = Square(photo=index, centre_px=first, side_px=float(crop_px))
                turned = Square(photo=index, centre_px=second, side_px=side, degrees=degrees)
                crops.append(CropPair(first=upright, second=turned, overlap=None))
                made += 1
                if made == pairs_a_photo:
                    break
    return crops


def _random_centre(size_px: tuple[int, int], reach: float, rng: np.random.Generator) -> tuple[float, float] | None:
    """Centre of a square inside a picture; None if the picture is too small."""
    height, width = size_px
    if min(height, width) < 2 * reach:
        return None
    return float(rng.uniform(reach, width - reach)), float(rng.uniform(reach, height - reach))


def _clusters(count: int, pairs: Sequence[tuple[int, int]]) -> list[frozenset[int]]:
    """Connected components, ordered by their smallest index."""
    cluster_of = [{index} for index in range(count)]
    for pair in pairs:
        small, large = sorted((cluster_of[index] for index in pair), key=len)
        if small is not large:
            large |= small
            for index in small:
                cluster_of[index] = large
    return [frozenset(found) for found in {id(found): found for found in cluster_of}.values()]
