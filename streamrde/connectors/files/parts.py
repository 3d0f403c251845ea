"""Write the predictions of a run to a folder of files, each to exactly one: kind "parts"."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec
import pyarrow as pa

from streamrde.connectors.ends import StagingSink
from streamrde.connectors.files.errors import explain
from streamrde.connectors.files.places import AnyPath, Place, as_path, shown
from streamrde.connectors.files.writing import PredictionWriter
from streamrde.connectors.sections import ModelOutline, RunSections, Section, SinkConfig
from streamrde.errors import ConfigError, DataError, ParameterError
from streamrde.settings import Positive, Seconds

_PART = re.compile(r"part-(\d{6,})\.\w+")


class PartsSinkConfig(Section, SinkConfig, frozen=True, kw_only=True, tag="parts"):
    """Write predictions to a folder of files, each prediction in exactly one. Needs [state]."""

    folder: str
    """Folder of the parts, or a URL of one in an object store (s3://)."""
    format: Literal["parquet", "feather", "arrows"] = "parquet"
    """Format of the parts."""
    part_rows: Positive = 100_000
    """Rows after which a part is finished."""
    part_seconds: Seconds = 300.0
    """Seconds after which a part is finished."""

    def check(self, name: str, run: RunSections) -> None:
        """See `EndConfig.check`."""
        if not run.saves_state:
            raise ConfigError('a sink of kind "parts" needs [state]: what is in no part yet waits there')

    async def probe(self) -> str:
        """Return the folder."""
        return shown(self.folder)

    def build(self, model: ModelOutline) -> PartSink:
        """See `SinkConfig.build`."""
        return PartSink(
            self.folder,
            model.predictions,
            suffix=f".{self.format}",
            rows=self.part_rows,
            seconds=self.part_seconds,
            metadata=model.provenance,
        )


class _Position(msgspec.Struct, frozen=True):
    parts: int = 0
    """Number of the last part that belongs to the folder."""
    entries: int = 0
    """Number of the last entry ever put into the outbox."""


class PartSink(StagingSink):
    """Write predictions to ``part-000001.parquet``, ``part-000002.parquet``, ... in a folder.

    What is not yet enough for a part waits in the state store's outbox. A part is written under a staged name, the
    checkpoint says that it belongs to the folder, and then it gets its own; after a crash the checkpoint decides which
    staged part is named and which is removed. So a prediction is in one part, whatever happened.

    Args:
        folder: where the parts go.
        schema: of the prediction record batches.
        suffix: format of the parts, as for `PredictionWriter`; .parquet by default.
        rows: a part is finished with the checkpoint at which it has so many rows,
        seconds: or at which its first row is so old.
        metadata: kept in each file's schema.
    Raises:
        DataError: the folder cannot be written, or has parts that the state store knows nothing of.
    """

    def __init__(
        self,
        folder: str | AnyPath,
        schema: pa.Schema,
        *,
        suffix: str = ".parquet",
        rows: int = 100_000,
        seconds: float = 300.0,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        if rows < 1 or not seconds > 0:
            raise ParameterError(f"part_rows={rows}, part_seconds={seconds}: both must be above 0")
        self.folder = as_path(folder) if isinstance(folder, str) else folder
        self._schema = schema
        self._suffix = suffix
        self._rows = rows
        self._seconds = seconds
        self._metadata = metadata
        self._position = _Position()
        self._fresh: list[pa.RecordBatch] = []
        self._waiting: list[pa.RecordBatch] = []
        self._since: float | None = None
        self._staged: int | None = None
        self._finishing = False

    async def __aenter__(self) -> PartSink:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._error(error) from None
        return self

    async def write(self, batch: pa.RecordBatch) -> None:
        """Hold predictions until the next checkpoint."""
        self._fresh.append(batch)
        self._since = self._since or time.monotonic()

    def finish(self) -> None:
        """Put everything that waits into a part at the next checkpoint."""
        self._finishing = True

    def resume(self, position: bytes, outbox: dict[int, bytes]) -> None:
        """Name the staged part that the last checkpoint counts, remove others, and take up what waited."""
        self._position = msgspec.json.decode(position, type=_Position) if position else _Position()
        last = self._position.parts
        try:
            if (staged := self._staged_path(last)).exists():
                _rename(staged, self._path(last))
            for left in self.folder.glob(".staged-*"):
                left.unlink()
            numbers = [int(match[1]) for path in self.folder.iterdir() if (match := _PART.fullmatch(path.name))]
        except OSError as error:
            raise self._error(error) from None
        if stray := [number for number in numbers if number > last]:
            raise DataError(
                f"{self._path(stray[0])} is of another run: its state store is not this one; give each a folder",
                path=str(self.folder),
            )
        self._waiting = [batch for data in outbox.values() for batch in pa.ipc.open_stream(data)]
        self._since = time.monotonic() if self._waiting else None

    def stage(self) -> tuple[bytes, list[bytes], int]:
        """See `StagingSink`."""
        fresh, self._fresh = self._fresh, []
        rows = sum(batch.num_rows for batch in (*self._waiting, *fresh))
        old = self._since is not None and time.monotonic() - self._since >= self._seconds
        position = self._position
        if rows and (rows >= self._rows or old or self._finishing):
            self._staged = position.parts + 1
            with PredictionWriter(self._staged_path(self._staged), self._schema, metadata=self._metadata) as writer:
                for batch in (*self._waiting, *fresh):
                    writer.write(batch)
            self._waiting, self._since = [], None
            self._position = _Position(position.parts + 1, position.entries)
            return msgspec.json.encode(self._position), [], position.entries
        if not fresh:
            return msgspec.json.encode(position), [], 0
        self._waiting += fresh
        self._position = _Position(position.parts, position.entries + 1)
        return msgspec.json.encode(self._position), [_to_bytes(fresh)], 0

    def staged(self) -> None:
        """See `StagingSink`."""
        if self._staged is not None:
            try:
                _rename(self._staged_path(self._staged), self._path(self._staged))
            except OSError as error:
                raise self._error(error) from None
            self._staged = None

    def _path(self, number: int) -> AnyPath:
        return self.folder / f"part-{number:06d}{self._suffix}"

    def _staged_path(self, number: int) -> AnyPath:
        return self.folder / f".staged-{number:06d}{self._suffix}"

    def _error(self, error: OSError) -> DataError:
        if isinstance(self.folder, Place):
            return DataError(f"{self.folder}: {explain(error, remote=True)}", path=str(self.folder))
        return DataError(
            f"{self.folder}: cannot be written ({error.strerror or error}); check the folder and the disk's space",
            path=str(self.folder),
        )


def _rename(path: AnyPath, target: AnyPath) -> None:
    if isinstance(path, Path):
        path.replace(str(target))
    elif isinstance(target, Place):
        path.replace(target)


def _to_bytes(batches: list[pa.RecordBatch]) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return bytes(sink.getvalue())
