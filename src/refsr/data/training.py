"""What a training run sees: plans for each number, whatever the processes and however often it was interrupted."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch.utils.data import Dataset

from refsr.data.plan import Drawing, PairPlan


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one step of one process sees.

    Attributes:
        numbers: Of the pairs.
        size_px: Side of their crops.
    """

    numbers: range
    size_px: int


class TrainingPairs(Dataset[list[PairPlan]]):
    """The plans of each step. `refsr.data.render.render` makes pictures of them."""

    def __init__(self, drawing: Drawing, steps: Sequence[Step]) -> None:
        """Choose the steps; nothing is drawn yet.

        Args:
            drawing: How plans are drawn.
            steps: That this process does, in order.
        """
        self.drawing = drawing
        self.steps = steps

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> list[PairPlan]:
        step = self.steps[index]
        return [self.drawing.plan(number, step.size_px) for number in step.numbers]
