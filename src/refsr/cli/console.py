"""What the verbs show on a terminal: bars and complaints, on standard error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from refsr.restore.upscale import StageProgress


@contextmanager
def stage_bar() -> Iterator[StageProgress]:
    """A bar for each stage, told its share; on a terminal only."""
    with _bar(TextColumn("{task.description:>9}"), BarColumn(), TimeRemainingColumn()) as bar:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, share: float) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=1.0)
            bar.update(tasks[stage], completed=share)

        yield show


@contextmanager
def count_bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """One bar, told how many of how many are done; on a terminal only."""
    with _bar(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def complain(text: str) -> None:
    """One line, whatever the message holds."""
    line = " ".join(text.split())
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"refsr: {escape(line)}")


def _bar(*columns: TextColumn | BarColumn | MofNCompleteColumn | TimeRemainingColumn) -> Progress:
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
