"""Turn the rows of recorded files, or of an Arrow stream, into samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamrde.arrays import Bools, Floats, Ints
from streamrde.connectors.columns import Columns
from streamrde.connectors.files.cells import are_like_numbers
from streamrde.connectors.files.errors import mapped_errors
from streamrde.connectors.files.filters import Filter, check_filters, expression, select
from streamrde.connectors.files.formats import Kind, reading_format
from streamrde.connectors.files.long_form import LongForm
from streamrde.connectors.files.record_batches import check_columns, conversion_of, read_batches, schema_of
from streamrde.connectors.files.recordings import PathLike, Recording, find_recordings
from streamrde.connectors.files.sample_file import RowError, SampleFile
from streamrde.connectors.files.spread import Spread, member_of, members_of
from streamrde.connectors.files.together import numbered_together
from streamrde.connectors.samples import Samples
from streamrde.connectors.units import Conversion
from streamrde.connectors.values import spellings
from streamrde.errors import ConfigError, ParameterError

Faults: TypeAlias = Literal["error", "drop"]

# A column of row numbers while rows are filtered, so that an error can still say which row of the file it means.
_ROW = "__row__"


def read(
    files: PathLike | Sequence[PathLike],
    columns: Columns,
    *,
    extra: Sequence[str] = (),
    extra_schema: pa.Schema | None = None,
    filters: Sequence[Filter] = (),
    batch_rows: int = 65536,
) -> Iterator[Samples]:
    """Yield samples of recorded files, batch by batch, in constant memory.

    Formats by extension: .parquet; .feather, .arrow, .ipc, .arrows (Arrow IPC file or stream, told apart by content);
    .csv, .tsv, .txt and .dat, each also with .gz, .bz2 or .zst (see `Dialect`). A null in a channel becomes NaN, i.e.
    not observed. Hive partitions, ``column=value`` in the names of folders, are columns like any other.

    Args:
        files: a file, a folder (everything below it but hidden and temporary files), a glob, or several of these. Files
            come in sorted order within an entry, entries in the order given.
        columns: names of the stream, time and channel columns. Times may be timestamps, dates or durations of any
            unit, text, or numbers of `time_unit`; they become float64 seconds (see `to_seconds` for the precision). If
            the time column is "", rows are a second apart, or `columns.rate` of them are in a second, from 0 on.
            Streams may be strings, dictionary-encoded or not, or integers.
        extra: further columns to hand through as `Samples.extra`, with the types of the first file.
        extra_schema: types of all the further columns, instead.
        filters: comparisons that all must hold for a row to be read, ``("site", "==", "A")``.
        batch_rows: rows in a batch, at most.
    Raises:
        DataError: nothing to read, an unknown or cut file, a missing column, text in a number column, a null or
            infinite time, a null stream; names the file, the column and, where it is one row's fault, the row.
    """
    if batch_rows < 1:
        raise ParameterError(f"batch_rows={batch_rows}: a batch needs at least one row")
    reader = SampleReader(columns, extra=extra, extra_schema=extra_schema, filters=filters, batch_rows=batch_rows)
    return _read(reader.find(files), reader)


def _read(recordings: Sequence[Recording], reader: SampleReader) -> Iterator[Samples]:
    for recording in recordings:
        yield from (samples for _, samples in reader.read(recording))


class SampleReader:
    """Turn record batches into samples: find columns by name, filter, check and convert them.

    Args:
        columns, extra, filters, batch_rows: see `read`.
        extra_schema: types of the extra columns; None = those of the first batch.
        conversion: brings the channels to the model's units.
        units: the model's unit of a channel's column, for files that tell their own. "" = as recorded.
        faults: rows that cannot be used, "error", or "drop": they are counted and left out. These are rows without a
            time or a stream, with text for a number and, in CSV, of another length than the header.
        finite: an infinite value is an error too; else it passes.
        numbers: extra columns that hold numbers, which a CSV file does not say.
    """

    def __init__(
        self,
        columns: Columns,
        *,
        extra: Sequence[str] = (),
        extra_schema: pa.Schema | None = None,
        filters: Sequence[Filter] = (),
        conversion: Conversion | None = None,
        units: Mapping[str, str] = {},
        batch_rows: int = 65536,
        faults: Faults = "error",
        finite: bool = False,
        numbers: Sequence[str] = (),
    ) -> None:
        check_filters(filters)
        known = ("date", "levels", "sender", "name", "missing", "words", "limits", "rate", "others")
        columns.refuse_others("recorded files", known)
        self.columns = columns
        self.members = members_of(columns.channels)
        """Files that the channels are spread over. (): all are in one file."""
        self._form = columns.time_form()
        self.extra = tuple(extra)
        self.extra_schema = extra_schema
        """Types of the further columns. None: not known before the first rows."""
        self._filters = tuple(filters)
        self._conversion = conversion
        self._units = {column: unit for column, unit in units.items() if unit}
        self._batch_rows = batch_rows
        self._drops = faults == "drop"
        self._finite = finite
        self._numbers = tuple(numbers)
        self.dropped: Counter[str] = Counter()
        """Rows that were left out, by the reason."""
        self.implausible: Counter[str] = Counter()
        """Values outside of their channel's limits, which count as not observed, by channel."""
        places = {name: i for i, name in enumerate(columns.channels)}
        if unknown := [name for name in columns.limits if name not in places]:
            raise ConfigError(f"limits names {unknown[0]!r}, which is none of the channels {list(places)}")
        self._limits = [(places[name], *pair) for name, pair in columns.limits.items()]
        self.nameless: Counter[str] = Counter()
        """Rows left out whose stream is not known. Who reads a file twice counts them once."""
        self._names: tuple[str, ...] = () if columns.stream is None else (columns.stream, *columns.levels)
        own = {channel: spellings(columns, channel) for channel in columns.channels}
        self._spellings = own
        self._long = LongForm(columns.name, columns.value, own, others=columns.others) if columns.name else None
        self._values_in = (columns.name, columns.value) if columns.name else columns.channels
        self._times = tuple(name for name in (columns.date, columns.time) if name)
        filtered = (column for column, _, _ in filters)
        self.wanted = list(dict.fromkeys((*self._names, *self._times, *self._values_in, *self.extra, *filtered)))
        self._kinds = self._uses()
        self._spread = Spread(columns, self.members, self.extra, self._of_member) if self.members else None

    def _of_member(self, member: str, places: list[int], columns: Columns) -> SampleReader:
        """Return the reader of one of the files that the channels are spread over."""

        def own(names: Iterable[str]) -> list[str]:
            return [column for file, column in map(member_of, names) if file in ("", member)]

        conversion = self._conversion
        if conversion is not None:
            conversion = Conversion(conversion.factor[places], conversion.offset[places])
        schema = self.extra_schema
        if schema is not None:
            schema = pa.schema([field.with_name(name) for field in schema for name in own([field.name])])
        return SampleReader(
            columns,
            extra=own(self.extra),
            extra_schema=schema,
            filters=[(name, op, value) for column, op, value in self._filters for name in own([column])],
            conversion=conversion,
            batch_rows=self._batch_rows,
            faults="drop" if self._drops else "error",
            finite=self._finite,
            numbers=own(self._numbers),
        )

    def find(self, files: PathLike | Iterable[PathLike]) -> list[Recording]:
        """Return the recordings that `files` names. See `find_recordings`."""
        return find_recordings(files, csv=self.columns.csv, members=self.members)

    @property
    def is_partial(self) -> bool:
        """True if rows may have only some of a sample's channels. Those in order of time are then put together."""
        return self._long is not None or bool(self.members)

    def _uses(self) -> dict[str, Kind]:
        """Return how each column is used."""
        kinds: dict[str, Kind] = dict.fromkeys(self._names, "name")
        for time in self._times:
            kinds.setdefault(time, "text" if self._form.reads_text or self.columns.date else "time")
        if self.columns.name:
            kinds.setdefault(self.columns.name, "name")
        # A word that a reader of CSV would take for a number has to be read as text.
        wordy = any(map(are_like_numbers, self._spellings.values()))
        for column in self._values_in:
            kinds.setdefault(column, "text" if wordy else "number")
        for name in self._numbers:
            kinds.setdefault(name, "number")
        for field in self.extra_schema or ():
            kinds.setdefault(field.name, "number" if pa.types.is_floating(field.type) else "any")
        for column, _, value in self._filters:
            values = value if isinstance(value, tuple) else (value,)
            if all(isinstance(one, str) for one in values):
                kinds.setdefault(column, "label")
            elif not any(isinstance(one, str | bool) for one in values):
                kinds.setdefault(column, "number")
        return kinds

    def read(
        self, recording: Recording, *, start: int = 0, stop: int | None = None, streams: Collection[str] | None = None
    ) -> Iterator[tuple[int, Samples]]:
        """Yield samples of one file, each batch with the row of the file at which the next one begins.

        Args:
            start, stop: rows of the file, [start, stop).
            streams: those wanted; None = all.
        Raises:
            DataError: see the function `read`.
        """
        recording = recording._replace(csv=self.columns.csv)
        if self._spread is not None:
            self._spread.count_in(self.dropped, self.nameless)
            for after, samples in numbered_together(self._spread.read(recording.files, start)):
                self._limit(samples.x)
                yield after, samples
            return
        batches = read_batches(
            recording,
            self.wanted,
            kinds=self._kinds,
            batch_rows=self._batch_rows,
            skipped=self.nameless if self._drops else None,
            start=start,
            stop=stop,
            where=self._pruning(recording) if self._filters else None,
        )
        file = SampleFile(recording.path, recording.csv)
        file.conversion = conversion_of(recording, self.columns.channels, self._units) if file.is_sparse else None
        wanted = None if streams is None else pa.array(list(streams), pa.string())
        if self._long is not None:
            self._long.begin()
        found = self._converted(batches, file, recording, wanted)
        if self._long is None:
            yield from ((after, samples) for samples, _, after in found)
        else:
            yield from numbered_together(found)
            if start == 0 and stop is None:
                self._long.check_found(file.path)

    def _converted(
        self,
        batches: Iterator[tuple[int, pa.RecordBatch]],
        file: SampleFile,
        recording: Recording,
        wanted: pa.Array | None,
    ) -> Iterator[tuple[Samples, Ints, int]]:
        """Yield the samples of each batch, the row of the file of each, and the row after the batch."""
        for first, batch in batches:
            samples = self.convert(batch, file, first, recording.stream, wanted, recording.partitions)
            if samples is not None:
                yield samples, file.taken, first + batch.num_rows

    def streams(
        self, recording: Recording, *, batch_rows: int, dropped: Counter[str]
    ) -> Iterator[tuple[Ints, pa.DictionaryArray]]:
        """Yield the row of the file and the stream's name of each row, and read no other column.

        Rows without a name are counted in `dropped`.
        """
        recording = recording._replace(csv=self.columns.csv)
        file = SampleFile(recording.path, recording.csv)
        batches = read_batches(
            recording,
            self._names,
            kinds=dict.fromkeys(self._names, "name"),
            batch_rows=batch_rows,
            skipped=dropped if self._drops else None,
        )
        for first, batch in batches:
            file.rows = first
            names, _ = self._named(batch, file, "", dropped)
            numbers = file.numbers_of_rows
            file.finish(None)
            rows = np.arange(first, first + len(names)) if numbers is None else numbers
            yield rows, names if pa.types.is_dictionary(names.type) else names.dictionary_encode()

    def read_arrow(self, batches: pa.RecordBatchReader) -> Iterator[Samples]:
        """Yield samples of any Arrow stream.

        Raises:
            DataError: see the function `read`.
        """
        file = SampleFile("the Arrow stream")
        check_columns(file.path, batches.schema.names, self.wanted, self._kinds)
        recording = Recording(Path(file.path), "stream")
        found = self._converted(self._pieces(batches), file, recording, None)
        if self._long is None:
            yield from (samples for samples, _, _ in found)
        else:
            yield from (samples for _, samples in numbered_together(found))

    def _pieces(self, batches: pa.RecordBatchReader) -> Iterator[tuple[int, pa.RecordBatch]]:
        first = 0
        for batch in batches:
            for start in range(0, batch.num_rows, self._batch_rows):
                yield first + start, batch.slice(start, self._batch_rows).select(self.wanted)
            first += batch.num_rows

    def check(self, recording: Recording) -> pa.Schema:
        """Check the file's columns and their types without reading rows. Return the file's schema.

        Raises:
            DataError: a column is missing or of a type that cannot be used.
        """
        recording = recording._replace(csv=self.columns.csv)
        if self._spread is not None:
            return self._spread.check(recording.files)
        schema, path = schema_of(recording), recording.path
        wanted = [name for name in self.wanted if name in schema.names or name not in recording.partitions]
        check_columns(path, schema.names, wanted, self._kinds, recording.csv)
        format = reading_format(path)
        if format is None or not format.is_text:  # what is guessed from a first block is no type to rely on
            types = [schema.field(name).type if name in wanted else pa.string() for name in self.wanted]
            empty = pa.RecordBatch.from_arrays([_empty(kind) for kind in types], names=self.wanted)
            self.convert(empty, SampleFile(path, recording.csv), 0, recording.stream, None, recording.partitions)
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
        """Convert a record batch that has the columns `wanted` to samples, or return None if no row is left.

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
        if self._long is not None and (batch := self._of_channels(batch, file)).num_rows == 0:
            return file.finish(None)
        names, batch = self._named(batch, file, stream, self.nameless)
        if wanted is not None and columns.stream is not None:
            own = _is_in(names, wanted)
            if not own.any():
                return file.finish(None)
            if not own.all():
                batch, names = file.filter(own, batch), names.filter(pa.array(own))
        before = batch.num_rows
        while True:
            try:
                t, x, others = self._values(batch, file)
                break
            except RowError as error:
                batch, names = self._without(error, batch, names, file, self.dropped)
        samples = Samples(names, t, x, others)
        if file.is_sparse:
            observed: Bools = np.logical_not(np.isnan(x).all(axis=1))
            batch, own = file.filter(observed, batch), pa.array(observed)
            others = None if others is None else others.filter(own)
            samples = Samples(names.filter(own), t[observed], x[observed], others)
        return file.finish(samples if batch.num_rows or not before else None)

    def _named(
        self, batch: pa.RecordBatch, file: SampleFile, stream: str, counts: Counter[str]
    ) -> tuple[pa.Array, pa.RecordBatch]:
        """Return the streams' names, and the rows that have one."""
        while True:
            try:
                return self._streams(batch, file, stream), batch
            except RowError as error:
                batch, _ = self._without(error, batch, None, file, counts)

    def _streams(self, batch: pa.RecordBatch, file: SampleFile, stream: str) -> pa.Array:
        if self.columns.stream is None:
            return pa.DictionaryArray.from_arrays(pa.array(np.zeros(batch.num_rows, np.int32)), pa.array([stream]))
        parts = []
        for column in self._names:
            with mapped_errors(file.path, column):
                parts.append(file.streams(batch, column))
        if len(parts) == 1:
            return parts[0]
        plain = (one.dictionary_decode() if pa.types.is_dictionary(one.type) else one for one in parts)
        return pc.binary_join_element_wise(*(one.cast(pa.string()) for one in plain), "/").dictionary_encode()

    def _of_channels(self, batch: pa.RecordBatch, file: SampleFile) -> pa.RecordBatch:
        """Return the rows of the long form that name a channel, and count the others."""
        assert self._long is not None  # noqa: S101 (the caller looks)
        while True:
            try:
                with mapped_errors(file.path, self.columns.name):
                    own = self._long.places(batch, file) >= 0
                break
            except RowError as error:
                batch, _ = self._without(error, batch, None, file, self.dropped)
        self._long.look(batch, own)
        if own.all():
            return batch
        self.dropped[self._long.reason] += int((~own).sum())
        return file.filter(own, batch)

    def _values(self, batch: pa.RecordBatch, file: SampleFile) -> tuple[Floats, Floats, pa.RecordBatch | None]:
        columns = self.columns
        if columns.time:
            with mapped_errors(file.path, columns.time):
                t = file.times(batch, columns.time, self._form, columns.date)
        else:
            t = file.row_numbers(batch.num_rows) / columns.rate
        if self._long is not None:
            with mapped_errors(file.path, columns.value):
                x = self._long.values(batch, file, self._long.places(batch, file))
        else:
            x = np.empty((batch.num_rows, len(columns.channels)))
        for i, (channel, own) in enumerate(self._spellings.items()):
            if self._long is None:
                with mapped_errors(file.path, channel):
                    x[:, i] = file.numbers(batch, channel, own)
            for number in own.numbers:
                x[x[:, i] == number, i] = np.nan
            if self._finite and (infinite := np.isinf(x[:, i])).any():
                column = channel if self._long is None else columns.value
                raise file.error(column, "the value is infinite; correct it or drop the row", infinite)
        for conversion in (self._conversion, file.conversion):
            if conversion is not None:
                x *= conversion.factor
                x += conversion.offset
        self._limit(x)
        if not self.extra:
            return t, x, None
        self.extra_schema = self.extra_schema or batch.select(self.extra).schema.remove_metadata()
        return t, x, file.others(batch, self.extra_schema)

    def _limit(self, x: Floats) -> None:
        """Count values outside of their channel's limits as not observed."""
        for i, low, high in self._limits:
            outside = (x[:, i] < low) | (x[:, i] > high)
            if outside.any():
                self.implausible[self.columns.channels[i]] += int(outside.sum())
                x[outside, i] = np.nan

    def _without(
        self, error: RowError, batch: pa.RecordBatch, names: pa.Array | None, file: SampleFile, counts: Counter[str]
    ) -> tuple[pa.RecordBatch, pa.Array | None]:
        """Return the batch and its names without the rows at fault, and count these rows.

        Raises:
            RowError: rows at fault are not to be dropped, or the error marks none.
        """
        if not self._drops or not error.bad.any():
            raise error
        counts[error.reason] += int(error.bad.sum())
        good = ~error.bad
        return file.filter(good, batch), None if names is None else names.filter(pa.array(good))

    def _pruning(self, recording: Recording) -> pc.Expression | None:
        """Return the filters on columns of the file itself, for the statistics of its row groups."""
        schema = schema_of(recording)
        try:
            return expression([f for f in self._filters if f[0] in schema.names], schema)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return None  # a value of another type than its column: `select` says so


def _is_in(names: pa.Array, wanted: pa.Array) -> Bools:
    if pa.types.is_dictionary(names.type):
        own: Bools = pc.is_in(names.dictionary, wanted).to_numpy(zero_copy_only=False)
        rows: Bools = own[names.indices.to_numpy(zero_copy_only=False)]
        return rows
    found: Bools = pc.is_in(names, wanted).to_numpy(zero_copy_only=False)
    return found


def _empty(kind: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(kind):  # as polars' categories are, of a type that pyarrow makes no arrays of
        return pa.DictionaryArray.from_arrays(pa.nulls(0, kind.index_type), pa.nulls(0, kind.value_type))
    return pa.nulls(0, kind)
