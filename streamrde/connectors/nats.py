"""NATS: samples from JetStream or from plain subjects, predictions and dead letters to them."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from streamrde.connectors.access import Address, Scheme
from streamrde.connectors.clients import Intake, Outgoing, Patience, QueueClient, certificate_refused, mapped
from streamrde.connectors.queue_sections import (
    QueueAccess,
    QueueLettersKeys,
    QueueSinkKeys,
    QueueSourceConfig,
    headers_as_text,
)
from streamrde.connectors.sections import DeadLettersConfig, RunSections, SinkConfig
from streamrde.connectors.topics import NATS, Grammar
from streamrde.errors import BrokerError, ConfigError, MissingExtraError
from streamrde.settings import Seconds

if TYPE_CHECKING:
    from nats.aio.msg import Msg

_SCHEME = Scheme("nats", "tls", (4222, 4222))
# A consumer that remembers the position while the one that reads is made again.
_BOOKMARK = "-position"
# Seconds for the server to answer the last acknowledgement, at the end of a run.
_SETTLING = 1.0
# Version of the server that knows several subjects of one consumer.
_SEVERAL_SUBJECTS = (2, 10)


class NatsClient(QueueClient):
    """A client of a NATS server.

    A JetStream consumer is made again on every connection, from the first message that is not acknowledged: the server
    would else send new messages first and those that a lost connection had swallowed after `ack_wait`, out of order.
    While it is made again a second consumer, `DURABLE-position`, holds the position.

    Args:
        address: the server.
        tls: TLS context; None: without TLS.
        subjects: subjects to receive from; `intake` takes the messages.
        durable: name of the consumer that keeps the position; None: plain subscriptions, at most once.
        stream: name of the JetStream stream; "": the one that has the subjects.
        create: create the stream if there is none.
        deliver: where a new consumer begins.
        ack_wait: seconds after which the server sends a message again.
        jetstream: publish with confirmation by a stream.
    """

    def __init__(
        self,
        address: Address,
        *,
        tls: ssl.SSLContext | None = None,
        patience: Patience | None = None,
        intake: Intake | None = None,
        inflight: int = 1000,
        subjects: Sequence[str] = (),
        durable: str | None = None,
        stream: str = "",
        create: bool = False,
        deliver: Literal["all", "new"] = "all",
        ack_wait: float = 60.0,
        jetstream: bool = True,
    ) -> None:
        super().__init__(f"NATS server {address}", patience=patience, intake=intake, inflight=inflight)
        self._address = address
        self._tls = tls
        self._subjects = tuple(subjects)
        self._durable = durable
        self._stream = stream
        self._create = create
        self._deliver = deliver
        self._ack_wait = ack_wait
        self._jetstream = jetstream
        self._last = ""
        self._nats: Any = None
        self._js: Any = None

    async def _connect(self) -> None:
        try:
            from nats.aio.client import Client
            from nats.errors import NoServersError, SlowConsumerError
        except ImportError:
            raise MissingExtraError("NATS", "nats") from None

        address = self._address
        password = {"user": address.user, "password": address.password} if address.password else {"token": address.user}
        # What the client library reports is raised or logged here.
        self._last = ""
        client: Any = Client()
        self._nats = client
        problems: list[Exception] = []

        async def report(error: Exception) -> None:
            problems.append(error)
            if isinstance(error, SlowConsumerError):
                self.lost("more messages came than this client can hold")

        async def closed() -> None:
            if client is self._nats:
                self.lost(f"{problems[-1]}" if problems else "the connection was closed")

        with mapped(_converted):
            try:
                await client.connect(
                    f"nats://{address}" if self._tls is None else f"tls://{address}",
                    tls=self._tls,
                    # The client library tries an absent server for ever unless this is above 0.
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    connect_timeout=max(1, round(self.patience.timeout)),
                    error_cb=report,
                    closed_cb=closed,
                    disconnected_cb=closed,
                    **{key: value for key, value in password.items() if value},
                )
            except NoServersError:
                if problems:
                    raise problems[-1] from None
                raise
            self._js = client.jetstream(timeout=self.patience.timeout)
            if self._durable is not None:
                await self._consume(self._durable)
            elif self.intake is not None:
                for subject in self._subjects:
                    await client.subscribe(subject, cb=self._take_plain)
                await client.flush()
            elif self._jetstream and self._subjects:
                await self._stream_name()

    async def _stream_name(self) -> str:
        """Return the name of the stream that has the subjects. Create it if that is wanted."""
        from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

        subjects = list(self._subjects)
        try:
            if self._stream:
                return str((await self._js.stream_info(self._stream)).config.name)
            return str(await self._js.find_stream_name_by_subject(subjects[0]))
        except NotFoundError:
            name = self._stream or "streamrde"
        except ServiceUnavailableError:
            # Where it was once enabled, it only takes its time after a start.
            raise BrokerError(
                "JetStream is not enabled there; start nats-server with -js, or set jetstream = false",
                final=not self.counts.connects,
            ) from None
        if not self._create:
            what = f"stream {self._stream!r}" if self._stream else f"stream with the subject {subjects[0]!r}"
            raise BrokerError(
                f"it has no {what}; create it with  nats stream add {name} --subjects '{','.join(subjects)}'  or set "
                "create_stream = true",
                final=True,
            )
        try:
            await self._js.add_stream(name=name, subjects=subjects)
        except APIError as error:
            raise BrokerError(f"stream {name!r} cannot be created: {error.description}", final=True) from None
        return name

    async def _consume(self, durable: str) -> None:
        """Receive from the first message that is not acknowledged."""
        from nats.js.api import ConsumerConfig, DeliverPolicy, RetentionPolicy
        from nats.js.errors import NotFoundError

        stream, subjects = await self._stream_name(), self._subjects
        if len(subjects) > 1 and _version(self._nats) < _SEVERAL_SUBJECTS:
            raise BrokerError(
                f"a consumer of this server takes one subject, and there are {len(subjects)}; use a server of version "
                "2.10 or later, or one topic with wildcards",
                final=True,
            )
        config = ConsumerConfig(
            durable_name=durable,
            deliver_policy=DeliverPolicy.ALL if self._deliver == "all" else DeliverPolicy.NEW,
            ack_wait=self._ack_wait,
            max_ack_pending=self._inflight,
            filter_subject=subjects[0] if len(subjects) == 1 else None,
            filter_subjects=list(subjects) if len(subjects) > 1 else None,
        )
        bookmark = durable + _BOOKMARK
        retention = (await self._js.stream_info(stream)).config.retention
        position: int | None = None
        try:
            old = await self._js.consumer_info(stream, durable)
        except NotFoundError:
            with contextlib.suppress(NotFoundError):  # a client that was killed between the two left it
                position = (await self._js.consumer_info(stream, bookmark)).config.opt_start_seq
        else:
            if old.push_bound:
                raise BrokerError(f"another client reads as durable = {durable!r}; give each a name of its own")
            reached = old.ack_floor.stream_seq if old.ack_floor is not None else 0
            position = max(reached + 1, old.config.opt_start_seq or 0)
        # A work queue holds what is not acknowledged, and nothing else. It allows no second consumer.
        if retention == RetentionPolicy.WORK_QUEUE:
            position, config.deliver_policy = None, DeliverPolicy.ALL
        if position is not None:
            config.deliver_policy, config.opt_start_seq = DeliverPolicy.BY_START_SEQUENCE, position
            with contextlib.suppress(NotFoundError):
                await self._js.delete_consumer(stream, bookmark)
            await self._js.add_consumer(stream, config.evolve(durable_name=bookmark))
        with contextlib.suppress(NotFoundError):
            await self._js.delete_consumer(stream, durable)
        inbox = self._nats.new_inbox()
        await self._nats.subscribe(inbox, cb=self._take, pending_bytes_limit=-1)
        await self._js.add_consumer(stream, config.evolve(deliver_subject=inbox))
        if position is not None:
            await self._js.delete_consumer(stream, bookmark)

    async def _take(self, message: Msg) -> None:
        """Take a message of JetStream. Its reply subject has its place in the stream."""
        tokens = message.reply.split(".")
        if len(tokens) < 9 or self.intake is None:
            return  # a status message
        # $JS.ACK.stream.consumer.delivered.sequence.number.time.pending, since 2.10 with domain and account before.
        first = 4 if len(tokens) == 9 else 6
        delivered, sequence, _, nanoseconds = tokens[first : first + 4]
        again = self.intake.put(
            message.subject.encode(),
            message.data,
            sequence,
            message.reply,
            again=delivered != "1",
            properties=headers_as_text(message.headers) if message.headers else None,
            stamped=int(nanoseconds) * 1e-9,
        )
        self.changed.set()
        if again is not None:
            await self.acknowledge_now([again])

    async def _take_plain(self, message: Msg) -> None:
        if self.intake is not None:
            self.intake.put(
                message.subject.encode(),
                message.data,
                None,
                None,
                properties=headers_as_text(message.headers) if message.headers else None,
            )
            self.changed.set()

    async def _acknowledge(self, handles: Sequence[str]) -> None:
        if (client := self._nats) is None:
            return  # its connection is gone: the messages come again
        with mapped(_converted):
            for handle in handles:
                await client.publish(handle)
        self._last = handles[-1]

    async def _settle(self) -> None:
        # Acknowledgements are taken in order: the answer to one more of the last proves the rest.
        if self._last:
            with mapped(_converted):
                await self._nats.request(self._last, timeout=_SETTLING)

    async def _publish(self, messages: Sequence[Outgoing]) -> None:
        with mapped(_converted):
            if not self._jetstream:
                for message in messages:
                    await self._nats.publish(message.topic, message.payload)
                await self._nats.flush()
                return
            confirmations = []
            for message in messages:
                headers = {"Nats-Msg-Id": message.identity} if message.identity else None
                confirmations.append(await self._js.publish_async(message.topic, message.payload, headers=headers))
            try:
                await asyncio.gather(*confirmations)
            except Exception as error:
                await asyncio.gather(*confirmations, return_exceptions=True)
                refused = _refusal(error, messages[0].topic)
                raise refused or error from None

    async def _disconnect(self) -> None:
        client, self._nats = self._nats, None
        if client is not None:
            await self.let_go(client.close())


def _converted(error: Exception) -> BrokerError | None:
    """Return the error of this project for one of the client library or the network."""
    import nats.errors
    from nats.js.errors import APIError

    if isinstance(error, nats.errors.AuthorizationError) or "authorization" in f"{error}".lower():
        return BrokerError("it refuses user, password or token; check them", final=True)
    if isinstance(error, ssl.SSLCertVerificationError):
        return certificate_refused(error)
    if isinstance(error, APIError):
        # From 500 on it is the server that fails, as when it has just been started, and not the request.
        return BrokerError(f"JetStream refuses: {error.description or error}", final=(error.code or 0) < 500)
    if isinstance(error, nats.errors.Error | OSError):
        text = f"{error}" or type(error).__name__
        return BrokerError(f"{text}; start the server or check host, port and nats:// or tls://")
    return None


def _refusal(error: BaseException, topic: str) -> BrokerError | None:
    """Return the error of a publication that no stream takes."""
    from nats.js.errors import NoStreamResponseError

    if not isinstance(error, NoStreamResponseError):
        return None
    return BrokerError(
        f"no JetStream stream takes the subject {topic!r}; create one with  nats stream add predictions --subjects "
        "SUBJECTS  or set jetstream = false, which confirms nothing",
        final=True,
    )


def _version(client: Any) -> tuple[int, int]:
    version = client.connected_server_version
    return version.major, version.minor


class NatsAccess(QueueAccess):
    """Answer for a client of this queue."""

    __slots__ = ()

    grammar: ClassVar[Grammar] = NATS
    scheme: ClassVar[Scheme] = _SCHEME
    system: ClassVar[str] = "NATS server"
    schemes: ClassVar[tuple[str, ...]] = ("nats", "tls")
    sensors: ClassVar[str] = "sensors.{stream}.imu"


class NatsSourceConfig(NatsAccess, QueueSourceConfig, frozen=True, kw_only=True, tag_field="kind", tag="nats"):
    """Receive samples from NATS subjects."""

    jetstream: bool = True
    """Read from a JetStream stream, with acknowledgement. If false, from plain subjects, at most once."""
    stream_name: str = ""
    """Name of the JetStream stream. If "", the one that has the subjects."""
    create_stream: bool = False
    """Create the JetStream stream if there is none."""
    durable: str | None = None
    """Name of the JetStream consumer, which keeps the position. Each run needs its own."""
    deliver: Literal["all", "new"] = "all"
    """Where a new consumer begins: with all that the stream has, or with what comes from then on."""
    ack_wait: Seconds = 60.0
    """Seconds without acknowledgement after which the server sends a message again."""

    @property
    def keeps(self) -> bool:
        """See `QueueSourceConfig.keeps`."""
        return self.jetstream

    def check(self, name: str, run: RunSections) -> None:
        """See `EndConfig.check`."""
        if self.jetstream and not self.durable:
            raise ConfigError(
                f"{name}.durable is missing: name the JetStream consumer that keeps the position, or set "
                "jetstream = false to read plain subjects at most once"
            )
        if self.durable and any(sign in self.durable for sign in ".*> /\\\t"):
            raise ConfigError(f"{name}.durable = {self.durable!r}: use a name without . * > / and spaces")
        super().check(name, run)

    def client(self, intake: Intake | None) -> NatsClient:
        """Return a client with the section's subjects."""
        return NatsClient(
            self.address(),
            tls=self.context(),
            patience=self.patience(),
            intake=intake,
            inflight=self.inflight,
            subjects=[template.filter for template in self.templates()],
            durable=self.durable if self.jetstream and intake is not None else None,
            stream=self.stream_name,
            create=self.create_stream,
            deliver=self.deliver,
            ack_wait=self.ack_wait,
            jetstream=self.jetstream,
        )


