"""Tables in long form, dates beside times of day, and streams that several columns name."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamrde.connectors.columns import Columns
from streamrde.connectors.files.reading import SampleReader, read
from streamrde.connectors.files.recordings import find_recordings
from streamrde.connectors.samples import Samples
from streamrde.errors import DataError

NAN = float("nan")
LONG = Columns(channels=("s.ax", "s.ay"), name="entity", value="state", time="at", stream=None)
TEXT = """entity,state,at
s.ax,1,0
s.ay,2,0
s.door,open,0
s.ax,3,1
s.ay,unavailable,1
s.ay,4,2
"""


def rows(batches: list[Samples]) -> list[tuple[str, float, list[float]]]:
    return [
        (name, t, x)
        for one in batches
        for name, t, x in zip(one.streams.to_pylist(), one.t.tolist(), one.x.tolist(), strict=True)
    ]


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    if path.suffix == ".parquet":
        path.with_suffix(".csv").write_text(text)
        pa.parquet.write_table(pa.csv.read_csv(path.with_suffix(".csv")), path)
    return path


@pytest.mark.parametrize("batch_rows", [1, 2, 3, 65536])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_rows_of_one_time_become_one_sample(tmp_path: Path, suffix: str, batch_rows: int) -> None:
    path = write(tmp_path / f"a{suffix}", TEXT)
    found = rows(list(read(path, LONG, batch_rows=batch_rows)))
    np.testing.assert_equal(found, [("a", 0, [1, 2]), ("a", 1, [3, NAN]), ("a", 2, [NAN, 4])])


def test_rows_that_name_no_channel_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", TEXT)
    reader = SampleReader(LONG)
    list(reader.read(find_recordings(path)[0]))
    assert dict(reader.dropped) == {"column 'entity': the name of no channel": 1}


def test_rows_that_name_no_channel_may_be_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", TEXT)
    own = Columns(channels=LONG.channels, name="entity", value="state", time="at", stream=None, others="refuse")
    with pytest.raises(DataError, match=r"column 'entity', row 2 .*line 4: the name 's.door' is that of no channel"):
        list(read(path, own))
    reader = SampleReader(own, faults="drop")
    assert len(rows([one for _, one in reader.read(find_recordings(path)[0])])) == 3
    assert sum(reader.dropped.values()) == 1


def test_a_file_that_names_none_of_the_channels_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", TEXT.replace("s.a", "t.a"))
    with pytest.raises(
        DataError, match=r"column 'entity' names none of the channels s.ax, s.ay; it has t.ax, t.ay, s.door"
    ):
        list(read(path, LONG))


@pytest.mark.parametrize("batch_rows", [1, 2, 3, 5, 65536])
def test_reading_goes_on_at_any_row_that_it_names(tmp_path: Path, batch_rows: int) -> None:
    path = write(tmp_path / "a.csv", TEXT)
    (recording,) = find_recordings(path)
    whole = rows(list(read(path, LONG)))
    taken = 0
    for after, samples in SampleReader(LONG, batch_rows=batch_rows).read(recording):
        taken += len(samples.t)
        rest = [one for _, one in SampleReader(LONG).read(recording, start=after)] if after < 6 else []
        np.testing.assert_equal(rows(rest), whole[taken:])


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from("ab"), st.sampled_from(["ax", "ay"]), st.integers(0, 99)),
        max_size=25,
        unique_by=lambda row: row[:3],
    ),
    st.integers(1, 7),
)
@settings(deadline=None)
def test_rows_in_order_of_time_are_the_same_in_any_batches(
    table: list[tuple[int, str, str, int]], batch_rows: int
) -> None:
    table.sort(key=lambda row: row[0])
    if not table:
        return
    own = Columns(channels=("ax", "ay"), name="name", time="t", stream="id")
    source = pa.table({key: [row[i] for row in table] for i, key in enumerate(("t", "id", "name", "value"))})
    reader = SampleReader(own, batch_rows=batch_rows)
    found = rows(list(reader.read_arrow(source.to_reader())))
    expected: dict[tuple[str, int], list[float]] = {}
    for t, stream, name, value in table:
        expected.setdefault((stream, t), [NAN, NAN])[["ax", "ay"].index(name)] = value
    assert [t for _, t, _ in found] == sorted(t for _, t, _ in found)
    np.testing.assert_equal({(stream, int(t)): x for stream, t, x in found}, expected)
    assert len(found) == len(expected)


def test_a_value_that_repeats_stays_a_row_of_its_own(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "entity,state,at\ns.ax,1,0\ns.ax,5,0\ns.ay,2,0\n")
    found = rows(list(read(path, LONG)))
    assert sorted(value for _, _, x in found for value in x if value == value) == [1, 2, 5]
    assert [t for _, t, _ in found] == [0, 0]


def test_targets_beside_values_are_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "entity,state,at,label\ns.ax,1,0,\ns.ay,2,0,up\ns.ax,3,1,down\n")
    (one, two) = read(path, LONG, extra=["label"], extra_schema=pa.schema([("label", pa.string())]))
    assert [*one.extra.column(0).to_pylist(), *two.extra.column(0).to_pylist()] == ["up", "down"]  # type: ignore[union-attr]


def test_missing_values_are_those_of_the_rows_channel(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "entity,state,at\ns.ax,-1,0\ns.ay,-1,0\ns.ax,off,1\ns.ay,low,1\n")
    own = Columns(
        channels=("s.ax", "s.ay"), name="entity", value="state", time="at", stream=None,
        missing={"s.ax": (-1,), "s.ay": ("low",)},
    )  # fmt: skip
    np.testing.assert_equal(rows(list(read(path, own))), [("a", 0, [NAN, -1]), ("a", 1, [0, NAN])])
    with pytest.raises(DataError, match=r"column 'state', row 3 .*line 5: 'low' is not a number"):
        list(read(path, LONG))


# Dates and times of day, names of several columns.


@pytest.mark.parametrize(
    ("day", "hour", "keys"),
    [
        ("2024-03-05", "12:00:00.25", {}),
        ("05.03.2024", "12:00:00.250000", {"time_format": "%d.%m.%Y %H:%M:%S.%f"}),
        ("2024-03-05", "13:00:00.25", {"time_zone": "Europe/Vienna"}),
    ],
)
def test_a_date_and_a_time_of_day_are_one_time(tmp_path: Path, day: str, hour: str, keys: dict[str, str]) -> None:
    path = write(tmp_path / "a.csv", f"day,hour,ax\n{day},{hour},1\n{day},{hour},1\n")
    own = Columns(channels=("ax",), date="day", time="hour", stream=None, **keys)  # type: ignore[arg-type]
    (samples,) = read(path, own)
    assert samples.t.tolist() == [1709640000.25] * 2


def test_dates_and_times_of_day_of_parquet_are_joined(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    days, hours = [datetime.date(2024, 3, 5)], [datetime.time(12, 0, 0, 250_000)]
    pa.parquet.write_table(pa.table({"day": days, "hour": hours, "ax": [1.0]}), path)
    (samples,) = read(path, Columns(channels=("ax",), date="day", time="hour", stream=None))
    assert samples.t.tolist() == [1709640000.25]


def test_a_row_without_a_date_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "day,hour,ax\n2024-03-05,12:00:00,1\n,12:00:01,1\n")
    with pytest.raises(DataError, match=r"column 'day', row 1 .*line 3: the time is null"):
        list(read(path, Columns(channels=("ax",), date="day", time="hour", stream=None)))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_several_columns_name_a_stream(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", "site,id,t,ax\nA,1,0,1\nA,2,0,2\nB,1,0,3\n")
    own = Columns(channels=("ax",), stream="site", levels=("id",))
    assert [name for name, _, _ in rows(list(read(path, own)))] == ["A/1", "A/2", "B/1"]
    reader = SampleReader(own)
    names = [
        name
        for _, chunk in reader.streams(find_recordings(path)[0], batch_rows=2, dropped=reader.dropped)
        for name in chunk.to_pylist()
    ]
    assert names == ["A/1", "A/2", "B/1"]


def test_a_name_that_is_no_text_is_an_error_of_its_row(tmp_path: Path) -> None:
    (tmp_path / "long.csv").write_bytes(b"t,name,value\n1,a,2\n1,\x88\xea,3\n2,a,4\n")
    columns = Columns(channels=("a",), name="name", stream=None)
    with pytest.raises(DataError, match=r"column 'name', row 1 .*the text is not UTF-8"):
        list(read(tmp_path / "long.csv", columns))
    reader = SampleReader(columns, faults="drop")
    (recording,) = find_recordings(tmp_path / "long.csv")
    assert np.concatenate([samples.x[:, 0] for _, samples in reader.read(recording)]).tolist() == [2.0, 4.0]
    assert sum(reader.dropped.values()) == 1
