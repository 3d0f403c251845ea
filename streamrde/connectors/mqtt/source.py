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
from numpy.typing import NDArray
from paho.mqtt.client import MQTTMessage

from streamrde.connectors.codecs import MAX_BYTES, Codec, JsonCodec, check_size
from streamrde.connectors.dead_letters import DeadLetter
from streamrde.connectors.mqtt.connection import ConnectionCounts, MqttConnection, Receipt
from streamrde.connectors.mqtt.link import MqttLink
from streamrde.connectors.mqtt.topics import MqttAddress, Place, TopicTemplate, checked_qos
from streamrde.connectors.quarantine import Quarantine
from streamrde.connectors.samples import Columns, Samples
from streamrde.errors import ParameterError, PayloadError

logger = logging.getLogger(__name__)
_LOG_INTERVAL = 10.0
# Topics whose stream is remembered; who publishes is free to invent more.
_REMEMBERED = 100_000


@dataclass
class SourceCounts:
    """What a source has seen."""

    messages: int = 0
    samples: int = 0
    malformed: int = 0
    """Messages whose topic or payload could not be read."""
    dropped: int = 0
    """Messages of QoS 0 that a full queue pushed out."""
    quarantined: int = 0
    """Messages of streams that are set aside."""
    retained: int = 0
    """Messages that the broker had kept from before; skipped where the source says so."""
    duplicates: int = 0
    """Messages that the broker marked as sent before."""


@dataclass(frozen=True)
class Subscription:
    """Topics, and how their payloads are read.

    Args:
        topic: template; one level is ``{stream}``, another may be ``{channel}``.
        codec: of the payloads; its columns are the model's channels, or the one value where the topic has the channel.
    """

    topic: TopicTemplate
    codec: Codec


@dataclass(frozen=True, eq=False)
class MqttBatch:
    """A micro-batch: what had arrived when it was taken."""

    samples: Samples
    arrivals: NDArray[np.float64]
    """When each row's message arrived, `time.perf_counter()` seconds, (rows,)."""
    receipts: tuple[Receipt, ...]
    """Messages to acknowledge, in order of arrival; empty at QoS 0."""
    messages: int
    """Messages in it, unreadable ones too."""
    letters: tuple[DeadLetter, ...]
    """Messages that could not be used."""


class MqttSource:
    """Samples from MQTT topics, in micro-batches of what has arrived.

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
    it is acknowledged with its batch. A stream that sends nothing else is set aside.

    Args:
        address: the broker, ``mqtt://user:password@host:port`` or parsed.
        topic: template of the topics, one level of it ``{stream}``; or `subscriptions`, several with a codec each, of
            which the first that fits a message's topic is used.
        columns: fields of the payload; `columns.stream` is not used, the topic has the stream.
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
        quarantine: when a stream is set aside; None: never.
        link: version, TLS, last will, reconnection.
    Raises:
        BrokerError: the broker is not there at first, or refuses.
    """

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
        own = [] if topic is None else [Subscription(TopicTemplate(topic), codec or JsonCodec(columns))]
        self._subscriptions = (*own, *subscriptions)
        self._places: dict[bytes, tuple[Place, Codec]] = {}
        self._time_zero = time_zero
        self._skip_retained = retained == "skip"
        self._max_bytes = max_bytes
        self._batch_messages = batch_messages
        self._queue_messages = queue_messages
        self._queue: deque[tuple[float, MQTTMessage, Receipt | None]] = deque()
        self._remaining: int | None = None
        self._next_log = 0.0
        self._connection = MqttConnection(
            MqttAddress.of(address),
            link=link,
            client_id=client_id,
            session=session,
            receive=inflight,
            subscriptions=[(s.topic.filter, self._qos) for s in self._subscriptions],
            on_message=self._receive,
        )

    @property
    def connection(self) -> ConnectionCounts:
        """What has happened to the connection."""
        return self._connection.counts

    @property
    def waiting(self) -> int:
        """Messages that have arrived and were not taken yet."""
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
            yield self._take(size)

    async def acknowledge(self, batch: MqttBatch) -> None:
        """Tell the broker that the batch is done with; acknowledge batches in their order, each once."""
        for receipt in batch.receipts:
            self._connection.acknowledge(receipt)

    def stop(self) -> None:
        """End the iteration after the messages that have arrived by now; later ones stay unacknowledged."""
        self._remaining = len(self._queue)
        self._connection.changed.set()

    def _receive(self, message: MQTTMessage, receipt: Receipt | None) -> None:
        if len(self._queue) >= self._queue_messages:
            if self._qos:
                self._connection.pause()
            else:
                self._queue.popleft()
                self.counts.dropped += 1
                self._log(
                    "the queue of %d messages is full: %d dropped so far", self._queue_messages, self.counts.dropped
                )
        self._queue.append((time.perf_counter(), message, receipt))

    def _take(self, size: int) -> MqttBatch:
        streams: list[str] = []
        arrivals: list[float] = []
        rows: list[int] = []
        ts: list[NDArray[np.float64]] = []
        xs: list[NDArray[np.float64]] = []
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
        return MqttBatch(samples, np.asarray(arrivals)[of_row], tuple(receipts), size, tuple(letters))

    def _read(self, message: MQTTMessage, now: float) -> tuple[Place, NDArray[np.float64], NDArray[np.float64]]:
        """Where a message belongs, and its samples: t (n,) and x (n, channels)."""
        found = self._places.get(message._topic) or self._place_of(message)
        place, codec = found
        if self.quarantine.holds(place.stream, now):
            raise _QuarantinedError(f"stream {place.stream!r} is in quarantine")
        try:
            payload = bytes(message.payload)
            check_size(payload, self._max_bytes)
            t, x = codec.decode(payload)
        except PayloadError:
            if self.quarantine.fault(place.stream, now):
                logger.error("MQTT: stream %r sends only faults and is set aside", place.stream)
            raise
        self.quarantine.clear(place.stream)
        if place.channel is not None:
            values, x = x[:, 0], np.full((len(t), len(self._channels)), np.nan)
            x[:, self._channels[place.channel]] = values
        return place, t, x

    def _place_of(self, message: MQTTMessage) -> tuple[Place, Codec]:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            raise PayloadError("its topic is not UTF-8") from None
        for subscription in self._subscriptions:
            place = subscription.topic.place_of(topic)
            if place is None or (place.channel is not None and place.channel not in self._channels):
                continue
            if len(self._places) >= _REMEMBERED:
                self._places.clear()
            self._places[message._topic] = place, subscription.codec
            return place, subscription.codec
        templates = ", ".join(repr(s.topic.template) for s in self._subscriptions)
        raise PayloadError(f"its topic does not fit {templates}, or its channel is none of {', '.join(self._channels)}")

    def _dead(self, message: MQTTMessage, error: PayloadError, arrival: float) -> DeadLetter:
        if isinstance(error, _QuarantinedError):
            self.counts.quarantined += 1
        else:
            self.counts.malformed += 1
            self._log("skipped a message: %s; %d malformed so far", error, self.counts.malformed)
        received = time.time() - (time.perf_counter() - arrival)
        return DeadLetter(str(error), message._topic.decode("utf-8", "replace"), bytes(message.payload), received)

    def _log(self, message: str, *arguments: object) -> None:
        if (now := time.monotonic()) >= self._next_log:
            self._next_log = now + _LOG_INTERVAL
            logger.warning("MQTT broker %s: " + message, self._connection.address, *arguments)


class _QuarantinedError(PayloadError):
    """A message of a stream that is set aside."""
