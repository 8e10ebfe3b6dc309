"""Dense correspondences between two photos of one scene, known only where they are verified.

features of both --> up to four homographies, each from the matches that the earlier ones left over
each homography: second --warp--> like the first --optical flow, both ways--> position of each pixel in the second
verified where   forward and backward flow agree, patches correlate, small and large, neither is flat, and the position
                 fits the epipolar geometry of all matches
of several:      the one with the highest correlation, unless another position correlates nearly as well
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy.typing import NDArray

from refsr.data.features import LocalFeatures, Points, mutual_matches
from refsr.data.geometry import translation
from refsr.data.shards import NODE_PX
from refsr.extras import import_extra

_MAXIMUM_HOMOGRAPHIES: Final = 4
_MINIMUM_MATCHES: Final = 20
_INLIER_SHARES: Final = (0.004, 0.015)
"""Maximum error of a homography's inliers, of the longer side of the first photo; optical flow corrects it. The wider
one is tried where the narrow one finds no plane."""

_EPIPOLAR_SHARE: Final = 0.004
"""Maximum distance from the epipolar line, of the longer side: more is a repeated pattern, or something that moved."""

_MINIMUM_EPIPOLAR_MATCHES: Final = 30
_MAXIMUM_ZOOM: Final = 6.0
_CYCLE_PX: Final = 0.7  # maximum error of forward and backward flow
_PATCH_PX: Final = 11
_MINIMUM_CORRELATION: Final = 0.85
_CONTEXT_PX: Final = 41
_MINIMUM_CONTEXT_CORRELATION: Final = 0.6
"""A repeated pattern that is off by one period correlates in small patches, and less in large ones."""

_SAME_POSITION_PX: Final = 2.0
_MINIMUM_LEAD: Final = 0.1  # minimum lead in context correlation over any other position
_MINIMUM_DEVIATION: Final = 3.0  # minimum standard deviation of a patch, in levels 0..255
_MARGIN_PX: Final = 32
_MINIMUM_BOX_PX: Final = 64  # OpenCV's flow may crash on smaller pictures
_MINIMUM_REGION_PX: Final = 200
_MINIMUM_NODES: Final = 60

Grey = UInt8[np.ndarray, "_ _"]
Mask = Bool[np.ndarray, "h w"]
Plane = Float[np.ndarray, "h w"]
Positions = Float[np.ndarray, "2 h w"]
Nodes = Float[np.ndarray, "2 gh gw"]
Homography = NDArray[np.float64]
Centre = NDArray[np.float64]
Size = tuple[int, ...]
Hypothesis = tuple[tuple[slice, slice], Float[np.ndarray, "2 _ _"], Float[np.ndarray, "_ _"]]
"""A box of the first photo, positions of its pixels in the second, and their context correlation, 0 if not verified."""


def enough_known(nodes: Nodes) -> bool:
    """Whether a grid has enough verified nodes to be kept."""
    return int(np.isfinite(nodes[0]).sum()) >= _MINIMUM_NODES


def resized_nodes(
    positions: Positions, first_px: Size, second_full_px: Size, second_px: Size, step_px: int = NODE_PX
) -> Nodes:
    """Grid of nodes for resized photos, bilinear between pixels; NaN where one of these is unknown.

    Args:
        positions: Result of `dense_positions`.
        first_px: New height and width of the first photo, not larger than before.
        second_full_px: Old height and width of the second photo.
        second_px: New height and width of the second photo.
        step_px: Distance of two nodes.

    Returns:
        (y, x) in the resized second photo of each node: node (i, j) is pixel (8 i, 8 j) of the resized first photo, for
        a step of 8.
    """
    nodes = positions
    for axis, (wanted, full) in enumerate(zip(first_px, positions.shape[1:], strict=True), 1):
        nodes = _interpolate(nodes, (np.arange(0, wanted, step_px) + 0.5) * (full / wanted) - 0.5, axis)
    zoom = np.array(second_px) / np.array(second_full_px)
    return np.asarray((nodes + 0.5) * zoom[:, None, None] - 0.5, dtype=np.float32)


def _interpolate(planes: NDArray[Any], places: NDArray[np.float64], axis: int) -> NDArray[Any]:
    """Linear interpolation along an axis; a neighbour of weight 0 may be NaN."""
    low = np.floor(places).astype(int)
    high = np.minimum(low + 1, planes.shape[axis] - 1)
    share = np.expand_dims(places - low, tuple(range(1, planes.ndim - axis)))
    before, after = planes.take(low, axis), planes.take(high, axis)
    return np.asarray(before * (1 - share) + np.where(share > 0, after * share, 0))


def dense_positions(
    first: Grey, second: Grey, features_first: LocalFeatures, features_second: LocalFeatures
) -> Positions | None:
    """Verified correspondences of every pixel.

    Args:
        first: The first photo.
        second: The second photo.
        features_first: Features of the first photo, from a copy of any size.
        features_second: Features of the second photo.

    Returns:
        (y, x) of each pixel of the first photo in the second, pixel centres at integers; NaN where not verified. None
        if nothing is verified.

    Raises:
        MissingExtraError: OpenCV is not installed.

    Source: Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016, for the flow; the check of both
    directions as in Sundaram et al., "Dense Point Trajectories by GPU-Accelerated Large Displacement Optical Flow",
    ECCV 2010, section 3.1.
    """
    if min(first.shape) < _MINIMUM_BOX_PX:
        return None
    a, b = mutual_matches(features_first, features_second)
    a, b = _at_size(a, features_first, first), _at_size(b, features_second, second)
    longest_px = max(first.shape)
    fundamental = _fundamental(a, b)
    hypotheses = []
    for homography, centre in _homographies(a, b, longest_px):
        box = _visible(first.shape, second.shape, homography, centre)
        corner = np.array((box[1].start, box[0].start), dtype=np.float64)
        shift = translation(corner)
        found = _follow(np.ascontiguousarray(first[box]), second, homography @ shift, centre - corner)
        if found is None:
            continue
        places, correlation = found
        if fundamental is not None:
            correlation[_epipolar_px(fundamental @ shift, places) > max(2.0, _EPIPOLAR_SHARE * longest_px)] = 0
        hypotheses.append((box, places, correlation))
    positions, known = _best_positions(hypotheses, first.shape)
    unknown = ~_large_regions(known)
    positions[:, unknown] = np.nan
    return None if unknown.all() else positions


def _best_positions(hypotheses: Sequence[Hypothesis], size_px: Size) -> tuple[Positions, Mask]:
    """Position of each pixel with the highest correlation, and whether it leads any other position enough."""
    positions = np.full((2, *size_px), np.nan, dtype=np.float32)
    best, rival = (np.zeros(size_px, dtype=np.float32) for _ in range(2))
    for box, places, correlation in hypotheses:
        better = correlation > best[box]
        best[box][better] = correlation[better]
        positions[:, *box][:, better] = places[:, better]
    for box, places, correlation in hypotheses:
        elsewhere = np.abs(places - positions[:, *box]).max(0) > _SAME_POSITION_PX
        higher = (correlation > rival[box]) & elsewhere
        rival[box][higher] = correlation[higher]
    return positions, (best > 0) & (rival < best - _MINIMUM_LEAD)


def _at_size(points: Points, features: LocalFeatures, photo: Grey) -> Points:
    """Keypoints of the working copy in pixels of the photo."""
    zoom = np.array(photo.shape[::-1], dtype=np.float32) / np.array(features.size_px[::-1], dtype=np.float32)
    return np.asarray((points + np.float32(0.5)) * zoom - np.float32(0.5), dtype=np.float32)


def _fundamental(a: Points, b: Points) -> NDArray[np.float64] | None:
    """Fundamental matrix; None if it is not determined."""
    if len(a) < _MINIMUM_EPIPOLAR_MATCHES:
        return None
    cv2: Any = import_extra("cv2", "finding pairs")
    cv2.setRNGSeed(0)
    try:
        matrix, _ = cv2.findFundamentalMat(a, b, cv2.USAC_MAGSAC, 2.0, 0.9999, 5000)
    except cv2.error:  # of a planar scene, as in `verify`: its homography is enough
        return None
    return None if matrix is None or matrix.shape != (3, 3) else np.asarray(matrix, dtype=np.float64)


def _epipolar_px(fundamental: NDArray[np.float64], places: Positions) -> Plane:
    """Sampson distance of each pixel and its position in the second photo."""
    height, width = places.shape[1:]
    y, x = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)
    matrix = (fundamental / np.abs(fundamental).max()).astype(np.float32)
    line = [row[0] * x + row[1] * y + row[2] for row in matrix]
    back = [column[0] * places[1] + column[1] * places[0] + column[2] for column in matrix.T[:2]]
    product = np.abs(places[1] * line[0] + places[0] * line[1] + line[2])
    distance: Plane = product / np.sqrt(line[0] ** 2 + line[1] ** 2 + back[0] ** 2 + back[1] ** 2 + np.float32(1e-20))
    return distance


def _homographies(a: Points, b: Points, longest_px: int) -> Iterator[tuple[Homography, Centre]]:
    """Homographies, each with the centre (x, y) of its inliers in the first photo."""
    cv2: Any = import_extra("cv2", "finding pairs")
    shares, count = list(_INLIER_SHARES), 0
    while shares and count < _MAXIMUM_HOMOGRAPHIES and len(a) >= _MINIMUM_MATCHES:
        cv2.setRNGSeed(0)
        inlier_px = max(2.0, shares[0] * longest_px)
        matrix, mask = cv2.findHomography(a, b, cv2.USAC_MAGSAC, inlier_px, None, 5000, 0.9999)
        if matrix is None or mask.sum() < _MINIMUM_MATCHES:
            del shares[0]
            continue
        count += 1
        inliers = mask.ravel().astype(bool)
        yield matrix.astype(np.float64), a[inliers].mean(0, dtype=np.float64)
        a, b = a[~inliers], b[~inliers]


def _visible(first_px: Size, second_px: Size, homography: Homography, centre: Centre) -> tuple[slice, slice]:
    """Box of the first photo that the second shows, with a margin; all of the photo if the box is too small."""
    y, x = np.indices(first_px, dtype=np.float32)
    _, inside = _project(homography, x, y, second_px, centre)
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    if min(len(rows), len(columns)) < _MINIMUM_BOX_PX:
        return slice(0, first_px[0]), slice(0, first_px[1])
    top, left = (max(0, int(found[0]) - _MARGIN_PX) for found in (rows, columns))
    return slice(top, int(rows[-1]) + 1 + _MARGIN_PX), slice(left, int(columns[-1]) + 1 + _MARGIN_PX)


def _follow(first: Grey, second: Grey, homography: Homography, centre: Centre) -> tuple[Positions, Plane] | None:
    """Positions in the second photo and their context correlation, 0 where not verified; None for an extreme zoom."""
    cv2: Any = import_extra("cv2", "finding pairs")
    zoom = _zoom_at(homography, centre)
    if not 1 / _MAXIMUM_ZOOM < zoom < _MAXIMUM_ZOOM:
        return None
    first, second = _blur(first, 1 / zoom), _blur(second, zoom)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpPerspective(second, homography, first.shape[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
    engine = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    forward, backward = engine.calc(first, warped, None), engine.calc(warped, first, None)
    ys, xs = np.indices(first.shape, dtype=np.float32)
    flow_x, flow_y = xs + forward[..., 0], ys + forward[..., 1]
    returned = cv2.remap(backward, flow_x, flow_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=1e6)
    agrees = ((forward + returned) ** 2).sum(2) < _CYCLE_PX**2
    places, inside = _project(homography, flow_x, flow_y, second.shape, centre)
    matched = cv2.remap(second, places[1], places[0], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    near, deviation = _correlate(first, matched, _PATCH_PX)
    context, _ = _correlate(first, matched, _CONTEXT_PX)
    verified = agrees & inside & (deviation > _MINIMUM_DEVIATION)
    verified &= (near > _MINIMUM_CORRELATION) & (context > _MINIMUM_CONTEXT_CORRELATION)
    return places, np.where(verified, context, np.float32(0))


def _zoom_at(homography: Homography, centre: Centre) -> float:
    """Pixels of the second photo per pixel of the first; 0 for a mirror image."""
    depth = float(homography[2] @ (*centre, 1))
    # The Jacobian determinant of a homography is its determinant divided by the cubed depth.
    area = float(np.linalg.det(homography)) / depth**3 if depth else 0.0
    return float(np.sqrt(max(area, 0.0)))


def _blur(photo: Grey, zoom: float) -> Grey:
    """Blur a photo to the sharpness of one with `zoom` times fewer pixels a side."""
    if zoom < 1.2:
        return photo
    cv2: Any = import_extra("cv2", "finding pairs")
    return np.asarray(cv2.GaussianBlur(photo, (0, 0), 0.5 * float(np.sqrt(zoom**2 - 1))))


def _project(homography: Homography, x: Plane, y: Plane, size_px: Size, centre: Centre) -> tuple[Positions, Mask]:
    """Positions (y, x) of points of the first photo in the second, and whether they are inside it."""
    rows = (homography / (homography[2] @ (*centre, 1))).astype(np.float32)
    depth = rows[2, 0] * x + rows[2, 1] * y + rows[2, 2]
    in_front = depth > 0.1
    depth = np.where(in_front, depth, np.float32(1))
    places = np.stack([(row[0] * x + row[1] * y + row[2]) / depth for row in (rows[1], rows[0])])
    inside = in_front & (places >= 0).all(0) & (places[0] <= size_px[0] - 1) & (places[1] <= size_px[1] - 1)
    return places, inside


def _correlate(first: Grey, second: Grey, side_px: int) -> tuple[Plane, Plane]:
    """Normalised cross-correlation of the patches around each pixel, and the lower of their standard deviations."""
    cv2: Any = import_extra("cv2", "finding pairs")

    def mean(values: NDArray[Any]) -> Plane:
        return np.asarray(cv2.boxFilter(values, cv2.CV_32F, (side_px, side_px), borderType=cv2.BORDER_REFLECT))

    a, b = first.astype(np.float32) - 128, second.astype(np.float32) - 128
    mean_a, mean_b = mean(a), mean(b)
    deviation_a, deviation_b = (
        np.sqrt(np.maximum(mean(values * values) - means * means, 1e-3))
        for values, means in ((a, mean_a), (b, mean_b))
    )  # fmt: skip
    correlation = (mean(a * b) - mean_a * mean_b) / (deviation_a * deviation_b)
    return correlation, np.minimum(deviation_a, deviation_b)


def _large_regions(known: Mask) -> Mask:
    """Known pixels in large connected regions."""
    cv2: Any = import_extra("cv2", "finding pairs")
    _, labels, stats, _ = cv2.connectedComponentsWithStats(known.astype(np.uint8), connectivity=4)
    large = stats[:, cv2.CC_STAT_AREA] >= _MINIMUM_REGION_PX
    large[0] = False
    return np.asarray(large[labels])
