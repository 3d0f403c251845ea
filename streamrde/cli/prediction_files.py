"""Read the last predictions of files, and those of files that a run adds to a folder."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.dataset as ds

from streamrde.connectors.codecs.predictions import prediction_of
from streamrde.errors import ConfigError, DataError

# Formats whose values are lists, as predictions need them. The text of CSV has none.
_FORMATS = {".parquet": "parquet", ".feather": "feather", ".arrow": "feather", ".ipc": "feather", ".arrows": "stream"}
# Seconds between looks into a folder.
_LOOK = 0.5


def last_predictions(path: Path, count: int) -> list[dict[str, Any]]:
    """Return the last predictions of a file, with the fields of a payload.

    Raises:
        ConfigError: the file has another format.
        DataError: the file cannot be read, or has no predictions.
    """
    found: deque[dict[str, Any]] = deque(maxlen=count)
    batches: deque[pa.RecordBatch] = deque()
    for batch in _batches(path):
        batches.append(batch)
        while sum(own.num_rows for own in batches) - batches[0].num_rows >= count:
            batches.popleft()
    for batch in batches:
        found.extend(_row(path, row) for row in batch.to_pylist())
    return [*found]


def predictions_of(path: Path) -> Iterator[dict[str, Any]]:
    """Return all predictions of a file. Errors are those of `last_predictions`."""
    for batch in _batches(path):
        yield from (_row(path, row) for row in batch.to_pylist())


def added(folder: Path, known: set[Path]) -> Iterator[Path]:
    """Yield files that come into a folder, in the order of their names, for ever."""
    while True:
        for path in files_of(folder):
            if path not in known:
                known.add(path)
                yield path
        time.sleep(_LOOK)


def files_of(folder: Path) -> list[Path]:
    """Return the prediction files of a folder by name. A run writes a part under a name with a dot, and renames it."""
    return sorted(path for path in folder.iterdir() if path.suffix in _FORMATS and not path.name.startswith("."))


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    if path.suffix not in _FORMATS:
        raise ConfigError(
            f"{path}: tail reads predictions from {', '.join(_FORMATS)} files and from folders of them; write one of "
            "these, or read this file with pandas, polars or DuckDB"
        )
    try:
        if _FORMATS[path.suffix] == "stream":
            with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as reader:
                yield from reader
        else:
            yield from ds.dataset(path, format=_FORMATS[path.suffix]).to_batches()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: {error}; give a file that a run or `streamrde score` wrote", path=str(path)) from None


def _row(path: Path, row: dict[str, Any]) -> dict[str, Any]:
    try:
        found: dict[str, Any] = msgspec.to_builtins(prediction_of(row))
    except KeyError as error:
        raise DataError(
            f"{path}: no column {error}, so these are no predictions; give a file of a run or of `streamrde score`",
            path=str(path),
        ) from None
    return found
