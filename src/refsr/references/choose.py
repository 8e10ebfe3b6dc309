"""Which photos of a folder serve as references for a blurry one?"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from refsr.errors import ImageError
from refsr.io.photo import Photo, as_photo
from refsr.io.progress import Progress, silent
from refsr.models import RefSRModel
from refsr.references.describe import describe_blurry
from refsr.references.index import Library, nearest
from refsr.references.pose import Pose, Poses

_SHORTLIST: Final = 24
_LOOKED_AT_CLOSELY: Final = 4
FITS: Final = 0.08
"""A photo whose match is worse shows other things: of 40 photos with 300 others, the best match was 0.065."""

_MUCH_WORSE: Final = 0.5
"""A photo that fits so much worse than the best adds nothing to it."""


@dataclass(frozen=True, kw_only=True)
class FoundReference:
    """A photo that serves, as `refsr.restore.upscale` takes it: decoded, and with its pose.

    Attributes:
        path: Where it is.
        photo: Its picture.
        pose: How it must be turned and scaled to fit.
    """

    path: Path
    photo: Photo
    pose: Pose

    @property
    def fit(self) -> float:
        """How well it matches, 0..1; beyond 0.4 it shows the same view."""
        return self.pose.fit

    def why(self) -> str:
        """For people."""
        kind = "the same view" if self.fit > 0.4 else "much of the same" if self.fit > 0.2 else "some of the same"
        return f"{self.path.name} shows {kind} (fit {self.fit:.2f})"


def find_references(
    photo: Photo,
    library: Library,
    model: RefSRModel,
    *,
    most: int = 2,
    apart_from: Collection[Path] = (),
    progress: Progress = silent,
) -> list[FoundReference]:
    """The photos that fit, best first; none if none does.

    The nearest by their vectors are matched with the photo in small; the best of these, four or more, also turned and
    scaled. Only these are held decoded.

    Args:
        photo: The blurry one.
        library: From `refsr.references.index.open_library`, with the same model.
        model: Whose descriptors match.
        most: How many are wanted.
        apart_from: What is not to be taken, such as the blurry photo itself, which may lie in the same folder.
        progress: Told of the share that is done.
    """
    lr = photo.pixels.to(model.device)
    left_out = {path.resolve() for path in apart_from}
    near = nearest(library, describe_blurry(model, lr), _SHORTLIST + len(left_out))
    shortlist = [path for path in near if path.resolve() not in left_out][:_SHORTLIST]
    closely = max(most, _LOOKED_AT_CLOSELY)
    total = len(shortlist) + min(len(shortlist), closely)
    best: list[_Finalist] = []
    with torch.inference_mode():
        for done, path in enumerate(shortlist, 1):
            seen = _read(path)
            if seen is not None:
                poses = Poses(model, lr, seen.pixels)
                best.append(_Finalist(path=path, photo=seen, poses=poses, rough=poses.score(1.0, 0.0)))
                best = sorted(best, key=lambda finalist: -finalist.rough)[:closely]
            progress(done, total)
        found = []
        for done, finalist in enumerate(best, len(shortlist) + 1):
            found.append(FoundReference(path=finalist.path, photo=finalist.photo, pose=finalist.poses.best()))
            progress(done, total)
    found.sort(key=lambda reference: -reference.fit)
    return [reference for reference in found[:most] if reference.fit >= max(FITS, _MUCH_WORSE * found[0].fit)]


@dataclass(frozen=True, kw_only=True)
class _Finalist:
    """A photo that is looked at closely.

    Attributes:
        path: Where it is.
        photo: Its picture.
        poses: Small copies of it.
        rough: How well it matches as it is.
    """

    path: Path
    photo: Photo
    poses: Poses
    rough: float


def _read(path: Path) -> Photo | None:
    """None if it vanished, or broke, since the folder was read."""
    try:
        return as_photo(path)
    except (ImageError, OSError):
        return None
