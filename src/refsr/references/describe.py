"""One vector for a whole photo; vectors of photos that show the same things are near each other.

photo ── small copy ──> descriptors (C, n) ── mean of their products ──> C x C ── upper half, signed root, unit norm

Source: Carreira et al., "Semantic Segmentation with Second-Order Pooling", ECCV 2012; the signed root of Perronnin et
al., "Improving the Fisher Kernel for Large-Scale Image Classification", ECCV 2010.
"""

from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from refsr.models import RefSRModel
from refsr.resize import pad_to_multiple, resize

MAXIMUM_CELLS: Final = 4096
"""Maximum size of the small copy."""

_SMALLEST_PX: Final = 8

Vector = Float[np.ndarray, " d"]


def describe_blurry(model: RefSRModel, lr: Float[Tensor, "1 3 h w"]) -> Vector:
    """Vector of a photo to be enlarged, from the model's descriptors."""
    with torch.inference_mode():
        return _pooled(model.encode_query(_at_most(lr, MAXIMUM_CELLS).to(model.device)))


def describe_sharp(model: RefSRModel, photo: Float[Tensor, "1 3 h w"]) -> Vector:
    """Vector of a sharp photo of any size, from the model's descriptors."""
    small = pad_to_multiple(_at_most(photo, MAXIMUM_CELLS * model.cell_px**2), model.cell_px)
    with torch.inference_mode():
        return _pooled(model.encode_reference(small.to(model.device)).key)


def _at_most(image: Float[Tensor, "1 3 h w"], pixels: int) -> Float[Tensor, "1 3 h2 w2"]:
    """The image, reduced where it has more pixels."""
    height, width = image.shape[-2:]
    factor = (pixels / (height * width)) ** 0.5
    if factor >= 1:
        return image
    return resize(image, (max(_SMALLEST_PX, round(height * factor)), max(_SMALLEST_PX, round(width * factor))))


def _pooled(descriptors: Float[Tensor, "1 c h w"]) -> Vector:
    flat = descriptors[0].flatten(1)
    products = flat @ flat.T / flat.shape[1]
    rows, columns = torch.triu_indices(*products.shape)
    upper = products[rows, columns]
    rooted = upper.sign() * upper.abs().sqrt()
    vector: Vector = (rooted / rooted.norm().clamp_min(1e-12)).cpu().numpy()
    return vector
