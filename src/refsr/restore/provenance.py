"""Map of provenance: which detail comes from a reference, and from where in it."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from PIL import Image, ImageDraw
from torch import Tensor

from refsr.errors import OutputError, UsageError
from refsr.io.files import write_atomically

# The colour-blind safe palette of Okabe and Ito.
_COLOURS = ((0, 158, 115), (230, 159, 0), (86, 180, 233), (204, 121, 167), (213, 94, 0), (0, 114, 178), (240, 228, 66))
_LEGEND_PX = 22
_FULL_LEVELS = 4.0
"""Change in grey levels that is painted in full colour."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """For each pixel of the LR image, the origin of its texture and how much of it was used.

    Attributes:
        reference: Index of the reference; -1 without references.
        position_px: (y, x) in that reference, in its pixels; NaN without references.
        score: Cosine of the match, -1..1; 0 without references.
        used_levels: Change that the references made to this cell of the result: root mean square over its pixels and
            channels, in grey levels of 0..255. Zero means that all detail is guessed. None if not measured.
        names: Names of the references.
    """

    reference: Int[Tensor, "h w"]
    position_px: Float[Tensor, "2 h w"]
    score: Float[Tensor, "h w"]
    used_levels: Float[Tensor, "h w"] | None
    names: tuple[str, ...]

    @classmethod
    def guessed(cls, size: Sequence[int], names: tuple[str, ...], *, measured: bool = True) -> "Provenance":
        """The map of a picture of so many cells whose detail is all guessed.

        Args:
            size: Height and width.
            names: Names of the references, though none was used.
            measured: Whether to say so in `used_levels`.
        """
        height, width = size
        return cls(
            reference=torch.full((height, width), -1),
            position_px=torch.full((2, height, width), torch.nan),
            score=torch.zeros(height, width),
            used_levels=torch.zeros(height, width) if measured else None,
            names=names,
        )

    def put(self, place: tuple[slice, slice], part: "Provenance") -> None:
        """Fill in the map of a part.

        Args:
            place: Its rows and columns.
            part: The part's map.
        """
        self.reference[place] = part.reference
        self.position_px[..., *place] = part.position_px
        self.score[place] = part.score
        if self.used_levels is not None and part.used_levels is not None:
            self.used_levels[place] = part.used_levels

    def over(self, earlier: "Provenance") -> "Provenance":
        """The map of two passes, on this one's grid: for each cell, the pass in which a reference changed more.

        Args:
            earlier: The map of the pass before this one.
        """
        if self.used_levels is None or earlier.used_levels is None or not earlier.used_levels.any():
            return self
        size = self.used_levels.shape
        rows, columns = (torch.arange(side) * own // side for side, own in zip(size, earlier.score.shape, strict=True))
        before = (..., rows[:, None], columns)
        kept = earlier.used_levels[before] > self.used_levels
        return replace(
            self,
            reference=torch.where(kept, earlier.reference[before], self.reference),
            position_px=torch.where(kept, earlier.position_px[before], self.position_px),
            score=torch.where(kept, earlier.score[before], self.score),
            used_levels=torch.where(kept, earlier.used_levels[before], self.used_levels),
        )

    @property
    def shares(self) -> dict[str, float]:
        """Share of the picture that each reference changed by a grey level or more, by name; empty if not measured."""
        if self.used_levels is None:
            return {}
        changed = self.used_levels >= 1
        return {
            name: (changed & (self.reference == index)).float().mean().item() for index, name in enumerate(self.names)
        }

    def to_image(self, sr: Image.Image) -> Image.Image:
        """Paint the map over the result: grey where detail is guessed, a colour for each reference where it is real.

        Args:
            sr: The result; of any size.

        Raises:
            UsageError: `used_levels` was not measured.
        """
        used_levels = self._measured()
        size = sr.size[::-1]
        grey = torch.from_numpy(np.array(sr.convert("L"))).float()[..., None] / 255
        palette = torch.tensor(_COLOURS) / 255
        colour = palette[self.reference.clamp_min(0) % len(_COLOURS)].permute(2, 0, 1)[None]
        colour = F.interpolate(colour, size=size, mode="nearest")[0].permute(1, 2, 0)
        share = (used_levels / _FULL_LEVELS).clamp(0, 1)[None, None]
        share = F.interpolate(share, size=size, mode="bilinear", align_corners=False)[0, 0, ..., None]
        painted = grey * (1 - 0.75 * share) + colour * (0.25 + 0.75 * grey) * 0.75 * share
        image = Image.fromarray((painted.clamp(0, 1) * 255).round().byte().numpy())
        return _with_legend(image, self.names)

    def save(self, path: Path, sr: Image.Image) -> None:
        """Write the map as a picture (.png) or as numbers (.npz, an array for each attribute).

        Raises:
            OutputError: The suffix is another one, or the file cannot be written.
            UsageError: `used_levels` was not measured.
        """
        check_map_path(path)
        self._measured()
        buffer = io.BytesIO()
        if path.suffix.lower() == ".npz":
            fields = ("reference", "position_px", "score", "used_levels")
            arrays = {name: getattr(self, name).numpy() for name in fields}
            np.savez_compressed(buffer, names=np.array(self.names, dtype=str), **arrays)
        else:
            self.to_image(sr).save(buffer, "PNG")
        write_atomically(path, buffer.getvalue())

    def _measured(self) -> Float[Tensor, "h w"]:
        if self.used_levels is None:
            raise UsageError("this result has no map: call upscale with provenance=True")
        return self.used_levels


def check_map_path(path: Path) -> None:
    """Check a map's path before the work begins.

    Raises:
        OutputError: The suffix is neither .png nor .npz.
    """
    if path.suffix.lower() not in (".png", ".npz"):
        raise OutputError(f"{path}: a map cannot be written as {path.suffix!r}: use .png (a picture) or .npz (numbers)")


def _with_legend(image: Image.Image, names: Sequence[str]) -> Image.Image:
    whole = Image.new("RGB", (image.width, image.height + _LEGEND_PX), "white")
    whole.paste(image, (0, 0))
    draw = ImageDraw.Draw(whole)
    texts = [f"from {' '.join(name.split())}" for name in names]  # a name may hold a line break
    colours = (_COLOURS[index % len(_COLOURS)] for index in range(len(names)))
    entries = [("guessed", (128, 128, 128)), *zip(texts, colours, strict=True)]
    x = 6
    for text, colour in entries:
        top = image.height + 6
        draw.rectangle((x, top, x + 10, top + 10), fill=colour)
        draw.text((x + 15, top - 1), text, fill="black")
        x += 30 + int(draw.textlength(text))
    return whole
