"""Is every figure of the run still a number?"""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(kw_only=True)
class FiniteWatch:
    """Figures of the steps since they were last looked at; they stay on the device, so that no step waits for it.

    Attributes:
        steps: Of each figure.
        numbers: Of the pairs of that step.
        figures: One value each.
    """

    steps: list[int] = field(default_factory=list)
    numbers: list[Tensor] = field(default_factory=list)
    figures: list[Tensor] = field(default_factory=list)

    def add(self, figure: Tensor, step: int, numbers: Tensor) -> None:
        """Remember a figure.

        Args:
            figure: A single value.
            step: It is of.
            numbers: Of the step's pairs.
        """
        self.steps.append(step)
        self.numbers.append(numbers)
        self.figures.append(figure.detach().float().reshape(()))

    def take(self) -> tuple[Tensor, list[tuple[int, Tensor]]]:
        """All figures, and the step and pairs of each; they are forgotten."""
        taken = torch.stack(self.figures), list(zip(self.steps, self.numbers, strict=True))
        self.steps, self.numbers, self.figures = [], [], []
        return taken
