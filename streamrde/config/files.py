"""The recorded-file sections of a run's configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from streamrde.config.columns import TimeKeys, columns_of
from streamrde.inference.bundle import Bundle
from streamrde.inference.header import Header
from streamrde.inference.model_part import Positive
from streamrde.inference.predictions import prediction_schema
from streamrde.inference.table import OnFault

if TYPE_CHECKING:
    from streamrde.connectors.files.parts import PartSink
    from streamrde.connectors.files.sink import FileSink
    from streamrde.runtime.files import FileSource


class ArrowSourceConfig(TimeKeys, frozen=True, kw_only=True, tag="arrow", tag_field="kind"):
    """Samples from Parquet, Feather / Arrow IPC or CSV files."""

    files: str | tuple[str, ...]
    """A file, a folder, a glob, or several; relative to the current working directory."""
    stream: str = "stream_id"
    """Column of the stream's name; "": each file is one stream, named after the file."""
    channels: tuple[str, ...] = ()
    """Columns of the model's channels, in its order. If empty, they have the channels' names."""
    batch_rows: Positive = 65536
    """Rows read at a time."""

    def build(self, header: Header, *, faults: OnFault = "error") -> FileSource:
        """The source, its files found and not yet read."""
        from streamrde.runtime.files import FileSource

        columns = columns_of(header, self.channels, stream=self.stream, times=self)
        return FileSource(self.files, columns, batch_rows=self.batch_rows, faults=faults)


class ArrowSinkConfig(
    msgspec.Struct, frozen=True, kw_only=True, tag="arrow", tag_field="kind", forbid_unknown_fields=True
):
    """Predictions to one file, whose extension chooses the format."""

    path: str
    """Output file: .parquet, .feather, .arrow, .ipc, .arrows or .csv."""

    def build(self, bundle: Bundle) -> FileSink:
        """The sink, not yet opened; the file's metadata say which model and version wrote it."""
        from streamrde.connectors.files.sink import FileSink

        return FileSink(self.path, prediction_schema(bundle.header), metadata=_provenance(bundle))


class PartsSinkConfig(
    msgspec.Struct, frozen=True, kw_only=True, tag="parts", tag_field="kind", forbid_unknown_fields=True
):
    """Predictions to a folder of files, each in exactly one; needs [state]."""

    folder: str
    """Folder of the parts."""
    format: Literal["parquet", "feather", "arrows"] = "parquet"
    """Format of the parts."""
    part_rows: Positive = 100_000
    """Rows after which a part is finished."""
    part_seconds: Annotated[float, msgspec.Meta(gt=0)] = 300.0
    """Seconds after which a part is finished."""

    def build(self, bundle: Bundle) -> PartSink:
        """The sink, not yet opened."""
        from streamrde.connectors.files.parts import PartSink

        return PartSink(
            self.folder,
            prediction_schema(bundle.header),
            suffix=f".{self.format}",
            rows=self.part_rows,
            seconds=self.part_seconds,
            metadata=_provenance(bundle),
        )


def _provenance(bundle: Bundle) -> dict[str, str]:
    """Which model and version made a file."""
    from streamrde import __version__

    return {"streamrde.version": __version__, "streamrde.model": bundle.fingerprint}
