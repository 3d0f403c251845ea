"""Record batches of a recorded file, whatever its format, in constant memory."""

from __future__ import annotations

import difflib
import functools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet

from streamrde.arrays import Ints
from streamrde.connectors.files.csv_dialect import read_header
from streamrde.connectors.files.csv_files import Kind, csv_batches, explain_missing
from streamrde.connectors.files.errors import mapped_errors
from streamrde.connectors.files.recordings import CSV, IPC, PARQUET, Recording, suffix_of
from streamrde.errors import DataError

_IPC_FILE_MAGIC = b"ARROW1"


def read_batches(
    recording: Recording,
    columns: Sequence[str],
    *,
    texts: Sequence[str] = (),
    kinds: Mapping[str, Kind] | None = None,
    batch_rows: int = 65536,
    remedy: Mapping[str, str] | None = None,
    start: int = 0,
    stop: int | None = None,
    where: pc.Expression | None = None,
    skipped: Counter[str] | None = None,
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The file's record batches with these columns, at most `batch_rows` rows each, and the row where each begins.

    Memory holds a row group's pages of the columns asked for (Parquet), one record batch (IPC) or a 1 MiB block (CSV).

    Args:
        columns: the columns asked for, each once; those that the file lacks may be among the recording's partitions.
        texts: those whose values repeat: names of streams.
        kinds: how each is used; a CSV file says of no column what type it has. See `csv_batches`.
        remedy: what to do where a column is missing, by column.
        start, stop: rows of the file to read, [start, stop); None = to the end.
        where: row groups whose statistics exclude it may be passed over; the rows are the caller's to filter.
        skipped: lines of a CSV file with another number of fields are skipped and counted here; None: an error.
    Raises:
        DataError: the file cannot be opened, is cut, has no rows, or lacks a column.
    """
    path = recording.path
    suffix = suffix_of(path)
    with mapped_errors(path):
        if path.stat().st_size == 0:
            raise DataError(f"{path}: has no rows (0 bytes); leave it out or record it again", path=str(path))
        file = _Columns(recording, columns, remedy or {})
        if suffix in PARQUET:
            batches = _parquet(file, texts, batch_rows, start, where)
        elif suffix in IPC:
            batches = _ipc(file)
        else:
            columns_there = file.check(read_header(path).names)
            uses: dict[str, Kind] = {}
            for name in texts:
                uses[name] = "text"
            uses.update(kinds or {})
            batches = csv_batches(path, columns_there, uses, skipped=skipped)
        rows = 0
        for first, batch in batches:
            if stop is not None and first >= stop:
                return
            rows = first + batch.num_rows
            _validate(path, batch)
            if rows <= start:
                continue
            skip = max(0, start - first)
            keep = rows if stop is None else min(rows, stop)
            whole = file.complete(batch.slice(skip, keep - first - skip))
            for place in range(0, whole.num_rows, batch_rows):
                yield first + skip + place, whole.slice(place, batch_rows)
            if keep == stop:
                return
        # Parquet is not read before `start`, nor where `where` excludes it: nothing read is then no news of the file.
        if rows == 0 and start == 0 and where is None:
            raise DataError(f"{path}: has no rows; leave it out or record it again", path=str(path))


def _validate(path: Path, batch: pa.RecordBatch) -> None:
    """Offsets, indices and text come from the file: unchecked, a wrong one reads foreign memory."""
    batch.validate()
    for name, values in zip(batch.schema.names, batch.columns, strict=True):
        with mapped_errors(path, name):
            values.validate(full=True)


def schema_of(recording: Recording) -> pa.Schema:
    """Return names and types of the file's columns. Those of a CSV file are all text.

    Raises:
        DataError: the file cannot be opened or is cut.
    """
    path = recording.path
    with mapped_errors(path):
        if path.stat().st_size == 0:
            raise DataError(f"{path}: has no rows (0 bytes); leave it out or record it again", path=str(path))
        suffix = suffix_of(path)
        if suffix in PARQUET:
            return _footer(path).schema.to_arrow_schema()
        if suffix in IPC:
            with pa.OSFile(str(path)) as file, _open_ipc(file) as reader:
                return reader.schema
        return pa.schema([pa.field(name, pa.string()) for name in read_header(path).names])


def row_groups(path: Path) -> Ints:
    """Rows at which reading can begin without decoding what comes before: starts of row groups, or only 0."""
    if suffix_of(path) not in PARQUET:
        return np.zeros(1, np.int64)
    with mapped_errors(path):
        metadata = _footer(path)
        rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    return np.cumsum([0, *rows[:-1]], dtype=np.int64)


def _footer(path: Path) -> pa.parquet.FileMetaData:
    stat = path.stat()
    return _read_footer(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=4)  # a footer is looked at several times in a row, by those who plan and who read
def _read_footer(path: Path, size: int, modified: int) -> pa.parquet.FileMetaData:
    return pa.parquet.read_metadata(path)


class _Columns:
    """The columns asked for, those in the file and those in its path."""

    def __init__(self, recording: Recording, columns: Sequence[str], remedy: Mapping[str, str]) -> None:
        self.path = recording.path
        self._partitions = recording.partitions
        self._columns = list(columns)
        self._remedy = remedy
        self.present: list[str] = []

    def check(self, has: Sequence[str]) -> list[str]:
        """Those in the file; raise where one is neither there nor in the path."""
        self.present = [name for name in self._columns if name in has or name not in self._partitions]
        check_columns(str(self.path), has, self.present, self._remedy)
        return self.present

    def complete(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The columns in the order asked for."""
        if len(self.present) == len(self._columns):
            return batch.select(self._columns)
        arrays = [
            batch.column(name) if name in self.present else self._partition(name, batch.num_rows)
            for name in self._columns
        ]
        return pa.RecordBatch.from_arrays(arrays, names=self._columns)

    def _partition(self, name: str, rows: int) -> pa.Array:
        indices = pa.array(np.zeros(rows, np.int32))
        return pa.DictionaryArray.from_arrays(indices, pa.array([self._partitions[name]], pa.string()))


def check_columns(path: str, has: Sequence[str], columns: Sequence[str], remedy: Mapping[str, str]) -> None:
    """Raise DataError where one of the columns is not there, or twice; `path` is what the error names."""
    for column in columns:
        if (times := has.count(column)) == 1:
            continue
        if times > 1:
            raise DataError(
                f"{path}: {times} columns are called {column!r}; rename all but one", path=path, column=column
            )
        if suffix_of(path) in CSV and (why := explain_missing(Path(path), columns)) is not None:
            raise DataError(f"{path}: has no column {column!r}: {why}", path=path, column=column)
        shown = ", ".join(has[:40]) + (f", ... ({len(has)} columns)" if len(has) > 40 else "")
        close = difflib.get_close_matches(column, has, n=1) or [name for name in has if name.lower() == column.lower()]
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise DataError(
            f"{path}: has no column {column!r}; {hint}{remedy.get(column, '')}it has: {shown}",
            path=str(path),
            column=column,
        )


def _parquet(
    file: _Columns, texts: Sequence[str], batch_rows: int, start: int, where: pc.Expression | None
) -> Iterator[tuple[int, pa.RecordBatch]]:
    metadata = _footer(file.path)
    schema = metadata.schema.to_arrow_schema()
    columns = file.check(schema.names)
    starts = np.cumsum([0, *(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))])
    kept = _kept_row_groups(file.path, schema, where)
    wanted = [
        group
        for group in range(metadata.num_row_groups)
        if starts[group + 1] > start and (kept is None or group in kept)
    ]
    # Names repeat in a recording: read as a dictionary, each is held once.
    texts = [name for name in texts if name in columns]
    with pa.parquet.ParquetFile(file.path, metadata=metadata, read_dictionary=texts, pre_buffer=False) as reader:
        # Neighbours are read together: a batch may span row groups, which may be small.
        for groups in np.split(wanted, np.flatnonzero(np.diff(wanted) > 1) + 1) if wanted else ():
            first = int(starts[groups[0]])
            for batch in reader.iter_batches(
                batch_size=batch_rows, row_groups=groups.tolist(), columns=columns, use_threads=False
            ):
                yield first, batch
                first += batch.num_rows


