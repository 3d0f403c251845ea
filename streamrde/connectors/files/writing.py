"""Write predictions to a file."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa

from streamrde.connectors.files.errors import explain
from streamrde.connectors.files.formats import writable, writing_format
from streamrde.connectors.files.places import AnyPath, Place, as_path
from streamrde.errors import DataError, ParameterError, ShapeError


class PredictionWriter:
    """Write prediction record batches to one file that appears whole or not at all.

    The file is written under a temporary name beside `path`; leaving the ``with`` block syncs and renames it, leaving
    it by an error removes it. A file for an object store is written in the folder for temporary files, and uploaded
    in the end. No predictions make a valid file without rows.

    Args:
        path: or a URL of an object store. Its extension chooses the format, one of `formats.writable()`; what a format
            cannot hold it converts.
        schema: of the record batches: stream, window, t_start, t_end, value, and label for a classification.
        metadata: kept in the schema's metadata if the format has a place for it, e.g. the model's fingerprint.
        sync: survive a power cut too, not only a killed process.
    Raises:
        ParameterError: the extension is not one of these.
        DataError: the folder cannot be written to, or the disk is full.
    """

    def __init__(
        self,
        path: str | AnyPath,
        schema: pa.Schema,
        *,
        metadata: Mapping[str, str] | None = None,
        sync: bool = True,
    ) -> None:
        self._sync = sync
        self.path = as_path(path) if isinstance(path, str) else path
        if (format := writing_format(self.path)) is None:
            suffix = self.path.suffix.lower() or "a name without extension"
            raise ParameterError(f"{self.path}: cannot write {suffix!r}; use one of {', '.join(writable())}")
        self._format = format
        self._schema = schema
        self._file_schema = format.converted(pa.RecordBatch.from_pylist([], schema)).schema
        if metadata:
            own = {key.encode(): value.encode() for key, value in metadata.items()}
            self._file_schema = self._file_schema.with_metadata({**(schema.metadata or {}), **own})
        self._temporary = _temporary(self.path)
        self._file: Any = None
        self._writer: Any = None
        self.rows = 0

    def __enter__(self) -> PredictionWriter:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._temporary.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._temporary.open("wb")
            self._writer = self._format.open(self._file, self._file_schema)
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
            self._writer.write_batch(self._format.converted(batch).cast(self._file_schema))
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
            self._move()
        except OSError as failure:
            self._discard()
            raise self._error(failure) from None
        except BaseException:
            self._discard()
            raise

    def _move(self) -> None:
        if isinstance(self.path, Place):
            self.path.upload(self._temporary)
            self._temporary.unlink()
            return
        self._temporary.replace(self.path)
        if self._sync:
            _sync_folder(self.path.parent)

    def _error(self, error: OSError) -> DataError:
        if isinstance(self.path, Place):
            return DataError(f"{self.path}: {explain(error, remote=True)}", path=str(self.path))
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


def _temporary(path: AnyPath) -> Path:
    """Return where a file is written until it is whole."""
    name = f".{path.name}.{os.getpid()}.tmp"
    if isinstance(path, Path):
        return path.with_name(name)
    return Path(tempfile.gettempdir()) / f"streamrde-{hashlib.sha256(path.url.encode()).hexdigest()[:16]}{name}"


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
