"""Compression by real codecs, on the CPU."""

import io
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image as PILImage
from torch import Tensor


def webp(images: Float[Tensor, "b 3 h w"], qualities: Sequence[int]) -> Float[Tensor, "b 3 h w"]:
    """Compress RGB pictures 0..1 as lossy WebP and decode them, by Pillow on the CPU; a GPU has to wait.

    Pictures are quantised to 8 bits before and after; qualities are 1..100, one per picture.
    """
    levels = (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    read = []
    for pixels, quality in zip(levels, qualities, strict=True):
        buffer = io.BytesIO()
        PILImage.fromarray(pixels).save(buffer, "WEBP", quality=quality)
        read.append(torch.from_numpy(np.array(PILImage.open(buffer).convert("RGB"))))
    return (torch.stack(read).permute(0, 3, 1, 2).float() / 255).to(images.device)
