"""Do two photos show the same thing? Local features that fit one geometry decide."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from refsr.extras import import_extra
from refsr.pairs.features import LocalFeatures

LEVEL_MATCHES: Final = (200, 100, 50, 28, 16)
"""Verified matches that levels 1 to 5 need at least; fewer are no proof."""

_RATIO: Final = 0.8
_EPIPOLAR_PX: Final = 2.0
_SMALLEST_AREA: Final = 0.01
_DUPLICATE_SHIFT: Final = 0.01
_DUPLICATE_LIKENESS: Final = 0.95
_DUPLICATE_SHARE: Final = 0.4
_FEWEST_IN_CROP: Final = 4

Points = Float[np.ndarray, "n 2"]


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Two photos that show the same thing.

    Attributes:
        first: Index of a photo.
        second: Index of another, larger than `first`.
        matches: Features that fit one fundamental matrix.
        duplicate: Whether the two are nearly the same picture.
        crops: Top-left corners of square crops round the matches: (x, y) in the first's working copy, (x, y) in the
            second's.
    """

    first: int
    second: int
    matches: int
    duplicate: bool
    crops: tuple[tuple[int, int, int, int], ...]

    @property
    def level(self) -> int:
        """1, much in common, to 5."""
        return level_of(self.matches)


def level_of(matches: int) -> int:
    """The level of similarity of a count of verified matches, 1 to 5; 0 where they are no proof.

    CUFED5 sorts by the count of matched SIFT features too; its thresholds are not published, these are ours.
    """
    return next((level for level, least in enumerate(LEVEL_MATCHES, 1) if matches >= least), 0)


def verify(
    first: LocalFeatures, second: LocalFeatures, indices: tuple[int, int], crop_px: int, most_crops: int
) -> Overlap | None:
    """Compare two photos; None if nothing proves that they show the same thing.

    Matches are mutual nearest neighbours that pass Lowe's ratio test, and fit one fundamental matrix (MAGSAC++); they
    must not crowd in one spot, as those of a date stamp or a logo do.

    Args:
        first: Features of a photo.
        second: Of another.
        indices: Of the two.
        crop_px: Side of the training crops in the working copies.
        most_crops: How many of them at the most.

    Source: Barath et al., "MAGSAC++, a fast, reliable and accurate robust estimator", CVPR 2020, as OpenCV has it.
    """
    a, b = mutual_matches(first, second)
    if len(a) < LEVEL_MATCHES[-1]:
        return None
    inside = _fit_one_geometry(a, b)
    a, b = a[inside], b[inside]
    if level_of(len(a)) == 0 or min(_area_share(a, first), _area_share(b, second)) < _SMALLEST_AREA:
        return None
    return Overlap(
        first=indices[0],
        second=indices[1],
        matches=len(a),
        duplicate=_is_duplicate(first, second, a, b),
        crops=_crops(a, b, first.size_px, second.size_px, crop_px, most_crops),
    )


def mutual_matches(first: LocalFeatures, second: LocalFeatures) -> tuple[Points, Points]:
    if min(len(first.points_px), len(second.points_px)) < 2:
        return first.points_px[:0], second.points_px[:0]
    cosine = first.root_descriptors() @ second.root_descriptors().T
    rows = np.arange(len(cosine))
    best = cosine.argmax(1)
    top = cosine[rows, best]
    cosine[rows, best] = -1
    distance, next_distance = (np.sqrt(np.maximum(2 - 2 * c, 0)) for c in (top, cosine.max(1)))
    cosine[rows, best] = top
    rows = rows[distance < _RATIO * next_distance]
    best = best[rows]
    mutual = cosine[:, best].argmax(0) == rows
    return first.points_px[rows[mutual]], second.points_px[best[mutual]]


def _fit_one_geometry(a: Points, b: Points) -> NDArray[np.bool_]:
    """Which matches fit."""
    cv2: Any = import_extra("cv2", "finding pairs")
    cv2.setRNGSeed(0)
    try:
        _, inside = cv2.findFundamentalMat(a, b, cv2.USAC_MAGSAC, _EPIPOLAR_PX, 0.9999, 5000)
    except cv2.error:
        # Where the scene is one plane, many matrices fit and OpenCV may break off; a homography says it all then.
        _, inside = cv2.findHomography(a, b, cv2.USAC_MAGSAC, _EPIPOLAR_PX, None, 5000, 0.9999)
    return np.zeros(len(a), dtype=bool) if inside is None else inside.ravel().astype(bool)


def _area_share(points: Points, photo: LocalFeatures) -> float:
    """How much of the photo the box of the middle eight tenths of the points covers."""
    low, high = np.percentile(points, (10, 90), axis=0)
    return float(np.prod(high - low) / np.prod(photo.size_px))


def _is_duplicate(first: LocalFeatures, second: LocalFeatures, a: Points, b: Points) -> bool:
    """Most features at the same places, and the same look: a burst, a resized copy, another compression."""
    if len(a) < _DUPLICATE_SHARE * min(len(first.points_px), len(second.points_px)):
        return False
    sizes = (np.array(photo.size_px[::-1], dtype=np.float32) for photo in (first, second))
    places = (points / size for points, size in zip((a, b), sizes, strict=True))
    shift = np.abs(np.subtract(*places)).max(1)
    likeness = np.corrcoef(first.thumbnail.ravel().astype(float), second.thumbnail.ravel().astype(float))[0, 1]
    return bool(np.median(shift) < _DUPLICATE_SHIFT and likeness > _DUPLICATE_LIKENESS)


def _crops(
    a: Points, b: Points, first_px: tuple[int, int], second_px: tuple[int, int], side: int, most: int
) -> tuple[tuple[int, int, int, int], ...]:
    """Squares that hold the most matches, one after the other, without overlap in the first photo."""
    if min(*first_px, *second_px) < side:
        return ()
    found: list[tuple[int, int, int, int]] = []
    free = np.ones(len(a), dtype=bool)
    near = np.abs(a[:, None] - a[None]).max(2) < side / 2
    while len(found) < most and free.any():
        count = (near & free).sum(1) * free
        centre = int(count.argmax())
        if count[centre] < _FEWEST_IN_CROP:
            break
        box_a = _box(a[centre], first_px, side)
        held = _holds(box_a, a, side)
        box_b = _box(np.median(b[held], axis=0), second_px, side)
        both = held & _holds(box_b, b, side)
        free[centre] = False
        if both.sum() >= _FEWEST_IN_CROP and all(
            max(abs(x - box_a[0]), abs(y - box_a[1])) >= side for x, y, *_ in found
        ):
            found.append((*box_a, *box_b))
            free &= ~held
    return tuple(found)


def _box(centre: NDArray[np.floating[Any]], size_px: tuple[int, int], side: int) -> tuple[int, int]:
    """Top-left corner (x, y) of the square round a place, moved inside the photo."""
    x, y = (
        int(np.clip(round(float(c) - side / 2), 0, length - side))
        for c, length in zip(centre, size_px[::-1], strict=True)
    )
    return x, y


def _holds(corner: tuple[int, int], points: Points, side: int) -> NDArray[np.bool_]:
    low = np.array(corner)
    inside: NDArray[np.bool_] = np.all((points >= low) & (points < low + side), axis=1)
    return inside
