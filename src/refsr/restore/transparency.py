"""Colours behind transparency."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from refsr.io.photo import Photo


def filled(photo: Photo) -> Float[Tensor, "1 3 h w"]:
    """The colours of a photo; where it is transparent, those of what is visible nearby, so that edges have no rim."""
    if photo.alpha is None:
        return photo.pixels
    return _pull_push(photo.pixels, (photo.alpha > 0).to(photo.pixels))


def _pull_push(pixels: Float[Tensor, "1 3 h w"], known: Float[Tensor, "1 1 h w"]) -> Float[Tensor, "1 3 h w"]:
    """Fill unknown pixels from coarser and coarser means of known ones.

    Source: Gortler et al., "The Lumigraph", SIGGRAPH 1996, section 3.4.
    """
    if bool((known > 0).all()) or max(pixels.shape[-2:]) == 1:
        return pixels
    share = F.avg_pool2d(known, 2, ceil_mode=True)
    means = F.avg_pool2d(pixels * known, 2, ceil_mode=True) / share.clamp_min(1e-6)
    coarse = _pull_push(means, (share > 0).to(share))
    fine = F.interpolate(coarse, scale_factor=2)[..., : pixels.shape[-2], : pixels.shape[-1]]
    return torch.where(known > 0, pixels, fine)
