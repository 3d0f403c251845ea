"""Print what a fit found."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from streamrde.fitting.listing import cell, table_lines
from streamrde.fitting.mistakes import by_class, confusion, most_confused
from streamrde.fitting.usage import score_command
from streamrde.fitting.words import percent, rows_of
from streamrde.pages.svg import number

if TYPE_CHECKING:
    from streamrde.fitting.report import Report

_CLASSES = 8  # classes that are listed, the least often found first


def print_report(report: Report, written: Sequence[str]) -> None:
    """Print the candidates, how good the chosen one is, its warnings, and commands to go on with."""
    examples = report.fitted.examples
    print()
    print("\n".join(table_lines(report)))
    print()
    for text in report.sentences:
        _say(text)
    if report.early:
        what = "right" if examples.labels else "error"
        _say(f"{what} early in each stream: " + ", ".join(_early(report)))
    if examples.labels:
        _print_classes(report)
    if len(report.groups) > 1:
        shown = ", ".join(
            f"'{own.group}' {percent(own.error) if examples.labels else number(float(f'{own.error:.3g}'))}"
            for own in report.groups[:3]
        )
        kind = report.roles.group or "stream"
        _say(f"most errors by {kind}: {shown}" + (" wrong" if examples.labels else " (rmse)"))
    for warning in report.warnings:
        _say(warning)
    print(f"\nwrote {', '.join(written)} in {report.seconds:.1f} s; next:")
    config = report.config
    command = score_command(
        config.data, config.out, stream=config.stream, time=config.time, time_unit=config.time_unit,
        columns=config.columns,
    )  # fmt: skip
    print(f"  {command}")


def _early(report: Report) -> list[str]:
    main = "accuracy" if report.fitted.examples.labels else "rmse"
    after = "up to" if report.fitted.examples.along else "after"
    return [f"{cell(main, own.measures.get(main))} {after} {100 * own.share:.0f} %" for own in report.early]


def _print_classes(report: Report) -> None:
    examples = report.fitted.examples
    counts = confusion(examples.codes, report.fitted.chosen.held_out)
    found = [own for own in by_class(counts, examples.labels) if own.rows]
    worst = sorted(found, key=lambda own: own.recall)[:_CLASSES]
    more = f", and {len(found) - len(worst):,} more" if len(found) > len(worst) else ""
    _say("found of each class: " + ", ".join(f"'{own.label}' {percent(own.recall)}" for own in worst) + more)
    if pairs := most_confused(counts, examples.labels):
        shown = (f"'{pair.true}' called '{pair.said}' ({pair.rows:,} of {pair.of:,})" for pair in pairs)
        _say(f"{rows_of(examples)} most often confused: {', '.join(shown)}")


def _say(text: str) -> None:
    """Print a sentence, wrapped between words on a terminal."""
    if sys.stdout.isatty():
        text = textwrap.fill(text, max(40, shutil.get_terminal_size().columns), subsequent_indent="  ")
    print(text)
