"""Arrow in, Arrow out: whatever exports a stream, computed as it is read."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from scoring_data import by_key, make_table, predict, read, write

import streamrde as sr
from streamrde.errors import DataError


def of_duckdb(table):
    duckdb = pytest.importorskip("duckdb")
    return duckdb.connect().from_arrow(table).project("*")


def of_polars(table):
    return pytest.importorskip("polars").from_arrow(table)


def of_pandas(table):
    return pytest.importorskip("pandas").DataFrame({name: table[name].to_numpy() for name in table.schema.names})


SOURCES = {
    "table": lambda table: table,
    "reader": lambda table: table.to_reader(max_chunksize=7),
    "large strings": lambda table: table.cast(
        pa.schema([f.with_type(pa.large_string()) if f.type == pa.string() else f for f in table.schema])
    ),
    "duckdb": of_duckdb,
    "polars": of_polars,
    "pandas": of_pandas,
}


@pytest.mark.parametrize("kind", SOURCES)
def test_any_arrow_stream_gives_what_a_fleet_gives(model, kind):
    table = make_table(interleaved=True)
    reader = sr.score(SOURCES[kind](table), model, batch_rows=100)
    assert isinstance(reader, pa.RecordBatchReader)
    assert by_key(reader.read_all()) == predict(model, table)


def test_files_can_be_read_lazily_too(tmp_path, model):
    source = write(make_table(), tmp_path / "in" / "a.parquet")
    assert by_key(sr.score(source, sr.load(model)).read_all()) == predict(model, make_table())


def test_a_stream_is_read_as_its_predictions_are(model):
    taken = []
    table = make_table(interleaved=True)

    def batches():
        for batch in table.to_batches(max_chunksize=50):
            taken.append(batch)
            yield batch

    reader = sr.score(pa.RecordBatchReader.from_batches(table.schema, batches()), model)
    assert not taken
    next(iter(reader))
    assert 0 < len(taken) <= 8
    reader.read_all()
    assert len(taken) == len(table.to_batches(max_chunksize=50))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda t: t.drop_columns("b"), "the Arrow stream: has no column 'b'"),
        (lambda t: t.set_column(2, "a", t["kind"]), "column 'a', row 0 .*'x' is not a number"),
        (lambda t: t.take(np.arange(t.num_rows)[::-1].copy()), "sort = 'always' sorts them on disk"),
    ],
)
def test_what_cannot_be_used_is_named(model, change, match):
    with pytest.raises(DataError, match=match):
        sr.score(change(make_table()), model).read_all()


def test_truth_goes_along(model):
    found = sr.score(make_table(interleaved=True), model, truth=["kind"], batch_rows=13).read_all()
    kinds = dict(zip(*(make_table()[name].to_pylist() for name in ("stream_id", "kind")), strict=True))
    assert found["true_kind"].to_pylist() == [kinds[stream] for stream in found["stream"].to_pylist()]


@pytest.mark.slow
def test_an_arrow_stream_through_pipes(tmp_path, model):
    table = make_table()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    command = [sys.executable, "-m", "streamrde", "score", "-", "--model", str(model), "--out"]
    piped = subprocess.run([*command, "-"], input=sink.getvalue().to_pybytes(), capture_output=True, check=True)
    with pa.ipc.open_stream(piped.stdout) as reader:
        assert by_key(reader.read_all()) == predict(model, table)
    subprocess.run([*command, str(tmp_path / "o.parquet")], input=sink.getvalue().to_pybytes(), check=True)
    assert by_key(read(tmp_path / "o.parquet")) == predict(model, table)
    failed = subprocess.run([*command, "-"], input=b"no Arrow", capture_output=True, check=False)
    assert failed.returncode == 1
    assert b"standard input is no Arrow IPC stream" in failed.stderr
