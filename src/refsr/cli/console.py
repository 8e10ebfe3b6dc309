"""Progress bars and messages, on standard error."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

from refsr.io.progress import Progress


@contextmanager
def progress_bar(name: str = "") -> Iterator[Progress]:
    """Progress shown as a bar for each stage, or one with this name; on a terminal only."""
    from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

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
    """Print a message in one line."""
    line = " ".join(text.split())
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"refsr: {escape(line)}")
