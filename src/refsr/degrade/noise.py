"""Noise of light and of its reading: its variance grows with the light.

Random numbers are drawn on the CPU from each picture's seed, so that every device sees the same.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from refsr.degrade.blur import blur, gaussian_kernel
from refsr.device import moved, per_picture


def unit_noise(seeds: Sequence[int], like: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """White noise of variance one, a seed for each picture, on the pictures' device."""
    generator = torch.Generator()
    drawn = [torch.randn(like.shape[1:], generator=generator.manual_seed(seed)) for seed in seeds]
    return moved(torch.stack(drawn), like)


def correlate(noise: Float[Tensor, "b c h w"], sigmas_px: Sequence[float]) -> Float[Tensor, "b c h w"]:
    """Blur white noise and bring its variance back to one: grain, as small processing in a camera leaves it.

    Args:
        noise: Of variance one; near the border the result's is a little larger.
        sigmas_px: Standard deviations of the Gaussians, one a picture; 0 leaves the noise white.
    """
    kernels = [gaussian_kernel(sigma) for sigma in sigmas_px]
    return blur(noise, kernels) * per_picture([float(kernel.norm()) ** -1 for kernel in kernels], noise)


def add_noise(
    light: Float[Tensor, "b c h w"], noise: Float[Tensor, "b c h w"], shots: Sequence[float], reads: Sequence[float]
) -> Float[Tensor, "b c h w"]:
    """Poisson's noise of light, as a Gaussian whose variance is shot * light, and a constant one of reading.

    Args:
        light: Linear, 0..1.
        noise: Of variance one.
        shots: Variance for each unit of light, one a picture.
        reads: Standard deviation in the dark.

    Returns:
        Neither end of the range is cut off.

    Source: Foi et al., "Practical Poissonian-Gaussian noise modeling and fitting for single-image raw-data", 2008.
    """
    variance = per_picture(shots, light) * light.clamp_min(0) + per_picture(reads, light) ** 2
    return light + noise * variance.sqrt()
