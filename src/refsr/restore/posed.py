"""References in their poses, or left out for a reason.

refs ── find_pose: the same things? ── sharper than what is restored? the photo itself? ──> variants
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from jaxtyping import Float
from torch import Tensor

from refsr.io.photo import Photo
from refsr.models import RefSRModel
from refsr.references.pose import Pose, find_pose
from refsr.references.variants import Variant, VariantConfig, make_variants, transform
from refsr.restore.sharpness import MAXIMUM_SHRINKING, shrinkable

OTHER_THINGS: Final = "shows other things than the photo"
NO_SHARPER: Final = "shows the same as the photo, but no sharper"
THE_PHOTO: Final = "is the photo itself"

_MINIMUM_SHARPER: Final = 1.15
"""Useful detail is finer than the photo's by this factor."""

_SAME_LEVELS: Final = 2.0
"""Mean difference in grey levels below which pictures of one size are the same, perhaps saved twice."""


@dataclass(kw_only=True, eq=False)
class PosedReference:
    """A reference for a photo.

    Attributes:
        index: Index among all that were given.
        pixels: The picture; None once it is searched for the last time, to free its memory.
        copies: Copies to search, where no pose is estimated.
        pose: Scale and rotation in which it fits the photo, enlarged by the model's scale.
        left_out: Why it is not used; empty for one that is.
    """

    index: int
    pixels: Float[Tensor, "1 3 h w"] | None
    copies: VariantConfig | None = None
    pose: Pose | None = None
    left_out: str = ""

    def is_sharper(self, model: RefSRModel, zoom: int | float, softness: int | float) -> bool:
        """Whether it shows finer detail than the picture that is restored; unknown without a pose, then true.

        Args:
            model: The model, which knows the size of a cell.
            zoom: Size of that picture as a multiple of the photo's.
            softness: Factor by which that picture can be shrunk without loss.
        """
        if self.pose is None or self.pixels is None:
            return True
        pixels_per_pixel = model.cell_px / (self.pose.scale * zoom)
        finer = pixels_per_pixel * softness / _MINIMUM_SHARPER
        return finer >= MAXIMUM_SHRINKING or (finer >= 1 and shrinkable(self.pixels, beyond=finer) <= finer)

    def why_no_sharper(self, photo: Float[Tensor, "1 3 h w"]) -> str:
        """What it is, if it is no sharper than the photo: the photo itself, or another one."""
        is_same = self.pixels is not None and _is_same(photo, self.pixels)
        return THE_PHOTO if is_same else NO_SHARPER

    def variants(self, zoom: int | float, *, keep: bool) -> list[Variant]:
        """What is searched: the reference in its pose, or it and its copies.

        Args:
            zoom: As for `is_sharper`.
            keep: Hold the picture for another pass.
        """
        assert self.pixels is not None
        pixels, self.pixels = self.pixels, self.pixels if keep else None
        if self.pose is None:
            return make_variants(pixels, self.index, self.copies or VariantConfig())
        return [transform(pixels, self.index, self.pose.scale * zoom, self.pose.degrees)]


def posed_references(
    model: RefSRModel,
    photo: Float[Tensor, "1 3 h w"],
    refs: Sequence[Photo],
    known: Sequence[Pose | None],
    copies: VariantConfig | None,
) -> list[PosedReference]:
    """References in their poses, those that are left out among them; none for a model without references.

    Args:
        model: Model whose descriptors are matched.
        photo: The photo, on the model's device.
        refs: The references.
        known: The pose of each, if it was found before.
        copies: Copies to search in place of a pose, whatever the reference shows.
    """
    if not model.uses_references:
        return []
    posed = []
    for index, (ref, pose) in enumerate(zip(refs, known, strict=True)):
        entry = PosedReference(index=index, pixels=ref.pixels, copies=copies)
        if copies is None and model.matches_tell_the_pose:
            entry.pose = pose or find_pose(model, photo, ref.pixels)
            entry.left_out = "" if entry.pose else OTHER_THINGS
        posed.append(entry)
    return posed


def _is_same(photo: Float[Tensor, "1 3 h w"], ref: Float[Tensor, "1 3 h2 w2"]) -> bool:
    return photo.shape == ref.shape and (photo - ref.to(photo)).abs().mean().item() * 255 < _SAME_LEVELS
