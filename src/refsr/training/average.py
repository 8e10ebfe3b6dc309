"""Running average of a network's weights, which ships."""

from collections.abc import Mapping

import torch
from torch import Tensor


class RunningAverage:
    """Exponential moving average with a warm-up, in which the initial weights are soon forgotten.

    Source: Polyak and Juditsky, 1992; the warm-up after TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, state: Mapping[str, Tensor], decay: float) -> None:
        """Begin with a state.

        Args:
            state: The network's state dict.
            decay: Share kept at each step; 0 follows the network exactly.
        """
        self.state = {name: value.detach().clone() for name, value in state.items()}
        self.decay = decay

    @torch.no_grad()
    def update(self, state: Mapping[str, Tensor], step: int) -> None:
        """Average in the network's state after a step; the first step is 1."""
        keep = min(self.decay, (step + 1) / (step + 10))
        for name, value in state.items():
            if value.is_floating_point():
                self.state[name].lerp_(value, 1 - keep)
            else:
                self.state[name].copy_(value)
