"""Samples in, over MQTT, in micro-batches of what has arrived."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Literal, TypeAlias

from paho.mqtt.client import MQTTMessage

from streamrde.connectors.codecs.json import JsonCodec
from streamrde.connectors.columns import Columns
from streamrde.connectors.ends import MAX_BYTES, Codec, Message, Source
from streamrde.connectors.messages import MessageBatch, MessageReader, Subscription
from streamrde.connectors.mqtt.connection import MqttConnection
from streamrde.connectors.mqtt.link import MqttLink
from streamrde.connectors.mqtt.messages import Receipt
from streamrde.connectors.mqtt.topics import MqttAddress, checked_qos
from streamrde.connectors.quarantine import Quarantine
from streamrde.connectors.topics import TopicTemplate
from streamrde.errors import ParameterError

MqttBatch: TypeAlias = MessageBatch


class MqttSource(Source[MessageBatch]):
    """Receive samples from MQTT topics, in micro-batches of the messages that have arrived.

        async with MqttSource(address, topic="sensors/{stream}/imu", columns=columns) as source:
            async for batch in source:
                ...  # process batch.samples
                await source.acknowledge(batch)

    At QoS 1 a message is acknowledged only by `acknowledge`, so that a slow consumer slows the broker: one that limits
    the messages in flight (mosquitto: max_inflight_messages, 20) at once, any other when the queue here is full and the
    socket is no longer read. What was not acknowledged comes again to a client with the same `client_id` and
    ``session=True``. At QoS 0 a full queue drops its oldest message and counts it.

    A lost connection is made again; what the broker then sends a second time is passed on once.

    A message that cannot be read is counted, logged at most every ten seconds, and handed on in `MessageBatch.letters`;
    it is acknowledged with its batch. A topic on which nothing else comes is set aside: what comes on it is counted
    apart and reported no more, until a message can be read again.

    Args:
        address: the broker, ``mqtt://user:password@host:port`` or parsed.
        topic: template of the topics, one level of it ``{stream}``; or `subscriptions`, several with a codec each, of
            which the first that fits a message's topic is used.
        columns: fields of the payload; `columns.stream` is not used, the topic has the stream. With `columns.sequence`
            the numbers that are missing are counted and logged, see `Sequences`.
        qos: 0 or 1.
        client_id: the client's name at the broker; needed for a session.
        session: the broker keeps the subscription and unacknowledged messages while the client is away.
        codec: how payloads of `topic` are read; JSON with `columns` by default.
        time_zero: moment from which the times of payloads are counted, seconds since 1970; it is added to them.
        retained: "use" or "skip" messages that the broker kept from before this subscription.
        batch_messages: messages in a micro-batch, at most.
        queue_messages: messages that wait here; beyond it, QoS 1 leaves them in the socket, QoS 0 drops the oldest.
        max_bytes: longer payloads are refused before parsing.
        inflight: messages that a broker of MQTT 5 is asked to send before the first is acknowledged.
        quarantine: when a topic is set aside; None: never.
        link: version, TLS, last will, reconnection.
    Raises:
        BrokerError: the broker is not there at first, or refuses.
    """

    quarantine: Quarantine

    def __init__(
        self,
        address: MqttAddress | str,
        *,
        columns: Columns,
        topic: str | None = None,
        subscriptions: Sequence[Subscription] = (),
        qos: int = 1,
        client_id: str | None = None,
        session: bool = False,
        codec: Codec | None = None,
        time_zero: float = 0.0,
        retained: Literal["use", "skip"] = "use",
        batch_messages: int = 1000,
        queue_messages: int = 10_000,
        max_bytes: int = MAX_BYTES,
        inflight: int = 65535,
        quarantine: Quarantine | None = None,
        link: MqttLink | None = None,
    ) -> None:
        if session and not client_id:
            raise ParameterError("session = true needs a client_id: the broker finds the session by it")
        if batch_messages < 1 or queue_messages < 1 or max_bytes < 1 or inflight < 1:
            raise ParameterError("batch_messages, queue_messages, max_bytes and inflight must be at least 1")
        if (topic is None) == (not subscriptions):
            raise ParameterError("give one topic, or several subscriptions")
        self._qos = checked_qos(qos)
        if topic is not None:
            subscriptions = [Subscription(TopicTemplate(topic), codec or JsonCodec(columns), bool(columns.sequence))]
        address = MqttAddress.parsed(address)
        self._reader = MessageReader(
            subscriptions,
            columns.channels,
            queue=f"MQTT broker {address}",
            time_zero=time_zero,
            skip_retained=retained == "skip",
            max_bytes=max_bytes,
            quarantine=quarantine,
            lossy="look at the queue that the broker keeps (mosquitto: max_queued_messages) and at the sender",
        )
        self.counts, self.quarantine, self.sequences = (
            self._reader.counts,
            self._reader.quarantine,
            self._reader.sequences,
        )
        self._batch_messages = batch_messages
        self._queue_messages = queue_messages
        self._queue: deque[Message] = deque()
        self._remaining: int | None = None
        self._connection = MqttConnection(
            address,
            link=link,
            client_id=client_id,
            session=session,
            receive=inflight,
            subscriptions=[(s.topic.filter, self._qos) for s in subscriptions],
            on_message=self._receive,
        )
        self.connection = self._connection.counts

    @property
    def waiting(self) -> int:
        """Messages that have arrived and were not delivered yet."""
        return len(self._queue)

    async def __aenter__(self) -> MqttSource:
        await self._connection.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._qos:
                await self._connection.settle()
        finally:
            await self._connection.__aexit__(kind, error, traceback)

    async def __aiter__(self) -> AsyncIterator[MessageBatch]:
        while True:
            if len(self._queue) <= self._queue_messages // 2:
                self._connection.resume()
            while not self._queue and self._remaining is None:
                await self._connection.wait()
            # A queue that never empties must not keep the other tasks from their turn.
            await asyncio.sleep(0)
            if self._remaining is None:
                self._connection.read_ahead(self._batch_messages - len(self._queue))
            size = min(len(self._queue), self._batch_messages)
            if self._remaining is not None:
                size = min(size, self._remaining)
                self._remaining -= size
            if size == 0:
                return
            batch = self._next_batch(size)
            for topic, payload in batch.requests:
                # A request that is lost is made again.
                if self._connection.counts.connected:
                    await self._connection.publish(topic, payload, qos=0)
            yield batch

    async def acknowledge(self, batch: MessageBatch) -> None:
        """Acknowledge a batch to the broker. Acknowledge batches in their order, each once."""
        for receipt in batch.receipts:
            self._connection.acknowledge(receipt)

    def topic_of(self, stream: str) -> str | None:
        """Return a topic from which the stream's messages come, or None if that is no longer known."""
        return self._reader.topic_of(stream)

    def stop(self) -> None:
        """End the iteration after the messages that have arrived by now. Later ones stay unacknowledged."""
        if self._remaining is None:  # a second call does not put off the end
            self._remaining = len(self._queue)
        self._connection.changed.set()

    def _receive(self, message: MQTTMessage, receipt: Receipt | None) -> None:
        if len(self._queue) >= self._queue_messages:
            if self._qos:
                self._connection.pause()
            else:
                self._reader.dropped(self._queue.popleft(), self._queue_messages)
        properties = None if message.properties is None else _properties(message)
        self._queue.append(
            Message(
                message._topic,
                bytes(message.payload),
                time.perf_counter(),
                receipt,
                properties,
                again=message.dup,
                retained=message.retain,
            )
        )

    def _next_batch(self, size: int) -> MessageBatch:
        return self._reader.read([self._queue.popleft() for _ in range(size)])


def _properties(message: MQTTMessage) -> Mapping[str, str]:
    """Return the user properties of a message of MQTT 5."""
    return dict(getattr(message.properties, "UserProperty", ()))
