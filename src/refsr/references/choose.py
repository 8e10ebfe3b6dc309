"""Which photos of a folder serve as references for a blurry one?"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from refsr.errors import ImageError
from refsr.io.photo import Photo, as_photo
from refsr.models import RefSRModel
from refsr.references.describe import describe_blurry
from refsr.references.index import Library, nearest
from refsr.references.pose import Poses

_SHORTLIST: Final = 24
_LOOKED_AT_CLOSELY: Final = 4
FITS: Final = 0.08
"""A photo whose match is worse shows other things: of 40 photos with 300 others, the best match was 0.065."""

_MUCH_WORSE: Final = 0.5
"""A photo that fits so much worse than the best adds nothing to it."""


@dataclass(frozen=True, kw_only=True)
class FoundReference:
    """A photo that serves.

    Attributes:
        path: Where it is.
        fit: How well it matches, 0..1; beyond 0.4 it shows the same view.
    """

    path: Path
    fit: float

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
    progress: Callable[[float], None] | None = None,
) -> list[FoundReference]:
    """The photos that fit, best first; none if none does.

    The nearest by their vectors are matched with the photo in small; the best of these also turned and scaled.

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
    total = len(shortlist) + min(len(shortlist), max(most, _LOOKED_AT_CLOSELY))
    done = 0

    def measured(paths: list[Path], look: Callable[[Poses], float]) -> list[FoundReference]:
        nonlocal done
        found = []
        for path in paths:
            pixels = _pixels(path)
            if pixels is not None:
                with torch.inference_mode():
                    found.append(FoundReference(path=path, fit=look(Poses(model, lr, pixels))))
            done += 1
            if progress is not None:
                progress(done / total)
        return sorted(found, key=lambda reference: -reference.fit)

    rough = measured(shortlist, lambda poses: poses.score(1.0, 0.0))
    closely = [reference.path for reference in rough[: max(most, _LOOKED_AT_CLOSELY)]]
    fine = measured(closely, lambda poses: poses.best().fit)
    return [found for found in fine[:most] if found.fit >= max(FITS, _MUCH_WORSE * fine[0].fit)]


def _pixels(path: Path) -> Float[Tensor, "1 3 h w"] | None:
    """None if it vanished, or broke, since the folder was read."""
    try:
        return as_photo(path).pixels
    except (ImageError, OSError):
        return None
