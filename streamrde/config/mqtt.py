"""The MQTT sections of a run's configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from streamrde.config.columns import TimeUnit, columns_of
from streamrde.inference.bundle import Bundle, Header

if TYPE_CHECKING:
    from streamrde.connectors.mqtt import MqttSink, MqttSource

QoS = Literal[0, 1]


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
