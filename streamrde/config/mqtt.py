"""The MQTT sections of a run's configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from streamrde.config.columns import TimeKeys, columns_of
from streamrde.errors import ConfigError
from streamrde.inference.bundle import Bundle
from streamrde.inference.header import Header
from streamrde.inference.model_part import Positive
from streamrde.times.texts import Ambiguous

if TYPE_CHECKING:
    from streamrde.connectors import Columns
    from streamrde.connectors.codecs import Codec
    from streamrde.connectors.mqtt import MqttAddress, MqttDeadLetters, MqttLink, MqttSink, MqttSource

QoS = Literal[0, 1]
Seconds = Annotated[float, msgspec.Meta(gt=0)]
CodecName = Literal["json", "msgpack", "cbor", "packed", "arrow"]


class TlsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Files of TLS; certificate and host name are always checked."""

    ca: str | None = None
    """Authorities to trust, PEM; None: the system's."""
    certificate: str | None = None
    """This client's certificate, PEM."""
    key: str | None = None
    """Its private key, PEM."""
    key_password_env: str | None = None
    """Environment variable with the key's password."""
    key_password_file: str | None = None
    """File whose first line is the key's password."""


class WillConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A retained topic that says whether this client is there."""

    topic: str
    """Topic that is retained."""
    online: str = "online"
    """Its payload while this client is there."""
    offline: str = "offline"
    """Its payload when it is not."""


class MqttClientConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to reach a broker."""

    url: str
    """``mqtt://host:port``, or mqtts:// for TLS."""
    user: str | None = None
    """User's name at the broker."""
    password_env: str | None = None
    """Name of the environment variable that has the password."""
    password_file: str | None = None
    """File whose first line is the password."""
    version: Literal["3.1.1", "5"] = "3.1.1"
    """Version of MQTT."""
    client_id: str | None = None
    """Name by which the broker knows this client."""
    keepalive: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 60
    """Seconds of silence after which a ping is sent."""
    timeout: Seconds = 10.0
    """Seconds to wait for the broker's answers."""
    longest_pause: Seconds = 30.0
    """Longest pause between attempts to connect again, seconds."""
    wait: bool = True
    """At the start, try again until the broker is there. If false, a broker that is not there is an error."""
    tls: TlsConfig | None = None
    will: WillConfig | None = None

    def address(self) -> MqttAddress:
        """The broker, with user and password from wherever they are."""
        from streamrde.connectors.mqtt import MqttAddress
        from streamrde.connectors.mqtt.link import read_secret

        address = MqttAddress.parse(self.url)
        password = read_secret("password", variable=self.password_env, file=self.password_file)
        if (self.user or password) and address.user:
            raise ConfigError("user and password are in the url and beside it: give them once")
        if password and not self.user:
            raise ConfigError("a password without user: give both")
        return address if self.user is None else dataclasses.replace(address, user=self.user, password=password)

    def quiet_link(self) -> MqttLink:
        """How to connect for a look: without a will, once."""
        return dataclasses.replace(self.link(), will=None, reconnect=False, wait=False)

    def link(self) -> MqttLink:
        """How to connect."""
        from streamrde.connectors.mqtt import MqttLink, Tls, Will
        from streamrde.connectors.mqtt.link import read_secret

        tls, will = self.tls, self.will
        if tls is not None:
            password = read_secret("tls.key_password", variable=tls.key_password_env, file=tls.key_password_file)
        return MqttLink(
            version=self.version,
            tls=None if tls is None else Tls(tls.ca, tls.certificate, tls.key, password),
            will=None if will is None else Will(will.topic, will.online, will.offline),
            keepalive=self.keepalive,
            timeout=self.timeout,
            wait=self.wait,
            longest_pause=self.longest_pause,
        )


