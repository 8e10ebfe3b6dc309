"""How the alignment learns to find the last fraction of a cell, and to know how far it is off."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from refsr.models.alignment import Aligned

_NEAR_CELLS = 3.0
_SOFT_CELLS = 0.01
_EARLIER = 0.8
_DOUBT = 0.1
_MAXIMUM_CELLS = 8.0


def alignment_loss(
    steps: Sequence[Aligned], begun: Float[Tensor, "b 2 h w"], truth_cells: Float[Tensor, "b 2 h w"]
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Mean distance in cells of the fields from the true one, and how wrong their doubt is.

    Args:
        steps: The field after each step of the alignment; earlier ones count less.
        begun: (y, x) before the first.
        truth_cells: (y, x), NaN where unknown. Where the match was not within three cells, the distance does not count.

    Returns:
        The loss, and the distance of the last field, for each pair; zeros where nothing is known.

    Source: Teed and Deng, "RAFT", ECCV 2020, equation 7; of the doubt, the likelihood of a Laplace distribution as in
        Kendall and Gal, "What uncertainties do we need?", NeurIPS 2017, section 2.2.
    """
    known = truth_cells.isfinite().all(1)
    near = known & ((truth_cells - begun).abs().amax(1) < _NEAR_CELLS)
    truth = torch.where(known[:, None], truth_cells, begun)
    weights = [_EARLIER ** (len(steps) - 1 - place) for place in range(len(steps))]
    total, last = torch.zeros_like(begun[:, 0, 0, 0]), torch.zeros_like(begun[:, 0, 0, 0])
    for weight, step in zip(weights, steps, strict=True):
        distance = ((step.field.position_cells - truth).square().sum(1) + _SOFT_CELLS**2).sqrt() - _SOFT_CELLS
        last = _mean(distance, near)
        off = distance.detach().clamp(max=_MAXIMUM_CELLS)
        doubt = step.doubt[:, 0]
        total = total + weight / sum(weights) * (last + _DOUBT * _mean(doubt + off * (-doubt).exp(), known))
    return total, last.detach()


def _mean(values: Float[Tensor, "b h w"], counted: Bool[Tensor, "b h w"]) -> Float[Tensor, " b"]:
    return (values * counted).flatten(1).sum(1) / counted.flatten(1).sum(1).clamp_min(1)
