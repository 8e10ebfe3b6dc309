"""Registration of a blurry or distant photo with a sharp one of the same view, to a fraction of a pixel.

features of both ── homography ──┬── local shifts ── polynomial: lenses ──┬──> map
                                 └──────────── again, finer ──────────────┘
blurry ── reduced, so that one pixel is four of the sharp photo's ──> lr
sharp ── sampled by the map ── in the colours of the blurry one ──> truth, four times as large
both ── cropped to where they agree: what moved, or lies at another depth, is left out

The map gives the place of each LR pixel in the sharp photo: the polynomial displaces, then the homography projects.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from numpy.typing import NDArray

from refsr.data.features import LocalFeatures, Points, mutual_matches
from refsr.data.geometry import Matrix, project, translation
from refsr.data.local_shift import STEP_PX, Lens, Shifts, local_shifts
from refsr.data.sample import SCALE
from refsr.degrade.camera import from_linear, to_linear
from refsr.errors import ImageError
from refsr.extras import import_extra
from refsr.resize import resize

_INLIER_PX: Final = 4.0  # in working copies: a lens bends more than features err
_MINIMUM_MATCHES: Final = 16
_MINIMUM_VIEW_SHARE: Final = 0.6
_SINGULAR: Final = 1e-9  # determinant below which a homography maps a photo to a line
_SHARP_BLUR_PX: Final = 0.6
"""Blur of a picture that is as sharp as its pixels allow; a softer photo makes a smaller truth."""

_ROUNDS_PX: Final = (4.0, 4.0, 2.0, 2.0, 1.0, 1.0, 1.0)
"""Blur of both pictures in each round of local shifts."""

_MAXIMUM_RESIDUAL_PX: Final = 0.25
_MINIMUM_SIDE_PX: Final = 40
_MINIMUM_AREA_SHARE: Final = 0.33
_REACH_PLACES: Final = 4
"""Distance from a textured place at which the lens is still known, in places."""

_MINIMUM_TEXTURED: Final = 16
_MAXIMUM_COLOUR_LEVELS: Final = 10.0
_HUBER_LIGHT: Final = 0.02
_CLIPPED_LEVELS: Final = 4.0  # next to black and white, that say nothing of a colour

Pixels = UInt8[np.ndarray, "_ _ 3"]
Levels = Float[np.ndarray, "_ _ 3"]
Field = Float[np.ndarray, "2 h w"]
Box = tuple[slice, slice]


@dataclass(frozen=True, kw_only=True)
class Relation:
    """How two photos lie to each other.

    Attributes:
        homography: From the first photo's pixels to the second's.
        scale: Pixels of the second photo for one of the first.
        is_view: Whether one homography explains most matches: both photos were taken from one place.
    """

    homography: Matrix
    scale: float
    is_view: bool


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A photo registered with a sharp one.

    Attributes:
        lr: The blurry photo, RGB, reduced and cropped.
        truth: The sharp photo as the blurry one sees it, RGB, four times the size.
        map_px: (x, y) in the sharp photo of each pixel of the LR image.
        to_blurry: From the LR image's pixels to the blurry photo's.
        pitch_px: Pixels of the sharp photo for one of the truth.
        residual_px: Local shift that is left, in LR pixels, at the 95th percentile of the places with texture.
        agreed: Share of the common area that was kept.
        colour_levels: Mean colour error after matching, of 255.
    """

    lr: Pixels
    truth: Pixels
    map_px: Field
    to_blurry: Matrix
    pitch_px: float
    residual_px: float
    agreed: float
    colour_levels: float


def relate(first: LocalFeatures, second: LocalFeatures) -> Relation | None:
    """Relation of two photos by their features; None if too few match to say any.

    Source: Barath et al., "MAGSAC++, a fast, reliable and accurate robust estimator", CVPR 2020, as OpenCV has it.
    """
    cv2: Any = import_extra("cv2", "registration")
    a, b = mutual_matches(first, second)
    if len(a) < _MINIMUM_MATCHES:
        return None
    cv2.setRNGSeed(0)
    try:
        found, mask = cv2.findHomography(a, b, cv2.USAC_MAGSAC, _INLIER_PX, None, 5000, 0.9999)
    except cv2.error:  # all points on a line, for example
        return None
    if found is None or mask.sum() < 4 or abs(np.linalg.det(found)) < _SINGULAR:
        return None
    inliers, epipolar = mask.ravel().astype(bool), _epipolar_inliers(a, b)
    is_view = bool(inliers.sum() >= max(_MINIMUM_MATCHES, _MINIMUM_VIEW_SHARE * epipolar.sum()))
    fits = inliers if is_view or epipolar.sum() < _MINIMUM_MATCHES else epipolar
    to_first, to_second = (_resized(features.size_px, features.full_px) for features in (first, second))
    spreads = [float(np.sqrt(points[fits].astype(np.float64).var(0).sum())) for points in (a, b)]
    return Relation(
        homography=to_second @ found.astype(np.float64) @ np.linalg.inv(to_first),
        scale=spreads[1] / spreads[0] * float(to_second[0, 0] / to_first[0, 0]),
        is_view=is_view,
    )


