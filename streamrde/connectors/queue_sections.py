"""Keys of every section that is a client of a queue, and what such a section answers."""

from __future__ import annotations

import dataclasses
import ssl
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import msgspec

from streamrde.connectors.access import Address, Scheme, Tls, read_secret
from streamrde.connectors.clients import Intake, Patience, QueueClient
from streamrde.connectors.columns import Columns
from streamrde.connectors.ends import Codec
from streamrde.connectors.messages import MessageReader
from streamrde.connectors.payloads import PayloadSourceConfig, unkept
from streamrde.connectors.publishing import QueuePublisher
from streamrde.connectors.queues import QueueDeadLetters, QueueSink, QueueSource
from streamrde.connectors.registry import PREDICTION_CODECS, PredictionCodecName
from streamrde.connectors.sections import EndConfig, ModelOutline, RunSections, Section
from streamrde.connectors.topics import Grammar, TopicTemplate
from streamrde.errors import BrokerError, ConfigError
from streamrde.settings import Positive, Seconds


class TlsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """TLS files. Certificate and host name are always checked."""

    ca: str | None = None
    """Certificate authorities to trust, PEM. None: the system's."""
    certificate: str | None = None
    """This client's certificate, PEM."""
    key: str | None = None
    """Its private key, PEM."""
    key_password_env: str | None = None
    """Environment variable with the key's password."""
    key_password_file: str | None = None
    """File whose first line is the key's password."""


class QueueAccess(EndConfig):
    """Answer for a client of a queue. The sections of a source and of a sink have the same keys for it."""

    __slots__ = ()

    scheme: ClassVar[Scheme]
    system: ClassVar[str]
    """Name of the queue in messages."""

    url: Any
    user: Any
    password_env: Any
    password_file: Any
    timeout: Any
    longest_pause: Any
    wait: Any
    tls: Any

    @property
    def place(self) -> str:
        """Return what is read or published to, for people."""
        raise NotImplementedError

    @abstractmethod
    def look(self) -> QueueClient:
        """Return a client that finds out if the queue is there and has what the section needs."""

    def address(self) -> Address:
        """Return the server, with user and password from wherever they are."""
        address = Address.parse(self.url, self.scheme)
        password = read_secret("password", variable=self.password_env, file=self.password_file)
        if (self.user or password) and (address.user or address.password):
            raise ConfigError("user and password are in the url and beside it: give them once")
        if self.tls is not None and not address.tls:
            raise ConfigError(f"tls is set and the url begins with {self.scheme.plain}://: use {self.scheme.secure}://")
        if self.user is None and password is None:
            return address
        return dataclasses.replace(address, user=self.user, password=password)

    def encryption(self) -> Tls | None:
        """Return the settings of TLS, None without TLS."""
        if not self.address().tls:
            return None
        if (tls := self.tls) is None:
            return Tls()
        password = read_secret("tls.key_password", variable=tls.key_password_env, file=tls.key_password_file)
        return Tls(tls.ca, tls.certificate, tls.key, password)

    def context(self) -> ssl.SSLContext | None:
        """Return the TLS context, None without TLS."""
        found = self.encryption()
        return None if found is None else found.context()

    def patience(self) -> Patience:
        """Return the rules for waiting and trying again."""
        return Patience(timeout=self.timeout, wait=self.wait, longest_pause=self.longest_pause)

    @property
    def queue(self) -> str:
        """Name the server in messages."""
        return f"{self.system} {Address.parse(self.url, self.scheme)}"

    def check(self, name: str, run: RunSections) -> None:
        """See `EndConfig.check`."""
        self.address()

    def without_waiting(self) -> Self:
        """See `EndConfig.without_waiting`."""
        return msgspec.structs.replace(self, wait=False)  # type: ignore[type-var]

    async def probe(self) -> str:
        """Reach the server, and find what the section needs."""
        client = self.look()
        client.patience = Patience(timeout=self.timeout, reconnect=False)
        try:
            async with client:
                pass
        except BrokerError as error:
            raise ConfigError(f"{error}") from None
        return f"{self.queue}, {'TLS' if self.address().tls else 'without TLS'}: {self.place}"


class QueueKeys(Section, QueueAccess, frozen=True, kw_only=True):
    """Reach a queue."""

    url: str
    """Address of the server, such as nats://host:4222, redis://host:6379/0 or kafka://host:9092."""
    user: str | None = None
    """User name at the server."""
    password_env: str | None = None
    """Name of the environment variable that has the password."""
    password_file: str | None = None
    """File whose first line is the password."""
    timeout: Seconds = 10.0
    """Seconds to wait for the server's answers."""
    longest_pause: Seconds = 30.0
    """Longest pause between attempts to connect again, seconds."""
    wait: bool = True
    """At the start, try again until the server is there. If false, a server that is not there is an error."""
    tls: TlsConfig | None = None


