"""Sections of Kafka: source, sink, dead letters."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, TypeAlias

import msgspec

from streamrde.connectors.access import Scheme
from streamrde.connectors.clients import Intake
from streamrde.connectors.kafka.client import KafkaClient
from streamrde.connectors.kafka.reader import KafkaReader
from streamrde.connectors.kafka.topics import KAFKA, KafkaTopic
from streamrde.connectors.kafka.writer import KafkaWriter
from streamrde.connectors.queue_sections import QueueAccess, QueueLettersKeys, QueueSinkKeys, QueueSourceConfig
from streamrde.connectors.sections import DeadLettersConfig, RunSections, SinkConfig
from streamrde.connectors.topics import Grammar, TopicTemplate
from streamrde.errors import ConfigError
from streamrde.settings import Positive, Seconds

_SCHEME = Scheme("kafka", "kafka+ssl", (9092, 9093))
Mechanism: TypeAlias = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
Option: TypeAlias = str | int | float | bool
# What the client decides, each with the key to use instead.
_OWN = {
    "bootstrap.servers": "url and brokers", "metadata.broker.list": "url and brokers", "group.id": "group",
    "auto.offset.reset": "deliver", "enable.auto.commit": "nothing: positions are committed after acknowledgement",
    "enable.auto.offset.store": "nothing: positions are committed after acknowledgement",
    "acks": "nothing: all replicas confirm", "enable.idempotence": "nothing: it is on",
    "message.timeout.ms": "timeout", "topic.metadata.refresh.interval.ms": "discover",
    "sasl.username": "user", "sasl.password": "password_env or password_file", "ssl.ca.location": "tls.ca",
    "ssl.certificate.location": "tls.certificate", "ssl.key.location": "tls.key",
    "ssl.key.password": "tls.key_password_env",
}  # fmt: skip


class _Access(QueueAccess):
    """Answer for a client of Kafka."""

    __slots__ = ()

    scheme: ClassVar[Scheme] = _SCHEME
    system: ClassVar[str] = "Kafka broker"

    brokers: Any
    mechanism: Any
    options: Any

    def check(self, name: str, run: RunSections) -> None:
        """See `EndConfig.check`."""
        super().check(name, run)
        if own := sorted(self.options.keys() & _OWN.keys()):
            raise ConfigError(f"{name}.options has {own[0]!r}, which is decided here; use {_OWN[own[0]]}")
        if self.address().password is not None and self.address().user is None:
            raise ConfigError(f"{name} has a password and no user: give both")
        for broker in self.brokers:
            host, _, port = broker.rpartition(":")
            if not host or not port.isdecimal():
                raise ConfigError(f"{name}.brokers has {broker!r}: write host:port")

    def reaching(self) -> dict[str, Any]:
        """Return the arguments of every client of the section."""
        return {
            "brokers": self.brokers,
            "tls": self.encryption(),
            "mechanism": self.mechanism,
            "patience": self.patience(),
            "options": self.options,
        }


class KafkaSourceConfig(_Access, QueueSourceConfig, frozen=True, kw_only=True, tag_field="kind", tag="kafka"):
    """Receive samples from Kafka topics, by a consumer group."""

    grammar: ClassVar[Grammar] = KAFKA
    sort: ClassVar[type[TopicTemplate]] = KafkaTopic

    brokers: tuple[str, ...] = ()
    """Further brokers of the cluster to begin with, each host:port."""
    mechanism: Mechanism = "PLAIN"
    """SASL mechanism, where there is a user."""
    options: dict[str, Option] = msgspec.field(default_factory=dict)
    """Further settings of librdkafka, by their names there."""
    group: str
    """Name of the consumer group, which keeps the position. Each run needs its own, and reads all partitions."""
    create_topic: bool = False
    """Create a topic that is not there. Topics with placeholders are found when they are."""
    partitions: Positive = 1
    """Partitions of a topic that is created."""
    deliver: Literal["all", "new"] = "all"
    """Where a new group begins: with all that a topic has, or with what comes from then on."""
    discover: Seconds = 30.0
    """Seconds between two looks for new topics and partitions."""

    def check(self, name: str, run: RunSections) -> None:
        """See `EndConfig.check`."""
        if not self.group:
            raise ConfigError(f'{name}.group = "": name the consumer group that keeps the position')
        super().check(name, run)

    def client(self, intake: Intake | None) -> KafkaClient:
        """See `QueueSourceConfig.client`."""
        templates = [template for template in self.templates() if isinstance(template, KafkaTopic)]
        topics: dict[str, Any] = {"templates": templates, "create": self.create_topic, "partitions": self.partitions}
        if intake is None:
            return KafkaWriter(self.address(), **topics, **self.reaching())
        return KafkaReader(
            self.address(),
            group=self.group,
            intake=intake,
            inflight=self.inflight,
            deliver=self.deliver,
            discover=self.discover,
            **topics,
            **self.reaching(),
        )


class KafkaSinkConfig(_Access, QueueSinkKeys, SinkConfig, frozen=True, kw_only=True, tag="kafka"):
    """Predictions to a Kafka topic. The key of a message is the stream's name."""

    grammar: ClassVar[Grammar] = KAFKA
    schemes: ClassVar[tuple[str, ...]] = ("kafka", "kafka+ssl")
    sensors: ClassVar[str] = "sensors"

    topic: str
    """Topic of all streams. The key of a message is its stream's name."""
    brokers: tuple[str, ...] = ()
    """Further brokers of the cluster to begin with, each host:port."""
    mechanism: Mechanism = "PLAIN"
    """SASL mechanism, where there is a user."""
    options: dict[str, Option] = msgspec.field(default_factory=dict)
    """Further settings of librdkafka, by their names there."""
    create_topic: bool = False
    """Create the topic if it is not there."""
    partitions: Positive = 1
    """Partitions of a topic that is created."""

    def template(self) -> KafkaTopic:
        """See `QueueSinkKeys.template`."""
        return KafkaTopic(self.topic)

    def look(self) -> KafkaWriter:
        """See `QueueAccess.look`."""
        return KafkaWriter(
            self.address(),
            inflight=self.inflight,
            templates=[self.template()],
            create=self.create_topic,
            partitions=self.partitions,
            **self.reaching(),
        )


class KafkaDeadLettersConfig(_Access, QueueLettersKeys, DeadLettersConfig, frozen=True, kw_only=True, tag="kafka"):
    """Messages that cannot be used, to a Kafka topic."""

    brokers: tuple[str, ...] = ()
    """Further brokers of the cluster to begin with, each host:port."""
    mechanism: Mechanism = "PLAIN"
    """SASL mechanism, where there is a user."""
    options: dict[str, Option] = msgspec.field(default_factory=dict)
    """Further settings of librdkafka, by their names there."""

    def check(self, name: str, run: RunSections) -> None:
        """See `EndConfig.check`."""
        super().check(name, run)
        KafkaTopic(self.topic, named=False)

    def look(self) -> KafkaWriter:
        """See `QueueAccess.look`."""
        return KafkaWriter(self.address(), templates=[KafkaTopic(self.topic, named=False)], **self.reaching())
