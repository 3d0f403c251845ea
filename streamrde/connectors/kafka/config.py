"""Sections of Kafka: source, sink, dead letters."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar, Literal, TypeAlias

import msgspec

from streamrde.connectors.access import Scheme, read_secret
from streamrde.connectors.clients import Intake
from streamrde.connectors.kafka.client import KafkaClient
from streamrde.connectors.kafka.cluster import KafkaCluster, OAuth
from streamrde.connectors.kafka.letters import KafkaDeadLetters
from streamrde.connectors.kafka.membership import DECIDED_THERE, HOST, Membership, Protocol
from streamrde.connectors.kafka.reader import KafkaReader
from streamrde.connectors.kafka.source import KafkaSource
from streamrde.connectors.kafka.topics import KAFKA, KafkaTopic
from streamrde.connectors.kafka.writer import KafkaWriter
from streamrde.connectors.queue_sections import QueueAccess, QueueLettersKeys, QueueSinkKeys, QueueSourceConfig
from streamrde.connectors.sections import DeadLettersConfig, ModelOutline, RunSections, SinkConfig
from streamrde.connectors.topics import Grammar, TopicTemplate
from streamrde.errors import ConfigError
from streamrde.settings import Positive, Seconds

_SCHEME = Scheme("kafka", "kafka+ssl", (9092, 9093))
Mechanism: TypeAlias = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]
Option: TypeAlias = str | int | float | bool
# What the client decides, each with the key to use instead.
_OWN = {
    "bootstrap.servers": "url and brokers", "metadata.broker.list": "url and brokers", "group.id": "group",
    "group.instance.id": "instance", "group.protocol": "protocol", "sasl.mechanisms": "mechanism",
    "sasl.mechanism": "mechanism", "sasl.oauthbearer.method": "mechanism and oauth",
    "sasl.oauthbearer.token.endpoint.url": "oauth.token_url", "sasl.oauthbearer.client.id": "oauth.client_id",
    "sasl.oauthbearer.client.secret": "oauth.client_secret_env", "sasl.oauthbearer.scope": "oauth.scope",
    "auto.offset.reset": "deliver", "enable.auto.commit": "nothing: positions are committed after acknowledgement",
    "enable.auto.offset.store": "nothing: positions are committed after acknowledgement",
    "acks": "nothing: all replicas confirm", "enable.idempotence": "nothing: it is on",
    "message.timeout.ms": "timeout", "topic.metadata.refresh.interval.ms": "discover",
    "sasl.username": "user", "sasl.password": "password_env or password_file", "ssl.ca.location": "tls.ca",
    "ssl.certificate.location": "tls.certificate", "ssl.key.location": "tls.key",
    "ssl.key.password": "tls.key_password_env",
}  # fmt: skip


class OAuthConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tokens of a token server, for mechanism = "OAUTHBEARER"."""

    token_url: str
    """Address of the token server's endpoint, https://."""
    client_id: str
    """Name of this client at the token server."""
    client_secret_env: str | None = None
    """Environment variable with its secret."""
    client_secret_file: str | None = None
    """File whose first line is its secret."""
    scope: str = ""
    """Scope to ask for, if the token server wants one."""
    ca: str | None = None
    """Certificate authorities to trust at the token server, PEM. None: the system's."""

    def tokens(self) -> OAuth:
        """Return the client credentials, with the secret from wherever it is."""
        secret = read_secret("oauth.client_secret", variable=self.client_secret_env, file=self.client_secret_file)
        if secret is None:
            raise ConfigError("oauth has no secret: give client_secret_env or client_secret_file")
        return OAuth(self.token_url, self.client_id, secret, self.scope, self.ca)


class _Access(QueueAccess):
    """Answer for a client of Kafka."""

    __slots__ = ()

    scheme: ClassVar[Scheme] = _SCHEME
    system: ClassVar[str] = "Kafka broker"

    brokers: Any
    mechanism: Any
    oauth: Any
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

        self._check_tokens(name)

    def _check_tokens(self, name: str) -> None:
        bearer = self.mechanism == "OAUTHBEARER"
        if self.oauth is not None:
            if not bearer:
                raise ConfigError(f'{name}.oauth is set: set {name}.mechanism = "OAUTHBEARER" too')
            if self.address().user is not None:
                raise ConfigError(f"{name} has a user and oauth: give one of them")
            self.oauth.tokens()
        elif bearer and "enable.sasl.oauthbearer.unsecure.jwt" not in self.options:
            raise ConfigError(
                f'{name}.mechanism = "OAUTHBEARER" needs tokens: give a table [{name}.oauth] with token_url, client_id '
                "and client_secret_env"
            )

    def cluster(self) -> KafkaCluster:
        """Return the cluster, and how it is reached."""
        tokens = None if self.oauth is None else self.oauth.tokens()
        return KafkaCluster(self.address(), self.brokers, self.encryption(), self.mechanism, tokens, self.options)


