"""Loss of the alignment's fields and of their doubt."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from refsr.models.alignment import Aligned

_MAXIMUM_INITIAL_ERROR_CELLS = 3.0
_EPSILON_CELLS = 0.01
_STEP_DECAY = 0.8
_DOUBT_WEIGHT = 0.1
_MAXIMUM_ERROR_CELLS = 8.0


def alignment_loss(
    steps: Sequence[Aligned], begun: Float[Tensor, "b 2 h w"], truth_cells: Float[Tensor, "b 2 h w"]
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Mean error of the fields in cells, plus the negative log likelihood of their doubt.

    The error counts where the initial field is within three cells of the truth, the doubt wherever the truth is known.

    Args:
        steps: Fields after each step of the alignment; earlier ones weigh less.
        begun: Initial positions (y, x).
        truth_cells: True positions (y, x); NaN where unknown.

    Returns:
        The loss of each pair, and the error of its last field; zeros where no position is known.

    Source: Teed and Deng, "RAFT", ECCV 2020, equation 7; for the doubt, the likelihood of a Laplace distribution as in
        Kendall and Gal, "What uncertainties do we need?", NeurIPS 2017, section 2.2.
    """
    known = truth_cells.isfinite().all(1)
    near = known & ((truth_cells - begun).abs().amax(1) < _MAXIMUM_INITIAL_ERROR_CELLS)
    truth = torch.where(known[:, None], truth_cells, begun)
    weights = [_STEP_DECAY ** (len(steps) - 1 - place) for place in range(len(steps))]
    total, last = torch.zeros_like(begun[:, 0, 0, 0]), torch.zeros_like(begun[:, 0, 0, 0])
    for weight, step in zip(weights, steps, strict=True):
        distance = ((step.field.position_cells - truth).square().sum(1) + _EPSILON_CELLS**2).sqrt() - _EPSILON_CELLS
        last = _mean(distance, near)
        error = distance.detach().clamp(max=_MAXIMUM_ERROR_CELLS)
        doubt = step.doubt[:, 0]
        total = total + weight / sum(weights) * (last + _DOUBT_WEIGHT * _mean(doubt + error * (-doubt).exp(), known))
    return total, last.detach()


def _mean(values: Float[Tensor, "b h w"], counted: Bool[Tensor, "b h w"]) -> Float[Tensor, " b"]:
    return (values * counted).flatten(1).sum(1) / counted.flatten(1).sum(1).clamp_min(1)
