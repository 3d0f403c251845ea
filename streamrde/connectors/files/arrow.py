"""Write the predictions of a run to one file: kind "arrow"."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

import pyarrow as pa

from streamrde.connectors.ends import Sink
from streamrde.connectors.files.places import AnyPath, shown
from streamrde.connectors.files.writing import PredictionWriter
from streamrde.connectors.sections import ModelOutline, RunSections, Section, SinkConfig
from streamrde.errors import ConfigError


class ArrowSinkConfig(Section, SinkConfig, frozen=True, kw_only=True, tag="arrow"):
    """Write predictions to one file, whose extension chooses the format."""

    path: str
    """Output file: .parquet, .feather, .arrow, .ipc, .arrows or .csv. Or a URL of one in an object store (s3://)."""

    def check(self, name: str, run: RunSections) -> None:
        """See `EndConfig.check`."""
        if run.saves_state:
            raise ConfigError(
                'a sink of kind "arrow" writes one file at its end, which [state] cannot go on with: use kind = "parts"'
            )

    async def probe(self) -> str:
        """Return the path."""
        return shown(self.path)

    def build(self, model: ModelOutline) -> FileSink:
        """See `SinkConfig.build`."""
        return FileSink(self.path, model.predictions, metadata=model.provenance)


class FileSink(Sink):
    """Write predictions to one file that appears whole or not at all. See `PredictionWriter`."""

    def __init__(self, path: str | AnyPath, schema: pa.Schema, *, metadata: Mapping[str, str] | None = None) -> None:
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
