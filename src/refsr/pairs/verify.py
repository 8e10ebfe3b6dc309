"""Geometric verification: whether the local features of two photos fit one geometry."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from refsr.data.features import LocalFeatures, Points, mutual_matches
from refsr.extras import import_extra

LEVEL_MATCHES: Final = (200, 100, 50, 28, 16)
"""Minimum count of verified matches of levels 1 to 5; fewer are no overlap."""

_INLIER_PX: Final = 2.0
_MINIMUM_AREA_SHARE: Final = 0.01
_DUPLICATE_MAXIMUM_SHIFT: Final = 0.01
_DUPLICATE_MINIMUM_CORRELATION: Final = 0.95
_DUPLICATE_MINIMUM_INLIERS: Final = 0.4
_MINIMUM_MATCHES_IN_CROP: Final = 4


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Two photos with verified matches.

    Attributes:
        first: Index of one photo; `second` is that of the other, and larger.
        matches: Count of inliers of one fundamental matrix.
        duplicate: Whether the two are near-duplicates.
        crops: Top-left corners of crops around the matches, (x, y) in the first working copy, then in the second.
    """

    first: int
    second: int
    matches: int
    duplicate: bool
    crops: tuple[tuple[int, int, int, int], ...]

    @property
    def level(self) -> int:
        """Level of similarity, 1, the most similar, to 5."""
        return level_of(self.matches)

    def partner(self, index: int) -> int:
        """Index of the other photo."""
        return self.second if self.first == index else self.first


def level_of(matches: int) -> int:
    """Level of similarity for a count of verified matches, 1 to 5; 0 for no overlap.

    CUFED5 sorts by the count of matched SIFT features too, by thresholds that are not published; these are our own.
    """
    return next((level for level, least in enumerate(LEVEL_MATCHES, 1) if matches >= least), 0)


def verify(
    first: LocalFeatures, second: LocalFeatures, indices: tuple[int, int], crop_px: int, maximum_crops: int
) -> Overlap | None:
    """Compare two photos.

    Matches are mutual nearest neighbours that pass Lowe's ratio test and are inliers of one fundamental matrix
    (MAGSAC++). They must cover an area, unlike those of a date stamp or a logo.

    Args:
        first: Features of one photo.
        second: Features of the other photo.
        indices: Indices of the two photos.
        crop_px: Side of the training crops in the working copies.
        maximum_crops: Maximum count of crops.

    Returns:
        None if there is no verified overlap.

    Source: Barath et al., "MAGSAC++, a fast, reliable and accurate robust estimator", CVPR 2020, as OpenCV has it.
    """
    a, b = mutual_matches(first, second)
    if len(a) < LEVEL_MATCHES[-1]:
        return None
    inliers = _inliers(a, b)
    a, b = a[inliers], b[inliers]
    if level_of(len(a)) == 0 or min(_area_share(a, first), _area_share(b, second)) < _MINIMUM_AREA_SHARE:
        return None
    crops = _crops(a, b, first.size_px, second.size_px, crop_px, maximum_crops)
    duplicate = _is_duplicate(first, second, a, b)
    return Overlap(first=indices[0], second=indices[1], matches=len(a), duplicate=duplicate, crops=crops)


def _inliers(a: Points, b: Points) -> NDArray[np.bool_]:
    cv2: Any = import_extra("cv2", "finding pairs")
    cv2.setRNGSeed(0)
    try:
        _, mask = cv2.findFundamentalMat(a, b, cv2.USAC_MAGSAC, _INLIER_PX, 0.9999, 5000)
    except cv2.error:
        # Of a planar scene many matrices fit, and OpenCV may fail; a homography is enough then.
        _, mask = cv2.findHomography(a, b, cv2.USAC_MAGSAC, _INLIER_PX, None, 5000, 0.9999)
    return np.zeros(len(a), dtype=bool) if mask is None else mask.ravel().astype(bool)


def _area_share(points: Points, photo: LocalFeatures) -> float:
    """Share of the photo in the box from the 10th to the 90th percentile of the points."""
    low, high = np.percentile(points, (10, 90), axis=0)
    return float(np.prod(high - low) / np.prod(photo.size_px))


def _is_duplicate(first: LocalFeatures, second: LocalFeatures, a: Points, b: Points) -> bool:
    """Whether most features and the thumbnails agree, as in a burst, a resized or a compressed copy."""
    if len(a) < _DUPLICATE_MINIMUM_INLIERS * min(len(first.points_px), len(second.points_px)):
        return False
    sizes = (np.array(photo.size_px[::-1], dtype=np.float32) for photo in (first, second))
    places = (points / size for points, size in zip((a, b), sizes, strict=True))
    shift = np.abs(np.subtract(*places)).max(1)
    correlation = np.corrcoef(first.thumbnail.ravel().astype(float), second.thumbnail.ravel().astype(float))[0, 1]
    return bool(np.median(shift) < _DUPLICATE_MAXIMUM_SHIFT and correlation > _DUPLICATE_MINIMUM_CORRELATION)


def _crops(
    a: Points, b: Points, first_px: tuple[int, int], second_px: tuple[int, int], side: int, maximum: int
) -> tuple[tuple[int, int, int, int], ...]:
    """Squares with the most matches, greedily, disjoint in the first photo."""
    if min(*first_px, *second_px) < side:
        return ()
    found: list[tuple[int, int, int, int]] = []
    free = np.ones(len(a), dtype=bool)
    near = np.abs(a[:, None] - a[None]).max(2) < side / 2
    while len(found) < maximum and free.any():
        count = (near & free).sum(1) * free
        centre = int(count.argmax())
        if count[centre] < _MINIMUM_MATCHES_IN_CROP:
            break
        box_a = _box(a[centre], first_px, side)
        held = _holds(box_a, a, side)
        box_b = _box(np.median(b[held], axis=0), second_px, side)
        both = held & _holds(box_b, b, side)
        free[centre] = False
        disjoint = all(max(abs(x - box_a[0]), abs(y - box_a[1])) >= side for x, y, *_ in found)
        if both.sum() >= _MINIMUM_MATCHES_IN_CROP and disjoint:
            found.append((*box_a, *box_b))
            free &= ~held
    return tuple(found)


def _box(centre: NDArray[np.floating[Any]], size_px: tuple[int, int], side: int) -> tuple[int, int]:
    """Top-left corner (x, y) of the square around a point, moved inside the photo."""
    lengths = zip(centre, size_px[::-1], strict=True)
    x, y = (int(np.clip(round(float(middle) - side / 2), 0, length - side)) for middle, length in lengths)
    return x, y


def _holds(corner: tuple[int, int], points: Points, side: int) -> NDArray[np.bool_]:
    low = np.array(corner)
    return np.asarray(((points >= low) & (points < low + side)).all(1))
