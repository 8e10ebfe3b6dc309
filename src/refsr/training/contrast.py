"""How descriptors learn to find the true place among all others."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

_NEAR_CELLS = 2


def contrast_loss(
    query: Float[Tensor, "b c h w"],
    key: Float[Tensor, "b c h2 w2"],
    truth_cells: Float[Tensor, "b 2 h w"],
    numbers: Int[Tensor, " b"],
    queries: int,
    temperature: float,
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """InfoNCE: each query cell against its true place and every other cell of its reference.

    Cells nearer than two to the true place are neither wanted nor unwanted.

    Args:
        query: Unit descriptors of the LR images.
        key: Unit descriptors of the references.
        truth_cells: (y, x) in the reference, NaN where unknown; such cells are not asked for.
        numbers: Of the pairs; each decides which of its cells are asked for.
        queries: Cells a pair, drawn at random with replacement.
        temperature: Divides the cosines.

    Returns:
        The loss of each pair, and the share of its queries whose best cell is the true one (within one cell); zeros
        where no place is known.

    Source: van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018, equation 4.
    """
    height, width = key.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    cells = torch.stack((y, x)).flatten(1).to(query)
    losses, hits = [], []
    for b in range(query.shape[0]):
        known = (~truth_cells[b, 0].isnan()).flatten().nonzero()[:, 0]
        if not len(known):
            losses.append(query[b].sum() * 0)
            hits.append(query.new_zeros(()))
            continue
        generator = torch.Generator().manual_seed(int(numbers[b]))
        asked = known[torch.randint(len(known), (queries,), generator=generator).to(known.device)]
        truth = truth_cells[b].flatten(1)[:, asked]
        descriptors = query[b].flatten(1)[:, asked]
        grid = (2 * truth.flip(0).T + 1) / truth.new_tensor((width, height)) - 1
        positive = F.grid_sample(key[b : b + 1], grid[None, None], align_corners=False)[0, :, 0]
        wanted = (descriptors * F.normalize(positive, dim=0)).sum(0)
        cosines = descriptors.T @ key[b].flatten(1)
        near = (cells[:, None] - truth[..., None]).square().sum(0) < _NEAR_CELLS**2
        logits = torch.cat((wanted[:, None], cosines.masked_fill(near, -math.inf)), 1) / temperature
        losses.append(F.cross_entropy(logits, torch.zeros(queries, dtype=torch.long, device=logits.device)))
        best = cells[:, cosines.argmax(1)]
        hits.append(((best - truth).abs().amax(0) <= 1).to(query).mean())
    return torch.stack(losses), torch.stack(hits)
