"""The one bicubic: Keys' kernel with a = -0.5, antialiased; what Pillow and MATLAB's imresize call bicubic."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from refsr.errors import UsageError


def resize(image: Float[Tensor, "b c h w"], size: tuple[int, int]) -> Float[Tensor, "b c h2 w2"]:
    """Resize to an exact size in pixels.

    Values may overshoot the input's range at edges, as the kernel has negative lobes; clamp before writing.

    Args:
        image: Any number of channels, any range, floating point.
        size: Height and width of the result in pixels, each at least 1.

    Raises:
        UsageError: A side of the result is below one pixel.

    Source: Keys, "Cubic convolution interpolation for digital image processing", 1981.
    """
    if min(size) < 1:
        raise UsageError(f"cannot resize to {size[1]}x{size[0]}: each side must be at least one pixel")
    return F.interpolate(image, size=size, mode="bicubic", align_corners=False, antialias=True)


def upscale_bicubic(image: Float[Tensor, "b c h w"], scale: int) -> Float[Tensor, "b c h2 w2"]:
    """Enlarge by a whole factor."""
    return resize(image, (image.shape[-2] * scale, image.shape[-1] * scale))


def downscale_bicubic(image: Float[Tensor, "b c h w"], scale: int) -> Float[Tensor, "b c h2 w2"]:
    """Shrink by a whole factor.

    Raises:
        UsageError: The sides are no multiples of the factor.
    """
    height, width = image.shape[-2:]
    if height % scale or width % scale:
        raise UsageError(f"{width}x{height} is no multiple of {scale}: crop or pad the image first")
    return resize(image, (height // scale, width // scale))
