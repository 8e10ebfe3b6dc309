"""What to make of an album's overlaps: which photos stay, which are for testing, which groups and crops they give.

    photos, overlaps ── without near-duplicates ── units that share nothing ──┬── test: groups of CUFED5's kind
                                                                              └── training: crops

All of it is a function of its arguments, without chance but a seed of names: the same album gives the same plan.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from refsr.pairs.verify import LEVEL_MATCHES, Overlap

LEVELS: Final = tuple(range(1, len(LEVEL_MATCHES) + 1))


@dataclass(frozen=True, kw_only=True)
class AlbumPhoto:
    """A photo that could be read.

    Attributes:
        path: Relative to the album.
        size_px: Height and width of its working copy.
        pixels: Of the photo itself.
        licence: The copyright text of its EXIF; empty if there is none.
    """

    path: str
    size_px: tuple[int, int]
    pixels: int
    licence: str

    @property
    def folder(self) -> str:
        """The album inside the album: its folder, empty for photos that lie in the album itself."""
        return self.path.rpartition("/")[0]


@dataclass(frozen=True, kw_only=True)
class Group:
    """A truth and its references.

    Attributes:
        truth: Index of a photo.
        references: By level, 1 to 5: the overlap with the reference.
    """

    truth: int
    references: dict[int, Overlap]


@dataclass(frozen=True, kw_only=True)
class Square:
    """A square of a photo.

    Attributes:
        photo: Its index.
        centre_px: (x, y) in the working copy.
        side_px: Side in the working copy.
        degrees: How far it is turned, counter-clockwise.
    """

    photo: int
    centre_px: tuple[float, float]
    side_px: float
    degrees: float = 0.0


@dataclass(frozen=True, kw_only=True)
class CropPair:
    """A training pair.

    Attributes:
        first: The input.
        second: The reference.
        overlap: Of the two photos; None where both squares are of one photo.
    """

    first: Square
    second: Square
    overlap: Overlap | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the builder writes.

    Attributes:
        duplicates: Photos left out, each with the photo that it nearly equals.
        test: Photos that may be used for testing only.
        groups: For testing.
        crops: For training.
    """

    duplicates: dict[int, int]
    test: frozenset[int]
    groups: tuple[Group, ...]
    crops: tuple[CropPair, ...]


def find_duplicates(photos: Sequence[AlbumPhoto], overlaps: Sequence[Overlap]) -> dict[int, int]:
    """Photos that nearly equal one that stays, with that one; of two, the photo with more pixels stays.

    A slow pan, in which only neighbours are alike, keeps every photo that is unlike those kept before.
    """
    alike: dict[int, set[int]] = defaultdict(set)
    for overlap in overlaps:
        if overlap.duplicate:
            alike[overlap.first].add(overlap.second)
            alike[overlap.second].add(overlap.first)
    found: dict[int, int] = {}
    for index in sorted(alike, key=lambda i: (-photos[i].pixels, photos[i].path)):
        stay = alike[index] - found.keys()
        better = [i for i in stay if (-photos[i].pixels, photos[i].path) < (-photos[index].pixels, photos[index].path)]
        if better:
            found[index] = min(better, key=lambda i: (-photos[i].pixels, photos[i].path))
    return found


def split(photos: Sequence[AlbumPhoto], overlaps: Sequence[Overlap], test_share: float) -> frozenset[int]:
    """Choose the photos for testing, so that nothing of them is seen in training.

    Photos of one folder, and photos that share matches, near-duplicates included, stay together. Units are taken in the
    order of a hash of their names until they hold the share of all photos that have an overlap.

    Args:
        photos: Of the album.
        overlaps: Of all of them.
        test_share: 0 for training only, 1 for testing only.
    """
    matched = {index for overlap in overlaps for index in (overlap.first, overlap.second)}
    together = [(o.first, o.second) for o in overlaps]
    first_of_folder: dict[str, int] = {}
    for index, photo in enumerate(photos):
        if photo.folder:
            together.append((first_of_folder.setdefault(photo.folder, index), index))
    units = [unit for unit in _clusters(len(photos), together) if matched & unit]
    units.sort(key=lambda unit: hashlib.sha256(min(photos[i].path for i in unit).encode()).digest())
    wanted = test_share * len(matched)
    chosen: set[int] = set()
    for unit in units:
        # The unit that would overshoot by more than it would fall short is left to training.
        count, added = len(chosen & matched), len(unit & matched)
        if count + added / 2 <= wanted + 1e-9:
            chosen |= unit
    if not chosen and test_share > 0 and len(units) > 1:
        chosen |= min(units, key=len)
    return frozenset(chosen)


