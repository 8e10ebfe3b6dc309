"""Rotation and scale in which a reference matches the photo.

Matching tolerates about 12 degrees of rotation and a factor of 1.25. So small copies of photo and reference are matched
in many poses first, and the pose with the most coherent match is taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from jaxtyping import Float
from torch import Tensor

from refsr.models.base import RefSRModel
from refsr.references.variants import transform
from refsr.resize import downscale_bicubic, pad_to_multiple, resize
from refsr.search import search
from refsr.transfer.smoothing import coherence

_MAXIMUM_CELLS: Final = 1600
_MAXIMUM_REFERENCE_CELLS: Final = 12800
_DEGREES: Final = (-150.0, -120.0, -90.0, -60.0, -30.0, 30.0, 60.0, 90.0, 120.0, 150.0, 180.0)
_SCALES: Final = (0.5, 0.71, 1.41, 2.0)
_CLEAR_FIT: Final = 0.1
"""Above this fit of the reference as it is, distant poses are not tried."""

_DISTANT_GAIN: Final = 0.08
"""Minimum gain in fit of a distant pose."""

_STEPS: Final = (1.0, 0.5, 0.25, 0.125)
"""Refinement steps, in units of 30 degrees and half an octave."""

_STEP_GAIN: Final = 0.01
"""Minimum gain in fit of a refinement step."""

_MINIMUM_FIT: Final = 0.03
"""References that fit worse show other things: unrelated photos have 0.000 to 0.005, rarely 0.02; other views of a
place 0.06 and more."""

_MINIMUM_SIDE_CELLS: Final = 8


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
    """Pose in which a reference fits the photo best; in doubt, as it is.

    Args:
        model: Model whose descriptors are matched.
        lr: The photo.
        ref: The reference.

    Returns:
        The pose; None for a reference that shows other things, which could only do harm.
    """
    poses = Poses(model, lr, ref)
    pose = poses.best()
    return None if pose.fit < _MINIMUM_FIT and poses.is_measured(1.0) else pose


class Poses:
    """Small copies of a photo and a reference, and their fit in each pose."""

    def __init__(self, model: RefSRModel, lr: Float[Tensor, "1 3 h w"], ref: Float[Tensor, "1 3 h2 w2"]) -> None:
        self.model = model
        self.ref_px = ref.shape[-2:]
        cells, ref_cells = lr[0, 0].numel(), ref[0, 0].numel() / model.cell_px**2
        fitting = min((_MAXIMUM_CELLS / cells) ** 0.5, (_MAXIMUM_REFERENCE_CELLS / ref_cells) ** 0.5)
        self.shrink = min(1.0, max(fitting, _MINIMUM_SIDE_CELLS / min(lr.shape[-2:])))
        self.query = model.encode_query(_shrunk(lr, self.shrink))
        # A single copy of the reference, large enough for the largest scale.
        self.held = min(1.0, self.shrink * max(_SCALES))
        self.ref = _shrunk(ref, self.held).to(lr)

    def best(self) -> Pose:
        """The pose that fits best; in doubt, the reference as it is."""
        pose, score = (1.0, 0.0), self.score(1.0, 0.0)
        if score < _CLEAR_FIT:
            found = self._best_distant()
            if found[0] > score + _DISTANT_GAIN:
                score, pose = found
        for step in _STEPS:
            (scale, degrees), factor, turn = pose, 2 ** (step / 2), 30 * step
            turned = (scale, degrees - turn), (scale, degrees + turn)
            found = self._best_of((*turned, (scale / factor, degrees), (scale * factor, degrees)))
            if found[0] > score + _STEP_GAIN:
                score, pose = found
        return Pose(scale=pose[0], degrees=pose[1], fit=score)

    def _best_distant(self) -> tuple[float, tuple[float, float]]:
        """Best of all rotations, of all scales, and of the best of each combined with all of the other."""
        turned = self._best_of([(1.0, degrees) for degrees in _DEGREES])
        scaled = self._best_of([(scale, 0.0) for scale in _SCALES])
        both = [(scale, turned[1][1]) for scale in _SCALES] + [(scaled[1][0], degrees) for degrees in _DEGREES]
        return max(turned, scaled, self._best_of(both))

    def _best_of(self, poses: Sequence[tuple[float, float]]) -> tuple[float, tuple[float, float]]:
        """Highest score, and its pose (scale, degrees)."""
        return max((self.score(*pose), pose) for pose in poses)

    def is_measured(self, scale: float) -> bool:
        """Whether the reference is large enough at this scale for its fit to mean something."""
        shorter: float = min(self.ref_px) * scale * self.shrink
        return shorter >= _MINIMUM_SIDE_CELLS * self.model.cell_px

    def score(self, scale: float, degrees: float) -> float:
        """Coherence times mean cosine of the match in a pose.

        Zero where the reference would be too small; and above the largest scale, where it may fit but is not sharp.
        """
        cell = self.model.cell_px
        if scale > max(_SCALES) or not self.is_measured(scale):
            return 0.0
        image = transform(self.ref, 0, scale * self.shrink / self.held, degrees).image
        key = self.model.encode_query(downscale_bicubic(pad_to_multiple(image, cell), cell))
        match = search(self.query, [key], patch=1, engine="exact")
        return coherence(match) * match.score.mean().item()


def _shrunk(image: Float[Tensor, "1 3 h w"], factor: float) -> Float[Tensor, "1 3 h2 w2"]:
    if factor == 1:
        return image
    height, width = (max(2, round(side * factor)) for side in image.shape[-2:])
    return resize(image, (height, width)).clamp(0, 1)
