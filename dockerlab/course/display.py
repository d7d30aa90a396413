"""Tell a person how a run goes on: a progress bar in a terminal, plain lines everywhere else."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from dockerlab.course.report import duration
from dockerlab.course.results import NotebookResult, RunReport

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

_STYLES = {"passed": "green", "failed": "red", "interrupted": "yellow", "not run": "yellow"}


class RunDisplay:
    """Shows a run on a console.

    Parameters
    ----------
    console : rich.console.Console
        Where it is shown.
    total : int
        How many notebooks will be run.
    """

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._begun = 0
        self._bar: Progress | None = None
        self._notebooks: TaskID | None = None
        self._cells: TaskID | None = None

    def __enter__(self) -> RunDisplay:
        if self._console.is_terminal:
            columns = (
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[unit]}"),
                TimeElapsedColumn(),
            )
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._bar.start()
            self._notebooks = self._bar.add_task("all", total=self._total, unit="notebooks")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, name: str, cells: int) -> None:
        """Tell that a notebook with that many code cells begins."""
        self._begun += 1
        if self._bar is None:
            self._say(f"[{self._begun}/{self._total}] {name}: {cells} code cells")
        else:
            self._cells = self._bar.add_task(name, total=cells, unit="cells")

    def cell(self, finished: int) -> None:
        """Tell how many code cells of the present notebook are finished."""
        if self._bar is not None and self._cells is not None:
            self._bar.update(self._cells, completed=finished)

    def end(self, result: NotebookResult) -> None:
        """Tell what came out of the present notebook."""
        if self._bar is not None and self._cells is not None and self._notebooks is not None:
            self._bar.remove_task(self._cells)
            self._bar.advance(self._notebooks)
        self._say(f"{result.name}: {result.status} in {duration(result.seconds)}", _STYLES[result.status])
        if result.failure is not None:
            self._say(f"  {result.failure}", "red")
        for warning in result.warnings:
            self._say(f"  warning: {warning}", "yellow")

    def summary(self, report: RunReport, index: str) -> None:
        """Tell what came out of the whole run, and where its page is."""
        counts = ", ".join(f"{report.count(status)} {status}" for status in _STYLES if report.count(status))  # type: ignore[arg-type]
        self._say(f"{counts} in {duration(report.seconds)}", _STYLES[report.status])
        self._say(f"Report: {index}")

    def _say(self, text: str, style: str = "") -> None:
        # A style given to print() would also colour the bar, which is drawn anew below each line.
        self._console.print(Text(text, style), soft_wrap=True)
