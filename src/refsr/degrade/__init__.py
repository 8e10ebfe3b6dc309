"""Degradation model: from an HR photograph to a realistic LR picture.

    hr ── blur in linear light ── reduce (kernel or camera) ── noise in linear light ──┐
    lr <──────────────────────────────── JPEG once or twice ── sharpen, tone ─────────┘

`lr` has 8 bits. `draw` draws the parameters of one picture; `degrade` applies those of a batch on its device. Noise is
drawn on the CPU from seeds among the parameters, so that the same parameters give the same picture on every device.
"""

from refsr.degrade.apply import degrade, reduce
from refsr.degrade.blur import blur, blur_kernel
from refsr.degrade.jpeg import jpeg
from refsr.degrade.parameters import CLEAN, Degradation, DegradeConfig, draw

__all__ = ["CLEAN", "Degradation", "DegradeConfig", "blur", "blur_kernel", "degrade", "draw", "jpeg", "reduce"]
