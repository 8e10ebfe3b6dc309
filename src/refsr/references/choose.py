"""References chosen from a folder of photos."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from refsr.errors import ImageError
from refsr.io.photo import Photo, as_photo
from refsr.io.progress import Progress, silent
from refsr.models import RefSRModel
from refsr.references.index import Library, describe_blurry, nearest
from refsr.references.pose import Pose, Poses

_SHORTLIST: Final = 24
_MINIMUM_FINALISTS: Final = 4
MINIMUM_FIT: Final = 0.08
"""Photos that fit worse show other things: the best of 300 unrelated photos for each of 40 fitted by 0.065 at most."""

_MINIMUM_SHARE_OF_BEST: Final = 0.5
"""Photos that fit by a smaller share of the best one's fit add nothing to it."""


@dataclass(frozen=True, kw_only=True)
class FoundReference:
    """A reference for `refsr.restore.upscale`, decoded, and with its pose.

    Attributes:
        path: File of the photo.
        photo: The decoded photo.
        pose: Rotation and scale that fit best.
    """

    path: Path
    photo: Photo
    pose: Pose

    @property
    def fit(self) -> float:
        """Quality of the match, 0..1; above 0.4 it shows the same view."""
        return self.pose.fit

    def why(self) -> str:
        """Which it is and why it was chosen, for a line that begins with a verb."""
        kind = "the same view" if self.fit > 0.4 else "much of the same" if self.fit > 0.2 else "some of the same"
        return f"{self.path.name}, which shows {kind} (fit {self.fit:.2f})"


def find_references(
    photo: Photo,
    library: Library,
    model: RefSRModel,
    *,
    most: int = 2,
    apart_from: Collection[Path] = (),
    progress: Progress = silent,
) -> list[FoundReference]:
    """Photos that fit, best first; none if none fits.

    Small copies of the photos with the nearest vectors are matched with the blurry photo; the pose is estimated for the
    best ones, at least four. Only these are held decoded.

    Args:
        photo: The blurry photo.
        library: From `refsr.references.index.open_library`, with the same model.
        model: Model whose descriptors are matched.
        most: Maximum number of references.
        apart_from: Photos not to take, such as the blurry one itself, which may lie in the same folder.
        progress: Told the photos matched, of how many.
    """
    lr = photo.pixels.to(model.device)
    left_out = {path.resolve() for path in apart_from}
    near = nearest(library, describe_blurry(model, lr), _SHORTLIST + len(left_out))
    shortlist = [path for path in near if path.resolve() not in left_out][:_SHORTLIST]
    finalists = max(most, _MINIMUM_FINALISTS)
    total = len(shortlist) + min(len(shortlist), finalists)
    best: list[tuple[float, Path, Photo, Poses]] = []  # with the fit of each photo in its first poses
    with torch.inference_mode():
        for done, path in enumerate(shortlist, 1):
            seen = _read(path)
            if seen is not None:
                poses = Poses(model, lr, seen.pixels)
                best.append((poses.first[0], path, seen, poses))
                best = sorted(best, key=lambda finalist: -finalist[0])[:finalists]
            progress(done, total)
        found = []
        for done, (_, path, seen, poses) in enumerate(best, len(shortlist) + 1):
            found.append(FoundReference(path=path, photo=seen, pose=poses.best()))
            progress(done, total)
    found.sort(key=lambda reference: -reference.fit)
    return [
        reference
        for reference in found[:most]
        if reference.fit >= max(MINIMUM_FIT, _MINIMUM_SHARE_OF_BEST * found[0].fit)
    ]


def _read(path: Path) -> Photo | None:
    """None if the photo vanished or broke since the folder was indexed."""
    try:
        return as_photo(path)
    except (ImageError, OSError):
        return None
