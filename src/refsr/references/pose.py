"""Rotation and scale in which a reference matches the photo.

Matching tolerates about 12 degrees of rotation and a factor of 1.25. So small copies of photo and reference are matched
in many poses first, and the pose with the most coherent match is taken.

as it is, and with the photo's field of view ── clear? ──┬─ yes ──────────────────────────────────┬── refined
                                                         └─ no ── all scales and rotations, coarse ─┘
"""

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Final

from jaxtyping import Float
from torch import Tensor

from refsr.models.base import RefSRModel
from refsr.references.variants import transform
from refsr.resize import downscale_bicubic, pad_to_multiple, resize
from refsr.search import search
from refsr.transfer.smoothing import coherence

_FINE_CELLS: Final = (1600, 12800)
"""Maximum sizes of the small copies of photo and reference."""

_COARSE_CELLS: Final = (576, 2304)
_DEGREES: Final = (-150.0, -120.0, -90.0, -60.0, -30.0, 30.0, 60.0, 90.0, 120.0, 150.0, 180.0)
_SCALES: Final = tuple(2 ** (step / 2) for step in range(-8, 7))
_CLEAR_FIT: Final = 0.1
"""Above this fit of the first poses, distant ones are not tried."""

_UPRIGHT_GAIN: Final = 0.05
_TURNED_GAIN: Final = 0.08
"""Minimum gains in fit of distant poses: upright, of which there are fewer to be deceived by, and turned."""

_UPRIGHT_TRIED: Final = 3
"""Upright scales that are measured finely: the coarse measure hardly tells the best ones apart."""

_STEPS: Final = (1.0, 0.5, 0.25, 0.125)
"""Refinement steps, in units of 30 degrees and half an octave."""

_STEP_GAIN: Final = 0.01
"""Minimum gain in fit of a refinement step."""

_MINIMUM_FIT: Final = 0.03
"""References that fit worse show other things: unrelated photos have 0.000 to 0.02, rarely 0.05; other views of a
place that bring something 0.03 and more. Lower than for an album, where the best of hundreds is taken."""

