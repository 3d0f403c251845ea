from __future__ import annotations

import contextlib
import datetime
import decimal
import gzip
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest

from streamrde.connectors.files.reading import SampleReader, read
from streamrde.connectors.files.recordings import find_recordings
from streamrde.connectors.samples import Columns, Samples
from streamrde.errors import DataError, ParameterError
from streamrde.times import to_seconds

COLUMNS = Columns(channels=("ax", "acc.y"))
SUFFIXES = (".parquet", ".feather", ".arrow", ".ipc", ".arrows", ".csv", ".csv.gz")
ROWS = 10


def write(table: pa.Table, path: Path, group: int = 4) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    if suffix == ".parquet":
        pa.parquet.write_table(table, path, row_group_size=group)
    elif suffix in (".feather", ".ipc"):
        pa.feather.write_feather(table, str(path), chunksize=group)
    elif suffix in (".arrow", ".arrows"):  # .arrow as a stream: told apart by content
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=group)
    elif suffix == ".csv":
        pa.csv.write_csv(table, path)
    else:
        with gzip.open(path, "wb") as file:
            pa.csv.write_csv(table, file)
    return path


def make_table(**columns: object) -> pa.Table:
    default = {
        "unused": pa.array(["text"] * ROWS),
        "stream_id": pa.array([f"s{i % 3}" for i in range(ROWS)]),
        "t": pa.array(np.arange(ROWS) / 8),
        "acc.y": pa.array([None if i == 3 else i / 3 for i in range(ROWS)], pa.float64()),
        "ax": pa.array(range(ROWS), pa.int16()),
        "label": pa.array([f"l{i}" for i in range(ROWS)]),
    }
    return pa.table(default | columns)


def joined(batches: Sequence[Samples]) -> Samples:
    batches = list(batches)
    names = pa.array([name for batch in batches for name in batch.streams.to_pylist()])
    return Samples(
        names, np.concatenate([batch.t for batch in batches]), np.concatenate([batch.x for batch in batches])
    )


EXPECTED_X = np.array([[i, math.nan if i == 3 else i / 3] for i in range(ROWS)])


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("batch_rows", [65536, 3])
def test_every_format_gives_the_same_samples(tmp_path: Path, suffix: str, batch_rows: int) -> None:
    path = write(make_table(), tmp_path / f"a{suffix}")
    batches = list(read(path, COLUMNS, extra=["label"], batch_rows=batch_rows))
    assert all(0 < len(batch.t) <= batch_rows for batch in batches)
    samples = joined(batches)
    assert samples.streams.to_pylist() == [f"s{i % 3}" for i in range(ROWS)]
    np.testing.assert_array_equal(samples.t, np.arange(ROWS) / 8)
    np.testing.assert_array_equal(samples.x, EXPECTED_X)
    labels = [label for batch in batches for label in batch.extra.column("label").to_pylist()]
    assert labels == [f"l{i}" for i in range(ROWS)]


