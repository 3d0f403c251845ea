"""Write the predictions of a run to one file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType

import pyarrow as pa

from streamrde.connectors.files.writing import PredictionWriter


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
