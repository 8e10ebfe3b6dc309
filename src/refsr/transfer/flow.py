"""Dense optical flow, by OpenCV."""

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from refsr.extras import import_extra


def dense_flow(
    first: Float[Tensor, "b 1 h w"], second: Float[Tensor, "b 1 h w"], purpose: str
) -> Float[Tensor, "b 2 h w"]:
    """Optical flow (y, x) in pixels from the first grey images, 0..1, to the second ones.

    Args:
        first: Images that each get a flow.
        second: Images that the flow leads to.
        purpose: First words of the error if OpenCV is missing.

    Raises:
        MissingExtraError: OpenCV is not installed.

    Source: Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016.
    """
    cv2 = import_extra("cv2", purpose)
    engine = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flows = [
        torch.from_numpy(engine.calc(a, b, None)).permute(2, 0, 1).flip(0)
        for a, b in zip(_bytes(first), _bytes(second), strict=True)
    ]
    return torch.stack(flows).to(first)


def _bytes(image: Float[Tensor, "b 1 h w"]) -> list[NDArray[np.uint8]]:
    return list((image[:, 0].clamp(0, 1) * 255).round().byte().cpu().numpy())
