"""Recorded files for tests of scoring jobs, and the predictions that they must give."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
from bundles import make_bundle, make_recording

import streamrde as sr

STREAMS = 12
ROWS = 60


def make_model(folder: Path, **changes: object) -> Path:
    path = folder / "model.safetensors"
    make_bundle(**changes).save(path)
    return path


def make_table(streams: int = STREAMS, rows: int = ROWS, *, interleaved: bool = False, prefix: str = "s") -> pa.Table:
    """Streams one after the other, or in order of time; `kind` is the class that the stream has, by its number."""
    parts = [(f"{prefix}{i}", *make_recording(i, rows, missing=0.0)) for i in range(streams)]
    t = np.concatenate([part[1] for part in parts])
    x = np.concatenate([part[2] for part in parts])
    names = np.repeat([part[0] for part in parts], rows)
    kinds = np.repeat([f"{'xyz'[i % 3]}" for i in range(streams)], rows)
    table = pa.table({"stream_id": names, "t": t, "a": x[:, 0], "b": x[:, 1], "kind": kinds})
    return table.take(pa.array(np.argsort(t, kind="stable"))) if interleaved else table


def write(table: pa.Table, path: Path, *, group: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pa.parquet.write_table(table, path, row_group_size=group)
    elif path.suffix == ".csv":
        pa.csv.write_csv(table, path)
    else:
        pa.feather.write_feather(table, str(path), chunksize=group, compression="uncompressed")
    return path


def split(table: pa.Table, folder: Path, *, files: int, suffix: str = ".parquet") -> Path:
    """The table's rows in several files, cut anywhere."""
    edges = np.linspace(0, table.num_rows, files + 1).astype(int)
    for i, (a, b) in enumerate(itertools.pairwise(edges)):
        write(table.slice(a, b - a), folder / f"{i:03d}{suffix}")
    return folder


def predict(model: Path, table: pa.Table, *, novelty: bool = False) -> dict[tuple[str, int], dict[str, object]]:
    """What a Fleet gives for the rows in order of time, by (stream, window)."""
    fleet = sr.Fleet(sr.load(model), novelty=novelty)
    table = table.sort_by("t")
    x = np.stack([table[name].to_numpy() for name in ("a", "b")], axis=1)
    batches = [fleet.push(table["stream_id"], table["t"].to_numpy(), x), fleet.flush()]
    return by_key(pa.Table.from_batches(batches))


def by_key(table: pa.Table) -> dict[tuple[str, int], dict[str, object]]:
    rows = {(row["stream"], row["window"]): row for row in table.to_pylist()}
    assert len(rows) == table.num_rows
    return rows


def read(path: Path) -> pa.Table:
    if path.is_dir():
        return pa.concat_tables([pa.parquet.read_table(file) for file in sorted(path.iterdir())])
    return pa.parquet.read_table(path) if path.suffix == ".parquet" else pa.feather.read_table(str(path))
