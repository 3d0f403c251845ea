"""Compare several runs: on the terminal, as JSON, and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamrde.cli.printing import print_json
from streamrde.disk import prepare_file
from streamrde.errors import ConfigError
from streamrde.models.report.compare import COLUMNS, rows_of, write_comparison
from streamrde.models.report.comparison import Comparison, compare
from streamrde.models.report.finding import find_runs
from streamrde.tables import print_whole, say

# Runs whose settings are shown on a terminal, and letters of a setting.
_MOST_RUNS, _MOST_LETTERS = 8, 60


def compare_runs(paths: Sequence[Path], *, report: Path | None, json: bool) -> None:
    """Print a comparison, and write its page."""
    prepare_file(report, "--report")
    runs = find_runs(paths)
    if len(runs) < 2:
        raise ConfigError(f"{paths[0]}: there is only one run; give the model, the page or the folder of another one")
    found = compare(runs)
    if report is not None:
        write_comparison(report, found)
    if json:
        print_json(found.as_dict() | {"written": [] if report is None else [str(report)]})
        return
    console = Console()
    print_whole(console, _table(COLUMNS, rows_of(found), numbers=3))
    _print_settings(console, found)
    for text in found.sentences:
        say(console, text)
    for text in found.warnings:
        say(console, f"warning: {text}")
    if report is not None:
        say(console, f"the page is {report}")


def _print_settings(console: Console, found: Comparison) -> None:
    differing = found.settings or found.card
    if not differing:
        return
    shown = min(len(found.runs), _MOST_RUNS)
    columns = ("differs", *(f"{place}" for place in range(1, shown + 1)))
    rows = [(key, *(_short(text) for text in texts[:shown])) for key, texts in differing.items()]
    print_whole(console, _table(columns, rows, numbers=len(columns)))
    if shown < len(found.runs):
        say(console, f"settings of the best {shown} of {len(found.runs)} runs; --report PAGE.html shows all")


def _short(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS - 3]}..."


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: int) -> Table:
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for place, heading in enumerate(columns):
        made.add_column(heading, justify="right" if place >= numbers or (not place and heading == "#") else "left")
    for row in rows:
        made.add_row(*map(Text, row))
    return made
