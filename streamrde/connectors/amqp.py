"""AMQP 0-9-1, as RabbitMQ speaks it: samples from a durable queue, predictions and dead letters to an exchange."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Collection, Sequence
from typing import Any, ClassVar, Literal

from streamrde.connectors.access import Address, Scheme
from streamrde.connectors.clients import Intake, Outgoing, Patience, QueueClient, certificate_refused, mapped
from streamrde.connectors.queue_sections import (
    QueueAccess,
    QueueLettersKeys,
    QueueSinkKeys,
    QueueSourceConfig,
    headers_as_text,
)
from streamrde.connectors.sections import DeadLettersConfig, SinkConfig
from streamrde.connectors.topics import AMQP, Grammar
from streamrde.errors import BrokerError, MissingExtraError

_SCHEME = Scheme("amqp", "amqps", (5672, 5671), "/vhost")
# The prefetch count is two bytes on the wire.
_MOST_INFLIGHT = 65535


class AmqpClient(QueueClient):
    """A client of an AMQP broker.

    The broker sends what was not acknowledged again, first and in its order, once it knows that the connection is lost.

    Args:
        address: the broker, whose path is the virtual host.
        tls: TLS context; None: without TLS.
        queue: durable queue to receive from; None: nothing is received.
        exchange: exchange to publish to, and to which a queue that is created is bound.
        bindings: routing keys with which it is bound.
        create: create the queue if it is not there, and bind it.
        queue_type: of a queue that is created.
        mandatory: a message that no queue takes is an error.
    """

    def __init__(
        self,
        address: Address,
        *,
        tls: ssl.SSLContext | None = None,
        patience: Patience | None = None,
        intake: Intake | None = None,
        inflight: int = 1000,
        queue: str | None = None,
        exchange: str = "amq.topic",
        bindings: Sequence[str] = (),
        create: bool = False,
        queue_type: Literal["classic", "quorum"] = "classic",
        mandatory: bool = True,
    ) -> None:
        super().__init__(f"AMQP broker {address}", patience=patience, intake=intake, inflight=inflight)
        self._address = address
        self._tls = tls
        self._queue = queue
        self._exchange = exchange
        self._bindings = tuple(bindings)
        self._create = create
        self._queue_type = queue_type
        self._mandatory = mandatory
        self._connection: Any = None
        self._channel: Any = None

    async def _connect(self) -> None:
        try:
            import aio_pika
        except ImportError:
            raise MissingExtraError("AMQP", "amqp") from None
        # What the client library reports is raised or logged here, and not at every attempt.
        for name in ("aiormq", "aio_pika"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        address = self._address
        with mapped(_converted):
            connection = await aio_pika.connect(
                host=address.host,
                port=address.port,
                login=address.user or "guest",
                password=address.password or "guest",
                # The default virtual host is "/", which is the empty path of a URL.
                virtualhost=address.path[1:] or "/",
                ssl=self._tls is not None,
                ssl_context=self._tls,
                timeout=self.patience.timeout,
            )
            self._connection = connection
            connection.close_callbacks.add(lambda _, error: self._closed(connection, error))
            pool = await connection.channel(publisher_confirms=True, on_return_raises=True)
            pool.close_callbacks.add(lambda _, error: self._closed(connection, error))
            self._channel = channel = await pool.get_underlay_channel()
            if self._exchange:
                await channel.exchange_declare(self._exchange, passive=True)
            if self._queue is not None:
                await self._prepare(self._queue)
            if self._queue is not None and self.intake is not None:
                channel.on_consumer_cancel_callbacks.add(self._cancelled)
                await channel.basic_qos(prefetch_count=min(self._inflight, self.intake.limit, _MOST_INFLIGHT))
                await channel.basic_consume(self._queue, self._take)

    async def _prepare(self, queue: str) -> None:
        """Find the queue, or create and bind it."""
        channel = self._channel
        if not self._create:
            await channel.queue_declare(queue, passive=True)
            return
        await channel.queue_declare(queue, durable=True, arguments={"x-queue-type": self._queue_type})
        if self._exchange:
            for key in self._bindings:
                await channel.queue_bind(queue, self._exchange, key)

    def _closed(self, connection: Any, error: BaseException | None) -> None:
        if connection is self._connection:
            self.lost(f"{error}" if error else "the connection was closed")

    def _cancelled(self, *_: Any) -> None:
        self.fail(f"deleted the queue {self._queue!r}, or ended its consumer; create it again, then start this again")
        self.lost("the queue is gone")

    async def _take(self, message: Any) -> None:
        if self.intake is None:
            return
        properties, delivery = message.header.properties, message.delivery
        key = delivery.routing_key or ""
        handle = self.intake.put(
            key.encode(),
            message.body,
            (key, message.body, properties.message_id),
            delivery.delivery_tag,
            again=bool(delivery.redelivered),
            properties=headers_as_text(properties.headers) if properties.headers else None,
            stamped=float("nan") if properties.timestamp is None else properties.timestamp.timestamp(),
        )
        self.changed.set()
        if handle is not None:
            await self.acknowledge_now([handle])

    async def _acknowledge(self, handles: Sequence[int]) -> None:
        if (channel := self._channel) is None:
            return  # its connection is gone: the messages come again
        with mapped(_converted):
            # Batches are acknowledged in their order, so that all before the last one are done.
            await channel.basic_ack(max(handles), multiple=len(handles) > 1, wait=False)

    async def _settle(self) -> None:
        # A channel is read in order: the answer to a request proves that the acknowledgements before it were read.
        if (channel := self._channel) is not None and self._queue is not None:
            with mapped(_converted):
                await channel.basic_qos(prefetch_count=1)

    async def _publish(self, messages: Sequence[Outgoing]) -> None:
        from aiormq import DeliveryError
        from pamqp.commands import Basic

        if (channel := self._channel) is None:
            raise BrokerError("the connection was closed")
        sending = [
            channel.basic_publish(
                message.payload,
                exchange=self._exchange,
                routing_key=message.topic,
                properties=Basic.Properties(delivery_mode=2, message_id=message.identity or None),
                mandatory=self._mandatory,
                wait=False,
            )
            for message in messages
        ]
        results = await asyncio.gather(*sending, return_exceptions=True)
        for message, result in zip(messages, results, strict=True):
            if isinstance(result, DeliveryError) and self._mandatory:
                raise BrokerError(
                    f"no queue takes the routing key {message.topic!r} from the exchange {self._exchange!r}; bind one, "
                    "or set mandatory = false to let the broker drop what nobody takes",
                    final=True,
                )
            if isinstance(result, asyncio.CancelledError):
                raise BrokerError("the connection was closed")
            if isinstance(result, BaseException):
                with mapped(_converted):
                    raise result

    async def _disconnect(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            await self.let_go(connection.close())


def _converted(error: Exception) -> BrokerError | None:
    """Return the error of this project for one of the client library or the network."""
    from aiormq import exceptions

    text = f"{error}" or type(error).__name__
    if isinstance(error, exceptions.AuthenticationError | exceptions.ProbableAuthenticationError):
        return BrokerError("it refuses user and password; check them", final=True)
    if isinstance(error, exceptions.ChannelNotFoundEntity):
        return BrokerError(
            f"it does not have what is asked for ({text}); create the queue or exchange, for example with  "
            "rabbitmqadmin declare queue name=NAME durable=true  or set create_queue = true",
            final=True,
        )
    refused = isinstance(error, exceptions.ChannelAccessRefused | exceptions.ConnectionNotAllowed)
    # A virtual host that is not there closes the connection where it should be opened.
    if refused or (isinstance(error, exceptions.InvalidFrameError) and "OpenOk" in text):
        text = "the virtual host cannot be opened" if "OpenOk" in text else text
        return BrokerError(f"it refuses this user ({text}); check virtual host and permissions", final=True)
    if isinstance(error, exceptions.ChannelPreconditionFailed):
        return BrokerError(f"the queue is there with other properties ({text})", final=True)
    if isinstance(error, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in text:
        return certificate_refused(text)
    known = (exceptions.AMQPError, exceptions.ChannelInvalidStateError, OSError)
    if isinstance(error, known):
        return BrokerError(f"{text}; start the broker or check host, port and amqp:// or amqps://")
    return None


class AmqpAccess(QueueAccess):
    """Answer for a client of this queue."""

    __slots__ = ()

    grammar: ClassVar[Grammar] = AMQP
    scheme: ClassVar[Scheme] = _SCHEME
    system: ClassVar[str] = "AMQP broker"
    schemes: ClassVar[tuple[str, ...]] = ("amqp", "amqps")
    sensors: ClassVar[str] = "sensors.{stream}.imu"


class AmqpSourceConfig(AmqpAccess, QueueSourceConfig, frozen=True, kw_only=True, tag_field="kind", tag="amqp"):
    """Receive samples from a durable AMQP queue. The topic is the routing key."""

    # A message has no name of its own: two of a sensor may be alike.
    unique: ClassVar[bool] = False

    queue_name: str
    """Name of the durable queue, which keeps messages until they are acknowledged. Each run needs its own."""
    create_queue: bool = False
    """Create the queue if it is not there, and bind it to the exchange with the topics."""
    queue_type: Literal["classic", "quorum"] = "classic"
    """Type of a queue that is created."""
    exchange: str = "amq.topic"
    """Exchange to which a queue that is created is bound. If "", it is not bound."""

    def client(self, intake: Intake | None) -> AmqpClient:
        """Return a client with the section's queue."""
        return AmqpClient(
            self.address(),
            tls=self.context(),
            patience=self.patience(),
            intake=intake,
            inflight=self.inflight,
            queue=self.queue_name,
            exchange=self.exchange if self.create_queue else "",
            bindings=[template.filter for template in self.templates()],
            create=self.create_queue,
            queue_type=self.queue_type,
        )

    def overhear(self, topic: str, limit: int, given: Collection[str] = ()) -> QueueClient:
        """See `PayloadSourceConfig.overhear`."""
        from streamrde.connectors.overhearing import AmqpListener

        return AmqpListener(
            self.address(),
            tls=self.context(),
            patience=self.patience(),
            intake=Intake(limit=limit, unique=self.unique),
            inflight=limit,
            queue="",
            exchange=self.exchange,
            bindings=[topic or "#"],
        )