class QueueSourceConfig(PayloadSourceConfig, QueueAccess, frozen=True, kw_only=True):
    """Receive samples from a queue."""

    unique: ClassVar[bool] = True
    """See `Intake`."""

    url: str
    """Address of the server, such as nats://host:4222, redis://host:6379/0 or kafka://host:9092."""
    user: str | None = None
    """User name at the server."""
    password_env: str | None = None
    """Name of the environment variable that has the password."""
    password_file: str | None = None
    """File whose first line is the password."""
    timeout: Seconds = 10.0
    """Seconds to wait for the server's answers."""
    longest_pause: Seconds = 30.0
    """Longest pause between attempts to connect again, seconds."""
    wait: bool = True
    """At the start, try again until the server is there. If false, a server that is not there is an error."""
    tls: TlsConfig | None = None
    inflight: Positive = 1000
    """Messages that may be unacknowledged. A checkpoint is made at half of them."""

    @property
    def place(self) -> str:
        """See `QueueAccess.place`."""
        return self.topics_shown

    @property
    def keeps(self) -> bool:
        """Return True if what is not acknowledged, and what comes while this is away, waits in the queue."""
        return True

    def client(self, intake: Intake | None) -> QueueClient:
        """Return a client of the queue that puts messages into `intake`. None: it only looks."""
        raise NotImplementedError

    def look(self) -> QueueClient:
        """See `QueueAccess.look`."""
        return self.client(None)

    def build(self, model: ModelOutline) -> QueueSource:
        """See `SourceConfig.build`."""
        intake = Intake(limit=self.queue_messages, unique=self.unique)
        return QueueSource(self.client(intake), intake, self.reader(model))

    def reader(self, model: ModelOutline) -> MessageReader:
        """Return how messages are read."""
        return MessageReader(
            self.subscriptions(model.channels, model.units, model.classes),
            model.channels,
            queue=self.queue,
            time_zero=self.zero,
            max_bytes=self.max_bytes,
            quarantine=self.quarantine(),
        )

    def check(self, name: str, run: RunSections) -> None:
        """See `EndConfig.check`."""
        super().check(name, run)
        templates = self.templates()
        for other, section in run.named().items():
            if not isinstance(section, QueueSinkKeys) or (type(section).system, section.url) != (self.system, self.url):
                continue
            example = section.template().topic_for("/".join(["x"] * len(section.template().names)))
            if any(template.place_of(example) is not None for template in templates):
                raise ConfigError(
                    f"{other}.topic = {section.topic!r} is matched by the source's topic: what the run publishes would "
                    "come back to it as input; choose a topic beside those of the source"
                )

    def warnings(self, name: str, run: RunSections) -> list[str]:
        """See `EndConfig.warnings`."""
        found = super().warnings(name, run)
        if self.keeps and any(payload.time in ("", "@arrival") for payload in self.payloads()):
            found.append(
                f"{name}: messages get the time of their arrival, and after a pause the server sends what it kept all "
                'at once; name a field with the time, or set time = "@broker"'
            )
        if run.saves_state and not self.keeps:
            found.append(unkept(name))
        return found


class QueueSinkKeys(QueueKeys, frozen=True, kw_only=True):
    """Publish predictions to a queue."""

    grammar: ClassVar[Grammar]

    topic: str
    """Template of the topics, with {stream} as one level."""
    codec: PredictionCodecName = "json"
    """Encoding of the predictions."""
    inflight: Positive = 1000
    """Predictions on their way to the server at a time."""

    @property
    def place(self) -> str:
        """See `QueueAccess.place`."""
        return self.topic

    @property
    def takes_provisional(self) -> bool:
        """See `SinkConfig.takes_provisional`."""
        return True

    def template(self) -> TopicTemplate:
        """Return the template of the topics."""
        return TopicTemplate(self.topic, self.grammar)

    def publisher(self, columns: Columns, batch: int) -> QueuePublisher:
        """See `SinkConfig.publisher`. What a server that crashed had confirmed may be gone, so it is asked once."""
        client = self.look()
        client.patience = Patience(timeout=self.timeout, reconnect=False)
        return QueuePublisher(client, self.template(), columns, batch)

    def build(self, model: ModelOutline) -> QueueSink:
        """See `SinkConfig.build`."""
        return QueueSink(self.look(), self.template(), self.encoding().encode_prediction)

    def encoding(self) -> type[Codec]:
        """Return the codec of the predictions."""
        if (codec := PREDICTION_CODECS.find(self.codec)) is None:
            raise ConfigError(f"sink.codec = {self.codec!r}: there is none of that name for predictions")
        return codec


class QueueLettersKeys(QueueKeys, frozen=True, kw_only=True):
    """Publish dead letters to a queue."""

    topic: str
    """Topic of the dead letters."""

    @property
    def place(self) -> str:
        """See `QueueAccess.place`."""
        return self.topic

    def build(self) -> QueueDeadLetters:
        """See `DeadLettersConfig.build`."""
        return QueueDeadLetters(self.look(), self.topic)

    def check(self, name: str, run: RunSections) -> None:
        """See `EndConfig.check`."""
        super().check(name, run)
        if any(sign in self.topic for sign in "{}*>#"):
            raise ConfigError(f"{name}.topic = {self.topic!r}: give one topic, without placeholders and wildcards")


def headers_as_text(headers: Mapping[Any, Any] | None) -> dict[str, str] | None:
    """Return headers as text, None if there are none."""
    if not headers:
        return None
    return {str(name): value.decode() if isinstance(value, bytes) else str(value) for name, value in headers.items()}
