"""Where does each place of a photo lie in another photo of the same scene? Dense, and known only where it is verified.

features of both --> up to four homographies, each from the matches that the ones before left over
for each one:     second --warp--> looks like first --optical flow, both ways--> place of each pixel in the second
kept where        forward and backward agree, the patches correlate, near and further around, neither is flat, and
                  the place fits the epipolar geometry of all matches
of several:       the one that correlates best, unless another place does nearly as well
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy.typing import NDArray

from refsr.data.pack import NODE_PX
from refsr.extras import import_extra
from refsr.pairs.features import LocalFeatures
from refsr.pairs.verify import mutual_matches

_MOST_HOMOGRAPHIES: Final = 4
_FEWEST_MATCHES: Final = 20
_OFF_SHARES: Final = (0.004, 0.015)
"""What a match may miss a homography by, of the first photo's longer side; the flow finds the rest. The wider one is
for what the narrow one finds no plane in."""

_EPIPOLAR_SHARE: Final = 0.004
"""What a place may miss its epipolar line by: more is another window of the same facade, or something that moved."""

_FEWEST_FOR_EPIPOLES: Final = 30

_MOST_ZOOM: Final = 6.0
_AGREEMENT_PX: Final = 0.7
_PATCH_PX: Final = 11
_LIKENESS: Final = 0.85
_SURROUNDINGS_PX: Final = 41
_SURROUNDINGS_LIKENESS: Final = 0.6
"""A repeated pattern that is off by one period looks alike in small patches, and less so further around."""

_SAME_PLACE_PX: Final = 2.0
_LEAD: Final = 0.1
"""By which the surroundings of the likeliest place must correlate better than those of any other place."""

_CONTRAST: Final = 3.0
"""Standard deviation of a patch, of 255."""

_MARGIN_PX: Final = 32
_SMALLEST_BOX_PX: Final = 64
"""OpenCV's flow may crash on less."""

_SPECK_PX: Final = 200
_FEWEST_NODES: Final = 60

Grey = UInt8[np.ndarray, "_ _"]
Mask = Bool[np.ndarray, "h w"]
Points = Float[np.ndarray, "n 2"]
Plane = Float[np.ndarray, "h w"]
Positions = Float[np.ndarray, "2 h w"]
Hypothesis = tuple[tuple[slice, slice], Float[np.ndarray, "2 _ _"], Float[np.ndarray, "_ _"]]
"""A box of the first photo, where its pixels lie, and how likely that is."""


