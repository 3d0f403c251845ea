"""Sections of kind "mqtt": how to reach a broker, and what to read from it or publish to it."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, ClassVar, Literal, Self

import msgspec

from streamrde.connectors.access import Tls, read_secret
from streamrde.connectors.columns import ColumnKeys, Columns
from streamrde.connectors.mqtt import checks
from streamrde.connectors.mqtt.connection import MqttConnection
from streamrde.connectors.mqtt.link import MqttLink, Will
from streamrde.connectors.mqtt.publisher import SamplePublisher
from streamrde.connectors.mqtt.sink import MqttDeadLetters, MqttSink
from streamrde.connectors.mqtt.source import MqttSource
from streamrde.connectors.mqtt.topics import SCHEMES, MqttAddress
from streamrde.connectors.payloads import PayloadSourceConfig, unkept
from streamrde.connectors.queue_sections import TlsConfig
from streamrde.connectors.registry import PREDICTION_CODECS, PredictionCodecName
from streamrde.connectors.sections import (
    DeadLettersConfig,
    EndConfig,
    ModelOutline,
    RunSections,
    Section,
    SinkConfig,
)
from streamrde.errors import BrokerError, ConfigError
from streamrde.settings import Positive, Seconds

QoS = Literal[0, 1]


class WillConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A retained topic that shows if this client is connected."""

    topic: str
    """Topic that is retained."""
    online: str = "online"
    """Payload while this client is connected."""
    offline: str = "offline"
    """Payload while it is not."""


class MqttClient(EndConfig):
    """Answer for a client of a broker. The sections of a source and of a sink have the same keys for it."""

    __slots__ = ()

    url: Any
    user: Any
    password_env: Any
    password_file: Any
    version: Any
    client_id: Any
    keepalive: Any
    timeout: Any
    longest_pause: Any
    wait: Any
    tls: Any
    will: Any

    @property
    def output(self) -> str | None:
        """Return the topic, or template of topics, that is published to. None for a source."""
        return None

    @property
    def topics_shown(self) -> str:
        """Name the topics that are read or published to, for people."""
        return self.output or ""

    def address(self) -> MqttAddress:
        """Return the broker, with user and password from wherever they are."""
        address = MqttAddress.parse(self.url)
        password = read_secret("password", variable=self.password_env, file=self.password_file)
        if (self.user or password) and address.user:
            raise ConfigError("user and password are in the url and beside it: give them once")
        if password and not self.user:
            raise ConfigError("a password without user: give both")
        return address if self.user is None else dataclasses.replace(address, user=self.user, password=password)

    def link(self) -> MqttLink:
        """Return the options of the connection."""
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

    def quiet_link(self) -> MqttLink:
        """Return the options of a connection that is made once, for a look, and without a will."""
        return dataclasses.replace(self.link(), will=None, reconnect=False, wait=False)

    def filters(self) -> list[tuple[str, int]]:
        """Return the topic filters to subscribe to, each with the quality of service."""
        return []

    def check(self, name: str, run: RunSections) -> None:
        """See `EndConfig.check`."""
        checks.check_client(name, clients_of(run))

    def warnings(self, name: str, run: RunSections) -> list[str]:
        """See `EndConfig.warnings`."""
        return checks.client_warnings(name, clients_of(run))

    def notes(self, name: str, run: RunSections) -> list[str]:
        """See `EndConfig.notes`."""
        return checks.client_notes(name, clients_of(run))

    def without_waiting(self) -> Self:
        """See `EndConfig.without_waiting`."""
        return msgspec.structs.replace(self, wait=False)  # type: ignore[type-var]

    async def probe(self) -> str:
        """Reach the broker by a client without a name, so that a run that is on stays so."""
        address = self.address()
        try:
            async with MqttConnection(address, link=self.quiet_link(), subscriptions=self.filters()):
                pass
        except BrokerError as error:
            raise ConfigError(f"{error}") from None
        return f"{address}, MQTT {self.version}, {'TLS' if address.tls else 'without TLS'}: {self.topics_shown}"


def clients_of(run: RunSections) -> dict[str, MqttClient]:
    """Return the sections that are clients of a broker, by name."""
    return {name: section for name, section in run.named().items() if isinstance(section, MqttClient)}


class MqttClientConfig(Section, MqttClient, frozen=True, kw_only=True):
    """Reach a broker."""

    url: str
    """``mqtt://host:port``, mqtts:// for TLS, or mqtt+ws://host:port/path and mqtt+wss:// over WebSocket."""
    user: str | None = None
    """User name at the broker."""
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