class PayloadConfig(TimeKeys, frozen=True, kw_only=True):
    """Topics of a source, and how their payloads are read."""

    topic: str
    """Template of the topics. {stream} is a level, {channel} is the channel, others in braces are part of its name."""
    codec: CodecName = "json"
    """Encoding of the payloads."""
    layout: str | None = None
    """For codec = "packed": the record, as in Python's struct module."""
    value: str = "value"
    """Where the topic has the channel: the field of its value."""
    channels: tuple[str, ...] = ()
    """Payload fields of the model's channels, in its order; empty: they have the channels' names."""
    sequence: str = ""
    """Payload field that counts up with every message or sample. If "", there is none, and losses go unnoticed."""

    def columns(self, header: Header) -> Columns:
        """The fields of a payload."""
        columns = columns_of(header, self.channels, times=self)
        columns = msgspec.structs.replace(columns, sequence=self.sequence)
        if "{channel}" not in self.topic.split("/"):
            return columns
        return msgspec.structs.replace(columns, channels=(self.value,))

    def build_codec(self, header: Header, *, max_bytes: int) -> Codec:
        """The codec of the payloads."""
        from streamrde.connectors import codecs

        columns = self.columns(header)
        if self.codec == "packed":
            if self.layout is None:
                raise ConfigError('codec = "packed" needs a layout, such as "<d6f": a time and six channels')
            return codecs.PackedCodec(columns, layout=self.layout, max_bytes=max_bytes)
        if self.layout is not None:
            raise ConfigError(f'layout is for codec = "packed", and codec is {self.codec!r}')
        kinds: dict[str, Callable[..., Codec]] = {
            "json": codecs.JsonCodec,
            "msgpack": codecs.MessagePackCodec,
            "cbor": codecs.CborCodec,
            "arrow": codecs.ArrowCodec,
        }
        return kinds[self.codec](columns, max_bytes=max_bytes)


