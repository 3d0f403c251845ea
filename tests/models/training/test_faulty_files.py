"""Files for training as they come from loggers: restarts, faulty rows and faulty files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from models.recordings import config_for, write_recordings

from streamrde.errors import DataError
from streamrde.models.training.config import as_train_config
from streamrde.models.training.streams import read_streams


def read(files: str, **data: object):
    said: list[str] = []
    config = as_train_config(config_for(files, data={"files": files, **data}))
    return read_streams(config.data, say=said.append), said


def changed(folder: Path, **columns: object) -> tuple[str, pa.Table]:
    path = write_recordings(folder, streams=3)
    table = pq.read_table(path)
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, values(table[name].to_pylist()))
    pq.write_table(table, path)
    return path, table


def begins_again(t: list[float]) -> pa.Array:
    """The second recording has two runs, each from 0."""
    times = np.array(t)
    times[40:80] = np.tile(np.arange(20) / 10, 2)
    return pa.array(times)


def test_a_recording_that_begins_again_is_refused_split_or_sorted(tmp_path) -> None:
    path, table = changed(tmp_path, t=begins_again)
    with pytest.raises(DataError, match=r"jumps back from 1\.9 s to 0 s at its row 20 .*data\.restarts = 'split'"):
        read(path)
    streams, said = read(path, restarts="split")
    assert [stream.stream for stream in streams] == ["s00", "s01", "s01#2", "s02"]
    assert [stream.group for stream in streams] == ["s00", "s01", "s01", "s02"]
    assert streams[2].t.tolist() == streams[1].t.tolist() == (np.arange(20) / 10).tolist()
    assert streams[2].x[:, 0].tolist() == table["a"].to_pylist()[60:80]
    assert any("'s01' begins again" in text for text in said)
    streams, _ = read(path, restarts="sort", faults="drop")
    assert len(streams[1].t) == 20
    assert (np.diff(streams[1].t) > 0).all()


def test_rows_that_are_only_out_of_order_are_an_error_as_before_or_sorted(tmp_path) -> None:
    def shuffled(t: list[float]) -> pa.Array:
        return pa.array([*t[:40], *np.random.default_rng(0).permutation(t[40:80]), *t[80:]])

    path, table = changed(tmp_path, t=shuffled)
    with pytest.raises(DataError, match=r"stream 's01' has time .* sort the file by 't'"):
        read(path, restarts="split")
    streams, _ = read(path, restarts="sort")
    assert streams[1].t.tolist() == sorted(table["t"].to_pylist()[40:80])


def faulty(path: Path, table: pa.Table) -> Path:
    """As CSV, with text for a number, a time that is missing, a line that is cut, and an infinite value."""
    pa.csv.write_csv(table, path)
    lines = path.read_text().splitlines()
    for row, column, value in ((5, 2, "broken"), (50, 1, ""), (90, 3, "inf")):
        fields = lines[row + 1].split(",")
        fields[column] = value
        lines[row + 1] = ",".join(fields)
    path.write_text("\n".join([*lines, "s02,9"]) + "\n")
    return path


def test_faulty_rows_are_an_error_or_counted_and_left_out(tmp_path) -> None:
    _, table = changed(tmp_path)
    path = faulty(tmp_path / "a.csv", table)
    with pytest.raises(DataError, match=r"a\.csv: (line 122: Expected|column 'a', row 5 .*line 7: 'broken')"):
        read(str(path))
    streams, said = read(str(path), faults="drop")
    assert [len(stream.t) for stream in streams] == [39, 39, 39]
    assert "left out: 1 row: column 'a': a text that is not a number" in said
    assert "left out: 1 row: column 't': the time is null" in said
    assert "left out: 1 row: lines with another number of fields than the header" in said
    assert "left out: 1 unusable rows" in said


def test_a_file_that_cannot_be_used_stops_or_is_left_out_and_said(tmp_path) -> None:
    path = Path(write_recordings(tmp_path / "in", streams=3))
    (tmp_path / "in" / "z.parquet").write_bytes(path.read_bytes()[:500])
    (tmp_path / "in" / "y.csv").write_text("t;a;b\n0,1;2,5;3\n0,2;2,5;3\n")
    with pytest.raises(DataError, match=r"[yz]\.(csv|parquet): "):
        read(str(tmp_path / "in"))
    streams, said = read(str(tmp_path / "in"), on_error="skip")
    assert [stream.stream for stream in streams] == ["s00", "s01", "s02"]
    assert sum("left out:" in text for text in said) == 2
    assert any("y.csv: has no column" in text and "parted by ';'" in text for text in said)
    path.unlink()
    with pytest.raises(DataError, match=r"no file can be used: .*y\.csv.*z\.parquet"):
        read(str(tmp_path / "in"), on_error="skip")


def test_a_target_of_a_csv_file_that_begins_with_integers_is_a_number(tmp_path) -> None:
    rows = 60_000
    t = np.arange(rows) / 10
    columns = {"stream_id": ["s"] * rows, "t": t, "a": np.sin(t), "b": np.cos(t), "turn": ["x"] * rows}
    speed = [str(i % 7) for i in range(rows - 1)] + ["2.5"]
    pa.csv.write_csv(pa.table(columns | {"speed": pa.array(speed)}), tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text((tmp_path / "a.csv").read_text().replace('"', ""))
    streams, _ = read(str(tmp_path / "a.csv"), target="speed", task="regression")
    assert streams[0].target.values[-3:, 0].tolist() == [float((rows - 3) % 7), float((rows - 2) % 7), 2.5]
