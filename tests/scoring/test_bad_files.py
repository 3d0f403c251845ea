"""Files that cannot be used: named, left out if that is asked for, and the rest unharmed."""

import errno
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from scoring_data import by_key, make_table, predict, read, write

import streamrde as sr
from streamrde.errors import DataError
from streamrde.scoring import run as run_module


def truncated(path):
    data = write(make_table(2, prefix="bad"), path).read_bytes()
    path.write_bytes(data[: len(data) // 2])


def damaged_page(path):
    """Whole footer, broken page: only reading the rows finds out."""
    table = make_table(2, prefix="bad")
    pa.parquet.write_table(table, path, compression="none", use_dictionary=["stream_id"], write_statistics=False)
    metadata = pa.parquet.read_metadata(path)
    column = next(c for c in map(metadata.row_group(0).column, range(5)) if c.path_in_schema == "b")
    data = bytearray(path.read_bytes())
    data[column.data_page_offset : column.data_page_offset + 8] = b"\xff" * 8
    path.write_bytes(data)


def missing_column(path):
    write(make_table(2, prefix="bad").drop_columns("b"), path)


def text_column(path):
    table = make_table(2, prefix="bad")
    write(table.set_column(3, "b", pa.array(["high"] * table.num_rows)), path)


def null_time(path):
    table = make_table(2, prefix="bad")
    t = table["t"].to_pylist()
    write(table.set_column(1, "t", pa.array([*t[:100], None, *t[101:]], pa.float64())), path)


def no_rows(path):
    write(make_table(2).slice(0, 0), path)


BAD = {
    truncated: ("cannot be read", None),
    damaged_page: ("cannot be read", None),
    missing_column: ("has no column 'b'", "b"),
    text_column: ("column 'b', row 0 .*'high' is not a number", "b"),
    null_time: ("column 't', row 100 .*the time is null", "t"),
    no_rows: ("has no rows", None),
}


@pytest.mark.slow
@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("engine", ["one", "threads", "processes"])
@pytest.mark.parametrize("make", BAD)
def test_a_bad_file_stops_the_job_or_is_left_out(tmp_path, model, make, engine):
    if engine != "one" and make not in (damaged_page, null_time):
        pytest.skip("found before any worker starts")
    how = {} if engine == "one" else {"engine": engine, "jobs": 2}
    table = make_table()
    for i in range(3):
        write(table.slice(i * 240, 240), tmp_path / "in" / f"{2 * i}.parquet")
    bad = tmp_path / "in" / "3.parquet"
    make(bad)
    match, column = BAD[make]
    with pytest.raises(DataError, match=rf"3\.parquet.*{match}") as caught:
        sr.score(tmp_path / "in", model, out=tmp_path / "out.parquet", **how)
    assert caught.value.path == str(bad)
    assert caught.value.column in (column, None)
    assert not (tmp_path / "out.parquet").exists()
    summary = sr.score(tmp_path / "in", model, out=tmp_path / "out.parquet", on_error="skip", **how)
    assert list(summary.skipped) == [str(bad)]
    assert summary.files == 3
    bad.unlink()
    sr.score(tmp_path / "in", model, out=tmp_path / "without.parquet")
    assert read(tmp_path / "out.parquet").equals(read(tmp_path / "without.parquet"))
    assert by_key(read(tmp_path / "out.parquet")) == predict(model, table)


def test_a_bad_file_takes_its_rows_of_a_stream_with_it(tmp_path, model):
    """A stream that goes on after the bad file goes on as if that were not there."""
    table = make_table(3, interleaved=True)
    for i in range(3):
        write(table.slice(i * 60, 60), tmp_path / "in" / f"{i}.parquet")
    t = table["t"].to_numpy()[60:120].copy()
    t[50] = np.nan
    write(table.slice(60, 60).set_column(1, "t", pa.array(t)), tmp_path / "in" / "1.parquet")
    summary = sr.score(tmp_path / "in", model, out=tmp_path / "out.parquet", on_error="skip")
    assert "row 50" in next(iter(summary.skipped.values()))
    rest = pa.concat_tables([table.slice(0, 60), table.slice(120)])
    assert by_key(read(tmp_path / "out.parquet")) == predict(model, rest)


@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_a_file_that_vanishes_is_named(tmp_path, model, monkeypatch, on_error):
    for name in "ab":
        write(make_table(2, prefix=name), tmp_path / "in" / f"{name}.parquet")
    save = run_module.JobFolder.save
    monkeypatch.setattr(
        run_module.JobFolder, "save", lambda self, plan: (save(self, plan), (tmp_path / "in/b.parquet").unlink())
    )
    if on_error == "stop":
        with pytest.raises(DataError, match=r"b\.parquet: the file was deleted"):
            sr.score(tmp_path / "in", model, out=tmp_path / "out.parquet")
    else:
        sr.score(tmp_path / "in", model, out=tmp_path / "out.parquet", on_error="skip")
        assert by_key(read(tmp_path / "out.parquet")) == predict(model, make_table(2, prefix="a"))


def test_only_bad_files_are_an_error_even_if_they_may_be_skipped(tmp_path, model):
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        truncated(tmp_path / "in" / f"{name}.parquet")
    with pytest.raises(DataError, match=r"no file can be used: .*a\.parquet.*b\.parquet"):
        sr.score(tmp_path / "in", model, out=tmp_path / "out.parquet", on_error="skip")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="the folder has no file"):
        sr.score(tmp_path / "empty", model, out=tmp_path / "out.parquet", on_error="skip")
    assert not list(tmp_path.glob("*out*"))


def test_a_full_disk_is_an_error_and_the_job_can_be_resumed(tmp_path, model, monkeypatch):
    source = write(make_table(), tmp_path / "in" / "a.parquet")
    written = []

    def full(self, batch):
        written.append(batch)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(pa.parquet.ParquetWriter, "write_batch", full)
        with pytest.raises(DataError, match=r"out\.parquet.*No space left on device.*disk's space"):
            sr.score(source, model, out=tmp_path / "out.parquet")
    assert written
    assert not (tmp_path / "out.parquet").exists()
    assert sr.score(source, model, out=tmp_path / "out.parquet", resume=True).resumed == 1


@pytest.mark.slow
def test_the_exit_status_tells_of_files_left_out(tmp_path, model):
    write(make_table(2), tmp_path / "in" / "a.parquet")
    truncated(tmp_path / "in" / "b.parquet")
    command = [sys.executable, "-m", "streamrde", "score", tmp_path / "in", "-m", model, "-o", tmp_path / "out.csv"]
    stopped = subprocess.run(command, capture_output=True, text=True, check=False)
    assert stopped.returncode == 1
    assert "b.parquet: cannot be read" in stopped.stderr
    done = subprocess.run([*command, "--on-error", "skip"], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert f"left out: {tmp_path / 'in' / 'b.parquet'}: cannot be read" in done.stdout
    assert (tmp_path / "out.csv").exists()
