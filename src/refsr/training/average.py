"""The running average of a network's weights, which is what ships."""

from collections.abc import Mapping

import torch
from torch import Tensor


class RunningAverage:
    """Exponential; quick at first, so that the random beginning is soon forgotten.

    Source: Polyak and Juditsky, 1992; the warm-up as TensorFlow's ExponentialMovingAverage has it.
    """

    def __init__(self, state: Mapping[str, Tensor], decay: float) -> None:
        """Begin with a state.

        Args:
            state: Of the network.
            decay: Share that is kept at each step; 0 follows the network exactly.
        """
        self.state = {name: value.detach().clone() for name, value in state.items()}
        self.decay = decay

    @torch.no_grad()
    def update(self, state: Mapping[str, Tensor], step: int) -> None:
        """Move towards a state.

        Args:
            state: Of the network after a step.
            step: Its number, from 1.
        """
        keep = min(self.decay, (step + 1) / (step + 10))
        for name, value in state.items():
            if value.is_floating_point():
                self.state[name].lerp_(value, 1 - keep)
            else:
                self.state[name].copy_(value)