class KafkaSourceConfig(_Access, QueueSourceConfig, frozen=True, kw_only=True, tag_field="kind", tag="kafka"):
    """Receive samples from Kafka topics, by a consumer group."""

    grammar: ClassVar[Grammar] = KAFKA
    sort: ClassVar[type[TopicTemplate]] = KafkaTopic

    brokers: tuple[str, ...] = ()
    """Further brokers of the cluster to begin with, each host:port."""
    mechanism: Mechanism = "PLAIN"
    """SASL mechanism, where there is a user or oauth."""
    oauth: OAuthConfig | None = None
    options: dict[str, Option] = msgspec.field(default_factory=dict)
    """Further settings of librdkafka, by their names there."""
    group: str
    """Name of the consumer group, which keeps the position. Each run needs its own, and reads all partitions."""
    instance: str | None = None
    """Name of a static member of the group, whose partitions wait for its next start. {host} stands for the machine."""
    protocol: Protocol = "classic"
    """Rebalance protocol: "consumer" is that of KIP-848, for brokers of Kafka 4.0 or later."""
    inflight: Positive = 10_000
    """Messages that may be unacknowledged. A checkpoint is made at half of them."""
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
        if self.instance is not None:
            rest = self.instance.replace(HOST, "")
            if not self.instance or "{" in rest or "}" in rest:
                raise ConfigError(f"{name}.instance = {self.instance!r}: write a name, in which {HOST} is the machine")
        if self.protocol == "consumer" and (decided := sorted(self.options.keys() & DECIDED_THERE.keys())):
            raise ConfigError(
                f'{name}.options has {decided[0]!r}, which the broker decides with protocol = "consumer" (there it is '
                f"{DECIDED_THERE[decided[0]]}): leave it out"
            )

    def membership(self) -> Membership:
        """Return the consumer group, and this member of it."""
        return Membership(self.group, self.instance, self.protocol, self.discover)

    def build(self, model: ModelOutline) -> KafkaSource:
        """See `SourceConfig.build`."""
        intake = Intake(limit=self.queue_messages)
        return KafkaSource(self._reader(intake), intake, self.reader(model))

    def client(self, intake: Intake | None) -> KafkaClient:
        """See `QueueSourceConfig.client`."""
        if intake is not None:
            return self._reader(intake)
        return KafkaWriter(
            self.cluster(),
            patience=self.patience(),
            templates=self.kafka_topics(),
            create=self.create_topic,
            partitions=self.partitions,
        )

    def _reader(self, intake: Intake) -> KafkaReader:
        return KafkaReader(
            self.cluster(),
            membership=self.membership(),
            intake=intake,
            inflight=self.inflight,
            deliver=self.deliver,
            patience=self.patience(),
            templates=self.kafka_topics(),
            create=self.create_topic,
            partitions=self.partitions,
        )

    def overhear(self, topic: str, limit: int, given: Collection[str] = ()) -> KafkaClient:
        """See `PayloadSourceConfig.overhear`."""
        from streamrde.connectors.kafka.listener import KafkaListener

        return KafkaListener(self.cluster(), patience=self.patience(), intake=Intake(limit=limit), pattern=topic)

    def kafka_topics(self) -> list[KafkaTopic]:
        """Return the templates of all topics."""
        return [template for template in self.templates() if isinstance(template, KafkaTopic)]


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
    """SASL mechanism, where there is a user or oauth."""
    oauth: OAuthConfig | None = None
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
            self.cluster(),
            inflight=self.inflight,
            patience=self.patience(),
            templates=[self.template()],
            create=self.create_topic,
            partitions=self.partitions,
            headers=[("content-type", f"application/{self.codec}".encode())],
        )


class KafkaDeadLettersConfig(_Access, QueueLettersKeys, DeadLettersConfig, frozen=True, kw_only=True, tag="kafka"):
    """Messages that cannot be used, to a Kafka topic."""

    brokers: tuple[str, ...] = ()
    """Further brokers of the cluster to begin with, each host:port."""
    mechanism: Mechanism = "PLAIN"
    """SASL mechanism, where there is a user or oauth."""
    oauth: OAuthConfig | None = None
    options: dict[str, Option] = msgspec.field(default_factory=dict)
    """Further settings of librdkafka, by their names there."""

    def check(self, name: str, run: RunSections) -> None:
        """See `EndConfig.check`."""
        super().check(name, run)
        KafkaTopic(self.topic, named=False)

    def look(self) -> KafkaWriter:
        """See `QueueAccess.look`."""
        return KafkaWriter(
            self.cluster(),
            patience=self.patience(),
            templates=[KafkaTopic(self.topic, named=False)],
            headers=[("content-type", b"application/json")],
        )

    def build(self) -> KafkaDeadLetters:
        """See `DeadLettersConfig.build`."""
        return KafkaDeadLetters(self.look(), self.topic)