class NatsSinkConfig(NatsAccess, QueueSinkKeys, SinkConfig, frozen=True, kw_only=True, tag="nats"):
    """Predictions to NATS subjects."""

    jetstream: bool = True
    """Publish to a JetStream stream, which confirms and drops repeated predictions. If false, to plain subjects."""
    stream_name: str = ""
    """Name of the JetStream stream. If "", the one that has the subjects."""
    create_stream: bool = False
    """Create the JetStream stream if there is none."""

    def look(self) -> NatsClient:
        """See `QueueAccess.look`."""
        return NatsClient(
            self.address(),
            tls=self.context(),
            patience=self.patience(),
            inflight=self.inflight,
            subjects=[self.template().filter],
            stream=self.stream_name,
            create=self.create_stream,
            jetstream=self.jetstream,
        )


class NatsDeadLettersConfig(NatsAccess, QueueLettersKeys, DeadLettersConfig, frozen=True, kw_only=True, tag="nats"):
    """Messages that cannot be used, to a NATS subject."""

    jetstream: bool = True
    """Publish to a JetStream stream, which confirms. If false, to a plain subject."""

    def look(self) -> NatsClient:
        """See `QueueAccess.look`."""
        return NatsClient(
            self.address(),
            tls=self.context(),
            patience=self.patience(),
            subjects=[self.topic],
            jetstream=self.jetstream,
        )
