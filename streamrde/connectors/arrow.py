"""Recorded files through pyarrow: samples in from Parquet, Feather / Arrow IPC and CSV, predictions out to the same."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streamrde.connectors.predictions import PredictionWriter
from streamrde.connectors.recordings import PathLike, Recording, find_recordings, read_batches
from streamrde.connectors.samples import Columns, Samples
from streamrde.connectors.timestamps import arrow_seconds
from streamrde.errors import DataError, ParameterError

__all__ = ["PredictionWriter", "read"]


def read(
    files: PathLike | Sequence[PathLike], columns: Columns, *, extra: Sequence[str] = (), batch_rows: int = 65536
) -> Iterator[Samples]:
    """Samples of recorded files, batch by batch, in constant memory.

    Formats by extension: .parquet; .feather, .arrow, .ipc, .arrows (Arrow IPC file or stream, told apart by content);
    .csv, .csv.gz. A null in a channel becomes NaN, i.e. not observed.

    Args:
        files: a file, a folder (everything below it but hidden and temporary files), a glob, or several of these. Files
            come in sorted order within an entry, entries in the order given.
        columns: names of the stream, time and channel columns. Times may be timestamps, dates or durations of any unit
            or numbers of `time_unit`; they become float64 seconds (see `to_seconds` for the precision). Streams may be
            strings, dictionary-encoded or not, or integers.
        extra: further columns to hand through as `Samples.extra`, with the types of the first file.
        batch_rows: rows in a batch, at most.
    Raises:
        DataError: nothing to read, an unknown or cut file, a missing column, text in a number column, a null or
            infinite time, a null stream; names the file, the column and, where it is one row's fault, the row.
    """
    if batch_rows < 1:
        raise ParameterError(f"batch_rows={batch_rows}: a batch needs at least one row")
    return _read(find_recordings(files), columns, tuple(extra), batch_rows)


def _read(
    recordings: Sequence[Recording], columns: Columns, extra: tuple[str, ...], batch_rows: int
) -> Iterator[Samples]:
    streams = () if columns.stream is None else (columns.stream,)
    wanted = list(dict.fromkeys((*streams, columns.time, *columns.channels, *extra)))
    remedy = dict.fromkeys(streams, "set columns.stream to another one, or to none if each file is one stream; ")
    schema: pa.Schema | None = None
    for recording in recordings:
        file = _File(recording.path)
        batches = read_batches(
            recording.path, wanted, texts=streams, numbers=columns.channels, batch_rows=batch_rows, remedy=remedy
        )
        for batch in batches:
            if columns.stream is None:
                indices = pa.array(np.zeros(batch.num_rows, np.int32))
                names = pa.DictionaryArray.from_arrays(indices, pa.array([recording.stream]))
            else:
                names = file.streams(batch, columns.stream)
            t = file.times(batch, columns.time, columns.time_unit)
            x = np.empty((batch.num_rows, len(columns.channels)))
            for i, channel in enumerate(columns.channels):
                x[:, i] = file.numbers(batch, channel)
            others = None
            if extra:
                schema = schema or batch.select(extra).schema.remove_metadata()
                others = file.others(batch, schema)
            file.rows += batch.num_rows
            yield Samples(names, t, x, others)


class _File:
    """Conversions of one file's columns, and where it is when one fails."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0

    def error(self, column: str, message: str, bad: pa.Array | NDArray[np.bool_] | None = None) -> DataError:
        """A DataError at `column` and, where `bad` marks rows of the batch, at the first of these."""
        row = "" if bad is None else f", row {self.rows + int(np.argmax(np.asarray(bad)))} (the first is 0)"
        return DataError(f"{self.path}: column {column!r}{row}: {message}", path=str(self.path), column=column)

    def streams(self, batch: pa.RecordBatch, column: str) -> pa.Array:
        names = batch.column(column)
        if pa.types.is_dictionary(names.type):
            names = pa.DictionaryArray.from_arrays(names.indices, self._strings(column, names.dictionary))
            # The dictionary itself may hold a null or an empty name that no row uses: look at the rows.
            missing = pc.fill_null(pc.take(pc.equal(names.dictionary, ""), names.indices), True)
        else:
            names = self._strings(column, names)
            missing = pc.fill_null(pc.equal(names, ""), True)
        if pc.any(missing).as_py():
            raise self.error(column, "the stream has no name; fill it in or drop the row", missing)
        return names

    def _strings(self, column: str, names: pa.Array) -> pa.Array:
        kind = names.type
        is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
        if not (is_text or pa.types.is_integer(kind)):
            raise self.error(column, f"a stream's name cannot be {kind}; store it as string or integer")
        return names.cast(pa.string())

    def times(self, batch: pa.RecordBatch, column: str, unit: str) -> NDArray[np.float64]:
        times = _plain(batch.column(column))
        if times.null_count:
            raise self.error(column, "the time is null; fill it in or drop the row", times.is_null())
        try:
            t = arrow_seconds(times, unit)
        except TypeError:
            raise self.error(
                column, f"a time cannot be {times.type}; store a timestamp, or numbers and set time_unit"
            ) from None
        if not math.isfinite(t.sum()) and not (finite := np.isfinite(t)).all():
            raise self.error(column, "the time is not finite; correct it or drop the row", ~finite)
        return t

    def numbers(self, batch: pa.RecordBatch, column: str) -> NDArray[np.float64]:
        values = _plain(batch.column(column))
        kind = values.type
        numeric = pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)
        if not (numeric or pa.types.is_boolean(kind) or pa.types.is_null(kind)):
            raise self.error(column, f"a channel cannot be {kind}; store numbers, or choose another column")
        numbers: NDArray[np.float64] = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return numbers

    def others(self, batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
        arrays = []
        for field in schema:
            values = batch.column(field.name)
            try:
                arrays.append(values if values.type == field.type else values.cast(field.type))
            except pa.ArrowException:
                raise self.error(
                    field.name,
                    f"holds {values.type} that is no {field.type}, the first file's type; store one type in all files",
                ) from None
        return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _plain(values: pa.Array) -> pa.Array:
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values
