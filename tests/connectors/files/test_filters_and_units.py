"""Filters written as text, and units."""

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from streamrde.connectors.files.filters import parse_filter
from streamrde.connectors.files.reading import read
from streamrde.connectors.files.record_batches import read_batches
from streamrde.connectors.files.recordings import find_recordings
from streamrde.connectors.samples import Columns
from streamrde.connectors.units import conversion
from streamrde.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("site == A", ("site", "==", "A")),
        ("hr>40", ("hr", ">", 40)),
        ("hr <= 4.5e1", ("hr", "<=", 45.0)),
        ("day in 3, 4", ("day", "in", (3, 4))),
        ("name not in 'a, b'", ("name", "not in", ("'a", "b'"))),
        ("code == '007'", ("code", "==", "007")),
        ("ok == true", ("ok", "==", True)),
        ("t >= 2024-01-01T00:00:00", ("t", ">=", "2024-01-01T00:00:00")),
    ],
)
def test_a_filter_is_written_as_text(text, expected):
    assert parse_filter(text) == expected


def test_text_without_a_comparison_is_no_filter():
    with pytest.raises(ConfigError, match="'site A' is not a filter"):
        parse_filter("site A")


@pytest.fixture
def file(tmp_path):
    rows = 40
    table = pa.table(
        {
            "stream_id": ["s"] * rows,
            "t": pa.array(np.arange(rows) * 10**6).cast(pa.timestamp("us")),
            "a": np.arange(rows) / 2,
            "code": pa.array([f"{i % 4}" for i in range(rows)]),
            "gap": pa.array([None if i % 2 else i for i in range(rows)]),
        }
    )
    pa.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=10)
    return tmp_path / "a.parquet"


@pytest.mark.parametrize(
    ("filters", "rows"),
    [
        ([("t", ">=", "1970-01-01T00:00:35")], range(35, 40)),
        ([("a", "<", 3), ("a", "!=", 1)], [0, 1, 3, 4, 5]),
        ([("code", "==", "3"), ("a", ">", 15)], [31, 35, 39]),
        ([("gap", ">=", 0)], range(0, 40, 2)),
        ([("a", ">", 100)], []),
    ],
)
def test_rows_are_chosen(file, filters, rows):
    found = [t for batch in read(file, Columns(channels=("a",)), filters=filters) for t in batch.t]
    assert found == [float(i) for i in rows]


def test_row_groups_that_the_statistics_exclude_are_not_read(file):
    (recording,) = find_recordings(file)
    where = pa.compute.field("a") >= 15
    assert [first for first, _ in read_batches(recording, ["a"], where=where)] == [30]


def test_an_error_in_filtered_rows_names_the_row_of_the_file(tmp_path):
    table = pa.table({"stream_id": ["a", "b"] * 5, "t": [*range(7), None, 8, 9], "x": [0.0] * 10})
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="column 't', row 7 "):
        list(read(tmp_path, Columns(channels=("x",)), filters=[("stream_id", "==", "b")]))


def test_a_value_of_another_type_is_an_error(file):
    with pytest.raises(DataError, match=r"'code' \(string\) > 3 does not fit the column"):
        list(read(file, Columns(channels=("a",)), filters=[("code", ">", 3)]))


@pytest.mark.parametrize(
    ("recorded", "wanted", "value", "expected"),
    [
        ("m/s2", "g", 9.80665, 1.0),
        ("deg/s", "rad/s", 180.0, math.pi),
        ("degC", "degF", 100.0, 212.0),
        ("degF", "K", 32.0, 273.15),
        ("mV", "V", 1500.0, 1.5),
        ("mmHg", "kPa", 760.0, 101.325),
        ("rpm", "deg/s", 1.0, 6.0),
        ("%", "1", 50.0, 0.5),
        ("km/h", "m/s", 3.6, 1.0),
    ],
)
def test_units_are_converted(recorded, wanted, value, expected):
    found = conversion(["x"], [wanted], recorded={"x": recorded})
    assert value * found.factor[0] + found.offset[0] == pytest.approx(expected, rel=1e-6)


def test_nothing_is_done_where_the_units_agree():
    assert conversion(["x", "y"], ["g", ""], recorded={"x": "g"}) is None
