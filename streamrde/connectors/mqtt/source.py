"""Samples in, over MQTT, in micro-batches of what has arrived."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

import numpy as np
import pyarrow as pa
from paho.mqtt.client import MQTTMessage

from streamrde.arrays import Floats
from streamrde.connectors.codecs.checks import check_size
from streamrde.connectors.codecs.json import JsonCodec
from streamrde.connectors.codecs.refusals import listed
from streamrde.connectors.ends import MAX_BYTES, Batch, Codec, DeadLetter, Source
from streamrde.connectors.mqtt.connection import MqttConnection
from streamrde.connectors.mqtt.link import MqttLink
from streamrde.connectors.mqtt.messages import Receipt
from streamrde.connectors.mqtt.topics import MqttAddress, Place, TopicTemplate, check_names, checked_qos
from streamrde.connectors.quarantine import Quarantine
from streamrde.connectors.samples import Columns, Samples, SourceCounts
from streamrde.connectors.sequences import Sequences
from streamrde.errors import ParameterError, PayloadError

logger = logging.getLogger(__name__)
_LOG_INTERVAL = 10.0
# Streams whose losses are named within that time.
_MOST_LOSSES = 20
# Topics whose stream is remembered; who publishes is free to invent more.
_REMEMBERED = 100_000


@dataclass(frozen=True)
class Subscription:
    """Topics, and how their payloads are read.

    Args:
        topic: template; one level is ``{stream}``, another may be ``{channel}``.
        codec: of the payloads; its columns are the model's channels, or the one value where the topic has the channel.
        numbered: the codec's last column is a sequence number.
    """

    topic: TopicTemplate
    codec: Codec
    numbered: bool = False


class _Topic:
    """A topic from which a message came."""

    __slots__ = ("codec", "device", "name", "numbered", "place", "sampled")

    def __init__(self, name: str, place: Place, subscription: Subscription) -> None:
        self.name = name
        self.place = place
        self.device = subscription.topic.device_of(name)
        self.codec = subscription.codec
        self.numbered = subscription.numbered
        self.sampled = False
        """A sample came from it."""


@dataclass(frozen=True, eq=False)
class MqttBatch(Batch):
    """A micro-batch: what had arrived when it was taken."""

    receipts: tuple[Receipt, ...] = ()
    """Messages to acknowledge, in order of arrival; empty at QoS 0."""


class MqttSource(Source[MqttBatch]):
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

    A message that cannot be read is counted, logged at most every ten seconds, and handed on in `MqttBatch.letters`;
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
        self.counts = SourceCounts()
        self.quarantine = Quarantine(faults=0) if quarantine is None else quarantine
        self._qos = checked_qos(qos)
        self._channels = {name: i for i, name in enumerate(columns.channels)}
        if topic is not None:
            subscriptions = [Subscription(TopicTemplate(topic), codec or JsonCodec(columns), bool(columns.sequence))]
        self._subscriptions = tuple(subscriptions)
        check_names(s.topic for s in self._subscriptions)
        self._topics: dict[bytes, _Topic] = {}
        # The topic from which a stream's samples came first, without the channel, and streams that have several.
        self._devices: dict[str, str] = {}
        self._merged: set[str] = set()
        self.sequences = Sequences()
        self._time_zero = time_zero
        self._skip_retained = retained == "skip"
        self._max_bytes = max_bytes
        self._batch_messages = batch_messages
        self._queue_messages = queue_messages
        self._queue: deque[tuple[float, MQTTMessage, Receipt | None]] = deque()
        self._remaining: int | None = None
        self._next_log = self._next_losses = 0.0
        self._losses_said = 0
        self._connection = MqttConnection(
            MqttAddress.parsed(address),
            link=link,
            client_id=client_id,
            session=session,
            receive=inflight,
            subscriptions=[(s.topic.filter, self._qos) for s in self._subscriptions],
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

    async def __aiter__(self) -> AsyncIterator[MqttBatch]:
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
            yield self._next_batch(size)

    async def acknowledge(self, batch: MqttBatch) -> None:
        """Acknowledge a batch to the broker. Acknowledge batches in their order, each once."""
        for receipt in batch.receipts:
            self._connection.acknowledge(receipt)

    def topic_of(self, stream: str) -> str | None:
        """Return a topic from which the stream's messages come, or None if that is no longer known."""
        return self._devices.get(stream)

    def stop(self) -> None:
        """End the iteration after the messages that have arrived by now. Later ones stay unacknowledged."""
        self._remaining = len(self._queue)
        self._connection.changed.set()

    def _receive(self, message: MQTTMessage, receipt: Receipt | None) -> None:
        if len(self._queue) >= self._queue_messages:
            if self._qos:
                self._connection.pause()
            else:
                self.sequences.skip(self._queue.popleft()[1]._topic)
                self.counts.dropped += 1
                self._log(
                    "the queue of %d messages is full: %d dropped so far", self._queue_messages, self.counts.dropped
                )
        self._queue.append((time.perf_counter(), message, receipt))

    def _next_batch(self, size: int) -> MqttBatch:
        streams: list[str] = []
        arrivals: list[float] = []
        rows: list[int] = []
        ts: list[Floats] = []
        xs: list[Floats] = []
        receipts: list[Receipt] = []
        letters: list[DeadLetter] = []
        counts, now = self.counts, time.monotonic()
        for _ in range(size):
            arrival, message, receipt = self._queue.popleft()
            counts.messages += 1
            counts.duplicates += message.dup
            if receipt is not None:
                receipts.append(receipt)
            if message.retain:
                counts.retained += 1
                if self._skip_retained:
                    continue
            try:
                place, t, x = self._read(message, now)
            except PayloadError as error:
                letters.append(self._dead(message, error, arrival))
                continue
            if len(t) == 1 and math.isnan(t[0]):  # the payload has no time
                t[0] = time.time() - (time.perf_counter() - arrival)
            elif self._time_zero:
                t = t + self._time_zero
            streams.append(place.stream)
            arrivals.append(arrival)
            rows.append(len(t))
            ts.append(t)
            xs.append(x)
        counts.samples += sum(rows)
        of_row = np.repeat(np.arange(len(rows)), rows)
        names = pa.array(streams, pa.string()).take(pa.array(of_row))
        empty = np.empty((0, len(self._channels)))
        samples = Samples(names, np.concatenate([empty[:, 0], *ts]), np.concatenate([empty, *xs]))
        return MqttBatch(samples, np.asarray(arrivals)[of_row], size, tuple(letters), tuple(receipts))

    def _read(self, message: MQTTMessage, now: float) -> tuple[Place, Floats, Floats]:
        """Return the stream of a message, and its samples: t (n,) and x (n, channels)."""
        key = message._topic
        topic = self._topics.get(key) or self._topic_of(message)
        place = topic.place
        if self.quarantine.holds(place.stream, now):
            raise _SetAsideError(f"stream {place.stream!r} is in quarantine")
        try:
            payload = bytes(message.payload)
            check_size(payload, self._max_bytes)
            t, x = topic.codec.decode(payload)
        except PayloadError as error:
            self.sequences.skip(key)
            if self.quarantine.holds(key, now):
                raise _SetAsideError(f"the topic is in quarantine: {error}") from None
            if self.quarantine.fault(key, now):
                logger.error(
                    "MQTT: topic %r (stream %r) is set aside after %d messages in a row that cannot be read: %s; they "
                    "are counted and not reported for %g s, or until one can be read",
                    topic.name, place.stream, self.quarantine.in_a_row(key), error, self.quarantine.seconds,
                )  # fmt: skip
            raise
        if self.quarantine.clear(key):
            logger.warning("MQTT: topic %r (stream %r) can be read again", topic.name, place.stream)
        if not topic.sampled:
            self._sampled(topic)
        if topic.numbered:
            self._follow(key, topic, x[:, -1])
            x = x[:, :-1]
        if place.channel is not None:
            values, x = x[:, 0], np.full((len(t), len(self._channels)), np.nan)
            x[:, self._channels[place.channel]] = values
        return place, t, x

    def _topic_of(self, message: MQTTMessage) -> _Topic:
        try:
            name = message.topic
        except UnicodeDecodeError:
            raise PayloadError("its topic is not UTF-8") from None
        unknown = ""
        for subscription in self._subscriptions:
            place = subscription.topic.place_of(name)
            if place is not None and place.channel is not None and place.channel not in self._channels:
                unknown = place.channel
            elif place is not None:
                if len(self._topics) >= _REMEMBERED:
                    self._topics.clear()
                topic = self._topics[message._topic] = _Topic(name, place, subscription)
                return topic
        if unknown:
            raise PayloadError(f"its topic has the channel {unknown!r}, which is none of {listed(self._channels)}")
        raise PayloadError(f"its topic does not fit {', '.join(repr(s.topic.template) for s in self._subscriptions)}")

    def _sampled(self, topic: _Topic) -> None:
        """Note a topic's first sample. Warn once if a stream's samples come from two topics."""
        topic.sampled = True
        if len(self._devices) >= _REMEMBERED:
            self._devices.clear()
            self._merged.clear()
        stream = topic.place.stream
        before = self._devices.setdefault(stream, topic.device)
        if before == topic.device or stream in self._merged:
            return
        self._merged.add(stream)
        self.counts.merged += 1
        if self.counts.merged == 1:
            logger.error(
                "MQTT: stream %r gets samples from two topics, %r and %r: two devices become one; give the level that "
                "tells them apart a name, such as {site}, in the source's topic",
                stream, before, topic.device,
            )  # fmt: skip

    def _follow(self, key: bytes, topic: _Topic, numbers: Floats) -> None:
        loss = self.sequences.observe(key, topic.place.stream, numbers)
        if loss is None:
            return
        self.counts.missed += loss.missed
        if loss.first:
            self._log_loss(
                "MQTT: stream %r: %s messages or samples never came, between number %d and %d on topic %r; look at the "
                "queue that the broker keeps (mosquitto: max_queued_messages) and at the sender",
                topic.place.stream, f"{loss.missed:,}", loss.before, loss.after, topic.name,
            )  # fmt: skip

    def _dead(self, message: MQTTMessage, error: PayloadError, arrival: float) -> DeadLetter:
        name = message._topic.decode("utf-8", "replace")
        if isinstance(error, _SetAsideError):
            self.counts.quarantined += 1
        else:
            self.counts.malformed += 1
            topic = self._topics.get(message._topic)
            stream = f" (stream {topic.place.stream!r})" if topic is not None else ""
            self._log(
                "skipped a message on topic %r%s: %s; %d malformed so far", name, stream, error, self.counts.malformed
            )
        received = time.time() - (time.perf_counter() - arrival)
        return DeadLetter(str(error), name, bytes(message.payload), received)

    def _log_loss(self, message: str, *arguments: object) -> None:
        """Log each stream's first loss, but not thousands of losses at once."""
        now = time.monotonic()
        if now >= self._next_losses:
            self._next_losses, self._losses_said = now + _LOG_INTERVAL, 0
        self._losses_said += 1
        if self._losses_said <= _MOST_LOSSES:
            logger.warning(message, *arguments)
        elif self._losses_said == _MOST_LOSSES + 1:
            logger.warning("MQTT: more streams have lost messages; the metric `missed` counts them")

    def _log(self, message: str, *arguments: object) -> None:
        if (now := time.monotonic()) >= self._next_log:
            self._next_log = now + _LOG_INTERVAL
            logger.warning("MQTT broker %s: " + message, self._connection.address, *arguments)


class _SetAsideError(PayloadError):
    """A message of a topic or a stream that is set aside."""