STREAM_IDS = {
    "string": pa.array(["007", "a b", "x"] * 3 + ["007"]),
    "large_string": pa.array(["007", "a b", "x"] * 3 + ["007"], pa.large_string()),
    "dictionary": pa.array(["007", "a b", "x"] * 3 + ["007"]).dictionary_encode(),
    "int": pa.array([7, -8, 9] * 3 + [7], pa.int32()),
    "dictionary of int": pa.array([7, 8, 9] * 3 + [7], pa.int64()).dictionary_encode(),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", STREAM_IDS)
def test_a_stream_is_named_by_text_or_integers(tmp_path: Path, suffix: str, kind: str) -> None:
    ids = STREAM_IDS[kind]
    if suffix.startswith(".csv") and pa.types.is_dictionary(ids.type):
        ids = ids.dictionary_decode()
    samples = joined(read(write(make_table(stream_id=ids), tmp_path / f"a{suffix}"), COLUMNS))
    assert samples.streams.to_pylist() == [str(name) for name in ids.to_pylist()]


NOW = 1_700_000_000
SECONDS = np.array([NOW + i * 3600 + (i % 4) / 4 for i in range(ROWS)])


def ticks(unit: str) -> np.ndarray:
    return (SECONDS * 4).astype(np.int64) * ({"ms": 10**3, "us": 10**6, "ns": 10**9}[unit] // 4)


TIMES: dict[str, tuple[pa.Array, str]] = {
    **{f"timestamp {u}": (pa.array(ticks(u)).cast(pa.timestamp(u)), "s") for u in ("ms", "us", "ns")},
    **{f"zoned timestamp {u}": (pa.array(ticks(u)).cast(pa.timestamp(u, "UTC")), "s") for u in ("ms", "us", "ns")},
    **{f"duration {u}": (pa.array(ticks(u)).cast(pa.duration(u)), "s") for u in ("ms", "us", "ns")},
    **{f"int {u}": (pa.array(ticks(u)), u) for u in ("ms", "us", "ns")},
    "float s": (pa.array(SECONDS), "s"),
    "float ms": (pa.array(SECONDS * 1e3), "ms"),
    "decimal s": (pa.array([decimal.Decimal(f"{t:.2f}") for t in SECONDS], pa.decimal128(20, 2)), "s"),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", TIMES)
def test_a_time_of_any_type_becomes_seconds(tmp_path: Path, suffix: str, kind: str) -> None:
    times, unit = TIMES[kind]
    if suffix.startswith(".csv") and kind.startswith("duration"):
        pytest.skip("CSV has no durations")
    path = write(make_table(t=times), tmp_path / f"a{suffix}")
    samples = joined(read(path, Columns(channels=("ax", "acc.y"), time_unit=unit)))
    np.testing.assert_array_equal(samples.t, SECONDS)


@pytest.mark.parametrize("kind", [pa.timestamp("s"), pa.date32(), pa.date64()])
def test_whole_seconds_and_dates_become_seconds(tmp_path: Path, kind: pa.DataType) -> None:
    days = [datetime.date(2024, 1, 1) + datetime.timedelta(days=i) for i in range(ROWS)]
    times = pa.array(days, pa.date32()).cast(kind)
    samples = joined(read(write(make_table(t=times), tmp_path / "a.parquet"), COLUMNS))
    assert samples.t.tolist() == [1704067200.0 + 86400 * i for i in range(ROWS)]


def test_ticks_become_the_nearest_float64_or_its_neighbour() -> None:
    rng = np.random.default_rng(0)
    for unit, rate in (("ms", 10**3), ("us", 10**6), ("ns", 10**9)):
        values = rng.integers(-(2**62), 2**62, 2000) >> rng.integers(0, 50, 2000)
        nearest = np.array([int(value) / rate for value in values])
        seconds = to_seconds(values, unit)
        small = np.abs(values) <= 2**53
        np.testing.assert_array_equal(seconds[small], nearest[small])
        assert (np.abs(seconds - nearest) <= np.spacing(np.abs(nearest))).all()


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1.5, None] * 5, pa.float32()),
        pa.array([1, None] * 5, pa.uint64()),
        pa.array([decimal.Decimal("1.5"), None] * 5),
        pa.array([True, None] * 5),
        pa.array([1.5, math.nan] * 5).dictionary_encode(),
        pa.array([math.inf, None] * 5),
    ],
)
def test_a_channel_may_hold_any_numbers_and_null_is_nan(tmp_path: Path, values: pa.Array) -> None:
    samples = joined(read(write(make_table(ax=values), tmp_path / "a.arrows"), COLUMNS))
    expected = [math.nan if value is None else float(value) for value in values.to_pylist()]
    np.testing.assert_array_equal(samples.x[:, 0], expected)


def test_a_channel_may_never_be_observed(tmp_path: Path) -> None:
    for suffix in (".parquet", ".feather", ".csv"):
        path = write(make_table(ax=pa.nulls(ROWS)), tmp_path / f"a{suffix}")
        assert np.isnan(joined(read(path, COLUMNS)).x[:, 0]).all()


