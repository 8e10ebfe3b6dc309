"""Progress of long work: one callback for every kind of job."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Called now and then: progress(0.3), progress(3, 10), progress(0.3, stage="matching")."""

    def __call__(self, done: int | float, total: int | float = 1, *, stage: str = "") -> None:
        """Report progress.

        Args:
            done: Work done so far, 0 to `total`.
            total: All of the work; with 1, `done` is a share.
            stage: Part of the work, where several are counted separately.
        """


def silent(done: int | float, total: int | float = 1, *, stage: str = "") -> None:
    """Ignore all reports."""


def stage_of(progress: Progress, name: str) -> Progress:
    """A progress that reports to another one, as the stage of this name."""

    def tell(done: int | float, total: int | float = 1, *, stage: str = "") -> None:
        progress(done, total, stage=stage or name)

    return tell


def part_of(progress: Progress, index: int, count: int) -> Progress:
    """A progress that reports to another one, as part `index` of `count` equal parts."""

    def tell(done: int | float, total: int | float = 1, *, stage: str = "") -> None:
        progress((index + done / total) / count, stage=stage)

    return tell
