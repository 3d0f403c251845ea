"""A store's contents in one file that any reader of Arrow or Parquet opens.

    stream     string      name
    window     int64       last confirmed window, or null
    saved      float64     of the checkpoint, seconds since 1970
    model      string      fingerprint of the model
    partition  int32       partition that had it, or null
    offset     int64       position of the input there, or null
    snapshot   binary      state of the stream; null: it ended

The schema's metadata has, under "streamrde.state", a JSON object: format (1), identity, positions (base64), offsets,
number of streams.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from streamrde.errors import SnapshotError, StateError
from streamrde.snapshots import check
from streamrde.state.records import Contents, Head, Record

FORMAT = 1
_KEY = b"streamrde.state"
_ROWS = 1000
_PARQUET = ".parquet"
# Fields of Record, in the order of the columns.
_FIELDS = ("name", "window", "saved", "model", "partition", "offset", "data")
_SCHEMA = pa.schema(
    [
        pa.field("stream", pa.string(), nullable=False),
        pa.field("window", pa.int64()),
        pa.field("saved", pa.float64()),
        pa.field("model", pa.string()),
        pa.field("partition", pa.int32()),
        pa.field("offset", pa.int64()),
        pa.field("snapshot", pa.binary()),
    ]
)


class _Preface(msgspec.Struct, frozen=True, kw_only=True):
    """Describe a file's contents, in its schema's metadata."""

    format: int
    identity: dict[str, str]
    positions: dict[str, bytes]
    offsets: dict[str, int]
    streams: int


def write_portable(path: str | os.PathLike[str], contents: Contents, streams: int) -> int:
    """Write a store to a file, whole or not at all, and return the number of streams.

    Args:
        path: ends in .parquet for Parquet, else the file is one of Arrow IPC.
        streams: how many there are, so that a reader knows that none is missing.
    Raises:
        StateError: the store changed meanwhile, or the file cannot be written.
    """
    target, head, number = Path(path), contents.head(), 0
    preface = _Preface(
        format=FORMAT,
        identity=dict(head.identity),
        positions=dict(head.positions),
        offsets={f"{number}": offset for number, offset in head.offsets.items()},
        streams=streams,
    )
    schema = _SCHEMA.with_metadata({_KEY: msgspec.json.encode(preface, order="sorted")})
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
            temporary = Path(folder, target.name)
            with _writer(temporary, schema) as writer:
                records = contents.records()
                while part := list(islice(records, _ROWS)):
                    number += len(part)
                    writer.write_batch(_batch(part, schema))
            if number != streams:
                raise StateError(
                    f"{contents.name} changed while it was read: it has {number} streams, and had {streams}"
                )
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(target)
    except OSError as error:
        raise StateError(f"{target} cannot be written ({error}): check the folder, its rights and the disk") from None
    return number


class PortableFile:
    """A file that `write_portable` wrote."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.name = str(path)
        self._path = Path(path)
        with self._mapped() as reader:
            schema = reader.schema_arrow if self._parquet else reader.schema
        text = schema.metadata or {}
        if _KEY not in text or not {*schema.names} >= {*_SCHEMA.names}:
            raise StateError(f"{path} is no export of a state store: give what `streamrde state export` wrote")
        try:
            version = msgspec.json.decode(text[_KEY])["format"]
            if version != FORMAT:
                raise StateError(
                    f"{path} has format {version}, and this streamrde reads {FORMAT}: use the streamrde that wrote it"
                )
            self.preface = msgspec.json.decode(text[_KEY], type=_Preface)
        except (msgspec.DecodeError, KeyError, TypeError) as error:
            raise StateError(f"{path}: its metadata cannot be read ({error}): the file is damaged") from None

    @property
    def _parquet(self) -> bool:
        return self._path.suffix == _PARQUET

    def head(self) -> Head:
        """See `Contents.head`."""
        preface = self.preface
        offsets = {int(number): offset for number, offset in preface.offsets.items()}
        return Head(preface.identity, preface.positions, offsets)

    def records(self) -> Iterator[Record]:
        """See `Contents.records`.

        Raises:
            StateError: streams are missing, or a snapshot is damaged.
        """
        number = 0
        with self._mapped() as reader:
            batches = (
                reader.iter_batches(_ROWS) if self._parquet else map(reader.get_batch, range(reader.num_record_batches))
            )
            for batch in batches:
                for row in batch.select(_SCHEMA.names).to_pylist():
                    number += 1
                    yield self._record(row)
        if number != self.preface.streams:
            raise StateError(f"{self.name} has {number} streams of {self.preface.streams}: the file is damaged")

    def _record(self, row: dict[str, Any]) -> Record:
        data = row["snapshot"]
        if data is not None:
            try:
                check(data)
            except SnapshotError as error:
                raise StateError(f"{self.name}: stream {row['stream']!r}: {error}") from None
        return Record(
            row["stream"], data, row["window"], row["saved"] or 0.0, row["model"] or "", row["partition"], row["offset"]
        )

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[Any]:
        try:
            with pq.ParquetFile(self._path) if self._parquet else pa.ipc.open_file(self._path) as reader:
                yield reader
        except (pa.ArrowException, OSError) as error:
            raise StateError(
                f"{self.name} cannot be read ({str(error).splitlines()[0]}): give what `streamrde state export` wrote"
            ) from None


def _batch(part: list[Record], schema: pa.Schema) -> pa.RecordBatch:
    columns = [[getattr(record, name) for record in part] for name in _FIELDS]
    return pa.record_batch(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema
    )


def _writer(path: Path, schema: pa.Schema) -> Any:
    if path.suffix == _PARQUET:
        return pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=["model"])
    return pa.ipc.new_file(path, schema, options=pa.ipc.IpcWriteOptions(compression="zstd"))