def test_a_folder_is_read_below_and_in_order_without_hidden_and_temporary_files(tmp_path: Path) -> None:
    for i, name in enumerate(["b.parquet", "a.csv", "sub/deep/c.arrows", "z.feather"]):
        write(make_table(t=pa.array(np.arange(ROWS) + 100.0 * i)), tmp_path / name)
    for name in [".hidden.parquet", "_SUCCESS.csv", "a.csv.tmp", "a.parquet~", ".git/a.csv", "README.md", "~lock.csv"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("not for us")
    assert joined(read(tmp_path, COLUMNS)).t[::ROWS].tolist() == [100.0, 0.0, 200.0, 300.0]
    assert joined(read(str(tmp_path / "*.[cp]*[vt]"), COLUMNS)).t[::ROWS].tolist() == [100.0, 0.0]
    assert joined(read(f"{tmp_path}/**/*.arrows", COLUMNS)).t[0] == 200.0
    entries = [tmp_path / "z.feather", tmp_path / "sub", str(tmp_path / "*.csv"), tmp_path / "z.feather"]
    assert joined(read(entries, COLUMNS)).t[::ROWS].tolist() == [300.0, 200.0, 100.0]


def test_a_file_may_be_one_stream_named_after_it(tmp_path: Path) -> None:
    columns = Columns(channels=("ax",), stream=None)
    for name in ["pump-7.csv.gz", "day1/a.parquet", "day2/a.parquet", "day2/b.c.parquet"]:
        write(make_table(), tmp_path / name)
    names = [batch.streams[0].as_py() for batch in read(tmp_path, columns)]
    assert list(dict.fromkeys(names)) == ["day1/a.parquet", "day2/a.parquet", "b.c", "pump-7"]
    (batch,) = read(tmp_path / "day1/a.parquet", columns)
    assert batch.streams.to_pylist() == ["a"] * ROWS


@pytest.mark.slow
def test_a_recording_larger_than_a_csv_block_is_read_whole(tmp_path: Path) -> None:
    rows = 100_000
    table = pa.table(
        {"stream_id": ["s"] * rows, "t": np.arange(rows) / 7, "ax": np.arange(rows), "acc.y": np.arange(rows) / 3}
    )
    for suffix in (".csv", ".csv.gz", ".parquet"):
        batches = list(read(write(table, tmp_path / f"a{suffix}", 30_000), COLUMNS, batch_rows=10_000))
        assert max(len(batch.t) for batch in batches) <= 10_000
        np.testing.assert_array_equal(joined(batches).t, np.arange(rows) / 7)


def fails(path: object, match: str, columns: Columns = COLUMNS, *, column: str | None = None, **kwargs: object) -> None:
    with pytest.raises(DataError, match=match) as caught:
        list(read(path, columns, **kwargs))
    assert caught.value.column == column
    assert caught.value.path in str(caught.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_missing_column_is_named_with_the_closest_and_all_there_are(tmp_path: Path, suffix: str) -> None:
    path = write(make_table(), tmp_path / f"a{suffix}")
    has = "it has: unused, stream_id, t, acc.y, ax, label"
    fails(path, f"'accy'; did you mean 'acc.y'\\? {has}", Columns(channels=("ax", "accy")), column="accy")
    fails(path, f"'AX'; did you mean 'ax'\\? {has}", Columns(channels=("AX",)), column="AX")
    fails(path, r"\(--stream\) to another one", Columns(channels=("ax",), stream="device"), column="device")
    fails(path, "'target'", column="target", extra=["target"])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_text_in_a_number_column_is_an_error(tmp_path: Path, suffix: str) -> None:
    path = write(make_table(ax=pa.array(["1.5"] * 7 + ["broken"] * 3)), tmp_path / f"a{suffix}")
    line = ", line 9" if suffix.startswith(".csv") else ""
    fails(path, f"'ax', row 7 .*{line}: 'broken' is not a number", column="ax")
    path = write(make_table(t=pa.array(["noon"] * 10)), tmp_path / f"b{suffix}")
    fails(path, "'t', row 0 .*'noon' is not an ISO 8601 date and time; set time_format", column="t")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_null_time_or_stream_is_an_error_with_its_row(tmp_path: Path, suffix: str) -> None:
    t = pa.array([float(i) if i != 8 else None for i in range(ROWS)])
    fails(write(make_table(t=t), tmp_path / f"a{suffix}"), "'t', row 8 .*null", column="t", batch_rows=3)
    streams = pa.array(["s" if i != 5 else None for i in range(ROWS)])
    fails(
        write(make_table(stream_id=streams), tmp_path / f"b{suffix}"),
        "'stream_id', row 5 .*no name",
        column="stream_id",
        batch_rows=2,
    )


def test_a_dictionary_with_nulls_or_empty_names_is_judged_by_its_rows(tmp_path: Path) -> None:
    indices = pa.array([0, 1] * 5, pa.int8())
    good = pa.DictionaryArray.from_arrays(indices, pa.array(["a", "b", "", None]))
    samples = joined(read(write(make_table(stream_id=good), tmp_path / "a.arrows"), COLUMNS))
    assert samples.streams.to_pylist() == ["a", "b"] * 5
    bad = pa.DictionaryArray.from_arrays(indices, pa.array(["a", ""]))
    fails(write(make_table(stream_id=bad), tmp_path / "b.arrows"), "row 1 .*no name", column="stream_id")


def test_a_time_that_is_not_finite_is_an_error_with_its_row(tmp_path: Path) -> None:
    for value in (math.nan, math.inf):
        t = pa.array([value if i == 4 else float(i) for i in range(ROWS)])
        fails(write(make_table(t=t), tmp_path / "a.parquet"), "'t', row 4 .*not finite", column="t")


def test_a_stream_cannot_be_named_by_fractions(tmp_path: Path) -> None:
    path = write(make_table(stream_id=pa.array(np.arange(ROWS) / 2)), tmp_path / "a.parquet")
    fails(path, "a stream's name cannot be double", column="stream_id")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_without_rows_is_an_error(tmp_path: Path, suffix: str) -> None:
    fails(write(make_table().slice(0, 0), tmp_path / f"a{suffix}"), "has no rows")
    (tmp_path / f"b{suffix}").touch()
    fails(tmp_path / f"b{suffix}", "has no rows")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_cut_file_is_an_error_wherever_it_is_cut(tmp_path: Path, suffix: str) -> None:
    whole = write(make_table(), tmp_path / f"a{suffix}").read_bytes()
    path = tmp_path / f"cut{suffix}"
    for size in range(1, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:size])
        try:
            rows = len(joined(read(path, COLUMNS)).t)
        except DataError as error:
            assert str(path) in str(error)  # noqa: PT017 (a cut may also leave a whole file)
        else:  # A CSV or a stream of batches that ends early may be whole.
            assert suffix in (".csv", ".arrow", ".arrows")
            assert 0 < rows <= ROWS


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_bytes_raise_nothing_but_a_data_error(tmp_path: Path, suffix: str) -> None:
    whole = write(make_table(), tmp_path / f"a{suffix}").read_bytes()
    path = tmp_path / f"damaged{suffix}"
    rng = np.random.default_rng(1)
    for _ in range(60):
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[rng.integers(0, len(damaged), 3)] = rng.integers(0, 256, 3)
        path.write_bytes(damaged.tobytes())
        with contextlib.suppress(DataError):
            list(read(path, COLUMNS))


def test_what_names_no_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.text").write_text("text")
    fails([], "no files were given")
    fails(tmp_path / "absent.parquet", "no such file or folder")
    fails(str(tmp_path / "*.parquet"), "matches no file")
    fails(tmp_path / "notes.text", "unknown format; the name must end with one of .parquet")
    fails(tmp_path, "the folder has no file")
    (tmp_path / "fake.parquet").write_text("text that is no Parquet")
    fails(tmp_path / "fake.parquet", "cannot be read .*copy it again")


def test_files_of_a_folder_may_differ_in_types_but_not_in_columns(tmp_path: Path) -> None:
    write(make_table(label=pa.array(range(ROWS))), tmp_path / "a.parquet")
    write(
        make_table(ax=pa.array(np.arange(ROWS) / 2), label=pa.array([float(i) for i in range(ROWS)])),
        tmp_path / "b.arrows",
    )
    batches = list(read(tmp_path, COLUMNS, extra=["label"]))
    assert {batch.extra.schema.field("label").type for batch in batches} == {pa.int64()}
    write(make_table(label=pa.array(np.arange(ROWS) / 2)), tmp_path / "c.parquet")
    fails(tmp_path, "c.parquet.*int64, the first file's type", column="label", extra=["label"])
    write(make_table().drop_columns(["ax"]), tmp_path / "c.parquet")
    fails(tmp_path, "c.parquet: has no column 'ax'", column="ax")


def test_two_columns_of_one_name_are_an_error(tmp_path: Path) -> None:
    table = make_table()
    table = table.append_column("ax", table.column("ax"))
    for suffix in (".parquet", ".arrows", ".csv"):
        fails(write(table, tmp_path / f"a{suffix}"), "2 columns are called 'ax'", column="ax")


def test_a_csv_line_of_another_length_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("stream_id,t,ax,acc.y\ns,1,2,3\ns,2,3\n")
    fails(path, "line 3: Expected 4 columns, got 3.*correct the line")


def test_a_file_that_vanishes_is_an_error(tmp_path: Path) -> None:
    paths = [write(make_table(), tmp_path / f"{name}.parquet") for name in "ab"]
    batches = read(paths, COLUMNS)
    next(batches)
    paths[1].unlink()
    with pytest.raises(DataError, match=r"b\.parquet: the file was deleted"):
        list(batches)


def test_a_batch_needs_a_row(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="batch_rows=0"):
        read(tmp_path, COLUMNS, batch_rows=0)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("written", "keys"),
    [
        ("%d/%m/%Y %H:%M:%S", {"time_format": "%d/%m/%Y %H:%M:%S"}),
        ("%Y-%m-%dT%H:%M:%SZ", {}),
        ("%Y-%m-%d %H:%M:%S", {}),
        ("%Y%m%d%H%M%S", {"time_format": "%Y%m%d%H%M%S"}),
        ("%Y-%m-%d %H:%M:%S", {"time_zone": "Asia/Tokyo"}),
    ],
)
def test_times_as_text_are_read_from_every_format(tmp_path: Path, suffix: str, written: str, keys: dict) -> None:
    start = datetime.datetime(2024, 3, 5, 12, tzinfo=datetime.UTC)
    moments = [start + datetime.timedelta(seconds=i) for i in range(ROWS)]
    path = write(make_table(t=pa.array([moment.strftime(written) for moment in moments])), tmp_path / f"a{suffix}")
    samples = joined(list(read(path, Columns(channels=("ax",), **keys))))
    shift = 9 * 3600 if keys.get("time_zone") else 0
    assert samples.t.tolist() == [moment.timestamp() - shift for moment in moments]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_digits_of_dates_and_excel_days_are_read_from_every_format(tmp_path: Path, suffix: str) -> None:
    digits = write(make_table(t=pa.array([20240305120000 + i for i in range(ROWS)])), tmp_path / f"a{suffix}")
    samples = joined(list(read(digits, Columns(channels=("ax",), time_format="%Y%m%d%H%M%S"))))
    assert samples.t.tolist() == [1709640000.0 + i for i in range(ROWS)]
    days = write(make_table(t=pa.array([45356.5 + i / 86400 for i in range(ROWS)])), tmp_path / f"b{suffix}")
    samples = joined(list(read(days, Columns(channels=("ax",), time_unit="excel"))))
    np.testing.assert_allclose(samples.t, 1709640000.0 + np.arange(ROWS), rtol=0, atol=1e-6)


