"""Recorded files as the two ends of a run."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

import pyarrow as pa

from streamrde.connectors.arrow import PredictionWriter, read
from streamrde.connectors.samples import Columns, Samples


@dataclass(frozen=True, eq=False)
class FileBatch:
    """Rows read together."""

    samples: Samples
    arrivals: None = None


class FileSource:
    """The rows of files, in constant memory; see `connectors.arrow.read` for what may be in them."""

    def __init__(self, files: str | Sequence[str], columns: Columns, *, batch_rows: int = 65536) -> None:
        self._batches = read(files, columns, batch_rows=batch_rows)
        self._stopped = False

    async def __aenter__(self) -> FileSource:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None

    async def __aiter__(self) -> AsyncIterator[FileBatch]:
        for samples in self._batches:
            await asyncio.sleep(0)  # nothing else here waits: without it a run could be neither stopped nor cancelled
            if self._stopped:
                return
            yield FileBatch(samples)

    async def acknowledge(self, batch: FileBatch) -> None:
        """A file need not be told."""

    def stop(self) -> None:
        """End before the next batch."""
        self._stopped = True


class FileSink:
    """Predictions to one file that appears whole or not at all; see `PredictionWriter`."""

    def __init__(
        self, path: str | os.PathLike[str], schema: pa.Schema, *, metadata: Mapping[str, str] | None = None
    ) -> None:
        self._writer = PredictionWriter(path, schema, metadata=metadata)

    async def __aenter__(self) -> FileSink:
        self._writer.__enter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, traceback)

    async def write(self, batch: pa.RecordBatch) -> None:
        """Append predictions."""
        self._writer.write(batch)
