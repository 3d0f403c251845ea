"""Printed tables keep their figures."""

import io

import pytest
from rich.console import Console
from rich.table import Table

from streamrde.inference.card import figure, measured
from streamrde.tables import print_whole


@pytest.mark.parametrize("width", [10, 40, 80, 200])
def test_no_figure_is_cut_at_any_width(width):
    table = Table("name", "value", "other")
    rows = [(f"measure number {i}", f"{i * 78.123456:.6f} ns", f"{10**i:,}") for i in range(9)]
    for row in rows:
        table.add_row(*row)
    console = Console(file=io.StringIO(), width=width)
    print_whole(console, table)
    shown = console.file.getvalue()
    for row in rows:
        assert all(text in shown for text in row)
    assert "…" not in shown


@pytest.mark.parametrize(
    ("value", "text"),
    [(100480.0, "100,480"), (3.0, "3"), (0.0, "0"), (0.123456, "0.12346"), (123456.7, "123,457"), (-5.25, "-5.25")],
)
def test_counts_are_printed_as_counts(value, text):
    assert figure(value) == text
    assert measured({"test_windows": value}).rows == [("windows", text)]


def test_what_is_not_finite_is_printed_as_it_is():
    assert [figure(float(text)) for text in ("nan", "inf")] == ["nan", "inf"]