def dense_truth(
    first: Grey, second: Grey, features_first: LocalFeatures, features_second: LocalFeatures
) -> Float[np.ndarray, "2 gh gw"] | None:
    """A grid of verified correspondences; None if there are hardly any.

    Args:
        first: A photo.
        second: Another.
        features_first: Of the first, at any size.
        features_second: Of the second.

    Returns:
        (y, x) in pixels of the second photo, pixel centres at whole numbers, of each node: (i, j) is pixel (8 i, 8 j)
        of the first. NaN where nothing is verified.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    positions = dense_positions(first, second, features_first, features_second)
    if positions is None:
        return None
    nodes = np.ascontiguousarray(positions[:, ::NODE_PX, ::NODE_PX])
    return nodes if enough_known(nodes) else None


def enough_known(nodes: Float[np.ndarray, "2 gh gw"]) -> bool:
    """Whether a grid is worth keeping."""
    return int(np.isfinite(nodes[0]).sum()) >= _FEWEST_NODES


def resized_nodes(
    positions: Positions, first_px: tuple[int, ...], second_full_px: tuple[int, ...], second_px: tuple[int, ...]
) -> Float[np.ndarray, "2 gh gw"]:
    """The grid for photos in other sizes: bilinear between the pixels round each node, all of which must be known.

    Args:
        positions: From `dense_positions`.
        first_px: Height and width that the first photo is to have, no larger than it was.
        second_full_px: What the second one had.
        second_px: What it is to have.
    """
    nodes = positions
    for axis, (wanted, full) in enumerate(zip(first_px, positions.shape[1:], strict=True), 1):
        nodes = _between(nodes, (np.arange(0, wanted, NODE_PX) + 0.5) * (full / wanted) - 0.5, axis)
    zoom = np.array(second_px) / np.array(second_full_px)
    return np.asarray((nodes + 0.5) * zoom[:, None, None] - 0.5, dtype=np.float32)


def _between(planes: NDArray[Any], places: NDArray[np.float64], axis: int) -> NDArray[Any]:
    """Linear along an axis; a neighbour of no weight need not be known."""
    low = np.floor(places).astype(int)
    high = np.minimum(low + 1, planes.shape[axis] - 1)
    share = np.expand_dims(places - low, tuple(range(1, planes.ndim - axis)))
    before, after = planes.take(low, axis), planes.take(high, axis)
    return np.asarray(before * (1 - share) + np.where(share > 0, after * share, 0))


def dense_positions(
    first: Grey, second: Grey, features_first: LocalFeatures, features_second: LocalFeatures
) -> Positions | None:
    """As `dense_truth`, for every pixel of the first photo; None if nothing is verified.

    Source: Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016, for the flow; the check of both
    directions as in Sundaram et al., "Dense Point Trajectories by GPU-Accelerated Large Displacement Optical Flow",
    ECCV 2010, section 3.1.
    """
    if min(first.shape) < _SMALLEST_BOX_PX:
        return None
    a, b = mutual_matches(features_first, features_second)
    a, b = _at_size(a, features_first, first), _at_size(b, features_second, second)
    longest_px = max(first.shape)
    fundamental = _fundamental(a, b)
    hypotheses = []
    for homography, centre in _homographies(a, b, longest_px):
        box = _visible(first.shape, second.shape, homography, centre)
        corner = np.array((box[1].start, box[0].start), dtype=np.float64)
        shift = np.array([[1, 0, corner[0]], [0, 1, corner[1]], [0, 0, 1]])
        found = _follow(np.ascontiguousarray(first[box]), second, homography @ shift, centre - corner)
        if found is None:
            continue
        places, likeness = found
        if fundamental is not None:
            likeness[_epipolar_px(fundamental @ shift, places) > max(2.0, _EPIPOLAR_SHARE * longest_px)] = 0
        hypotheses.append((box, places, likeness))
    positions, known = _decide(hypotheses, first.shape)
    specks = _specks(known)
    positions[:, specks] = np.nan
    return None if specks.all() else positions


def _decide(hypotheses: Sequence[Hypothesis], size_px: tuple[int, ...]) -> tuple[Positions, Mask]:
    """The likeliest place of each pixel, and where it is known: not where another place is nearly as likely."""
    positions = np.full((2, *size_px), np.nan, dtype=np.float32)
    best, rival = (np.zeros(size_px, dtype=np.float32) for _ in range(2))
    for box, places, likeness in hypotheses:
        better = likeness > best[box]
        best[box][better] = likeness[better]
        positions[:, *box][:, better] = places[:, better]
    for box, places, likeness in hypotheses:
        elsewhere = (likeness > rival[box]) & (np.abs(places - positions[:, *box]).max(0) > _SAME_PLACE_PX)
        rival[box][elsewhere] = likeness[elsewhere]
    return positions, (best > 0) & (rival < best - _LEAD)


def _at_size(points: Points, features: LocalFeatures, photo: Grey) -> Points:
    zoom = np.array(photo.shape[::-1], dtype=np.float32) / np.array(features.size_px[::-1], dtype=np.float32)
    return np.asarray((points + np.float32(0.5)) * zoom - np.float32(0.5), dtype=np.float32)


def _fundamental(a: Points, b: Points) -> NDArray[np.float64] | None:
    """The epipolar geometry, scaled so that it maps to lines; None where too little determines it."""
    if len(a) < _FEWEST_FOR_EPIPOLES:
        return None
    cv2: Any = import_extra("cv2", "finding pairs")
    cv2.setRNGSeed(0)
    try:
        matrix, _ = cv2.findFundamentalMat(a, b, cv2.USAC_MAGSAC, 2.0, 0.9999, 5000)
    except cv2.error:  # as in `verify`: everything lies in one plane, and its homography says it all
        return None
    return None if matrix is None or matrix.shape != (3, 3) else np.asarray(matrix, dtype=np.float64)


def _epipolar_px(fundamental: NDArray[np.float64], places: Positions) -> Plane:
    """Sampson's distance of each pixel and its place from the geometry."""
    height, width = places.shape[1:]
    y, x = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)
    matrix = (fundamental / np.abs(fundamental).max()).astype(np.float32)
    line = [row[0] * x + row[1] * y + row[2] for row in matrix]
    back = [column[0] * places[1] + column[1] * places[0] + column[2] for column in matrix.T[:2]]
    product = np.abs(places[1] * line[0] + places[0] * line[1] + line[2])
    distance: Plane = product / np.sqrt(line[0] ** 2 + line[1] ** 2 + back[0] ** 2 + back[1] ** 2 + np.float32(1e-20))
    return distance


