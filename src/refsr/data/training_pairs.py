"""Data set of a training run: the plans of each step depend on the numbers of its pairs alone."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch.utils.data import Dataset

from refsr.data.plan import PairPlan, PairSampler


@dataclass(frozen=True, kw_only=True)
class Step:
    """Pairs of one training step of one process.

    Attributes:
        numbers: Numbers of the pairs.
        size_px: Side of their crops.
    """

    numbers: range
    size_px: int


class TrainingPairs(Dataset[tuple[list[PairPlan], int]]):
    """The plans of each step, for `refsr.data.render`, and the count of unusable files found so far."""

    def __init__(self, sampler: PairSampler, steps: Sequence[Step]) -> None:
        """Plan the pairs of `steps`, in order, by `sampler`."""
        self.sampler = sampler
        self.steps = steps

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> tuple[list[PairPlan], int]:
        step = self.steps[index]
        # One count for all pairs with references: pairs of equal count are restored together.
        count = self.sampler.count_of_step(step.numbers.start)
        plans = [self.sampler.plan(number, step.size_px, count) for number in step.numbers]
        return plans, len(self.sampler.sources.photos.unusable)
