"""Local shifts of two pictures that nearly lie on each other, and the smooth displacement of a lens that they show.

    two grey pictures ── both as blurred ── Lucas and Kanade in Gaussian windows ──> shift, and how well they agree
    shifts every 8 pixels ── weighted by texture, robust ──> polynomial of degree 5

Source: Lucas and Kanade, "An iterative image registration technique with an application to stereo vision", IJCAI 1981.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from refsr.extras import import_extra

STEP_PX: Final = 8
"""Distance of two places where shifts count."""

_WINDOW_PX: Final = 8.0  # deviation of the window, for pictures blurred by 1
_BLURS_PX: Final = (0.0, 0.5, 0.8, 1.2, 1.6, 2.0, 2.5, 3.0)
_DEGREE: Final = 5
_HUBER_PX: Final = 0.2
_RIDGE: Final = 1e-3
_MAXIMUM_SHIFT_PX: Final = 0.25
_LEAST_TEXTURE: Final = 3.0  # deviation of a textured place, in levels
_MOST_NOISE: Final = 3.0  # deviation, in levels, after the blur: more than that are different things
_COVERED: Final = 0.999

Plane = Float[np.ndarray, "h w"]
Field = Float[np.ndarray, "2 h w"]


@dataclass(frozen=True, kw_only=True)
class Shifts:
    """Local shifts at places 8 pixels apart.

    Attributes:
        shift_px: (x, y) by which the second picture is to be sampled elsewhere.
        weight: How much a place says, 0..1; 0 where a picture has no pixels.
        is_textured: Where the second picture shows more than the noise of the first.
        is_known: Where both pictures have pixels.
        agrees: Where what is left between both is noise, and the shift is small.
        extra_blur_px: Blur that makes the second picture as blurred as the first.
    """

    shift_px: Float[np.ndarray, "2 gh gw"]
    weight: Float[np.ndarray, "gh gw"]
    is_textured: Bool[np.ndarray, "gh gw"]
    is_known: Bool[np.ndarray, "gh gw"]
    agrees: Bool[np.ndarray, "gh gw"]
    extra_blur_px: float


def local_shifts(first: Plane, second: Plane, known: Plane, blur_px: float) -> Shifts:
    """Local shifts.

    Args:
        first: Grey, in levels.
        second: Grey, in levels, sharper than the first.
        known: 1 where the second has pixels, else 0.
        blur_px: Blur of both before they are compared; windows grow with it.
    """
    window = _WINDOW_PX * blur_px
    blurred = _gauss(first, blur_px)
    extra = min(
        _BLURS_PX,
        key=lambda extra: _difference(blurred, _gauss(second, float(np.hypot(blur_px, extra))), known, window),
    )
    like = _gauss(second, float(np.hypot(blur_px, extra)))
    ours, theirs = _even(blurred, window), _even(like, window)
    vertical, horizontal = np.gradient((ours.value + theirs.value) / 2)
    xx, xy, yy = (
        _gauss(a * b, window) for a, b in ((horizontal, horizontal), (horizontal, vertical), (vertical, vertical))
    )
    x, y = (_gauss((ours.value - theirs.value) * slope, window) for slope in (horizontal, vertical))
    damped = 1e-4 + 0.01 * (xx + yy)  # where one direction says nothing, the place does not move along it
    xx, yy = xx + damped, yy + damped
    inverse = 1 / (xx * yy - xy**2)
    shift = np.stack(((yy * x - xy * y) * inverse, (xx * y - xy * x) * inverse))

    covariance = _gauss(blurred * like, window) - ours.mean * theirs.mean
    slope = covariance / (theirs.deviation**2 + 1)
    left = np.sqrt(np.maximum(ours.deviation**2 - 2 * slope * covariance + (slope * theirs.deviation) ** 2, 0))
    correlation = covariance / (ours.deviation * theirs.deviation + 1)
    places = np.s_[STEP_PX // 2 :: STEP_PX, STEP_PX // 2 :: STEP_PX]
    is_known = (_gauss(known, window) > _COVERED)[places] if known.min() < 1 else np.ones_like(left[places], dtype=bool)
    noise = min(_MOST_NOISE, float(np.median(left[places][is_known]))) if is_known.any() else 0.0
    shift, left, deviation = shift[:, *places], left[places], theirs.deviation[places]
    is_textured = deviation > max(_LEAST_TEXTURE, 2 * noise)
    is_near = np.hypot(*shift) < _MAXIMUM_SHIFT_PX
    return Shifts(
        shift_px=shift,
        weight=is_known * np.clip(correlation[places] - 0.3, 0, 1) * deviation / (deviation + 10 * _LEAST_TEXTURE),
        is_textured=is_known & is_textured,
        is_known=is_known,
        agrees=is_known & (left < 3 * noise + 2) & (is_near | ~is_textured),
        extra_blur_px=extra,
    )


@dataclass(frozen=True, kw_only=True)
class _Evened:
    value: Plane
    mean: Plane
    deviation: Plane


def _even(plane: Plane, window: float) -> _Evened:
    """A plane less its local mean, over its local deviation."""
    mean = _gauss(plane, window)
    deviation = np.sqrt(np.maximum(_gauss(plane**2, window) - mean**2, 0))
    return _Evened(value=(plane - mean) / (deviation + 2), mean=mean, deviation=deviation)


def _difference(first: Plane, second: Plane, known: Plane, window: float) -> float:
    return float((known * (_even(first, window).value - _even(second, window).value) ** 2).mean())


def _gauss(plane: Plane, deviation_px: float) -> Plane:
    cv2: Any = import_extra("cv2", "registration")
    if deviation_px == 0:
        return plane
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), deviation_px, borderType=cv2.BORDER_REFLECT_101))


@dataclass(frozen=True, kw_only=True)
class Lens:
    """A smooth displacement over a picture, a polynomial of (x, y) in -1..1.

    Attributes:
        terms: Coefficients, in pixels, for x and for y.
        size_px: Height and width of the picture.
    """

    terms: Float[np.ndarray, "2 t"]
    size_px: tuple[int, int]

    @classmethod
    def straight(cls, size_px: tuple[int, int]) -> "Lens":
        """No displacement."""
        return cls(terms=np.zeros((2, len(_exponents()))), size_px=size_px)

    def improved(self, shifts: Shifts) -> "Lens":
        """The displacement that local shifts show to be left, added; Huber's weights, and a small ridge."""
        height, width = shifts.weight.shape
        y, x = (STEP_PX // 2 + STEP_PX * np.arange(count, dtype=np.float64) for count in (height, width))
        basis = self._basis(*np.meshgrid(x, y)).reshape(-1, self.terms.shape[1])
        wanted, weight = shifts.shift_px.reshape(2, -1).T.astype(np.float64), shifts.weight.ravel().astype(np.float64)
        if weight.sum() < 1:
            return self
        ridge = _RIDGE * weight.sum() * np.diag([float(sum(both)) ** 2 for both in _exponents()])
        found = np.zeros((self.terms.shape[1], 2))
        for _ in range(5):
            error = np.hypot(*(wanted - basis @ found).T)
            robust = weight * np.minimum(1, _HUBER_PX / np.maximum(error, 1e-9))
            found = np.linalg.solve((basis * robust[:, None]).T @ basis + ridge + 1e-9 * np.eye(len(ridge)),
                                    (basis * robust[:, None]).T @ wanted)  # fmt: skip
        return Lens(terms=self.terms + found.T, size_px=self.size_px)

    def field(self) -> Field:
        """(x, y) displacement of each pixel."""
        y, x = (np.arange(side, dtype=np.float64) for side in self.size_px)
        return np.asarray(np.moveaxis(self._basis(*np.meshgrid(x, y)) @ self.terms.T, 2, 0), dtype=np.float32)

    def _basis(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        half = max(self.size_px) / 2
        across, down = (x + 0.5) / half - self.size_px[1] / (2 * half), (y + 0.5) / half - self.size_px[0] / (2 * half)
        return np.stack([across**i * down**j for i, j in _exponents()], -1)


def _exponents() -> list[tuple[int, int]]:
    return [(i, degree - i) for degree in range(_DEGREE + 1) for i in range(degree + 1)]