def test_a_local_time_that_came_twice_is_an_error_with_its_row(tmp_path: Path) -> None:
    texts = [f"2024-10-27 0{i // 2}:{30 * (i % 2):02}:00" for i in range(ROWS)]
    path = write(make_table(t=pa.array(texts)), tmp_path / "a.csv")
    columns = Columns(channels=("ax",), time_zone="Europe/Berlin")
    with pytest.raises(DataError, match=r"a.csv: column 't', row 4 .*showed twice .*time_ambiguous = 'earlier' or"):
        list(read(path, columns))
    path = write(make_table(t=pa.array([text.replace("10-27", "03-31") for text in texts])), tmp_path / "b.csv")
    with pytest.raises(DataError, match=r"b.csv: column 't', row 4 .*never showed .*time_ambiguous = 'earlier' or"):
        list(read(path, columns))


@pytest.mark.parametrize("suffix", [".parquet", ".feather", ".arrow", ".arrows"])
@pytest.mark.parametrize(
    "unused",
    [
        pa.array([[1, 2]] * ROWS),
        pa.array([{"x": 1, "y": "b"}] * ROWS),
        pa.array(["a"] * ROWS, pa.string_view()),
        pa.array([b"\xff\xfe"] * ROWS),
        pa.array([None] * ROWS),
        pa.array([datetime.time(1, 2)] * ROWS),
        pa.array([1 << 62] * ROWS),
    ],
    ids=lambda array: str(array.type),
)
def test_the_type_of_an_unused_column_does_not_matter(tmp_path: Path, suffix: str, unused: pa.Array) -> None:
    samples = joined(read(write(make_table(unused=unused), tmp_path / f"a{suffix}"), COLUMNS))
    np.testing.assert_array_equal(samples.x, EXPECTED_X)


