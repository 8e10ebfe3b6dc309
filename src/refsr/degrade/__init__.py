"""How a photograph becomes the picture that people have.

    hr ── blur ── reduce (kernel or camera) ── noise in linear light ── sharpen, tone ── JPEG once or twice ──> lr

`lr` has 8 bits. `draw` chooses the values of one picture, `degrade` applies those of a batch, on its device. Random
numbers come from the values, never from the device, so that the same values give the same picture everywhere.
"""

from refsr.degrade.apply import degrade
from refsr.degrade.blur import blur, blur_kernel
from refsr.degrade.jpeg import jpeg
from refsr.degrade.parameters import CLEAN, Degradation, DegradeConfig, draw
from refsr.degrade.reduction import reduce

__all__ = ["CLEAN", "Degradation", "DegradeConfig", "blur", "blur_kernel", "degrade", "draw", "jpeg", "reduce"]
