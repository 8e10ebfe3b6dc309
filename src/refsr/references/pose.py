"""How must a reference be turned and scaled to be matched?

Matching finds texture that is turned by a dozen degrees or a quarter larger, not more. So small copies of photo and
reference are matched first, in many poses; the pose whose match hangs together best is the reference's.
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

_CELLS: Final = 1600
_REF_CELLS: Final = 12800
"""The small copies of photo and reference have so many cells at the most, as the reference is."""

_DEGREES: Final = (-150.0, -120.0, -90.0, -60.0, -30.0, 30.0, 60.0, 90.0, 120.0, 150.0, 180.0)
_SCALES: Final = (0.5, 0.71, 1.41, 2.0)
_CLEAR: Final = 0.1
"""With so good a match, no very different pose is looked for."""

_BETTER: Final = 0.08
"""By so much better must a very different pose match."""

_STEPS: Final = (1.0, 0.5, 0.25, 0.125)
"""By so many times 30 degrees, or half octaves, a pose is changed in the end."""

_SLIGHTLY: Final = 0.01
"""By so much better must it match then."""

_FITS: Final = 0.03
"""What matches worse shows other things: unrelated photographs have 0.000 to 0.005, rarely 0.02; other views of a place
0.06 and more."""

_SMALLEST_CELLS: Final = 8


@dataclass(frozen=True, kw_only=True)
class Pose:
    """How a reference is turned and scaled.

    Attributes:
        scale: Factor of size.
        degrees: Counter-clockwise.
        fit: How well it matches then, 0..1: near zero for what shows other things, beyond 0.4 for the same view.
    """

    scale: float
    degrees: float
    fit: float


def find_pose(model: RefSRModel, lr: Float[Tensor, "1 3 h w"], ref: Float[Tensor, "1 3 h2 w2"]) -> Pose | None:
    """How a reference must be turned and scaled to fit the photo best; in doubt, not at all.

    Args:
        model: Whose descriptors match.
        lr: The photo.
        ref: The reference.

    Returns:
        The pose; None where the reference shows other things, and can only do harm.
    """
    poses = Poses(model, lr, ref)
    pose = poses.best()
    return None if pose.fit < _FITS and poses.is_measured(1.0) else pose


class Poses:
    """Small copies of a photo and a reference, and how well they match in each pose."""

    def __init__(self, model: RefSRModel, lr: Float[Tensor, "1 3 h w"], ref: Float[Tensor, "1 3 h2 w2"]) -> None:
        self.model = model
        self.ref_px = ref.shape[-2:]
        cells, ref_cells = lr[0, 0].numel(), ref[0, 0].numel() / model.cell_px**2
        fitting = min((_CELLS / cells) ** 0.5, (_REF_CELLS / ref_cells) ** 0.5)
        self.shrink = min(1.0, max(fitting, _SMALLEST_CELLS / min(lr.shape[-2:])))
        self.query = model.encode_query(_shrunk(lr, self.shrink))
        # One copy that is as large as the largest that is needed.
        self.held = min(1.0, self.shrink * max(_SCALES))
        self.ref = _shrunk(ref, self.held).to(lr)

    def best(self) -> Pose:
        """The one that matches best; in doubt, as the reference is."""
        pose, score = (1.0, 0.0), self.score(1.0, 0.0)
        if score < _CLEAR:
            found = self.best_far_off()
            if found[0] > score + _BETTER:
                score, pose = found
        for step in _STEPS:
            (scale, degrees), factor, turn = pose, 2 ** (step / 2), 30 * step
            around = (
                (scale, degrees - turn),
                (scale, degrees + turn),
                (scale / factor, degrees),
                (scale * factor, degrees),
            )
            found = self.best_of(around)
            if found[0] > score + _SLIGHTLY:
                score, pose = found
        return Pose(scale=pose[0], degrees=pose[1], fit=score)

    def best_far_off(self) -> tuple[float, tuple[float, float]]:
        """Of all rotations, all scales, and the best of each with the others."""
        turned = self.best_of([(1.0, degrees) for degrees in _DEGREES])
        scaled = self.best_of([(scale, 0.0) for scale in _SCALES])
        both = [(scale, turned[1][1]) for scale in _SCALES] + [(scaled[1][0], degrees) for degrees in _DEGREES]
        return max(turned, scaled, self.best_of(both))

    def best_of(self, poses: Sequence[tuple[float, float]]) -> tuple[float, tuple[float, float]]:
        """The highest score, and whose it is."""
        return max((self.score(*pose), pose) for pose in poses)

    def is_measured(self, scale: float) -> bool:
        """Whether the reference is large enough, in that size, to tell."""
        shorter: float = min(self.ref_px) * scale * self.shrink
        return shorter >= _SMALLEST_CELLS * self.model.cell_px

    def score(self, scale: float, degrees: float) -> float:
        """Coherence times mean cosine of the match with the reference in a pose; zero where it would be too small.

        Zero as well where it would be enlarged further than the largest scale: it would fit, and show nothing sharp.
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
