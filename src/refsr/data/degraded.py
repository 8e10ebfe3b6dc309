"""Four fixed degradations of a benchmark's LR images, in place of clean ones: what cameras and messengers do.

truth ── blur in linear light ── reduce by the scale ── noise in linear light ── 8 bits ── JPEG ──> lr

| name | blur, in pixels of the truth | noise | JPEG |
|---|---|---|---|
| mild | Gaussian, deviation 2.2 | a phone by day | 90 |
| night | Gaussian, 3 | Poisson-Gaussian, about 8 levels in the mid-tones | 80 |
| jpeg | Gaussian, 1.5 | none | 35, chroma halved |
| motion | straight smear of 14 pixels, in any direction | little | 88 |

Noise and direction are functions of the sample's name and the degradation's, the same on every machine.
"""

import zlib
from dataclasses import replace
from typing import Final, Literal

from jaxtyping import Float
from torch import Tensor

from refsr.degrade import Degradation, degrade

DegradationName = Literal["none", "mild", "night", "jpeg", "motion"]

_DEGRADATIONS: Final[dict[DegradationName, Degradation]] = {
    "mild": Degradation(
        blur="gaussian", blur_px=2.2, shot=2e-4, read=1e-3, codec="jpeg", quality=90, subsampled=True
    ),
    "night": Degradation(
        blur="gaussian", blur_px=3.0, shot=3.5e-3, read=1e-2, codec="jpeg", quality=80, subsampled=True
    ),
    "jpeg": Degradation(blur="gaussian", blur_px=1.5, codec="jpeg", quality=35, subsampled=True),
    "motion": Degradation(blur="line", blur_px=14.0, shot=2e-4, read=1e-3, codec="jpeg", quality=88, subsampled=True),
}  # fmt: skip


def degraded(
    truth: Float[Tensor, "1 3 h w"], name: DegradationName, sample: str, scale: int
) -> Float[Tensor, "1 3 h2 w2"]:
    """LR image of a truth, in steps of 1/255.

    Args:
        truth: RGB 0..1, of any size; rows and columns beyond a multiple of the scale are cropped.
        name: Name of the degradation, not "none".
        sample: Name of the sample, which seeds noise and direction.
        scale: Factor of reduction.
    """
    height, width = (side // scale * scale for side in truth.shape[-2:])
    seed = zlib.crc32(f"{name}/{sample}".encode())
    values = replace(_DEGRADATIONS[name], noise_seed=seed, blur_degrees=float(seed % 180))
    return degrade(truth[..., :height, :width], [values], scale)
