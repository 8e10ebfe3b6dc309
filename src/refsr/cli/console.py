"""What the verbs show on a terminal: bars and complaints, on standard error."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from refsr.io.progress import Progress


@contextmanager
def progress_bar(name: str = "") -> Iterator[Progress]:
    """A bar for each stage, or one by a name; on a terminal only."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:>9}"), BarColumn(), TextColumn("{task.fields[count]}"))
    with Bar(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def show(done: int | float, total: int | float = 1, *, stage: str = "") -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage or name, count="")
            bar.update(tasks[stage], completed=done, total=total, count=f"{done}/{total}" if total > 1 else "")

        yield show


def complain(text: str) -> None:
    """One line, whatever the message holds."""
    line = " ".join(text.split())
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"refsr: {escape(line)}")
