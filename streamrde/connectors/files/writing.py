"""Predictions to a file: Parquet, Feather / Arrow IPC file, Arrow IPC stream or CSV."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from streamrde.errors import DataError, ParameterError, ShapeError

WRITABLE = (".parquet", ".feather", ".arrow", ".ipc", ".arrows", ".csv")
# CSV has no dictionaries, and an Arrow IPC file only one for all its batches.
_PLAIN = (".feather", ".arrow", ".ipc", ".csv")


class PredictionWriter:
    """Write prediction record batches to one file that appears whole or not at all.

    The file is written under a temporary name beside `path`; leaving the ``with`` block syncs and renames it, leaving
    it by an error removes it. No predictions make a valid file without rows.

    Args:
        path: its extension chooses the format: .parquet; .feather, .arrow, .ipc (Arrow IPC file); .arrows (Arrow IPC
            stream); .csv. CSV has no lists: there `value` becomes a column per output, named by the JSON list under
            ``b"outputs"`` in the field's metadata, else ``value_0``, ``value_1``, ...
            Dictionaries become plain text where the format cannot let them grow: Arrow IPC file and CSV.
        schema: of the record batches: stream, window, t_start, t_end, value, and label for a classification.
        metadata: kept in the schema's metadata, e.g. the model's fingerprint; CSV has no place for it.
        sync: survive a power cut too, not only a killed process.
    Raises:
        ParameterError: the extension is not one of these.
        DataError: the folder cannot be written to, or the disk is full.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        schema: pa.Schema,
        *,
        metadata: Mapping[str, str] | None = None,
        sync: bool = True,
    ) -> None:
        self._sync = sync
        self.path = Path(path)
        if (suffix := self.path.suffix.lower()) not in WRITABLE:
            raise ParameterError(
                f"{self.path}: cannot write {suffix or 'a name without extension'!r}; use one of {', '.join(WRITABLE)}"
            )
        self._suffix = suffix
        self._schema = schema
        self._file_schema = _written_schema(schema, suffix)
        if metadata:
            own = {key.encode(): value.encode() for key, value in metadata.items()}
            self._file_schema = self._file_schema.with_metadata({**(schema.metadata or {}), **own})
        self._temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        self._file: Any = None
        self._writer: Any = None
        self.rows = 0

    def __enter__(self) -> PredictionWriter:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._temporary.open("wb")
            self._writer = self._open()
        except OSError as error:
            self._discard()
            raise self._error(error) from None
        except BaseException:
            self._discard()
            raise
        return self

    def write(self, batch: pa.RecordBatch) -> None:
        """Append the predictions of `batch`.

        Raises:
            ShapeError: the batch has another schema than the file.
            DataError: the disk is full or went away.
        """
        if not batch.schema.equals(self._schema):
            raise ShapeError(
                f"the batch has the columns\n{batch.schema}\nand {self.path} was opened for\n{self._schema}"
            )
        try:
            self._writer.write_batch(pa.RecordBatch.from_arrays(list(self._arrays(batch)), schema=self._file_schema))
        except OSError as error:
            raise self._error(error) from None
        self.rows += batch.num_rows

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self._discard()
            return
        try:
            self._writer.close()
            self._file.flush()
            if self._sync:
                os.fsync(self._file.fileno())
            self._file.close()
            self._temporary.replace(self.path)
            if self._sync:
                _sync_folder(self.path.parent)
        except OSError as failure:
            self._discard()
            raise self._error(failure) from None
        except BaseException:
            self._discard()
            raise

    def _open(self) -> Any:
        if self._suffix == ".parquet":
            return pa.parquet.ParquetWriter(self._file, self._file_schema, compression="zstd")
        if self._suffix == ".csv":
            return pa.csv.CSVWriter(self._file, self._file_schema)
        if self._suffix == ".arrows":
            return pa.ipc.new_stream(self._file, self._file_schema)
        return pa.ipc.new_file(self._file, self._file_schema)

    def _arrays(self, batch: pa.RecordBatch) -> Iterator[pa.Array]:
        for column in batch.columns:
            if self._suffix == ".csv" and pa.types.is_fixed_size_list(column.type):
                outputs, values = column.type.list_size, column.flatten()
                yield from (values[i::outputs] for i in range(outputs))
            elif self._suffix in _PLAIN and pa.types.is_dictionary(column.type):
                yield column.dictionary_decode()
            else:
                yield column

    def _error(self, error: OSError) -> DataError:
        return DataError(
            f"{self.path}: cannot be written ({error.strerror or error}); check the folder and the disk's space",
            path=str(self.path),
        )

    def _discard(self) -> None:
        for part in (self._writer, self._file):
            # A full disk refuses the footer too; the file goes anyway.
            with contextlib.suppress(OSError):
                if part is not None:
                    part.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _written_schema(schema: pa.Schema, suffix: str) -> pa.Schema:
    fields: list[pa.Field] = []
    for field in schema:
        if suffix == ".csv" and pa.types.is_fixed_size_list(field.type):
            names = json.loads((field.metadata or {}).get(b"outputs", b"[]"))
            names = names or [f"{field.name}_{i}" for i in range(field.type.list_size)]
            fields += [pa.field(str(name), field.type.value_type) for name in names]
        elif suffix in _PLAIN and pa.types.is_dictionary(field.type):
            fields.append(field.with_type(field.type.value_type))
        else:
            fields.append(field)
    return pa.schema(fields, metadata=schema.metadata)
