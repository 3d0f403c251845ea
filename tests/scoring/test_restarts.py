"""Streams that begin again within what is scored: refused, split or sorted, and never mixed without a word."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from scoring_data import by_key, make_table, predict, read, write

import streamrde as sr
from streamrde.errors import ConfigError, DataError


def recording(name, number, rows=60):
    """One recording from 0 on."""
    table = make_table(number + 1, rows).slice(number * rows)
    t = table["t"].to_numpy() - table["t"].to_numpy()[0]
    return pa.table({"stream_id": [name] * rows, "t": t, "a": table["a"], "b": table["b"]})


@pytest.fixture
def two():
    """Two recordings under one name, and what they give as two streams."""
    return pa.concat_tables([recording("s", 0), recording("s", 1)]), pa.concat_tables(
        [recording("s", 0), recording("s#2", 1)]
    )


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".feather"])
def test_two_recordings_in_a_file_are_refused_or_split(tmp_path, model, two, suffix):
    both, apart = two
    path = write(both, tmp_path / f"a{suffix}")
    out = tmp_path / "out.parquet"
    with pytest.raises(
        DataError, match=rf"a{suffix}: stream 's' jumps back .* at its row 60 .*'split'.*\(s#2\).*'sort'"
    ):
        sr.score(path, model, out=out)
    assert not out.exists()
    summary = sr.score(path, model, out=out, restarts="split")
    assert summary.restarts == {"s": 1}
    assert summary.streams == 2
    assert by_key(read(out)) == predict(model, apart)
    summary = sr.score(path, model, out=out, restarts="sort", faults="drop")
    assert (summary.restarts, summary.sorted) == ({}, 1)
    assert {row["stream"] for row in read(out).to_pylist()} == {"s"}


@pytest.mark.parametrize("sort", ["auto", "always"])
@pytest.mark.parametrize("faults", ["error", "drop"])
def test_sorting_or_skipping_faults_does_not_hide_a_restart(tmp_path, model, two, sort, faults):
    path = write(two[0], tmp_path / "a.parquet")
    with pytest.raises(DataError, match="jumps back"):
        sr.score(path, model, out=tmp_path / "out.parquet", sort=sort, faults=faults)


def test_one_stream_of_many_is_split(tmp_path, model):
    """Interleaved streams, one of which begins again."""
    tables = [recording(f"s{i}", i, 120) for i in range(4)]
    again = pa.concat_tables([recording("s1", 1), recording("s1", 4)])
    tables[1] = again
    order = np.argsort(np.concatenate([np.arange(120)] * 4), kind="stable")
    table = pa.concat_tables(tables).take(pa.array(order))
    path = write(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="stream 's1' jumps back"):
        sr.score(path, model, out=tmp_path / "out.parquet")
    summary = sr.score(path, model, out=tmp_path / "out.parquet", restarts="split", jobs=2, groups=2)
    assert summary.restarts == {"s1": 1}
    expected = pa.concat_tables([*tables[:1], *tables[2:], recording("s1", 1), recording("s1#2", 4)])
    assert by_key(read(tmp_path / "out.parquet")) == predict(model, expected)


def test_files_of_one_stream_that_overlap_are_refused_or_split(tmp_path, model, two):
    both, apart = two
    for i in range(2):
        write(both.slice(60 * i, 60), tmp_path / "in" / f"{i}.parquet")
    with pytest.raises(DataError, match=r"1\.parquet: stream 's' jumps back"):
        sr.score(tmp_path / "in", model, out=tmp_path / "out.parquet")
    sr.score(tmp_path / "in", model, out=tmp_path / "out.parquet", restarts="split")
    assert by_key(read(tmp_path / "out.parquet")) == predict(model, apart)


def test_files_in_another_order_than_their_times_are_sorted(tmp_path, model):
    table = recording("s", 0)
    write(table.slice(30), tmp_path / "in" / "day10.parquet")
    write(table.slice(0, 30), tmp_path / "in" / "day9.parquet")
    assert sr.score(tmp_path / "in", model, out=tmp_path / "out.parquet").sorted == 1
    assert by_key(read(tmp_path / "out.parquet")) == predict(model, table)


def test_rows_in_any_order_are_sorted(tmp_path, model):
    table = make_table(3, interleaved=True)
    shuffled = table.take(pa.array(np.random.default_rng(0).permutation(table.num_rows)))
    assert sr.score(write(shuffled, tmp_path / "a.parquet"), model, out=tmp_path / "out.parquet").sorted == 1
    assert by_key(read(tmp_path / "out.parquet")) == predict(model, table)


def test_the_name_of_a_part_that_is_taken_is_an_error(tmp_path, model, two):
    table = pa.concat_tables([two[0], recording("s#2", 2)])
    with pytest.raises(DataError, match="'s#2' is another stream's name already"):
        sr.score(write(table, tmp_path / "a.parquet"), model, out=tmp_path / "out.parquet", restarts="split")


def test_a_reader_of_files_splits_too(tmp_path, model, two):
    both, apart = two
    path = write(both, tmp_path / "a.parquet")
    predictions = sr.score(path, model, restarts="split").read_all()
    assert by_key(predictions) == predict(model, apart)
    with pytest.raises(DataError, match="jumps back"):
        sr.score(path, model, sort="always").read_all()
    with pytest.raises(ConfigError, match="reads its source twice"):
        sr.score(both, model, restarts="split").read_all()


@pytest.mark.slow
def test_the_command_offers_to_split_and_says_so(tmp_path, model, two):
    command = [sys.executable, "-m", "streamrde", "score", write(two[0], tmp_path / "a.csv"), "-m", model]
    command += ["-o", tmp_path / "out.csv"]
    stopped = subprocess.run(command, capture_output=True, text=True, check=False)
    assert stopped.returncode == 1
    assert "--restarts split" in stopped.stderr
    done = subprocess.run([*command, "--restarts", "split"], capture_output=True, text=True, check=True)
    assert "2 streams" in done.stdout
    assert "split: stream s begins again 1 time: s#2" in done.stdout
