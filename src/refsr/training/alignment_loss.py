"""How the alignment learns to find the last fraction of a cell."""

import torch
from jaxtyping import Float
from torch import Tensor

_NEAR_CELLS = 1.0
_SOFT_CELLS = 0.01


def alignment_loss(
    found: Float[Tensor, "b 2 h w"], begun: Float[Tensor, "b 2 h w"], truth_cells: Float[Tensor, "b 2 h w"]
) -> Float[Tensor, " b"]:
    """Mean distance in cells of a field from the true one, where the match was right to begin with.

    Args:
        found: (y, x) of the aligned field.
        begun: The field before; cells that are a cell or more beside their true place are not asked for.
        truth_cells: (y, x) in the reference, NaN where unknown.

    Returns:
        A figure a pair; zero where nothing is known.
    """
    known = (truth_cells - begun).abs().amax(1) < _NEAR_CELLS
    beyond = torch.where(known[:, None], found - truth_cells, torch.zeros_like(found))
    distance = (beyond.square().sum(1) + _SOFT_CELLS**2).sqrt() - _SOFT_CELLS
    return distance.flatten(1).sum(1) / known.flatten(1).sum(1).clamp_min(1)
