"""Read a recorded file batch by batch, whatever its format, in constant memory."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamrde.arrays import Ints
from streamrde.connectors.dialect import PLAIN, Dialect
from streamrde.connectors.files.errors import mapped_errors
from streamrde.connectors.files.formats import Format, Kind, Query, reading_format
from streamrde.connectors.files.places import AnyPath
from streamrde.connectors.files.recordings import Recording
from streamrde.connectors.units import Conversion, conversion
from streamrde.errors import ConfigError, DataError

_NO_STREAM = 'set columns.stream (--stream) to another one, or to "" if each file is one stream; '


def read_batches(
    recording: Recording,
    columns: Sequence[str],
    *,
    kinds: Mapping[str, Kind] | None = None,
    batch_rows: int = 65536,
    start: int = 0,
    stop: int | None = None,
    where: pc.Expression | None = None,
    skipped: Counter[str] | None = None,
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield the file's record batches with these columns, and the row at which each begins.

    Args:
        columns: the columns asked for, each once; those that the file lacks may be among the recording's partitions.
        kinds: how each is used, since a CSV file does not say what type a column has.
        batch_rows: rows in a batch, at most.
        start, stop: rows of the file to read, [start, stop); None = to the end.
        where: row groups whose statistics exclude it may be passed over; the rows are the caller's to filter.
        skipped: lines of a CSV file with another number of fields are skipped and counted here; None: an error.
    Raises:
        DataError: the file cannot be opened, is cut, has no rows, or lacks a column.
    """
    path, kinds = recording.path, kinds or {}
    with mapped_errors(path):
        format = _format(recording)
        has = format.schema(path).names
        present = [name for name in columns if name in has or name not in recording.partitions]
        check_columns(path, has, present, kinds, recording.csv)
        rows = 0
        for first, batch in format.batches(path, Query(present, kinds, batch_rows, start, where, skipped)):
            if stop is not None and first >= stop:
                return
            rows = first + batch.num_rows
            _validate(path, batch)
            if rows <= start:
                continue
            skip = max(0, start - first)
            keep = rows if stop is None else min(rows, stop)
            whole = _with_partitions(batch.slice(skip, keep - first - skip), columns, present, recording)
            for place in range(0, whole.num_rows, batch_rows):
                yield first + skip + place, whole.slice(place, batch_rows)
            if keep == stop:
                return
        # Parquet is not read before `start`, nor where `where` excludes it: nothing read is then no news of the file.
        if rows == 0 and start == 0 and where is None:
            raise DataError(f"{path}: has no rows; leave it out or record it again", path=str(path))


def schema_of(recording: Recording) -> pa.Schema:
    """Return names and types of the file's columns. Those of a CSV file are all text.

    Raises:
        DataError: the file cannot be opened or is cut.
    """
    with mapped_errors(recording.path):
        return _format(recording).schema(recording.path)


def units_in(recording: Recording) -> dict[str, str]:
    """Return the units that the file tells of, by column. They are in the metadata of its schema's fields."""
    told = ((field.name, (field.metadata or {}).get(b"unit", b"").decode()) for field in schema_of(recording))
    return {name: unit.replace("\N{MICRO SIGN}", "u") for name, unit in told if unit}


def conversion_of(recording: Recording, channels: Sequence[str], units: Mapping[str, str]) -> Conversion | None:
    """Return what converts channels from the units that the file tells of, or None if it tells of no other.

    Args:
        units: the units wanted, by column. A channel without one stays as it is recorded.
    Raises:
        ConfigError: the file has a channel in a unit that cannot be converted.
    """
    if not units:
        return None
    told = {name: unit for name, unit in units_in(recording).items() if name in units}
    wanted = [units[name] if name in told else "" for name in channels]
    try:
        return conversion(channels, wanted, recorded=told)
    except ConfigError as error:
        raise ConfigError(f"{recording.path}: {error}") from None


def starts_of(recording: Recording) -> Ints:
    """Return the rows at which reading can begin without decoding what comes before."""
    with mapped_errors(recording.path):
        return _format(recording).starts(recording.path)


def rows_of(recording: Recording) -> int | None:
    """Return the number of rows, or None if the file has to be read for it."""
    with mapped_errors(recording.path):
        return _format(recording).rows(recording.path)


def check_columns(
    file: AnyPath | str,
    has: Sequence[str],
    columns: Sequence[str],
    kinds: Mapping[str, Kind],
    dialect: Dialect = PLAIN,
) -> None:
    """Raise DataError if one of the columns is missing or there twice. `file` may be the name of what is no file."""
    path, format = str(file), None if isinstance(file, str) else reading_format(file, dialect)
    for column in columns:
        if (times := has.count(column)) == 1:
            continue
        if times > 1:
            raise DataError(
                f"{path}: {times} columns are called {column!r}; rename all but one", path=path, column=column
            )
        if format and not isinstance(file, str) and (why := format.explain_missing(file, columns)) is not None:
            raise DataError(f"{path}: has no column {column!r}: {why}", path=path, column=column)
        shown = ", ".join(has[:40]) + (f", ... ({len(has)} columns)" if len(has) > 40 else "")
        close = difflib.get_close_matches(column, has, n=1) or [name for name in has if name.lower() == column.lower()]
        hint = f"did you mean {close[0]!r}? " if close else ""
        remedy = _NO_STREAM if kinds.get(column) == "name" else ""
        raise DataError(f"{path}: has no column {column!r}; {hint}{remedy}it has: {shown}", path=path, column=column)


def _format(recording: Recording) -> Format:
    """Return the format of a file that is not empty."""
    path = recording.path
    if path.stat().st_size == 0:
        raise DataError(f"{path}: has no rows (0 bytes); leave it out or record it again", path=str(path))
    format = reading_format(path, recording.csv)
    assert format is not None  # noqa: S101 (a recording has been found by its format)
    return format


def _validate(path: AnyPath, batch: pa.RecordBatch) -> None:
    """Check offsets, indices and text, which come from the file: a wrong one would read foreign memory."""
    batch.validate()
    for name, values in zip(batch.schema.names, batch.columns, strict=True):
        with mapped_errors(path, name):
            values.validate(full=True)


def _with_partitions(
    batch: pa.RecordBatch, columns: Sequence[str], present: Sequence[str], recording: Recording
) -> pa.RecordBatch:
    """Return the columns in the order asked for, those of the file's path among them."""
    if len(present) == len(columns):
        return batch.select(columns)
    codes = pa.array(np.zeros(batch.num_rows, np.int32))
    arrays = [
        batch.column(name)
        if name in present
        else pa.DictionaryArray.from_arrays(codes, pa.array([recording.partitions[name]], pa.string()))
        for name in columns
    ]
    return pa.RecordBatch.from_arrays(arrays, names=list(columns))