class AmqpSinkConfig(AmqpAccess, QueueSinkKeys, SinkConfig, frozen=True, kw_only=True, tag="amqp"):
    """Predictions to an AMQP exchange. The topic is the routing key."""

    exchange: str = "amq.topic"
    """Exchange to publish to."""
    mandatory: bool = True
    """A prediction that no queue takes is an error. If false, the broker drops it."""

    def look(self) -> AmqpClient:
        """See `QueueAccess.look`."""
        return AmqpClient(
            self.address(),
            tls=self.context(),
            patience=self.patience(),
            inflight=self.inflight,
            exchange=self.exchange,
            mandatory=self.mandatory,
        )


class AmqpDeadLettersConfig(AmqpAccess, QueueLettersKeys, DeadLettersConfig, frozen=True, kw_only=True, tag="amqp"):
    """Messages that cannot be used, to an AMQP exchange. The topic is the routing key."""

    exchange: str = "amq.topic"
    """Exchange to publish to."""
    mandatory: bool = True
    """A letter that no queue takes is an error. If false, the broker drops it."""

    def look(self) -> AmqpClient:
        """See `QueueAccess.look`."""
        return AmqpClient(
            self.address(),
            tls=self.context(),
            patience=self.patience(),
            exchange=self.exchange,
            mandatory=self.mandatory,
        )