def register(sharp: Pixels, blurry: Pixels, relation: Relation, sharp_blur_px: float) -> Registered:
    """Register two photos of one view.

    Args:
        sharp: The sharp photo, RGB.
        blurry: The other one, RGB.
        relation: From the blurry photo to the sharp one.
        sharp_blur_px: Blur of the sharp photo in its own pixels.

    Raises:
        ImageError: They cannot be registered; the message says why.
    """
    if not relation.is_view:
        raise ImageError("it was taken from another place than the sharp one, or too few features match")
    pitch = max(1.0, sharp_blur_px / _SHARP_BLUR_PX, relation.scale / SCALE)  # sharp pixels for one of the truth
    lr, to_blurry = _lr_image(sharp, blurry, relation, SCALE * pitch / relation.scale)
    to_sharp = relation.homography @ to_blurry
    fine, coarse = (_View.of(sharp, factor, to_sharp) for factor in (pitch, pitch * SCALE / 2))
    everything = np.s_[0 : lr.shape[0], 0 : lr.shape[1]]
    lens = Lens.straight(lr.shape[:2])
    for blur_px in _ROUNDS_PX:
        lens = lens.improved(_shifts(lr, coarse, lens, blur_px))
    shifts = _shifts(lr, coarse, lens, 1.0)
    places, agreed = _agreeing_box(shifts)
    residual_px = _residual_px(shifts, places)
    rows, columns = (
        slice(STEP_PX * part.start, min(side, STEP_PX * part.stop))
        for part, side in zip(places, lr.shape[:2], strict=True)
    )
    box = (rows, columns)
    ours = lr[box]
    like = _blurred(coarse.sampled(lens, everything, 1)[0], shifts.extra_blur_px)[box]
    recolour, colour_levels = _colours(like, ours)
    if colour_levels > _MAXIMUM_COLOUR_LEVELS:
        raise ImageError(
            f"its light differs too much, by {colour_levels:.0f} levels where light and colours are matched"
        )
    truth = recolour(fine.sampled(lens, box, SCALE)[0])
    return Registered(
        lr=_stored(ours),
        truth=_stored(truth),
        map_px=_places(lens, box, 1, to_sharp),
        to_blurry=to_blurry @ translation(np.array((box[1].start, box[0].start), dtype=np.float64)),
        pitch_px=pitch,
        residual_px=residual_px,
        agreed=agreed,
        colour_levels=colour_levels,
    )


@dataclass(frozen=True, kw_only=True)
class _View:
    """A sharp photo, reduced, and how it is seen from the LR image.

    Attributes:
        levels: The reduced photo.
        homography: From the LR image's pixels to its pixels.
    """

    levels: Levels
    homography: Matrix

    @classmethod
    def of(cls, sharp: Pixels, factor: float, to_sharp: Matrix) -> "_View":
        levels = _reduced(sharp, factor)
        return cls(levels=levels, homography=_resized(sharp.shape[:2], levels.shape[:2]) @ to_sharp)

    def sampled(self, lens: Lens, box: Box, scale: int) -> tuple[Levels, NDArray[np.float32]]:
        """A part of what the LR image shows, `scale` times as large; and 1 where this photo has pixels, else 0."""
        cv2: Any = import_extra("cv2", "registration")
        x, y = _places(lens, box, scale, self.homography)
        height, width = self.levels.shape[:2]
        known = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
        seen = cv2.remap(self.levels, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
        return np.clip(seen, 0, 255), known.astype(np.float32)


def _lr_image(sharp: Pixels, blurry: Pixels, relation: Relation, factor: float) -> tuple[Levels, Matrix]:
    """The part of the blurry photo that the sharp one shows, reduced; and from its pixels to the blurry photo's."""
    height, width = sharp.shape[:2]
    corners = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], dtype=np.float64)
    inverse = np.linalg.inv(relation.homography)
    depths = corners @ inverse[2, :2] + inverse[2, 2]
    if depths.min() * depths.max() <= 0:  # a corner lies behind the camera
        raise ImageError("it was taken from quite another direction than the sharp one: take it from the same place")
    seen = project(inverse, corners)
    limit = np.array(blurry.shape[1::-1])
    low, high = (
        np.clip(np.floor(seen.min(0)), 0, limit).astype(int),
        np.clip(np.ceil(seen.max(0)), 0, limit).astype(int),
    )
    if min(high - low) < _MINIMUM_SIDE_PX * max(1.0, factor):
        raise ImageError("it shows too small a part of what the sharp one shows: take it from the same place")
    part = blurry[low[1] : high[1], low[0] : high[0]]
    reduced = _reduced(part, max(1.0, factor))
    return reduced, translation(low.astype(np.float64)) @ _resized(reduced.shape[:2], part.shape[:2])


