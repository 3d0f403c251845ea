"""Arrow IPC: files, which Feather is another name for, and streams."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

import pyarrow as pa

from streamrde.connectors.files.formats import Format, Query, Writer, without_dictionaries
from streamrde.connectors.files.places import AnyPath, input_file

_FILE_MAGIC = b"ARROW1"


class _ArrowIpc(Format):
    """Read an Arrow IPC file or stream, recognised by its content. Memory holds one record batch."""

    def schema(self, path: AnyPath) -> pa.Schema:
        """See Format."""
        with input_file(path) as file, _open(file) as reader:
            return reader.schema

    def batches(self, path: AnyPath, query: Query) -> Iterator[tuple[int, pa.RecordBatch]]:
        """See Format."""
        with input_file(path) as file:
            with _open(file) as reader:
                names = reader.schema.names
            options = pa.ipc.IpcReadOptions(
                included_fields=sorted(names.index(column) for column in query.columns), use_threads=False
            )
            with _open(file, options) as reader:
                is_file = isinstance(reader, pa.ipc.RecordBatchFileReader)
                batches = (reader.get_batch(i) for i in range(reader.num_record_batches)) if is_file else reader
                first = 0
                for batch in batches:
                    yield first, batch
                    first += batch.num_rows


class ArrowFile(_ArrowIpc):
    """Write Arrow IPC files. They hold one dictionary for all batches, so dictionaries are written as plain text."""

    reads = (".feather", ".arrow", ".ipc")
    writes = reads

    def converted(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """See Format."""
        return without_dictionaries(batch)

    def open(self, file: IO[bytes], schema: pa.Schema) -> Writer:
        """See Format."""
        writer: Writer = pa.ipc.new_file(file, schema)
        return writer


class ArrowStream(_ArrowIpc):
    """Write Arrow IPC streams."""

    reads = (".arrows",)
    writes = reads

    def open(self, file: IO[bytes], schema: pa.Schema) -> Writer:
        """See Format."""
        writer: Writer = pa.ipc.new_stream(file, schema)
        return writer


FORMATS = (ArrowFile(), ArrowStream())


def _open(
    file: pa.NativeFile, options: pa.ipc.IpcReadOptions | None = None
) -> pa.ipc.RecordBatchFileReader | pa.ipc.RecordBatchStreamReader:
    file.seek(0)
    is_file = file.read(len(_FILE_MAGIC)) == _FILE_MAGIC
    file.seek(0)
    return pa.ipc.open_file(file, options=options) if is_file else pa.ipc.open_stream(file, options=options)
