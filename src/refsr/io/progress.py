"""How far some work has come: one way to tell it, for all that takes long."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Told now and then: progress(0.3), progress(3, 10), progress(0.3, stage="matching")."""

    def __call__(self, done: int | float, total: int | float = 1, *, stage: str = "") -> None:
        """Tell it.

        Args:
            done: What is done, of `total`.
            total: All; a share is done where it is 1.
            stage: Which part of the work, where it has several that are counted apart.
        """


def silent(done: int | float, total: int | float = 1, *, stage: str = "") -> None:
    """The progress that nobody wants to know."""


def stage_of(progress: Progress, name: str) -> Progress:
    """The progress of one stage, which is told by its name."""

    def tell(done: int | float, total: int | float = 1, *, stage: str = "") -> None:
        progress(done, total, stage=stage or name)

    return tell


def part_of(progress: Progress, index: int, count: int) -> Progress:
    """The progress of one of several equal parts."""

    def tell(done: int | float, total: int | float = 1, *, stage: str = "") -> None:
        progress((index + done / total) / count, stage=stage)

    return tell
