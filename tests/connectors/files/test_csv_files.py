"""CSV files as loggers and spreadsheets write them: read as they are meant, or refused with the reason."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pytest

from streamrde.connectors.dialect import Dialect
from streamrde.connectors.files.formats.csv import LINES
from streamrde.connectors.files.reading import SampleReader, read
from streamrde.connectors.files.recordings import find_recordings
from streamrde.connectors.files.text_files import line_of
from streamrde.connectors.samples import Columns, Samples
from streamrde.errors import DataError

COLUMNS = Columns(channels=("ax", "ay"), stream=None)
NAMED = Columns(channels=("ax", "ay"), stream="id")


def write(path: Path, text: str | bytes) -> Path:
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def samples(path: Path, text: str | bytes, columns: Columns = COLUMNS, **how: object) -> Samples:
    (one,) = read(write(path, text), columns, **how)  # type: ignore[arg-type]
    return one


def fails(path: Path, text: str | bytes, match: str, columns: Columns = COLUMNS, *, column: str | None = None) -> None:
    with pytest.raises(DataError, match=match) as caught:
        list(read(write(path, text), columns))
    assert str(path) in str(caught.value)
    assert caught.value.column == column


def drop(path: Path, text: str | bytes, columns: Columns = COLUMNS) -> tuple[list[float], dict[str, int]]:
    (recording,) = find_recordings(write(path, text))
    reader = SampleReader(columns, faults="drop", batch_rows=3)
    t = [t for _, one in reader.read(recording) for t in one.t.tolist()]
    return t, dict(reader.dropped + reader.nameless)


# Columns that are not used.


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
@pytest.mark.parametrize(
    "unused",
    [
        b"Temp (\xb0C)\n0,1,2,21.5\n1,3,4,\xff\xfe\n",
        b"Caf\xe9\n0,1,2,\xe9\n1,3,4,ok\n",
        b'"note\nof two lines"\n0,1,2,"a\nb"\n1,3,4,"c"\n',
        b"t2,t2\n0,1,2,x,y\n1,3,4,z,w\n",
        b"\n0,1,2,5\n1,3,4,text\n",
        b"z\n0,1,2,\x00\n1,3,4,\x00\x00\n",
    ],
)
def test_what_is_in_an_unused_column_does_not_matter(tmp_path: Path, name: str, unused: bytes) -> None:
    one = samples(tmp_path / name, b"t,ax,ay," + unused)
    assert one.t.tolist() == [0, 1]
    assert one.x.tolist() == [[1, 2], [3, 4]]


def test_a_used_column_may_have_a_name_that_is_not_ascii(tmp_path: Path) -> None:
    for name, text in (("utf8", "t,Beschl. X,größe\n"), ("cp1252", "t,Beschl. X,größe\n".encode("cp1252"))):
        data = text if isinstance(text, bytes) else text.encode()
        one = samples(tmp_path / f"{name}.csv", data + b"0,1,2\n", Columns(channels=("größe",), stream=None))
        assert one.x.tolist() == [[2]]


def test_text_that_is_not_utf8_in_a_used_column_is_named_with_its_line(tmp_path: Path) -> None:
    text = b"id,t,ax,ay\nm\xfcller,0,1,2\nok,1,2,3\n"
    fails(tmp_path / "a.csv", text, r"column 'id', row 0 .*, line 2: the text is not UTF-8", NAMED, column="id")
    t, dropped = drop(tmp_path / "b.csv", text, NAMED)
    assert t == [1]
    assert dropped == {"column 'id': the text is not UTF-8": 1}
    fails(tmp_path / "c.csv", b"t,ax,ay\n0,1\xb0,2\n", "column 'ax', row 0 .*not UTF-8", column="ax")


# Types by need.


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_a_time_that_gets_fractions_after_the_first_block_is_read(tmp_path: Path, name: str) -> None:
    rows = 60_000
    t = np.concatenate([np.arange(rows), rows + np.arange(100) / 4])
    text = "t,ax,ay\n" + "".join(f"{value},0.123456,0.123456\n" for value in t.tolist())
    got = np.concatenate([one.t for one in read(write(tmp_path / name, text), COLUMNS)])
    np.testing.assert_array_equal(got, t)


def test_channels_and_streams_are_not_judged_by_the_first_block(tmp_path: Path) -> None:
    rows = 120_000
    lines = [f"{i % 7:03d},{i},1,2\n" for i in range(rows)] + ["A7,900000,1.5,1e-3\n", "010,900001,, 2.5 \n"]
    parts = list(read(write(tmp_path / "a.csv", "id,t,ax,ay\n" + "".join(lines)), NAMED))
    names = [name for one in parts for name in one.streams.to_pylist()]
    assert set(names) == {*(f"00{i}" for i in range(7)), "A7", "010"}
    np.testing.assert_array_equal(parts[-1].x[-2:], [[1.5, 1e-3], [np.nan, 2.5]])


def test_nanoseconds_keep_their_digits_beside_a_row_that_is_faulty(tmp_path: Path) -> None:
    """What is read again as text is as exact as what is parsed at once: 2**53 ns are 104 days."""
    first = 1_709_640_000_000_000_001
    text = "t,ax,ay\n" + "".join(f"{first + 250_000_000 * i},1,2\n" for i in range(8))
    columns = Columns(channels=("ax", "ay"), stream=None, time_unit="ns")
    exact = samples(tmp_path / "a.csv", text, columns).t
    (recording,) = find_recordings(write(tmp_path / "b.csv", f"{text}{first},bad,2\n"))
    ((_, one),) = SampleReader(columns, faults="drop").read(recording)
    np.testing.assert_array_equal(one.t, exact)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("1e5", 1e5), (" 1.0 ", 1.0), ('"2.5"', 2.5), ("-.5", -0.5), ("+3", 3.0)],
        *[("", np.nan), ("NaN", np.nan), ("NA", np.nan), ("9007199254740993", 9007199254740992.0)],
    ],
)
def test_a_number_may_be_written_in_these_ways(tmp_path: Path, text: str, value: float) -> None:
    data = f"t,ax,ay\n0,{text},2\n1,4,5\n"
    np.testing.assert_array_equal(samples(tmp_path / "a.csv", data).x[0], [value, 2])
    # The same where the block is read again as text, because another of its rows is faulty.
    (recording,) = find_recordings(write(tmp_path / "b.csv", f"{data}2,faulty,6\n"))
    ((_, one),) = SampleReader(COLUMNS, faults="drop").read(recording)
    np.testing.assert_array_equal(one.x, [[value, 2], [4, 5]])


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("broken", "'broken' is not a number"),
        ('"1,234"', "'1,234' is not a number: its comma may part thousands"),
        ('"1,234,567.5"', "its comma may part thousands"),
        ('"0,5"', "'0,5' is not a number: it has a decimal comma"),
        ('"1.234,5"', "it has a decimal comma"),
        ("0x1F", "'0x1F' is not a number"),
        ("21.5 °C", "'21.5 °C' is not a number: it has a unit"),
        ("12%", "it has a unit"),
        ("1_000", "is not a number"),
        ("open", "'open' is not a number"),
        ("1\x002", "is not a number"),
        ("+-", "is not a number"),
        ("٣", "is not a number"),
    ],
)
def test_text_in_a_number_column_is_named_with_line_and_text(tmp_path: Path, text: str, match: str) -> None:
    data = f"t,ax,ay\n0,1,2\n\n1,{text},2\n2,3,4\n"
    fails(tmp_path / "a.csv", data, rf"column 'ax', row 1 \(the first is 0\), line 4: .*{match}", column="ax")
    t, dropped = drop(tmp_path / "b.csv", data)
    assert t == [0, 2]
    assert dropped == {"column 'ax': a text that is not a number": 1}


def test_a_row_of_units_is_named(tmp_path: Path) -> None:
    text = "t,ax,ay\n0.5,g,g\n1,2,3\n"
    fails(
        tmp_path / "a.csv",
        text,
        "column 'ax', row 0 .*, line 2: 'g' is not a number",
        column="ax",
    )
    assert drop(tmp_path / "b.csv", text)[0] == [1]


def test_a_line_is_found_behind_quoted_line_breaks_and_blank_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 't,ax,ay,note\r\n0,1,2,"a\r\nb"\r\n\r\n1,2,3,c\r\n2,x,3,d\r\n')
    assert [line_of(path, row, Dialect()) for row in range(4)] == [2, 5, 6, None]
    with pytest.raises(DataError, match="line 6: 'x' is not"):
        list(read(path, COLUMNS))


# Rows that cannot be used.


def test_rows_without_time_or_stream_and_of_another_length_are_counted_and_left_out(tmp_path: Path) -> None:
    text = "id,t,ax,ay\na,0,1,2\n,1,1,2\na,,1,2\na,3,1\na,nan,1,2\na,5,1,2,9\na,6,oops,2\nb,7,1,2\na,inf,1,2\n"
    t, dropped = drop(tmp_path / "a.csv", text, NAMED)
    assert t == [0, 7]
    assert sum(dropped.values()) == 7
    assert dropped[LINES] == 2
    assert dropped["column 'id': the stream has no name"] == 1
    assert dropped["column 'ax': a text that is not a number"] == 1
    assert sum(count for reason, count in dropped.items() if "column 't'" in reason) == 3


@pytest.mark.parametrize("rows", [["0,1"], ["0,1,2,3"], ["0,1,2", "1,2"], ["0,1,2", '1,"2,3']])
def test_a_line_of_another_length_is_named(tmp_path: Path, rows: list[str]) -> None:
    text = "\n".join(["t,ax,ay", *rows]) + "\n"
    fails(tmp_path / "a.csv", text, rf"line {len(rows) + 1}: Expected 3 columns, got \d")


def test_decimal_commas_between_commas_are_suspected(tmp_path: Path) -> None:
    fails(tmp_path / "a.csv", "t,ax,ay\n0,000,0,1,0,2\n0,020,0,1,0,2\n", "got 6.*decimal commas")


# Files of another kind.

TABLE = [["t", "ax", "ay"], *([f"{i / 50:.3f}", f"{i / 7:.5f}", f"{-i / 9:.5f}"] for i in range(20))]


def table(delimiter: str, *, comma: bool = False) -> str:
    rows = (delimiter.join(row) for row in TABLE)
    return "\n".join(row.replace(".", ",") if comma else row for row in rows) + "\n"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (table(";", comma=True), r"by ';', not by commas, and .* decimal comma; set csv = .*\";\", decimal = \",\" }"),
        (table("\t", comma=True), r"parted by tabs, .*decimal comma"),
        (table(";"), r"parted by ';', not by commas; set csv = { delimiter = \";\" } in "),
        (table("\t"), r"parted by tabs, not by commas"),
        (table("|"), r"parted by '\|', not by commas"),
        (table(" "), r"parted by spaces, not by commas"),
        ("Logger,ACME\nSerial,123\n\n" + table(","), r"line 4, below 3 lines of preamble \('Logger,ACME'"),
        ("# made by me\n" + table(","), "its remarks begin with '#'; set csv = { comment = "),
        ("sep=;\n" + table(";"), "its header stands in line 2, .*parted by ';'"),
        ("\n".join(table(",").split("\n")[1:]), "has no header: its first line is data"),
    ],
)  # fmt: skip
def test_a_file_of_another_dialect_is_named_by_what_is_different(tmp_path: Path, text: str, match: str) -> None:
    fails(tmp_path / "a.csv", text, match, column="t")
    fails(tmp_path / "a.csv.gz", text, match, column="t")


@pytest.mark.parametrize("prefix", ["", "sensor.watch_", "plant/3/"])
def test_long_format_is_named(tmp_path: Path, prefix: str) -> None:
    rows = [f"{prefix}{name},{i},{0.5 * i}" for i in range(9) for name in ("ax", "ay")]
    text = "entity_id,last_changed,state\n" + "\n".join(rows) + "\n"
    fails(
        tmp_path / "a.csv",
        text,
        rf"long format: .*'entity_id' \({re.escape(prefix)}ax, .*set name = \"entity_id\", value = \"state\" and",
        column="t",
    )


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (table(",").encode("utf-16"), "is UTF-16 text; set csv.encoding = .utf-16., or save it as UTF-8"),
        (table(",").encode("utf-16-le"), "is UTF-16 text"),
        (table(",").encode("utf-16-be"), "is UTF-16 text"),
        (gzip.compress(table(",").encode()), "is compressed with gzip; call it .csv.gz"),
        (b"\x28\xb5\x2f\xfd" + bytes(50), "Zstandard"),
        (b"PAR1" + bytes(50), "is a Parquet file by its content"),
        (b"PK\x03\x04" + bytes(50), "a ZIP archive or a spreadsheet"),
        (b'{"t": 0, "ax": 1}\n', "is JSON"),
        (b"<!DOCTYPE html>\n", "is HTML"),
        (b"\n\n", "has no rows"),
        (b"t,ax,ay", "has no rows"),
        (b"t,ax,ay\n", "has no rows"),
        (b"", "has no rows"),
        (b"t,ax,ay\n0,1,2\n1,2," + b"7" * (3 << 20), "longer than 1 MiB|not a number|infinite|cannot be read"),
    ],
)
def test_what_is_no_csv_is_named(tmp_path: Path, data: bytes, match: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"a\.csv.*({match})"):
        list(read(path, COLUMNS))


def test_text_that_is_called_gzip_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_text(table(","))
    with pytest.raises(DataError, match=r"is not compressed with gzip; call it \.csv"):
        list(read(path, COLUMNS))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_byte_order_mark_and_any_line_ends_are_read(tmp_path: Path, mark: bytes, end: str) -> None:
    one = samples(tmp_path / "a.csv", mark + table(",").replace("\n", end).encode())
    np.testing.assert_array_equal(one.t, np.arange(20) / 50)


def test_a_column_that_is_used_and_there_twice_is_an_error(tmp_path: Path) -> None:
    fails(tmp_path / "a.csv", "t,ax,ax,ay\n0,1,2,3\n", "2 columns are called 'ax'", column="ax")


@pytest.mark.parametrize("text", ["unavailable", '"1,5"', "noon"])
def test_text_among_times_that_are_numbers_is_named(tmp_path: Path, text: str) -> None:
    data = f"t,ax,ay\n0.5,1,2\n1,1,2\n{text},1,2\n2,1,2\n,1,2\n"
    fails(
        tmp_path / "a.csv", data.replace("\n,", "\n3,"), rf"'t', row 2 .*line 4: {text.strip(chr(34))!r} is", column="t"
    )
    t, dropped = drop(tmp_path / "b.csv", data)
    assert t == [0.5, 1, 2]
    assert sum(dropped.values()) == 2


def test_text_among_times_that_are_dates_is_named(tmp_path: Path) -> None:
    data = "t,ax,ay\n2024-03-05T12:00:00Z,1,2\nnoon,1,2\n2024-03-05T12:00:01.5Z,1,2\n"
    fails(tmp_path / "a.csv", data, r"column 't', row 1 .*line 3: .*'noon'", column="t")
    assert drop(tmp_path / "b.csv", data)[0] == [1709640000.0, 1709640001.5]
