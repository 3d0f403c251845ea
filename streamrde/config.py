"""TOML files: one per run, read into frozen structs. An unknown key or a wrong type is an error with file and key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from streamrde.connectors.samples import Columns
from streamrde.errors import ConfigError
from streamrde.inference.bundle import Bundle, Header, Positive
from streamrde.inference.table import OnFault

if TYPE_CHECKING:
    from streamrde.connectors.mqtt import MqttSink, MqttSource
    from streamrde.runtime.files import FileSink, FileSource

QoS = Literal[0, 1]
TimeUnit = Literal["s", "ms", "us", "ns"]


class MqttSourceConfig(
    msgspec.Struct, frozen=True, kw_only=True, tag="mqtt", tag_field="kind", forbid_unknown_fields=True
):
    """Samples from MQTT topics, as JSON."""

    url: str
    """``mqtt://user:password@host:port``, or mqtts:// for TLS."""
    topic: str
    """Template of the topics; one level is {stream}."""
    qos: QoS = 1
    client_id: str | None = None
    session: bool = False
    """The broker keeps what was not acknowledged while this client is away; needs client_id."""
    time: str = "t"
    time_unit: TimeUnit = "s"
    channels: tuple[str, ...] = ()
    """Payload fields of the model's channels, in its order; empty: they have the channels' names."""

    def build(self, header: Header) -> MqttSource:
        """The source, not yet connected."""
        from streamrde.connectors.mqtt import MqttSource

        columns = columns_of(header, self.channels, time=self.time, time_unit=self.time_unit)
        return MqttSource(
            self.url, topic=self.topic, columns=columns, qos=self.qos, client_id=self.client_id, session=self.session
        )


class ArrowSourceConfig(
    msgspec.Struct, frozen=True, kw_only=True, tag="arrow", tag_field="kind", forbid_unknown_fields=True
):
    """Samples from Parquet, Feather / Arrow IPC or CSV files."""

    files: str | tuple[str, ...]
    """A file, a folder, a glob, or several; relative to the current working directory."""
    stream: str = "stream_id"
    """Column of the stream's name; "": each file is one stream, named after the file."""
    time: str = "t"
    time_unit: TimeUnit = "s"
    channels: tuple[str, ...] = ()
    batch_rows: Positive = 65536

    def build(self, header: Header) -> FileSource:
        """The source, its files found and not yet read."""
        from streamrde.runtime.files import FileSource

        columns = columns_of(header, self.channels, stream=self.stream, time=self.time, time_unit=self.time_unit)
        return FileSource(self.files, columns, batch_rows=self.batch_rows)


class MqttSinkConfig(
    msgspec.Struct, frozen=True, kw_only=True, tag="mqtt", tag_field="kind", forbid_unknown_fields=True
):
    """Predictions to MQTT topics, as JSON."""

    url: str
    topic: str
    """Template of the topics; one level is {stream}."""
    qos: QoS = 1
    client_id: str | None = None

    def build(self, bundle: Bundle) -> MqttSink:
        """The sink, not yet connected."""
        from streamrde.connectors.mqtt import MqttSink

        return MqttSink(self.url, topic=self.topic, qos=self.qos, client_id=self.client_id)


class ArrowSinkConfig(
    msgspec.Struct, frozen=True, kw_only=True, tag="arrow", tag_field="kind", forbid_unknown_fields=True
):
    """Predictions to one file, whose extension chooses the format."""

    path: str

    def build(self, bundle: Bundle) -> FileSink:
        """The sink, not yet opened; the file's metadata say which model and version wrote it."""
        from streamrde import __version__
        from streamrde.inference.predictions import prediction_schema
        from streamrde.runtime.files import FileSink

        provenance = {"streamrde.version": __version__, "streamrde.model": bundle.fingerprint}
        return FileSink(self.path, prediction_schema(bundle.header), metadata=provenance)


class RunConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run: from a source through a model to a sink."""

    model: str
    """Path of the model file."""
    source: MqttSourceConfig | ArrowSourceConfig
    sink: MqttSinkConfig | ArrowSinkConfig
    faults: OnFault = "drop"
    """A late, repeated or unusable sample: "drop" counts and skips it, "error" stops the run."""
    flush: bool = True
    """When the source ends or the run is stopped, close the open windows and publish their predictions."""


def columns_of(
    header: Header,
    channels: tuple[str, ...] = (),
    *,
    stream: str | None = None,
    time: str = "t",
    time_unit: str = "s",
) -> Columns:
    """The columns or payload fields of a model's channels; without `channels` they have the channels' names."""
    own = tuple(channel.name for channel in header.channels)
    if channels and len(channels) != len(own):
        raise ConfigError(
            f"channels lists {len(channels)} names, and the model has {len(own)} channels: {', '.join(own)}"
        )
    return Columns(channels=channels or own, stream=stream or None, time=time, time_unit=time_unit)