def _kept_row_groups(path: Path, schema: pa.Schema, where: pc.Expression | None) -> set[int] | None:
    """Row groups that may hold rows which `where` lets through; None where their statistics tell nothing."""
    if where is None:
        return None
    try:
        fragment = pa.dataset.ParquetFileFormat().make_fragment(str(path), pa.fs.LocalFileSystem())
        return {group.id for group in fragment.subset(where, schema=schema).row_groups}
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowKeyError):
        return None  # another type than the filter's, or a column of the path: the rows will tell


def _ipc(file: _Columns) -> Iterator[tuple[int, pa.RecordBatch]]:
    with pa.OSFile(str(file.path)) as handle:
        with _open_ipc(handle) as reader:
            names = reader.schema.names
        columns = file.check(names)
        options = pa.ipc.IpcReadOptions(
            included_fields=sorted(names.index(column) for column in columns), use_threads=False
        )
        with _open_ipc(handle, options) as reader:
            is_file = isinstance(reader, pa.ipc.RecordBatchFileReader)
            batches = (reader.get_batch(i) for i in range(reader.num_record_batches)) if is_file else reader
            first = 0
            for batch in batches:
                yield first, batch
                first += batch.num_rows


def _open_ipc(
    handle: pa.OSFile, options: pa.ipc.IpcReadOptions | None = None
) -> pa.ipc.RecordBatchFileReader | pa.ipc.RecordBatchStreamReader:
    """An IPC file or stream, told apart by its first bytes."""
    handle.seek(0)
    is_file = handle.read(len(_IPC_FILE_MAGIC)) == _IPC_FILE_MAGIC
    handle.seek(0)
    return pa.ipc.open_file(handle, options=options) if is_file else pa.ipc.open_stream(handle, options=options)
