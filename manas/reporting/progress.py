"""Progress on the terminal: a bar with the time left, and lines that stay."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


class Progress:
    """A bar of `total` steps on standard error; without a terminal only the lines that stay are written.

    Args:
        title: the name of the work in progress.
        total: number of steps.
        done: number of steps that an earlier run has done.
        enabled: whether to show anything, which the first process alone does.
    """

    def __init__(self, title: str, total: int, *, done: int = 0, enabled: bool = True):
        self.enabled = enabled
        columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
        self.console = Console(stderr=True, quiet=not enabled)
        # On a terminal, printed lines go above the bar; redirected output must stay in its file.
        above = sys.stdout.isatty()
        columns += [TextColumn("left"), TimeRemainingColumn()]
        self.bar = Bar(*columns, console=self.console, transient=True, redirect_stdout=above)
        self.task = self.bar.add_task(title, total=total, completed=done)

    def __enter__(self) -> Progress:
        if self.enabled and self.console.is_terminal:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar.live.is_started:
            self.bar.stop()

    def advance(self) -> None:
        """Counts one more step."""
        self.bar.advance(self.task)

    def reach(self, done: float, total: int) -> None:
        """Sets the steps done, parts of a step included, and their total, which may change on the way."""
        self.bar.update(self.task, completed=done, total=total)

    def say(self, text: str) -> None:
        """Prints a line that stays above the bar."""
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)