class MqttSourceConfig(MqttClientConfig, frozen=True, kw_only=True, tag="mqtt", tag_field="kind"):
    """Samples from MQTT topics."""

    topic: str | None = None
    """Template of the topics; or `topics`, several with a codec each."""
    topics: tuple[PayloadConfig, ...] = ()
    """Several topics, each with its payload, instead of topic."""
    codec: CodecName = "json"
    """Encoding of the payloads."""
    layout: str | None = None
    """For codec = "packed": the record, as in Python's struct module."""
    time: str = "t"
    """Column or field of the time."""
    time_unit: str = "s"
    """Unit of times that are numbers. Text and timestamps carry their own."""
    time_format: str = ""
    """Format of times that are text where it is not ISO 8601, as of strptime."""
    time_zone: str = ""
    """Zone of local times without an offset, such as Europe/Vienna."""
    time_ambiguous: Ambiguous = "error"
    """Which of two moments a local time stands for that occurs twice, when clocks go back."""
    value: str = "value"
    """If the topic has the channel, the field of its value."""
    channels: tuple[str, ...] = ()
    """Fields of the model's channels, in its order. If empty, they have the channels' names."""
    sequence: str = ""
    """Field with a number that grows by one from message to message. Gaps are counted."""
    qos: QoS = 1
    """Quality of service of the subscription."""
    session: bool = False
    """The broker keeps what was not acknowledged while this client is away, up to its own limits.
    A session needs client_id."""
    session_expiry: Annotated[int, msgspec.Meta(ge=0, lt=2**32)] = 7 * 86400
    """Seconds for which a broker of MQTT 5 keeps the session. In MQTT 3.1.1 the broker decides."""
    time_zero: str = ""
    """Moment from which the times of payloads are counted, ISO 8601; "": 1970, or any other that nothing asks for."""
    retained: Literal["use", "skip"] = "use"
    """Use or skip the messages that the broker kept from before."""
    inflight: Positive = 20
    """Messages that the broker sends before the first is acknowledged: mosquitto's max_inflight_messages."""
    queue_messages: Positive = 10_000
    """Messages that wait to be processed, at most."""
    max_bytes: Positive = 1 << 20
    """Longest payload that is read."""
    quarantine_faults: Annotated[int, msgspec.Meta(ge=0)] = 10
    """Messages in a row that cannot be read after which a topic is set aside. If 0, it never is."""
    quarantine_seconds: Seconds = 60.0
    """Seconds for which a stream is set aside."""

    def payloads(self) -> tuple[PayloadConfig, ...]:
        """All topics with their payloads."""
        if (self.topic is None) == (not self.topics):
            raise ConfigError("source: give topic, or [[source.topics]], one of them")
        if self.topic is None:
            return self.topics
        own = PayloadConfig(
            topic=self.topic,
            codec=self.codec,
            layout=self.layout,
            **{name: getattr(self, name) for name in TimeKeys.__struct_fields__},
            value=self.value,
            channels=self.channels,
            sequence=self.sequence,
        )
        return (own,)

    def link(self) -> MqttLink:
        """Return the options of the connection."""
        return dataclasses.replace(super().link(), session_expiry=self.session_expiry)

    def filters(self) -> list[tuple[str, int]]:
        """Return the topic filters to subscribe to, each with the quality of service."""
        from streamrde.connectors.mqtt import TopicTemplate

        return [(TopicTemplate(payload.topic).filter, self.qos) for payload in self.payloads()]

    def identity(self) -> dict[str, str]:
        """What of this shapes a stream, so that its state cannot go on without it."""
        found: dict[str, str] = {}
        for i, payload in enumerate(self.payloads()):
            place = "source" if self.topic is not None else f"source.topics[{i}]"
            for name in ("topic", "time_unit"):
                found[f"{place}.{name}"] = getattr(payload, name)
            for name in ("time_format", "time_zone"):
                if getattr(payload, name):
                    found[f"{place}.{name}"] = getattr(payload, name)
            found[f"{place}.channels"] = ", ".join(payload.channels)
        return found | ({"source.time_zero": self.time_zero} if self.time_zero else {})

    def build(self, header: Header) -> MqttSource:
        """The source, not yet connected."""
        from streamrde.connectors.mqtt import MqttSource, Subscription, TopicTemplate
        from streamrde.connectors.quarantine import Quarantine
        from streamrde.times import zero_seconds

        return MqttSource(
            self.address(),
            columns=columns_of(header),
            subscriptions=[
                Subscription(TopicTemplate(p.topic), p.build_codec(header, max_bytes=self.max_bytes), bool(p.sequence))
                for p in self.payloads()
            ],
            qos=self.qos,
            client_id=self.client_id,
            session=self.session,
            time_zero=zero_seconds(self.time_zero) if self.time_zero else 0.0,
            retained=self.retained,
            queue_messages=self.queue_messages,
            max_bytes=self.max_bytes,
            inflight=self.inflight,
            quarantine=Quarantine(faults=self.quarantine_faults, seconds=self.quarantine_seconds),
            link=self.link(),
        )


class MqttSinkConfig(MqttClientConfig, frozen=True, kw_only=True, tag="mqtt", tag_field="kind"):
    """Predictions to MQTT topics."""

    topic: str
    """Template of the topics; one level is {stream}."""
    codec: Literal["json", "msgpack", "cbor"] = "json"
    """Encoding of the predictions."""
    qos: QoS = 1
    """Quality of service of the predictions."""
    retain: bool = False
    """Ask the broker to keep each topic's last prediction."""
    inflight: Positive = 100
    """Predictions on their way to the broker at a time."""

    def build(self, bundle: Bundle) -> MqttSink:
        """The sink, not yet connected."""
        from streamrde.connectors.codecs import PREDICTION_ENCODERS
        from streamrde.connectors.mqtt import MqttSink

        return MqttSink(
            self.address(),
            topic=self.topic,
            qos=self.qos,
            retain=self.retain,
            client_id=self.client_id,
            inflight=self.inflight,
            encode=PREDICTION_ENCODERS[self.codec],
            link=self.link(),
        )


class MqttDeadLettersConfig(MqttClientConfig, frozen=True, kw_only=True, tag="mqtt", tag_field="kind"):
    """Messages that cannot be used, to a topic."""

    topic: str
    """Topic for what cannot be used."""

    def build(self) -> MqttDeadLetters:
        """The sink, not yet connected."""
        from streamrde.connectors.mqtt import MqttDeadLetters

        return MqttDeadLetters(self.address(), topic=self.topic, client_id=self.client_id, link=self.link())
