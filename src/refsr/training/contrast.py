"""Contrastive loss of the descriptors."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from refsr.data.geometry import pixel_grid
from refsr.device import moved

_NEAR_CELLS = 2


def contrast_loss(
    query: Float[Tensor, "b c h w"],
    key: Float[Tensor, "b c h2 w2"],
    truth_cells: Float[Tensor, "b 2 h w"],
    numbers: Int[Tensor, " b"],
    queries: int,
    temperature: float,
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """InfoNCE: the positive is the key at the true position, the negatives are the reference's cells.

    Cells within two cells of the true position are not negatives.

    Args:
        query: Unit descriptors of the LR images.
        key: Unit descriptors of the references.
        truth_cells: True positions (y, x) in the reference; NaN where unknown.
        numbers: Numbers of the pairs, which seed the choice of query cells.
        queries: Maximum number of query cells of a pair, drawn from those with a known position.
        temperature: Divisor of the cosines.

    Returns:
        The loss of each pair, and the share of its query cells whose best match is within one cell of the truth; zeros
        where no position is known.

    Source: van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018, equation 4.
    """
    height, width = key.shape[-2:]
    cells = pixel_grid(height, width, key.device).flip(-1).flatten(0, 1).to(key)
    order = torch.stack(
        [torch.rand(truth_cells[0, 0].numel(), generator=torch.Generator().manual_seed(int(n))) for n in numbers]
    )
    order = moved(order.to(query.dtype), query)
    known = ~truth_cells[:, 0].flatten(1).isnan()
    rank, asked = order.masked_fill(~known, -1.0).topk(min(queries, order.shape[1]), dim=1)
    counted = (rank >= 0).to(query)

    def of_asked(values: Float[Tensor, "b n h w"]) -> Float[Tensor, "b n q"]:
        return values.flatten(2).gather(2, asked[:, None].expand(-1, values.shape[1], -1))

    truth = of_asked(truth_cells).nan_to_num()
    descriptors = of_asked(query)
    grid = (2 * truth.flip(1).transpose(1, 2) + 1) / truth.new_tensor((width, height)) - 1
    positive = F.grid_sample(key, grid[:, None], align_corners=False)[:, :, 0]
    wanted = (descriptors * F.normalize(positive, dim=1)).sum(1)
    cosines = descriptors.transpose(1, 2) @ key.flatten(2)
    y, x = ((truth[:, axis, :, None] - cells[:, axis]).square() for axis in (0, 1))
    others = (cosines / temperature).masked_fill(y + x < _NEAR_CELLS**2, -math.inf)
    lost = torch.logsumexp(torch.cat((wanted[..., None] / temperature, others), 2), 2) - wanted / temperature
    best = cells[cosines.argmax(2)]
    hits = ((best - truth.transpose(1, 2)).abs().amax(-1) <= 1).to(query)
    share = counted / counted.sum(1, keepdim=True).clamp_min(1)
    return (lost * share).sum(1), (hits * share).sum(1)
