"""Print to a console: tables that keep their figures, and sentences."""

from __future__ import annotations

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

# Wider than any table.
_WIDEST = 100_000


def print_whole(console: Console, table: Table) -> None:
    """Print a table as wide as it needs to be. Lines may wrap on a narrow terminal, but figures are never cut.

    In a pipe or a file nobody's window sets a width, so that nothing is folded there.
    """
    needed = Measurement.get(console, console.options.update(max_width=_WIDEST), table).maximum
    if needed <= console.width:
        console.print(table)
        return
    terminal, no_color = console.is_terminal, console.no_color
    wide = Console(file=console.file, width=needed, force_terminal=terminal, no_color=no_color, highlight=False)
    wide.print(table, soft_wrap=False)


def say(console: Console, text: str) -> None:
    """Print a sentence as it is: without markup or colours, and wrapped by the terminal alone."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)
