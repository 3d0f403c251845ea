"""Recorded files through pyarrow: samples in from Parquet, Feather / Arrow IPC and CSV, predictions out to the same."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streamrde.connectors.filters import Filter, check_filters, expression, select
from streamrde.connectors.predictions import PredictionWriter
from streamrde.connectors.record_batches import check_columns, read_batches, schema_of
from streamrde.connectors.recordings import CSV, PathLike, Recording, find_recordings, suffix_of
from streamrde.connectors.samples import Columns, Samples
from streamrde.connectors.units import Conversion
from streamrde.errors import DataError, ParameterError
from streamrde.times import NotATimeError, TimeForm

__all__ = ["PredictionWriter", "SampleReader", "read"]

# A column of row numbers while rows are filtered, so that an error can still say which row of the file it means.
_ROW = "__row__"


def read(
    files: PathLike | Sequence[PathLike],
    columns: Columns,
    *,
    extra: Sequence[str] = (),
    filters: Sequence[Filter] = (),
    batch_rows: int = 65536,
) -> Iterator[Samples]:
    """Samples of recorded files, batch by batch, in constant memory.

    Formats by extension: .parquet; .feather, .arrow, .ipc, .arrows (Arrow IPC file or stream, told apart by content);
    .csv, .csv.gz. A null in a channel becomes NaN, i.e. not observed. Hive partitions, ``column=value`` in the names of
    folders, are columns like any other.

    Args:
        files: a file, a folder (everything below it but hidden and temporary files), a glob, or several of these. Files
            come in sorted order within an entry, entries in the order given.
        columns: names of the stream, time and channel columns. Times may be timestamps, dates or durations of any
            unit, text, or numbers of `time_unit`; they become float64 seconds (see `to_seconds` for the precision).
            Streams may be strings, dictionary-encoded or not, or integers.
        extra: further columns to hand through as `Samples.extra`, with the types of the first file.
        filters: comparisons that all must hold for a row to be read, ``("site", "==", "A")``.
        batch_rows: rows in a batch, at most.
    Raises:
        DataError: nothing to read, an unknown or cut file, a missing column, text in a number column, a null or
            infinite time, a null stream; names the file, the column and, where it is one row's fault, the row.
    """
    if batch_rows < 1:
        raise ParameterError(f"batch_rows={batch_rows}: a batch needs at least one row")
    return _read(find_recordings(files), SampleReader(columns, extra=extra, filters=filters, batch_rows=batch_rows))


def _read(recordings: Sequence[Recording], reader: SampleReader) -> Iterator[Samples]:
    for recording in recordings:
        yield from (samples for _, samples in reader.read(recording))


_NO_STREAM = "set columns.stream to another one, or to none if each file is one stream; "


class SampleReader:
    """Record batches as samples: columns found by name, filtered, checked, converted.

    Args:
        columns, extra, filters, batch_rows: see `read`.
        extra_schema: types of the extra columns; None = those of the first batch.
        conversion: brings the channels to the model's units.
    """

    def __init__(
        self,
        columns: Columns,
        *,
        extra: Sequence[str] = (),
        extra_schema: pa.Schema | None = None,
        filters: Sequence[Filter] = (),
        conversion: Conversion | None = None,
        batch_rows: int = 65536,
    ) -> None:
        check_filters(filters)
        self.columns = columns
        self._form = columns.time_form()
        self.extra = tuple(extra)
        self._extra_schema = extra_schema
        self._filters = tuple(filters)
        self._conversion = conversion
        self._batch_rows = batch_rows
        self._texts = () if columns.stream is None else (columns.stream,)
        self._remedy = dict.fromkeys(self._texts, _NO_STREAM)
        filtered = (column for column, _, _ in filters)
        self.wanted = list(dict.fromkeys((*self._texts, columns.time, *columns.channels, *self.extra, *filtered)))

    def read(
        self, recording: Recording, *, start: int = 0, stop: int | None = None, streams: Collection[str] | None = None
    ) -> Iterator[tuple[int, Samples]]:
        """Samples of one file, each batch with the row of the file at which the next one begins.

        Args:
            start, stop: rows of the file, [start, stop).
            streams: those wanted; None = all.
        Raises:
            DataError: see the function `read`.
        """
        batches = read_batches(
            recording,
            self.wanted,
            texts=(*self._texts, self.columns.time) if self._form.reads_text else self._texts,
            numbers=self.columns.channels,
            batch_rows=self._batch_rows,
            remedy=dict.fromkeys(
                self._texts, "set columns.stream to another one, or to none if each file is one stream; "
            ),
            start=start,
            stop=stop,
            where=self._pruning(recording) if self._filters else None,
        )
        file = SampleFile(str(recording.path))
        wanted = None if streams is None else pa.array(list(streams), pa.string())
        for first, batch in batches:
            samples = self.convert(batch, file, first, recording.stream, wanted, recording.partitions)
            if samples is not None:
                yield first + batch.num_rows, samples

    def read_arrow(self, batches: pa.RecordBatchReader) -> Iterator[Samples]:
        """Samples of an Arrow stream, whoever made it.

        Raises:
            DataError: see the function `read`.
        """
        file = SampleFile("the Arrow stream")
        check_columns(file.path, batches.schema.names, self.wanted, self._remedy)
        first = 0
        for batch in batches:
            for start in range(0, batch.num_rows, self._batch_rows):
                piece = batch.slice(start, self._batch_rows).select(self.wanted)
                samples = self.convert(piece, file, first + start, "stream")
                if samples is not None:
                    yield samples
            first += batch.num_rows

    def check(self, recording: Recording) -> pa.Schema:
        """Look at the file's columns and their types, and at no row; the schema is the file's own.

        Raises:
            DataError: a column is missing or of a type that cannot be used.
        """
        schema, path = schema_of(recording), str(recording.path)
        wanted = [name for name in self.wanted if name in schema.names or name not in recording.partitions]
        check_columns(path, schema.names, wanted, self._remedy)
        if suffix_of(recording.path) not in CSV:  # what is guessed from a first block is no type to rely on
            fields = [schema.field(name) if name in wanted else pa.field(name, pa.string()) for name in self.wanted]
            empty = pa.RecordBatch.from_arrays([pa.array([], f.type) for f in fields], names=self.wanted)
            self.convert(empty, SampleFile(path), 0, recording.stream, None, recording.partitions)
        return schema

    def convert(
        self,
        batch: pa.RecordBatch,
        file: SampleFile,
        first: int,
        stream: str,
        wanted: pa.Array | None = None,
        partitions: Collection[str] = (),
    ) -> Samples | None:
        """Samples of a record batch that has the columns `wanted`; None where no row is left.

        Args:
            file: what errors name.
            first: the batch's first row in the file.
            stream: the stream's name where no column holds it.
            wanted: names of the streams wanted, strings; None = all.
            partitions: columns that the file's path holds, as text.
        """
        file.rows = first
        if self._filters:
            numbered = batch.append_column(_ROW, pa.array(np.arange(first, first + batch.num_rows)))
            table = select(pa.Table.from_batches([numbered]), self._filters, where=file.path, texts=partitions)
            if not table.num_rows:
                return None
            batch = table.combine_chunks().to_batches()[0]
            file.numbers_of_rows = batch.column(_ROW).to_numpy()
        columns = self.columns
        if columns.stream is None:
            indices = pa.array(np.zeros(batch.num_rows, np.int32))
            names = pa.DictionaryArray.from_arrays(indices, pa.array([stream]))
        else:
            names = file.streams(batch, columns.stream)
            if wanted is not None:
                own = _is_in(names, wanted)
                if not own.any():
                    return None
                if not own.all():
                    mask = pa.array(own)
                    batch, names = batch.filter(mask), names.filter(mask)
                    numbers = file.numbers_of_rows
                    file.numbers_of_rows = np.flatnonzero(own) + first if numbers is None else numbers[own]
        t = file.times(batch, columns.time, self._form)
        x = np.empty((batch.num_rows, len(columns.channels)))
        for i, channel in enumerate(columns.channels):
            x[:, i] = file.numbers(batch, channel)
        if self._conversion is not None:
            x *= self._conversion.factor
            x += self._conversion.offset
        others = None
        if self.extra:
            self._extra_schema = self._extra_schema or batch.select(self.extra).schema.remove_metadata()
            others = file.others(batch, self._extra_schema)
        file.numbers_of_rows = None
        return Samples(names, t, x, others)

    def _pruning(self, recording: Recording) -> pc.Expression | None:
        """The filters on columns of the file itself, for the statistics of its row groups."""
        schema = schema_of(recording)
        try:
            return expression([f for f in self._filters if f[0] in schema.names], schema)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return None  # a value of another type than its column: `select` says so


def _is_in(names: pa.Array, wanted: pa.Array) -> NDArray[np.bool_]:
    if pa.types.is_dictionary(names.type):
        own: NDArray[np.bool_] = pc.is_in(names.dictionary, wanted).to_numpy(zero_copy_only=False)
        rows: NDArray[np.bool_] = own[names.indices.to_numpy(zero_copy_only=False)]
        return rows
    found: NDArray[np.bool_] = pc.is_in(names, wanted).to_numpy(zero_copy_only=False)
    return found


class SampleFile:
    """Conversions of one file's columns, and where it is when one fails."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.rows = 0
        """Row of the file where the batch begins."""
        self.numbers_of_rows: NDArray[np.int64] | None = None
        """Rows of the file that are left of the batch, where some were filtered out."""

    def error(self, column: str, message: str, bad: pa.Array | NDArray[np.bool_] | None = None) -> DataError:
        """A DataError at `column` and, where `bad` marks rows of the batch, at the first of these."""
        row = "" if bad is None else f", row {self._row(int(np.argmax(np.asarray(bad))))} (the first is 0)"
        return DataError(f"{self.path}: column {column!r}{row}: {message}", path=self.path, column=column)

    def _row(self, place: int) -> int:
        return self.rows + place if self.numbers_of_rows is None else int(self.numbers_of_rows[place])

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

    def times(self, batch: pa.RecordBatch, column: str, form: TimeForm) -> NDArray[np.float64]:
        times = _plain(batch.column(column))
        if times.null_count:
            raise self.error(column, "the time is null; fill it in or drop the row", times.is_null())
        try:
            t = form.column(times)
        except NotATimeError as error:
            raise self.error(column, str(error), np.arange(len(times)) == error.place) from None
        except TypeError:
            raise self.error(
                column, f"a time cannot be {times.type}; store a timestamp, ISO 8601 text, or numbers and set time_unit"
            ) from None
        if not math.isfinite(t.sum()) and not (finite := np.isfinite(t)).all():
            raise self.error(column, "the time is not finite; correct it or drop the row", ~finite)
        return t

    def numbers(self, batch: pa.RecordBatch, column: str) -> NDArray[np.floating]:
        values = _plain(batch.column(column))
        kind = values.type
        numeric = pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)
        if not (numeric or pa.types.is_boolean(kind) or pa.types.is_null(kind)):
            raise self.error(column, f"a channel cannot be {kind}; store numbers, or choose another column")
        if pa.types.is_floating(kind) and not values.null_count and not pa.types.is_float16(kind):
            plain: NDArray[np.floating] = values.to_numpy()  # the caller's array converts it
            return plain
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
