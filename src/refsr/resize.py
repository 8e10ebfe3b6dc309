"""Bicubic resizing as in Pillow and MATLAB's imresize: Keys' kernel with a = -0.5, antialiased.

As in Pillow, width and height are resized in turn, with the result clamped to 0..1 after each.
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from refsr.errors import UsageError


def resize(image: Float[Tensor, "b c h w"], size: tuple[int, int]) -> Float[Tensor, "b c h2 w2"]:
    """Resize images to an exact size.

    Args:
        image: Images, 0..1, with any number of channels.
        size: Height and width of the result in pixels, each at least 2: torch resizes a single column wrongly.

    Raises:
        UsageError: A side of the result is below two pixels.

    Source: Keys, "Cubic convolution interpolation for digital image processing", 1981.
    """
    if min(size) < 2:
        raise UsageError(f"cannot resize to {size[1]}x{size[0]}: each side must be at least two pixels")
    for pass_size in ((image.shape[-2], size[1]), size):
        if image.shape[-2:] != pass_size:
            image = F.interpolate(image, size=pass_size, mode="bicubic", align_corners=False, antialias=True)
            image = image.clamp(0, 1)
    return image


def resize_box(
    image: Float[Tensor, "1 c h w"], size: tuple[int, int], box_px: tuple[float, float, float, float]
) -> Float[Tensor, "1 c h2 w2"]:
    """Resize a rectangle of an image, which sees the pixels around it: a tile of the whole image resized.

    Args:
        image: Image, 0..1.
        size: Height and width of the result in pixels.
        box_px: Top, left, bottom and right edge in the image, which need not be whole.
    """
    top, left, bottom, right = box_px
    channels = [
        Image.fromarray(channel.numpy()).resize(
            (size[1], size[0]), Image.Resampling.BICUBIC, box=(left, top, right, bottom)
        )
        for channel in image[0].float().cpu()
    ]
    return torch.from_numpy(np.stack([np.asarray(channel) for channel in channels]))[None].clamp(0, 1)


def upscale_bicubic(image: Float[Tensor, "b c h w"], scale: int) -> Float[Tensor, "b c h2 w2"]:
    """Enlarge by a whole factor."""
    return resize(image, (image.shape[-2] * scale, image.shape[-1] * scale))


def downscale_bicubic(image: Float[Tensor, "b c h w"], scale: int) -> Float[Tensor, "b c h2 w2"]:
    """Reduce by a whole factor.

    Raises:
        UsageError: A side is not a multiple of the factor.
    """
    height, width = image.shape[-2:]
    if height % scale or width % scale:
        raise UsageError(f"{width}x{height} is not a multiple of {scale}: crop or pad the image first")
    return resize(image, (height // scale, width // scale))


def stored(image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """The image as a file of 8 bits a channel holds it."""
    return (image.clamp(0, 1) * 255).round() / 255


def pad_to_multiple(image: Float[Tensor, "b c h w"], multiple: int) -> Float[Tensor, "b c h2 w2"]:
    """Repeat the right and lower border until both sides are multiples of a number."""
    height, width = image.shape[-2:]
    if height % multiple == 0 and width % multiple == 0:
        return image
    return F.pad(image, (0, -width % multiple, 0, -height % multiple), mode="replicate")