@pytest.mark.parametrize("suffix", [".parquet", ".arrows"])
def test_unused_columns_may_share_a_name(tmp_path: Path, suffix: str) -> None:
    table = make_table().append_column("unused", pa.array(range(ROWS)))
    samples = joined(read(write(table, tmp_path / f"a{suffix}"), COLUMNS))
    np.testing.assert_array_equal(samples.x, EXPECTED_X)


@pytest.mark.parametrize("values", [pa.string_view(), pa.large_string(), pa.string()])
@pytest.mark.parametrize("index", [pa.uint32(), pa.int8()])
def test_categories_as_polars_writes_them_name_streams(tmp_path: Path, values: pa.DataType, index: pa.DataType) -> None:
    """Polars has its categories as a dictionary of string views with unsigned indices, of which pyarrow makes none."""
    names = pa.array(["a", "b", "unused"], values)
    ids = pa.DictionaryArray.from_arrays(pa.array([0, 1] * (ROWS // 2), index), names)
    (recording,) = find_recordings(write(make_table(stream_id=ids), tmp_path / "a.arrow"))
    reader = SampleReader(COLUMNS)
    assert reader.check(recording).names[1] == "stream_id"
    samples = joined(one for _, one in reader.read(recording))
    assert samples.streams.to_pylist() == ["a", "b"] * (ROWS // 2)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("list", pa.array([[1.0]] * ROWS)),
        ("struct", pa.array([{"x": 1.0}] * ROWS)),
        ("timestamp", pa.array(range(ROWS), pa.timestamp("s"))),
    ],
)
def test_a_used_column_of_a_type_that_is_no_number_is_named(tmp_path: Path, kind: str, values: pa.Array) -> None:
    path = write(make_table(ax=values), tmp_path / "a.arrow")
    fails(path, rf"column 'ax': a channel cannot be ({kind})", column="ax")
    (recording,) = find_recordings(path)
    with pytest.raises(DataError, match="column 'ax': a channel cannot be"):
        SampleReader(COLUMNS).check(recording)


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".csv"])
def test_rows_without_a_time_or_a_stream_can_be_left_out_and_counted(tmp_path: Path, suffix: str) -> None:
    t = pa.array([None if i == 2 else math.nan if i == 4 else float(i) for i in range(ROWS)], pa.float64())
    ids = pa.array([None if i in (2, 3) else "" if i == 5 else "s" for i in range(ROWS)])
    (recording,) = find_recordings(write(make_table(t=t, stream_id=ids), tmp_path / f"a{suffix}"))
    reader = SampleReader(COLUMNS, faults="drop", batch_rows=3)
    samples = joined(one for _, one in reader.read(recording))
    assert samples.t.tolist() == [0, 1, 6, 7, 8, 9]
    assert dict(reader.nameless) == {"column 'stream_id': the stream has no name": 3}
    assert sum(reader.dropped.values()) == 1
    assert "column 't'" in next(iter(reader.dropped))


