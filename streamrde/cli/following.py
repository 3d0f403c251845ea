"""Show a fit's progress on standard error: a bar on a terminal, else a line per stage and candidate."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from streamrde.fitting.progress import Budget, Event, Stage, Tried

if TYPE_CHECKING:
    from rich.progress import Progress


@contextmanager
def following(*, quiet: bool, minutes: float | None = None) -> Iterator[Callable[[Event], None]]:
    """Yield a function that shows events while the block runs."""
    if quiet:
        yield lambda event: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(), TextColumn("{task.fields[left]}"),
        )  # fmt: skip
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            yield _Bar(progress, Budget(minutes))
    else:
        yield _Lines()


class _Bar:
    """Show one bar for the present stage, and each candidate's measure above it."""

    def __init__(self, progress: Progress, budget: Budget) -> None:
        self._progress, self._budget = progress, budget
        self._task = progress.add_task("fit", total=None, count="", left="")
        self._stage = ""

    def __call__(self, event: Event) -> None:
        if isinstance(event, Stage):
            if event.name != self._stage:
                self._stage = event.name
                self._progress.reset(self._task, total=event.total)
            count = f"{event.done:,}" + ("" if event.total is None else f" of {event.total:,}")
            self._progress.update(
                self._task,
                description=event.name,
                completed=event.done,
                total=event.total,
                count=count,
                left=self._left(event),
            )
        elif isinstance(event, Tried):
            self._progress.console.print(_tried(event), highlight=False, markup=False)

    def _left(self, event: Stage) -> str:
        """Return the time left: of the stage, at the speed so far, or of the budget where the stage has no end."""
        if event.total is None:
            left = self._budget.left
            return f"at most {left:,.0f} s left" if math.isfinite(left) else ""
        seconds = self._progress.tasks[0].time_remaining
        return "" if not seconds else f"{seconds:,.0f} s left"


class _Lines:
    """Print a line when a stage begins, and one for each candidate."""

    def __init__(self) -> None:
        self._stage = ""

    def __call__(self, event: Event) -> None:
        if isinstance(event, Stage):
            if event.name != self._stage:
                self._stage = event.name
                print(f"{event.name} ...", file=sys.stderr, flush=True)
        elif isinstance(event, Tried):
            print(_tried(event), file=sys.stderr, flush=True)


def _tried(event: Tried) -> str:
    name = "accuracy" if "accuracy" in event.measures else "rmse"
    best = ", the best so far" if event.best else ""
    return f"  {event.name}: {name} {event.measures[name]:.4g}{best}"
