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


class TrainingPairs(Dataset[tuple[list[PairPlan], int]]):
    """The plans of each step, and how many files this process found to be unusable so far.

    `refsr.data.render.render` makes pictures of the plans.
    """

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

    def __getitem__(self, index: int) -> tuple[list[PairPlan], int]:
        step = self.steps[index]
        # As many for all that get any: pairs with as many are restored together.
        count = self.drawing.count_of_step(step.numbers.start)
        plans = [self.drawing.plan(number, step.size_px, count) for number in step.numbers]
        return plans, len(self.drawing.sources.photos.unusable)
