"""Scaled and rotated copies of references, which match texture of other sizes and angles (as in the paper)."""

import math
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from refsr.errors import UsageError
from refsr.resize import resize


@dataclass(frozen=True, kw_only=True)
class VariantConfig:
    """Copies of each reference to search: all scales times all angles, and always the reference itself.

    Attributes:
        scales: Factors of size, each 0.1 to 10.
        degrees: Rotations, counter-clockwise.
    """

    scales: tuple[float, ...] = ()
    degrees: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if any(not 0.1 <= scale <= 10 for scale in self.scales):
            raise UsageError(f"scales of the reference must be between 0.1 and 10, not {self.scales}")
        if any(not math.isfinite(angle) for angle in self.degrees):
            raise UsageError(f"angles of the reference must be finite, not {self.degrees}")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Geometry of a reference's copy.

    Attributes:
        reference: Index of the reference among all that were given.
        to_reference: Map from the copy's pixels (y, x, 1) to the reference's; pixel centres are at whole numbers.
    """

    reference: int
    to_reference: Float[Tensor, "2 3"]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A copy of a reference."""

    image: Float[Tensor, "1 3 h w"]
    origin: Origin


def make_variants(image: Float[Tensor, "1 3 h w"], reference: int, config: VariantConfig) -> list[Variant]:
    """The reference itself (its index is `reference`), then its copies."""
    made = [Variant(image=image, origin=Origin(reference=reference, to_reference=torch.eye(3)[:2]))]
    for scale, angle in product(dict.fromkeys((1.0, *config.scales)), dict.fromkeys((0.0, *config.degrees))):
        if scale != 1 or angle % 360 != 0:
            made.append(transform(image, reference, scale, angle))
    return made


def transform(image: Float[Tensor, "1 3 h w"], reference: int, scale: float, angle: float) -> Variant:
    """Resize with antialiasing, then rotate about the centre onto a canvas that holds all of it, mirrored at the edge.

    Args:
        image: The reference.
        reference: Index of the reference.
        scale: Factor of size.
        angle: Degrees, counter-clockwise.
    """
    height, width = image.shape[-2:]
    small = (max(2, round(height * scale)), max(2, round(width * scale)))
    scaled = resize(image, small) if small != (height, width) else image
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    canvas = (round(abs(small[0] * cos) + abs(small[1] * sin)), round(abs(small[1] * cos) + abs(small[0] * sin)))
    turn = torch.tensor(((cos, sin), (-sin, cos)))
    factor = torch.tensor((height / small[0], width / small[1]))
    linear = factor[:, None] * turn
    centre = (torch.tensor((height, width)) - 1) / 2
    shift = centre - linear @ ((torch.tensor(canvas) - 1) / 2)
    origin = Origin(reference=reference, to_reference=torch.cat((linear, shift[:, None]), 1))
    if angle % 360 == 0:
        return Variant(image=scaled, origin=origin)

    y, x = torch.meshgrid(torch.arange(canvas[0]), torch.arange(canvas[1]), indexing="ij")
    from_centre = torch.stack((y, x), -1) - (torch.tensor(canvas) - 1) / 2
    position = from_centre @ turn.T + (torch.tensor(small) - 1) / 2
    grid = ((2 * position + 1) / torch.tensor(small) - 1).flip(-1)[None].to(image)
    rotated = F.grid_sample(scaled, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    return Variant(image=rotated.clamp(0, 1), origin=origin)