def make_groups(
    photos: Sequence[AlbumPhoto], overlaps: Sequence[Overlap], allowed: frozenset[int]
) -> tuple[Group, ...]:
    """Groups in which no photo appears twice; the truths with references at most levels first.

    Args:
        photos: Of the album.
        overlaps: Between them.
        allowed: Photos that may be used.
    """
    partners: dict[int, list[Overlap]] = defaultdict(list)
    for overlap in overlaps:
        if overlap.first in allowed and overlap.second in allowed:
            partners[overlap.first].append(overlap)
            partners[overlap.second].append(overlap)
    free = set(partners)
    groups: list[Group] = []
    while True:
        best: tuple[tuple[int, int, str], Group] | None = None
        for truth in free:
            references = _best_of_levels(truth, partners[truth], free)
            if references:
                matches = sum(overlap.matches for overlap in references.values())
                rank = (-len(references), -matches, photos[truth].path)
                if best is None or rank < best[0]:
                    best = (rank, Group(truth=truth, references=references))
        if best is None:
            return tuple(groups)
        group = best[1]
        groups.append(group)
        free -= {group.truth, *(other(overlap, group.truth) for overlap in group.references.values())}


def matched_crops(
    overlaps: Sequence[Overlap], allowed: frozenset[int], crop_px: int, pairs_a_photo: int
) -> list[CropPair]:
    """Crops round the matches; of the pairs of a photo, those with the most matches.

    Args:
        overlaps: Of the album.
        allowed: Photos that may be used.
        crop_px: Side of the crops.
        pairs_a_photo: How often one photo may be a part of a pair.
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
    """Pairs of squares of one photo without overlap; the second is scaled by 0.5 to 2 and turned.

    Args:
        photos: Of the album.
        allowed: Photos to cut.
        crop_px: Side of the first.
        pairs_a_photo: How many of each, where it has room.

    Source: as the authors of SRNTT made training pairs of DIV2K.
    """
    crops = []
    for index in allowed:
        photo = photos[index]
        seed = int.from_bytes(hashlib.sha256(photo.path.encode()).digest()[:8], "big")
        rng = np.random.default_rng(seed)
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
                crops.append(
                    CropPair(
                        first=Square(photo=index, centre_px=first, side_px=float(crop_px)),
                        second=Square(photo=index, centre_px=second, side_px=side, degrees=degrees),
                        overlap=None,
                    )
                )
                made += 1
                if made == pairs_a_photo:
                    break
    return crops


def other(overlap: Overlap, index: int) -> int:
    """The photo of an overlap that is not this one."""
    return overlap.second if overlap.first == index else overlap.first


def _best_of_levels(truth: int, partners: Sequence[Overlap], free: set[int]) -> dict[int, Overlap]:
    found: dict[int, Overlap] = {}
    for overlap in partners:
        if other(overlap, truth) in free and (
            overlap.level not in found or overlap.matches > found[overlap.level].matches
        ):
            found[overlap.level] = overlap
    return dict(sorted(found.items()))


def _random_centre(size_px: tuple[int, int], reach: float, rng: np.random.Generator) -> tuple[float, float] | None:
    """Of a square that lies inside a picture; None where it is too small."""
    height, width = size_px
    if min(height, width) < 2 * reach:
        return None
    return float(rng.uniform(reach, width - reach)), float(rng.uniform(reach, height - reach))


def _clusters(count: int, pairs: Sequence[tuple[int, int]]) -> list[frozenset[int]]:
    """What hangs together, by the smallest index (union-find)."""
    parent = list(range(count))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for first, second in pairs:
        a, b = root(first), root(second)
        parent[max(a, b)] = min(a, b)
    members: dict[int, set[int]] = defaultdict(set)
    for index in range(count):
        members[root(index)].add(index)
    return [frozenset(found) for _, found in sorted(members.items())]
