from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from streamrde.connectors.files import PredictionWriter
from streamrde.errors import DataError, ParameterError, ShapeError

SUFFIXES = (".parquet", ".feather", ".arrow", ".ipc", ".arrows", ".csv")


def make_schema(names: list[str] | None = None, *, label: bool = True) -> pa.Schema:
    value = pa.field("value", pa.list_(pa.float32(), 2), metadata={"outputs": json.dumps(names)} if names else None)
    fields = [
        ("stream", pa.string()),
        ("window", pa.int64()),
        ("t_start", pa.float64()),
        ("t_end", pa.float64()),
        value,
    ]
    return pa.schema([*fields, ("label", pa.dictionary(pa.int32(), pa.string()))] if label else fields)


def make_batch(schema: pa.Schema, first: int = 0) -> pa.RecordBatch:
    rows = [
        {"stream": f"s{i}", "window": i, "t_start": i / 3, "t_end": (i + 1) / 3, "value": [i, i / 2], "label": f"l{i}"}
        for i in range(first, first + 5)
    ]
    return pa.RecordBatch.from_pylist(rows, schema=schema)


def read_back(path: Path) -> pa.Table:
    if path.suffix == ".parquet":
        return pa.parquet.read_table(path)
    if path.suffix == ".csv":
        return pa.csv.read_csv(path)
    with pa.OSFile(str(path)) as file:
        opened = pa.ipc.open_stream if path.suffix == ".arrows" else pa.ipc.open_file
        return opened(file).read_all()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("label", [True, False])
def test_predictions_come_back_as_written(tmp_path: Path, suffix: str, label: bool) -> None:
    schema = make_schema(["HR", "RR"], label=label)
    path = tmp_path / "new" / f"out{suffix}"
    with PredictionWriter(path, schema, metadata={"model": "abc"}) as writer:
        for first in (0, 5, 10):  # Each batch brings its own dictionary of labels.
            writer.write(make_batch(schema, first))
        writer.write(make_batch(schema, 15).slice(1, 2))
        assert not path.exists()
        assert writer.rows == 17
    table = read_back(path)
    expected = pa.Table.from_batches(
        [make_batch(schema, first) for first in (0, 5, 10)] + [make_batch(schema, 15).slice(1, 2)]
    )
    if suffix == ".csv":
        values = np.array(expected.column("value").to_pylist())
        assert table.column_names == [
            n for n in ["stream", "window", "t_start", "t_end", "HR", "RR", "label"] if n != "label" or label
        ]
        np.testing.assert_array_equal(np.column_stack([table["HR"], table["RR"]]), values)
        assert table["t_end"].to_pylist() == expected["t_end"].to_pylist()
        assert not label or table["label"].to_pylist() == expected["label"].to_pylist()
    else:
        assert table.to_pylist() == expected.to_pylist()
        assert table.schema.metadata[b"model"] == b"abc"
    assert list(path.parent.iterdir()) == [path]


def test_csv_numbers_outputs_without_names(tmp_path: Path) -> None:
    with PredictionWriter(tmp_path / "out.csv", make_schema(label=False)) as writer:
        writer.write(make_batch(make_schema(label=False)))
    assert read_back(tmp_path / "out.csv").column_names[-2:] == ["value_0", "value_1"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_predictions_make_a_valid_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    with PredictionWriter(path, make_schema()):
        pass
    assert read_back(path).num_rows == 0
    assert "window" in read_back(path).column_names


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    path.write_text("yesterday's")
    with pytest.raises(ZeroDivisionError), PredictionWriter(path, make_schema()) as writer:  # noqa: PT012
        writer.write(make_batch(make_schema()))
        writer.write(make_batch(make_schema(), 1 // 0))
    assert path.read_text() == "yesterday's"
    assert list(tmp_path.iterdir()) == [path]


def test_a_batch_of_another_schema_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ShapeError, match="opened for"),
        PredictionWriter(tmp_path / "a.parquet", make_schema()) as writer,
    ):
        writer.write(make_batch(make_schema(label=False)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out", "out.txt", "out.csv.gz", "out.xlsx"])
def test_an_unknown_extension_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ParameterError, match=r"use one of \.parquet"):
        PredictionWriter(tmp_path / name, make_schema())


def test_a_folder_that_cannot_be_written_to_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(DataError, match="cannot be written"),
        PredictionWriter(tmp_path / "file" / "out.csv", make_schema()),
    ):
        pass


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file sizes")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    script = f"""
import resource, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_writing import *
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    with PredictionWriter({str(tmp_path / ("out" + suffix))!r}, make_schema()) as writer:
        for first in range(0, 100_000, 5):
            writer.write(make_batch(make_schema(), first))
except DataError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert "cannot be written" in done.stdout, done.stderr
    assert list(tmp_path.iterdir()) == []
