from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import pytest

from streamrde.pages.svg import Plot, axis, number, thinned


def test_a_chart_is_xml_with_a_title_a_description_and_axes_with_units() -> None:
    plot = Plot(axis("time (s)", [0, 3]), axis("error (m)", [1, 2]), title="Error & time")
    plot.line([0, 1, 2, 3], [1, math.nan, 1.5, 2], label="a < b")
    plot.points([1], [1], titles=["<here>"])
    plot.band([0, 1], [1, 1], [2, math.nan])
    plot.bars([0, 1, 2], [1.5, 2])
    plot.rule(x=1.0, label="one")
    plot.diagonal()
    root = ET.fromstring(plot.svg())
    texts = [element.text for element in root.iter()]
    for text in ("Error & time", "error (m) against time (s)", "time (s)", "error (m)", "a < b", "<here>", "one"):
        assert text in texts
    assert root.attrib["role"] == "img"


def test_a_line_is_broken_where_a_value_is_missing() -> None:
    plot = Plot(axis("x", [0, 4]), axis("y", [0, 1]), title="t")
    plot.line([0, 1, 2, 3, 4], [0, 1, math.nan, 0, 1])
    assert plot.svg().count("<polyline") == 2


@pytest.mark.parametrize(
    ("values", "options", "ticks"),
    [
        ([0, 10], {}, ["0", "2", "4", "6", "8", "10"]),
        ([0.0, 1.0], {"percent": True, "zero": True, "high": 1}, ["0%", "20%", "40%", "60%", "80%", "100%"]),
        ([0.1, 10], {"log": True}, ["0.1", "0.2", "0.5", "1", "2", "5", "10"]),
        ([1e-9, 1.0], {"log": True}, ["1e-9", "1e-7", "1e-5", "0.001", "0.1"]),
        ([-0.2, 0.2], {}, ["-0.2", "-0.1", "0", "0.1", "0.2"]),
        ([5.0, 5.0], {}, ["4.6", "4.8", "5", "5.2", "5.4"]),
        ([0, 0], {"zero": True}, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        ([], {}, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
    ],
)
def test_ticks_are_round_and_few(values, options, ticks) -> None:
    made = axis("", values, **options)
    assert [made.label(value) for value in made.ticks()] == ticks


def test_numbers_are_told_with_four_digits() -> None:
    assert [number(v) for v in (1234.5678, 0.000012345, 1234567.0, math.nan)] == ["1235", "1.234e-5", "1,234,567", "-"]


def test_many_points_are_thinned_evenly() -> None:
    assert list(thinned(3, 5)) == [0, 1, 2]
    assert list(thinned(101, 3)) == [0, 50, 100]