_MINIMUM_SIDE_CELLS: Final = 8
_MAXIMUM_ASPECT: Final = _FINE_CELLS[0] // _MINIMUM_SIDE_CELLS**2
"""Thinner photos are cropped."""


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Rotation and scale of a reference.

    Attributes:
        scale: Factor of size.
        degrees: Rotation, counter-clockwise.
        fit: Quality of the match in this pose, 0..1: near 0 for unrelated photos, above 0.4 for the same view.
    """

    scale: float
    degrees: float
    fit: float


def find_pose(model: RefSRModel, lr: Float[Tensor, "1 3 h w"], ref: Float[Tensor, "1 3 h2 w2"]) -> Pose | None:
    """Pose in which a reference fits the photo best.

    Args:
        model: Model whose descriptors are matched.
        lr: The photo.
        ref: The reference.

    Returns:
        The pose; None for a reference that shows other things, which could only do harm. A reference that is too small
        to be measured is taken as it is.
    """
    poses = Poses(model, lr, ref)
    pose = poses.best()
    is_measured = poses.is_measurable(1.0) or (poses.view < 1 and poses.is_measurable(poses.view))
    return None if pose.fit < _MINIMUM_FIT and is_measured else pose


class Poses:
    """Small copies of a photo and a reference, and their fit in each pose."""

    def __init__(self, model: RefSRModel, lr: Float[Tensor, "1 3 h w"], ref: Float[Tensor, "1 3 h2 w2"]) -> None:
        self.model, self.lr, self.ref_px = model, _cropped(lr), ref.shape[-2:]
        self.query = cache(lambda shrink: model.encode_query(_resized(self.lr, shrink)))
        self.coarse_score = cache(self._coarse_score)
        # A single copy of the reference, as large as any pose needs.
        self.held = min(1.0, max(scale * self._shrink(scale, _FINE_CELLS) for scale in self._scales()))
        self.ref = _resized(ref, self.held).to(lr)

    @property
    def view(self) -> float:
        """Scale at which the reference has as many cells as the photo, if both show the same field of view."""
        cells = self.lr[0, 0].numel()
        scale = self.model.cell_px * (cells / (self.ref_px[0] * self.ref_px[1])) ** 0.5
        return float(min(max(scale, _SCALES[0]), _SCALES[-1]))

    def best(self) -> Pose:
        """The pose that fits best; in doubt, the reference as it is."""
        score, pose = self.first
        if score < _CLEAR_FIT:
            found, distant = max((self.score(*each), each) for each in self._distant())
            if found > score + (_TURNED_GAIN if distant[1] else _UPRIGHT_GAIN):
                score, pose = found, distant
        for step in _STEPS:
            (scale, degrees), factor, turn = pose, 2 ** (step / 2), 30 * step
            turned = (scale, degrees - turn), (scale, degrees + turn)
            near = (*turned, (scale / factor, degrees), (scale * factor, degrees))
            found, better = max((self.score(*each), each) for each in near)
            if found > score + _STEP_GAIN:
                score, pose = found, better
        return Pose(scale=pose[0], degrees=pose[1], fit=score)

    @cached_property
    def first(self) -> tuple[float, tuple[float, float]]:
        """The better one of the reference as it is and with the photo's field of view, and its fit."""
        score = self.score(1.0, 0.0)
        found = self.score(self.view, 0.0)
        if found > max(score + _STEP_GAIN, _MINIMUM_FIT):
            return found, (self.view, 0.0)
        return score, (1.0, 0.0)

    def score(self, scale: float, degrees: float, cells: tuple[int, int] = _FINE_CELLS) -> float:
        """Coherence times mean cosine of the match in a pose; zero where it cannot be measured."""
        if not self.is_measurable(scale):
            return 0.0
        cell, shrink = self.model.cell_px, self._shrink(scale, cells)
        image = transform(self.ref, 0, scale * shrink / self.held, degrees).image
        key = self.model.encode_query(downscale_bicubic(pad_to_multiple(image, cell), cell))
        match = search(self.query(shrink), [key], patch=1, engine="exact")
        return coherence(match) * match.score.mean().item()

    def is_measurable(self, scale: float) -> bool:
        """Whether the small copies at this scale are large enough to tell a fit, and not too large."""
        if not _SCALES[0] <= scale <= _SCALES[-1]:
            return False
        small = scale * self._shrink(scale, _FINE_CELLS) / self.model.cell_px
        height, width = (side * small for side in self.ref_px)
        return min(height, width) >= _MINIMUM_SIDE_CELLS and height * width <= 2 * _FINE_CELLS[1]

    def _distant(self) -> list[tuple[float, float]]:
        """The best upright (scale, degrees), the best of all rotations, and of the best of each with all others."""
        scales = self._scales()
        upright = sorted(((scale, 0.0) for scale in scales), key=self.coarse_score)[-_UPRIGHT_TRIED:]
        rotations = [(scale, degrees) for scale in {self.view, 1.0} for degrees in _DEGREES]
        _, best_degrees = max(rotations, key=self.coarse_score)
        both = [(scale, best_degrees) for scale in scales] + [(upright[-1][0], degrees) for degrees in _DEGREES]
        return [*upright, max(rotations + both, key=self.coarse_score)]

    def _coarse_score(self, pose: tuple[float, float]) -> float:
        scale, degrees = pose
        return self.score(scale, degrees, _COARSE_CELLS)

    def _scales(self) -> list[float]:
        return [scale for scale in _SCALES if self.is_measurable(scale)] or [1.0]

    def _shrink(self, scale: float, cells: tuple[int, int]) -> float:
        """Factor that brings the photo, and the reference at a scale, to these maximum sizes."""
        ref_cells = self.ref_px[0] * self.ref_px[1] * (scale / self.model.cell_px) ** 2
        fitting = min((cells[0] / self.lr[0, 0].numel()) ** 0.5, (cells[1] / ref_cells) ** 0.5)
        smallest: float = _MINIMUM_SIDE_CELLS / min(self.lr.shape[-2:])
        return float(min(1.0, max(fitting, smallest)))


def _cropped(photo: Float[Tensor, "1 3 h w"]) -> Float[Tensor, "1 3 h2 w2"]:
    """The middle of a thin photo."""
    longest = _MAXIMUM_ASPECT * min(photo.shape[-2:])
    rows, columns = (slice(max(0, (side - longest) // 2), (side + longest + 1) // 2) for side in photo.shape[-2:])
    return photo[..., rows, columns]


def _resized(image: Float[Tensor, "1 3 h w"], factor: float) -> Float[Tensor, "1 3 h2 w2"]:
    if factor == 1:
        return image
    height, width = (max(2, round(side * factor)) for side in image.shape[-2:])
    return resize(image, (height, width)).clamp(0, 1)
