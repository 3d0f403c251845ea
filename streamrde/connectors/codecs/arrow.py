"""Arrow IPC streams: many samples in a message, by columns."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from streamrde.arrays import Floats
from streamrde.connectors.codecs.checks import check_samples, check_size
from streamrde.connectors.codecs.refusals import listed, no_channel
from streamrde.connectors.columns import Columns
from streamrde.connectors.ends import MAX_BYTES, Codec
from streamrde.connectors.values import NotANumberError, Values
from streamrde.errors import ParameterError, PayloadError
from streamrde.times import NotATimeError

# Positions in the Message and RecordBatch tables of Arrow's Message.fbs.
_HEADER, _COMPRESSION = 2, 3


class ArrowCodec(Codec):
    """Convert samples of one stream to and from an Arrow IPC stream: schema, record batches, without compression.

    A column that is absent was not observed, but one channel's must be there; columns that `columns` does not name are
    ignored. Timestamps and durations carry their own unit.

    Args:
        columns: names of the time and channel columns; `columns.stream` is not used.
        max_bytes: longer payloads are refused.
    """

    format = "arrow"
    media_types = ("application/vnd.apache.arrow.stream",)

    def __init__(self, columns: Columns, *, max_bytes: int = MAX_BYTES) -> None:
        if not columns.time:
            raise ParameterError("Arrow batches have a column of times: name it in columns.time")
        columns.refuse_others("Arrow batches", ("missing",))
        self._values = Values(columns)
        super().__init__(columns, max_bytes=max_bytes)
        self._form = columns.time_form()

    def decode(self, payload: bytes) -> tuple[Floats, Floats]:
        """See `Codec.decode`."""
        check_size(payload, self.max_bytes)
        try:
            _refuse_compression(payload)
            source = pa.BufferReader(payload)
            with pa.ipc.open_stream(source) as reader:
                table = reader.read_all()
            if rest := len(payload) - source.tell():
                raise PayloadError(f"{rest} bytes follow its Arrow IPC stream; send one stream a message")
            # Arrow trusts offsets that it reads; this looks at each.
            table.validate(full=True)
            names = [self.columns.time, *self.columns.values]
            table = _flattened(table, names)
            found = table.select([name for name in names if name in table.column_names]).combine_chunks()
            _require_columns(table.schema, self.columns)
            return self._arrays(found)
        except PayloadError:
            raise
        except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
            raise PayloadError(f"no Arrow IPC stream of samples: {str(error)[:200]}") from None

    def _arrays(self, table: pa.Table) -> tuple[Floats, Floats]:
        time = _one_chunk(table[self.columns.time])
        if time.null_count:
            raise PayloadError(f"column {self.columns.time!r} has a null")
        try:
            t = self._form.column(time)
        except NotATimeError as error:
            raise PayloadError(f"column {self.columns.time!r}, row {error.place}: {error}") from None
        x = np.full((len(t), len(self.columns.values)), np.nan)
        for i, name in enumerate(self.columns.values):
            if name in table.column_names:
                column = _one_chunk(table[name])
                if (
                    name in self.columns.classes
                    and not pa.types.is_floating(column.type)
                    and not pa.types.is_integer(column.type)
                ):
                    x[:, i] = self._classes(name, column)
                    continue
                try:
                    x[:, i] = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
                except (pa.ArrowException, ValueError) as error:
                    raise PayloadError(f"column {name!r} is of type {column.type}: {str(error)[:200]}") from None
        check_samples(t, x, self.columns)
        return t, self._values.without_codes(x)

    def _classes(self, name: str, column: pa.Array) -> list[float]:
        """Return the numbers of names."""
        try:
            return [self._values.number(name, value) for value in column.to_pylist()]
        except NotANumberError as error:
            raise PayloadError(f"column {name!r}: {error}") from None

    def encode_samples(self, t: ArrayLike, x: ArrayLike) -> bytes:
        """See `Codec.encode_samples`."""
        times, values = np.asarray(t, dtype=np.float64), np.asarray(x, dtype=np.float64)
        ticks = [self._form.encode(time) for time in times.tolist()]
        columns = {self.columns.time: ticks if isinstance(ticks[0], str) else np.array(ticks, dtype=np.float64)}
        columns |= dict(zip(self.columns.values, np.ascontiguousarray(values.T), strict=True))
        batch = pa.record_batch({name: pa.array(column) for name, column in columns.items()})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        return bytes(sink.getvalue())


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _flattened(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """Return a table whose structs are columns with paths as names, as deep as the wanted names need it."""
    deepest = max(name.count(".") for name in names)
    for _ in range(deepest):
        if all(name in table.column_names for name in names):
            break
        table = table.flatten()
    return table


def _require_columns(schema: pa.Schema, columns: Columns) -> None:
    """Raise PayloadError where the time or every channel is missing, with the columns that there are."""
    beside = pa.schema([field for field in schema if field.name != columns.time])
    if any(name in beside.names for name in columns.channels):
        if columns.time not in schema.names:
            raise PayloadError(f"no column {columns.time!r} with the time; it has: {listed(schema.names)}")
        return
    raise PayloadError(no_channel([name for field in beside for name in _names(field)], columns))


def _names(field: pa.Field) -> list[str]:
    """Return the column's name, or those of the fields in it."""
    if pa.types.is_struct(field.type):
        return [f"{field.name}.{inner.name}" for inner in field.type]
    return [f"{field.name}[]" if pa.types.is_nested(field.type) else field.name]


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _refuse_compression(payload: bytes) -> None:
    """Raise PayloadError where a record batch is compressed: its size unpacked is whatever its sender claims."""
    reader = pa.ipc.MessageReader.open_stream(payload)
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            return
        if message.type in ("record batch", "dictionary"):
            metadata = message.metadata.to_pybytes()
            if message.type == "dictionary" or _is_compressed(metadata):
                raise PayloadError("record batches must be neither compressed nor dictionary-encoded")


def _is_compressed(metadata: bytes) -> bool:
    """Return True if the RecordBatch in an IPC message's flatbuffer has its field `compression` set."""
    try:
        (root,) = struct.unpack_from("<I", metadata)
        header = _field(metadata, root, _HEADER)
        if header is None:
            return False
        batch = header + struct.unpack_from("<I", metadata, header)[0]
        return _field(metadata, batch, _COMPRESSION) is not None
    except struct.error:
        raise PayloadError("no Arrow IPC stream: a message's header is cut") from None


def _field(buffer: bytes, table: int, index: int) -> int | None:
    """Return the offset of a field of a flatbuffer's table, or None if it is not set."""
    vtable = table - struct.unpack_from("<i", buffer, table)[0]
    if vtable < 0:
        raise PayloadError("no Arrow IPC stream: a message's header is damaged")
    (size,) = struct.unpack_from("<H", buffer, vtable)
    place = 4 + 2 * index
    if place + 2 > size:
        return None
    (offset,) = struct.unpack_from("<H", buffer, vtable + place)
    return table + offset if offset else None
