"""Rows that cannot be used: named, or counted and left out if that is asked for, and the rest unharmed."""

import gzip
import subprocess
import sys

import pyarrow as pa
import pytest
from scoring_data import by_key, make_table, predict, read, write

import streamrde as sr
from streamrde.errors import DataError
from streamrde.scoring.worker import Failure, Task, perform


def with_value(table, column, row, value):
    values = table[column].to_pylist()
    values[row] = value
    return table.set_column(table.column_names.index(column), column, pa.array(values))


def without(table, *rows):
    return table.take(pa.array([i for i in range(table.num_rows) if i not in rows]))


FAULTS = {
    "null time": ("t", None, "column 't': the time is null"),
    "time that is not finite": ("t", float("nan"), "column 't': the time is"),
    "null stream": ("stream_id", None, "column 'stream_id': the stream has no name"),
    "empty stream": ("stream_id", "", "column 'stream_id': the stream has no name"),
    "infinite value": ("a", float("inf"), None),
}


@pytest.mark.slow
@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("suffix", [".parquet", ".feather", ".csv"])
@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_row_stops_the_job_or_is_counted_and_left_out(tmp_path, model, suffix, interleaved, fault):
    column, value, reason = FAULTS[fault]
    table = make_table(interleaved=interleaved)
    path = write(with_value(table, column, 130, value), tmp_path / f"a{suffix}")
    out = tmp_path / "out.parquet"
    with pytest.raises(DataError, match=rf"a{suffix}.*column '{column}', row 130") as caught:
        sr.score(path, model, out=out)
    assert caught.value.row == 130
    # Parts read the same file: a row without a stream is nobody's, and counts once.
    summary = sr.score(path, model, out=out, faults="drop", groups=3, jobs=2)
    assert summary.parts > 1
    if reason is None:
        assert summary.counts.rejected == 1
        assert not summary.dropped
    else:
        assert sum(summary.dropped.values()) == 1
        assert next(iter(summary.dropped)).startswith(reason)
    assert summary.counts.samples == table.num_rows - 1
    assert by_key(read(out)) == predict(model, without(table, 130))


def test_text_in_a_number_column_is_counted_and_left_out(tmp_path, model):
    table = make_table()
    rows = write(table, tmp_path / "good.csv").read_text().splitlines()
    rows[131] = rows[131].replace(rows[131].split(",")[2], '"broken"', 1)
    path = tmp_path / "a.csv"
    path.write_text("\n".join(rows) + "\n")
    with pytest.raises(DataError, match=r"column 'a', row 130 .*, line 132: 'broken' is not a number"):
        sr.score(path, model, out=tmp_path / "out.parquet")
    summary = sr.score(path, model, out=tmp_path / "out.parquet", faults="drop")
    assert summary.dropped == {"column 'a': a text that is not a number": 1}
    assert summary.as_dict()["dropped"] == summary.dropped
    assert by_key(read(tmp_path / "out.parquet")) == predict(model, without(table, 130))


@pytest.mark.parametrize("stream", ["stream_id", ""])
def test_lines_of_another_length_are_counted_once(tmp_path, model, stream):
    table = make_table(1)
    rows = write(table, tmp_path / "good.csv").read_text().splitlines()
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress("\n".join([*rows[:20], "cut,1", *rows[20:], "too,1,2,3,4,5"]).encode() + b"\n"))
    with pytest.raises(DataError, match="line 21: Expected 5 columns, got 2"):
        sr.score(path, model, out=tmp_path / "out.parquet", stream=stream)
    summary = sr.score(path, model, out=tmp_path / "out.parquet", stream=stream, faults="drop")
    assert summary.dropped == {"lines with another number of fields than the header": 2}
    assert summary.rows == table.num_rows


def test_a_file_with_a_bad_row_can_be_left_out_as_a_whole(tmp_path, model):
    table = make_table(2)
    write(table.slice(0, 60), tmp_path / "in" / "a.parquet")
    write(with_value(table.slice(60), "a", 5, float("-inf")), tmp_path / "in" / "b.csv")
    summary = sr.score(tmp_path / "in", model, out=tmp_path / "out.parquet", on_error="skip")
    (reason,) = summary.skipped.values()
    assert "column 'a', row 5 (the first is 0), line 7: the value is infinite" in reason
    assert by_key(read(tmp_path / "out.parquet")) == predict(model, table.slice(0, 60))


def test_rows_are_left_out_of_a_part_that_is_sorted(tmp_path, model):
    table = with_value(make_table(2, interleaved=True), "t", 7, None)
    path = write(table.take(pa.array([*range(20), 40, *range(20, 40), *range(41, 120)])), tmp_path / "a.parquet")
    summary = sr.score(path, model, out=tmp_path / "out.parquet", faults="drop")
    assert summary.sorted == 1
    assert summary.dropped == {"column 't': the time is null": 1}
    assert by_key(read(tmp_path / "out.parquet")) == predict(model, without(table, 7))


@pytest.mark.slow
def test_the_command_says_which_option_skips_what(tmp_path, model):
    write(with_value(make_table(2), "t", 9, None), tmp_path / "a.parquet")
    command = [sys.executable, "-m", "streamrde", "score", tmp_path / "a.parquet", "-m", model]
    command += ["-o", tmp_path / "out.csv"]
    stopped = subprocess.run(command, capture_output=True, text=True, check=False)
    assert stopped.returncode == 1
    assert "row 9" in stopped.stderr
    assert "--skip-faults counts and skips such rows" in stopped.stderr
    done = subprocess.run([*command, "--skip-faults"], capture_output=True, text=True, check=True)
    assert "skipped: 1 row: column 't': the time is null" in done.stdout


def test_a_worker_tells_of_a_plan_that_it_cannot_read(tmp_path):
    answers = [perform(Task(str(tmp_path / "gone"), 0), lambda rows: None)]
    for text in ("", "{}", "[1, 2", '{"format": 0}'):
        (tmp_path / "plan.json").write_text(text)
        answers.append(perform(Task(str(tmp_path), 0), lambda rows: None))
    for answer in answers:
        assert isinstance(answer, Failure)
        assert answer.kind == "DataError"
        assert str(tmp_path) in answer.error
        assert answer.path == ""