class MqttSourceConfig(PayloadSourceConfig, MqttClient, frozen=True, kw_only=True, tag_field="kind", tag="mqtt"):
    """Receive samples from MQTT topics."""

    answers: ClassVar[bool] = True

    url: str
    """``mqtt://host:port``, mqtts:// for TLS, or mqtt+ws://host:port/path and mqtt+wss:// over WebSocket."""
    user: str | None = None
    """User name at the broker."""
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

    qos: QoS = 1
    """Quality of service of the subscription."""
    session: bool = False
    """The broker keeps what was not acknowledged while this client is away, up to its own limits.
    A session needs client_id."""
    session_expiry: Annotated[int, msgspec.Meta(ge=0, lt=2**32)] = 7 * 86400
    """Seconds for which a broker of MQTT 5 keeps the session. In MQTT 3.1.1 the broker decides."""
    retained: Literal["use", "skip"] = "use"
    """Use or skip the messages that the broker kept from before."""
    inflight: Positive = 20
    """Messages that the broker sends before the first is acknowledged: mosquitto's max_inflight_messages."""

    def link(self) -> MqttLink:
        """Return the options of the connection."""
        return dataclasses.replace(super().link(), session_expiry=self.session_expiry)

    def filters(self) -> list[tuple[str, int]]:
        """See `MqttClientConfig.filters`."""
        return [(template.filter, self.qos) for template in self.templates()]

    def check(self, name: str, run: RunSections) -> None:
        """See `EndConfig.check`."""
        if run.saves_state and self.qos and not self.session:
            raise ConfigError(
                "[state] without source.session: the broker would forget what comes while this is away; "
                "set source.client_id and session = true, or qos = 0 to accept losing it"
            )
        super().check(name, run)
        checks.check_source(self, clients_of(run))

    def warnings(self, name: str, run: RunSections) -> list[str]:
        """See `EndConfig.warnings`."""
        found = checks.source_warnings(self, clients_of(run)) + super().warnings(name, run)
        return found + ([unkept(name)] if run.saves_state and not (self.qos and self.session) else [])

    def notes(self, name: str, run: RunSections) -> list[str]:
        """See `EndConfig.notes`."""
        return checks.source_notes(self)

    def build(self, model: ModelOutline) -> MqttSource:
        """See `SourceConfig.build`."""
        return MqttSource(
            self.address(),
            columns=ColumnKeys().columns_for(model.channels),
            subscriptions=self.subscriptions(model.channels, model.units, model.classes),
            qos=self.qos,
            client_id=self.client_id,
            session=self.session,
            time_zero=self.zero,
            retained=self.retained,
            queue_messages=self.queue_messages,
            max_bytes=self.max_bytes,
            inflight=self.inflight,
            quarantine=self.quarantine(),
            link=self.link(),
        )


class MqttSinkConfig(MqttClientConfig, SinkConfig, frozen=True, kw_only=True, tag="mqtt"):
    """Predictions to MQTT topics."""

    # ws:// and wss:// alone are WebSocket without MQTT.
    schemes: ClassVar[tuple[str, ...]] = tuple(name for name in SCHEMES if name.startswith("mqtt"))
    sensors: ClassVar[str] = "sensors/{stream}/imu"

    topic: str
    """Template of the topics, with {stream} as one level."""
    codec: PredictionCodecName = "json"
    """Encoding of the predictions."""
    qos: QoS = 1
    """Quality of service of the predictions."""
    retain: bool = False
    """Ask the broker to keep each topic's last prediction."""
    inflight: Positive = 100
    """Predictions on their way to the broker at a time."""

    @property
    def output(self) -> str:
        """Return the template of the topics."""
        return self.topic

    @property
    def takes_provisional(self) -> bool:
        """See `SinkConfig.takes_provisional`."""
        return True

    def build(self, model: ModelOutline) -> MqttSink:
        """See `SinkConfig.build`."""
        if (codec := PREDICTION_CODECS.find(self.codec)) is None:
            raise ConfigError(f"sink.codec = {self.codec!r}: there is none of that name for predictions")
        return MqttSink(
            self.address(),
            topic=self.topic,
            qos=self.qos,
            retain=self.retain,
            client_id=self.client_id,
            inflight=self.inflight,
            encode=codec.encode_prediction,
            link=self.link(),
        )

    def publisher(self, columns: Columns, batch: int) -> SamplePublisher:
        """See `SinkConfig.publisher`."""
        return SamplePublisher(
            self.address(),
            topic=self.topic,
            columns=columns,
            qos=self.qos,
            batch=batch,
            client_id=self.client_id,
            inflight=self.inflight,
            link=dataclasses.replace(self.link(), reconnect=False, wait=False),
        )


class MqttDeadLettersConfig(MqttClientConfig, DeadLettersConfig, frozen=True, kw_only=True, tag="mqtt"):
    """Messages that cannot be used, to a topic."""

    topic: str
    """Topic of the dead letters."""

    @property
    def output(self) -> str:
        """Return the topic."""
        return self.topic

    def check(self, name: str, run: RunSections) -> None:
        """See `EndConfig.check`."""
        if any(sign in self.topic for sign in "+#{}"):
            raise ConfigError(f"{name}.topic = {self.topic!r}: give one topic, without placeholders and wildcards")
        super().check(name, run)

    def build(self) -> MqttDeadLetters:
        """See `DeadLettersConfig.build`."""
        return MqttDeadLetters(self.address(), topic=self.topic, client_id=self.client_id, link=self.link())
