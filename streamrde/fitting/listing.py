"""List the candidates and plain models of a fit as lines of text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from streamrde.fitting.words import baseline_name, percent

if TYPE_CHECKING:
    from streamrde.fitting.report import Report

_COLUMNS = {"accuracy": "right", "auc": "AUC", "log_loss": "log loss", "rmse": "rmse", "mae": "mae", "r2": "R2"}


def table_lines(report: Report) -> list[str]:
    """Return a heading and a line for each candidate and plain model, with the chosen one marked."""
    examples, baselines = report.fitted.examples, report.baselines
    columns = [name for name in _COLUMNS if any(name in own for own in report.table.values())]
    if len(examples.labels) > 2 and "auc" in columns:
        columns.remove("auc")
    names = {name: baseline_name(name, examples) if name in baselines else name for name in report.table}
    width = max(map(len, names.values()))
    lines = [" " * width + "".join(f"{_COLUMNS[name]:>10}" for name in columns)]
    for name, own in report.table.items():
        cells = "".join(f"{cell(column, own.get(column)):>10}" for column in columns)
        lines.append(f"{names[name]:<{width}}{cells}{'  chosen' if name == report.choice else ''}".rstrip())
    return lines


def cell(name: str, value: float | None) -> str:
    """Return a measure as text."""
    if value is None or not math.isfinite(value):
        return "-"
    return percent(value) if name == "accuracy" else f"{value:.4g}"