def _reduced(pixels: Pixels, factor: float) -> Levels:
    size = tuple(max(2, round(side / factor)) for side in pixels.shape[:2])
    image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float() / 255
    return np.ascontiguousarray(resize(image, (size[0], size[1]))[0].permute(1, 2, 0).numpy() * 255)


def _resized(size_px: tuple[int, ...], new_px: tuple[int, ...]) -> Matrix:
    """From the pixels of a picture to those of a resized copy; sizes are height and width."""
    zoom = np.array(new_px[::-1]) / np.array(size_px[::-1])
    return translation(np.full(2, -0.5)) @ np.diag([*zoom, 1.0]) @ translation(np.full(2, 0.5))


def _places(lens: Lens, box: Box, scale: int, homography: Matrix) -> Field:
    """(x, y) of each pixel of a part of the LR image, `scale` times as large, after lens and homography."""
    cv2: Any = import_extra("cv2", "registration")
    rows, columns = box
    height, width = scale * (rows.stop - rows.start), scale * (columns.stop - columns.start)
    x, y = np.meshgrid(
        (np.arange(width) + 0.5) / scale - 0.5 + columns.start, (np.arange(height) + 0.5) / scale - 0.5 + rows.start
    )
    moved = [cv2.resize(part[box], (width, height), interpolation=cv2.INTER_LINEAR) for part in lens.field()]
    places = project(homography, np.stack(((x + moved[0]).ravel(), (y + moved[1]).ravel()), 1))
    return np.ascontiguousarray(places.T.reshape(2, height, width), dtype=np.float32)


def _shifts(lr: Levels, view: _View, lens: Lens, blur_px: float) -> Shifts:
    seen, known = view.sampled(lens, np.s_[0 : lr.shape[0], 0 : lr.shape[1]], 1)
    return local_shifts(_grey(lr), _grey(seen), known, blur_px)


def _grey(levels: Levels) -> Float[np.ndarray, "h w"]:
    return np.ascontiguousarray(levels @ np.array((0.299, 0.587, 0.114), dtype=np.float32))


def _agreeing_box(shifts: Shifts) -> tuple[Box, float]:
    """The largest rectangle of places at which both photos agree, and its share of the common area.

    Raises:
        ImageError: It is too small.
    """
    cv2: Any = import_extra("cv2", "registration")
    bad = (~shifts.agrees).astype(np.uint8)
    square = np.ones((2, 2), np.uint8)  # single places are chance: only squares of four remain, where they are
    bad = cv2.dilate(cv2.erode(bad, square, anchor=(1, 1), borderValue=1), square, anchor=(0, 0), borderValue=0)
    side = 2 * _REACH_PLACES + 1
    is_near = cv2.dilate(shifts.is_textured.astype(np.uint8), np.ones((side, side), np.uint8)) > 0
    # At the border of what both show, half of a window says nothing, and the lens is known least.
    inner = cv2.erode(shifts.is_known.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0) > 0
    top, left, height, width = _largest_rectangle((bad == 0) & inner & is_near)
    share = height * width / max(1, int(shifts.is_known.sum()))
    textured = int(shifts.is_textured[top : top + height, left : left + width].sum())
    if STEP_PX * min(shifts.is_known.shape) < _MINIMUM_SIDE_PX or shifts.is_textured.sum() < _MINIMUM_TEXTURED:
        raise ImageError("it shows too little that can be compared: take something with more texture, or larger")
    if share < _MINIMUM_AREA_SHARE or STEP_PX * min(height, width) < _MINIMUM_SIDE_PX or textured < _MINIMUM_TEXTURED:
        raise ImageError(
            f"no large part of it agrees with the sharp one, the largest is {share:.0%}: things moved, or it was taken"
            " from another place"
        )
    return (slice(top, top + height), slice(left, left + width)), share