def test_an_infinite_value_is_an_error_where_it_is_asked_for(tmp_path: Path) -> None:
    values = pa.array([math.inf if i == 7 else float(i) for i in range(ROWS)])
    (recording,) = find_recordings(write(make_table(ax=values), tmp_path / "a.parquet"))
    with pytest.raises(DataError, match=r"column .ax., row 7 .*infinite") as caught:
        list(SampleReader(COLUMNS, finite=True).read(recording))
    assert caught.value.row == 7


def numbered(path, t, names="s"):
    names = [names] * len(t) if isinstance(names, str) else names
    x = np.arange(float(len(t)))
    pa.parquet.write_table(pa.table({"stream_id": names, "t": t, "a": x, "b": -x}), path)
    return str(path)


def rows_of(files, faults):
    reader = SampleReader(Columns(channels=("a", "b")), faults=faults)
    t = [float(t) for one in find_recordings(files) for _, samples in reader.read(one) for t in samples.t]
    return t, reader


def test_rows_that_cannot_be_read_are_left_out_and_counted(tmp_path):
    files = [
        numbered(tmp_path / "1.parquet", [0.0, None, 2.0]),
        numbered(tmp_path / "2.parquet", [0.0, 1.0, 2.0], ["s", None, "s"]),
        numbered(tmp_path / "3.parquet", [5.0]),
    ]
    t, reader = rows_of(files, "drop")
    assert t == [0.0, 2.0, 0.0, 2.0, 5.0]
    assert (reader.dropped.total(), reader.nameless.total()) == (1, 1)
    assert "time is null" in next(iter(reader.dropped))


def test_rows_that_cannot_be_read_are_an_error_unless_they_may_be_left_out(tmp_path):
    with pytest.raises(DataError, match="the time is null"):
        rows_of(numbered(tmp_path / "1.parquet", [0.0, None]), "error")
