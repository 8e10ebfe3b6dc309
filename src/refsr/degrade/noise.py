"""Shot noise and read noise, drawn on the CPU from one seed per picture, so that all devices agree."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from refsr.degrade.blur import blur, gaussian_kernel
from refsr.device import moved, per_picture


def unit_noise(seeds: Sequence[int], like: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """White Gaussian noise of variance 1, from one seed per picture, in the shape and on the device of `like`."""
    generator = torch.Generator()
    drawn = [torch.randn(like.shape[1:], generator=generator.manual_seed(seed)) for seed in seeds]
    return moved(torch.stack(drawn), like)


def correlate(noise: Float[Tensor, "b c h w"], sigmas_px: Sequence[float]) -> Float[Tensor, "b c h w"]:
    """Blur white noise and restore its variance: grain, as a camera's processing leaves it.

    Args:
        noise: Of variance 1; that of the result is slightly larger near the border.
        sigmas_px: Standard deviation of the Gaussian, one per picture; 0 leaves the noise white.
    """
    kernels = [gaussian_kernel(sigma) for sigma in sigmas_px]
    return blur(noise, kernels) * per_picture([float(kernel.norm()) ** -1 for kernel in kernels], noise)


def add_noise(
    light: Float[Tensor, "b c h w"], noise: Float[Tensor, "b c h w"], shots: Sequence[float], reads: Sequence[float]
) -> Float[Tensor, "b c h w"]:
    """Add shot noise, as a Gaussian of variance shot * light, and read noise of constant variance.

    Args:
        light: Linear light 0..1.
        noise: Of variance 1.
        shots: Variance per unit of light, one per picture.
        reads: Standard deviation in the dark, one per picture.

    Returns:
        Linear light, not clipped to 0..1.

    Source: Foi et al., "Practical Poissonian-Gaussian noise modeling and fitting for single-image raw-data", 2008.
    """
    variance = per_picture(shots, light) * light.clamp_min(0) + per_picture(reads, light) ** 2
    return light + noise * variance.sqrt()