def _largest_rectangle(good: Bool[np.ndarray, "h w"]) -> tuple[int, int, int, int]:
    """Top, left, height and width of the largest rectangle without a False."""
    heights = np.zeros(good.shape[1] + 1, dtype=int)  # the last one ends every rectangle
    best = (0, 0, 0, 0)
    for bottom, row in enumerate(good):
        heights[:-1] = np.where(row, heights[:-1] + 1, 0)
        open_at: list[tuple[int, int]] = []  # left edge and height of the rectangles that may still grow
        for column, height in enumerate(heights.tolist()):
            left = column
            while open_at and open_at[-1][1] >= height:
                left, tall = open_at.pop()
                if tall * (column - left) > best[2] * best[3]:
                    best = (bottom - tall + 1, left, tall, column - left)
            open_at.append((left, height))
    return best


def _residual_px(shifts: Shifts, places: Box) -> float:
    """Local shift that is left, at the 95th percentile of the textured ones of some places.

    Raises:
        ImageError: It is too large.
    """
    left = np.hypot(*shifts.shift_px[:, *places])[shifts.is_textured[places]]
    residual = float(np.percentile(left, 95))
    if residual > _MAXIMUM_RESIDUAL_PX:
        raise ImageError(f"it lies on the sharp one only to {residual:.2f} pixels: hold still, or use a tripod")
    return residual


def _blurred(levels: Levels, deviation_px: float) -> Levels:
    cv2: Any = import_extra("cv2", "registration")
    return levels if deviation_px == 0 else np.asarray(cv2.GaussianBlur(levels, (0, 0), deviation_px))


def _colours(like: Levels, wanted: Levels) -> tuple[Any, float]:
    """The change of colours that makes one picture like another, affine in linear light; and the error that is left.

    Brightness and white balance of a camera are such; least squares with Huber's weights.
    """
    ours, theirs = (_light(levels).reshape(-1, 3).astype(np.float64) for levels in (like, wanted))
    usable = np.ones(len(ours), dtype=bool)
    for levels in (like, wanted):
        usable &= ((levels > _CLIPPED_LEVELS) & (levels < 255 - _CLIPPED_LEVELS)).all(2).ravel()
    if usable.sum() < 100:
        raise ImageError("it is nearly all black or white: expose it longer or shorter")
    inputs = np.concatenate((ours, np.ones((len(ours), 1))), 1)
    weight: NDArray[Any] = usable.astype(np.float64)
    matrix = np.zeros((4, 3))
    for _ in range(5):
        weighted = inputs * weight[:, None]
        matrix = np.linalg.solve(weighted.T @ inputs + 1e-6 * np.eye(4), weighted.T @ theirs)
        error = np.abs(inputs @ matrix - theirs).max(1)
        weight = np.where(usable, np.minimum(1, _HUBER_LIGHT / np.maximum(error, 1e-9)), 0.0)

    def recolour(levels: Levels) -> Levels:
        light = _light(levels)
        changed = light @ matrix[:3].astype(np.float32) + matrix[3].astype(np.float32)
        return np.asarray(from_linear(torch.from_numpy(np.clip(changed, 0, 1))[None])[0].numpy() * 255)

    smooth = [_blurred(levels, float(STEP_PX)) for levels in (recolour(like), wanted)]
    return recolour, float(np.abs(smooth[0] - smooth[1]).mean())


def _light(levels: Levels) -> Levels:
    return np.asarray(to_linear(torch.from_numpy(levels / np.float32(255))[None])[0].numpy())


def _stored(levels: Levels) -> Pixels:
    return np.ascontiguousarray(np.clip(np.round(levels), 0, 255).astype(np.uint8))


def _epipolar_inliers(a: Points, b: Points) -> Bool[np.ndarray, " n"]:
    """The matches that fit one geometry, from wherever the photos were taken."""
    cv2: Any = import_extra("cv2", "registration")
    try:
        _, mask = cv2.findFundamentalMat(a, b, cv2.USAC_MAGSAC, _INLIER_PX, 0.9999, 5000)
    except cv2.error:  # of a plane many matrices fit
        mask = None
    return np.zeros(len(a), dtype=bool) if mask is None else mask.ravel().astype(bool)
