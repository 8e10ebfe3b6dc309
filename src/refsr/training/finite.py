"""A check that losses and gradients are finite, without synchronising at each step."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(kw_only=True)
class FiniteWatch:
    """Figures of the steps since the last check; they stay on the device.

    Attributes:
        steps: Step of each figure.
        numbers: Numbers of the pairs of each figure's step.
        figures: Scalars.
    """

    steps: list[int] = field(default_factory=list)
    numbers: list[Tensor] = field(default_factory=list)
    figures: list[Tensor] = field(default_factory=list)

    def add(self, figure: Tensor, step: int, numbers: Tensor) -> None:
        """Remember a scalar figure of a step, and the numbers of the step's pairs."""
        self.steps.append(step)
        self.numbers.append(numbers)
        self.figures.append(figure.detach().float().reshape(()))

    def take(self) -> tuple[Tensor, list[tuple[int, Tensor]]]:
        """All figures, with the step and pairs of each; then begin anew."""
        taken = torch.stack(self.figures), list(zip(self.steps, self.numbers, strict=True))
        self.steps, self.numbers, self.figures = [], [], []
        return taken