def _homographies(a: Points, b: Points, longest_px: int) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Each with the centre of its matches in the first photo."""
    cv2: Any = import_extra("cv2", "finding pairs")
    shares, count = list(_OFF_SHARES), 0
    while shares and count < _MOST_HOMOGRAPHIES and len(a) >= _FEWEST_MATCHES:
        cv2.setRNGSeed(0)
        off_px = max(2.0, shares[0] * longest_px)
        matrix, inside = cv2.findHomography(a, b, cv2.USAC_MAGSAC, off_px, None, 5000, 0.9999)
        if matrix is None or inside.sum() < _FEWEST_MATCHES:
            del shares[0]
            continue
        count += 1
        fits = inside.ravel().astype(bool)
        yield matrix.astype(np.float64), a[fits].mean(0, dtype=np.float64)
        a, b = a[~fits], b[~fits]


def _visible(
    first_px: tuple[int, ...], second_px: tuple[int, ...], homography: NDArray[np.float64], centre: NDArray[np.float64]
) -> tuple[slice, slice]:
    """The box of the first photo that the second one shows, and some pixels more; all of it if that is little."""
    y, x = np.indices(first_px, dtype=np.float32)
    _, inside = _project(homography, x, y, second_px, centre)
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    if min(len(rows), len(columns)) < _SMALLEST_BOX_PX:
        return slice(0, first_px[0]), slice(0, first_px[1])
    top, left = (max(0, int(found[0]) - _MARGIN_PX) for found in (rows, columns))
    return slice(top, int(rows[-1]) + 1 + _MARGIN_PX), slice(left, int(columns[-1]) + 1 + _MARGIN_PX)


def _follow(
    first: Grey, second: Grey, homography: NDArray[np.float64], centre: NDArray[np.float64]
) -> tuple[Positions, Plane] | None:
    """Places in the second photo and how alike their surroundings look, 0 where not verified; None if it is absurd."""
    cv2: Any = import_extra("cv2", "finding pairs")
    zoom = _zoom_at(homography, centre)
    if not 1 / _MOST_ZOOM < zoom < _MOST_ZOOM:
        return None
    first, second = _blur(first, 1 / zoom), _blur(second, zoom)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpPerspective(second, homography, first.shape[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
    engine = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    forward, backward = engine.calc(first, warped, None), engine.calc(warped, first, None)
    ys, xs = np.indices(first.shape, dtype=np.float32)
    there_x, there_y = xs + forward[..., 0], ys + forward[..., 1]
    returned = cv2.remap(backward, there_x, there_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=1e6)
    agrees = ((forward + returned) ** 2).sum(2) < _AGREEMENT_PX**2
    places, inside = _project(homography, there_x, there_y, second.shape, centre)
    seen = cv2.remap(second, places[1], places[0], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    likeness, contrast = _correlate(first, seen, _PATCH_PX)
    around, _ = _correlate(first, seen, _SURROUNDINGS_PX)
    right = agrees & inside & (contrast > _CONTRAST) & (likeness > _LIKENESS) & (around > _SURROUNDINGS_LIKENESS)
    return places, np.where(right, around, np.float32(0))


def _zoom_at(homography: NDArray[np.float64], centre: NDArray[np.float64]) -> float:
    """Pixels of the second photo for one of the first; 0 if it would be mirrored."""
    depth = float(homography[2] @ (*centre, 1))
    # The determinant of a homography's derivative is its own by the third power of the depth.
    area = float(np.linalg.det(homography)) / depth**3 if depth else 0.0
    return float(np.sqrt(max(area, 0.0)))


def _blur(photo: Grey, zoom: float) -> Grey:
    """As if it had been taken with `zoom` times fewer pixels, so that it looks like the other one."""
    if zoom < 1.2:
        return photo
    cv2: Any = import_extra("cv2", "finding pairs")
    return np.asarray(cv2.GaussianBlur(photo, (0, 0), 0.5 * float(np.sqrt(zoom**2 - 1))))


def _project(
    homography: NDArray[np.float64], x: Plane, y: Plane, size_px: tuple[int, ...], centre: NDArray[np.float64]
) -> tuple[Positions, Mask]:
    """Where places of the first photo come to lie in the second, and whether that is inside it."""
    rows = (homography / (homography[2] @ (*centre, 1))).astype(np.float32)
    depth = rows[2, 0] * x + rows[2, 1] * y + rows[2, 2]
    before = depth > 0.1
    depth = np.where(before, depth, np.float32(1))
    places = np.stack([(row[0] * x + row[1] * y + row[2]) / depth for row in (rows[1], rows[0])])
    inside = before & (places >= 0).all(0) & (places[0] <= size_px[0] - 1) & (places[1] <= size_px[1] - 1)
    return places, inside


def _correlate(first: Grey, second: Grey, side_px: int) -> tuple[Plane, Plane]:
    """Normalised cross-correlation of the patches round each pixel, and the lower of their standard deviations."""
    cv2: Any = import_extra("cv2", "finding pairs")

    def mean(values: NDArray[Any]) -> Plane:
        return np.asarray(cv2.boxFilter(values, cv2.CV_32F, (side_px, side_px), borderType=cv2.BORDER_REFLECT))

    a, b = first.astype(np.float32) - 128, second.astype(np.float32) - 128
    mean_a, mean_b = mean(a), mean(b)
    deviation_a, deviation_b = (
        np.sqrt(np.maximum(mean(values * values) - means * means, 1e-3))
        for values, means in ((a, mean_a), (b, mean_b))
    )  # fmt: skip
    likeness = (mean(a * b) - mean_a * mean_b) / (deviation_a * deviation_b)
    return likeness, np.minimum(deviation_a, deviation_b)


def _specks(known: Mask) -> Mask:
    """Which pixels are not part of a large area of known ones."""
    cv2: Any = import_extra("cv2", "finding pairs")
    _, labels, stats, _ = cv2.connectedComponentsWithStats(known.astype(np.uint8), connectivity=4)
    large = stats[:, cv2.CC_STAT_AREA] >= _SPECK_PX
    large[0] = False
    specks: Mask = ~large[labels]
    return specks
