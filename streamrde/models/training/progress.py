"""Show a training run's progress: a bar on a terminal, elsewhere a line now and then, and the table of measures."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from streamrde.inference.card import figure
from streamrde.models.training.history import Epoch
from streamrde.tables import print_whole


class Reporter(ExitStack):
    """Report epochs to `console`. A context manager.

    Args:
        monitor: the deciding measure, see `History`.
        name: the member's name in an ensemble.
    """

    def __init__(self, console: Console, epochs: int, *, monitor: str, name: str = "") -> None:
        super().__init__()
        self._console = console
        self._epoch = f"{name}, epoch" if name else "epoch"
        self._monitor = monitor
        self._epochs = epochs
        # Print about twenty lines for a run of any length.
        self._every = max(1, epochs // 20)
        self._bar: Progress | None = None
        if console.is_terminal:
            columns = (TextColumn(self._epoch), MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}"))
            bar = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)
            self._bar = self.enter_context(bar)
            self._task = self._bar.add_task("", total=epochs)

    def epoch(self, epoch: Epoch, *, best: bool) -> None:
        """Report the end of an epoch."""
        number, text = epoch.number, f"loss {epoch.loss:.4f}"
        if epoch.validation_loss is not None:
            text += f"  validation {epoch.validation_loss:.4f}"
            if self._monitor != "loss" and epoch.monitored is not None:
                text += f"  {self._monitor} {epoch.monitored:.4f}"
            text += " *" if best else ""
        text += "  diverged: undone" if epoch.rewound else ""
        if self._bar is not None:
            self._bar.update(self._task, completed=number, description=text)
        elif number % self._every == 0 or number in (1, self._epochs):
            self._console.print(f"{self._epoch} {number}/{self._epochs}  {text}", highlight=False)


def print_metrics(console: Console, metrics: Mapping[str, float]) -> None:
    """Print measures as a table with a row per measure and a column per part of the data."""
    parts = [part for part in ("train", "validation", "test") if any(name.startswith(f"{part}_") for name in metrics)]
    rows = list(dict.fromkeys(name.split("_", 1)[1] for name in metrics if name.split("_", 1)[0] in parts))
    table = Table("", *(Column(part, justify="right", no_wrap=True) for part in parts))
    for row in rows:
        values = (metrics.get(f"{part}_{row}") for part in parts)
        table.add_row(row.replace("_", " "), *("" if value is None else figure(value) for value in values))
    print_whole(console, table)
