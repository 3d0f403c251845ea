"""MQTT: samples in, predictions out, and recorded samples out for a replay."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from paho.mqtt.client import MQTTMessage

from streamrde.connectors.codecs import JsonCodec, encode_prediction
from streamrde.connectors.mqtt_connection import MqttConnection
from streamrde.connectors.samples import Columns, Samples
from streamrde.connectors.topics import MqttAddress, TopicTemplate
from streamrde.errors import ParameterError, PayloadError

__all__ = [
    "MqttAddress",
    "MqttBatch",
    "MqttSink",
    "MqttSource",
    "SamplePublisher",
    "SinkCounts",
    "SourceCounts",
    "TopicTemplate",
]

logger = logging.getLogger(__name__)
_LOG_INTERVAL = 10.0


@dataclass
class SourceCounts:
    """What a source has seen."""

    messages: int = 0
    samples: int = 0
    malformed: int = 0
    """Messages whose topic or payload could not be read; skipped."""
    dropped: int = 0
    """Messages of QoS 0 that a full queue pushed out."""


@dataclass
class SinkCounts:
    """What a sink has had confirmed."""

    messages: int = 0
    """Messages: confirmed by the broker at QoS 1, handed to the network at QoS 0."""


@dataclass(frozen=True, eq=False)
class MqttBatch:
    """A micro-batch: what had arrived when it was taken."""

    samples: Samples
    arrivals: NDArray[np.float64]
    """When each row's message arrived, `time.perf_counter()` seconds, (rows,)."""
    receipts: tuple[int, ...]
    """Packet ids to acknowledge, in order of arrival; empty at QoS 0."""


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

    A message that cannot be read is counted, logged at most every ten seconds, and skipped. With QoS 1 it is
    acknowledged in its turn.

    Args:
        address: the broker, ``mqtt://user:password@host:port`` or parsed.
        topic: template of the topics, one level of it ``{stream}``.
        columns: fields of the payload; `columns.stream` is not used, the topic has the stream.
        qos: 0 or 1.
        client_id: the client's name at the broker; needed for a session.
        session: the broker keeps the subscription and unacknowledged messages while the client is away.
        codec: how payloads are read; JSON with `columns` by default.
        batch_messages: messages in a micro-batch, at most.
        queue_messages: messages that wait here; beyond it, QoS 1 leaves them in the socket, QoS 0 drops the oldest.
        timeout: seconds for the broker to accept a connection or to answer.
    Raises:
        BrokerError: the broker is not there, refuses, or goes away.
    """

    def __init__(
        self,
        address: MqttAddress | str,
        *,
        topic: str,
        columns: Columns,
        qos: int = 1,
        client_id: str | None = None,
        session: bool = False,
        codec: JsonCodec | None = None,
        batch_messages: int = 1000,
        queue_messages: int = 10_000,
        timeout: float = 10.0,
    ) -> None:
        if session and not client_id:
            raise ParameterError("session = true needs a client_id: the broker finds the session by it")
        if batch_messages < 1 or queue_messages < 1:
            raise ParameterError("batch_messages and queue_messages must be at least 1")
        self.counts = SourceCounts()
        self._qos = _checked_qos(qos)
        self._topic = TopicTemplate(topic)
        self._codec = codec or JsonCodec(columns)
        self._batch_messages = batch_messages
        self._queue_messages = queue_messages
        self._queue: deque[tuple[float, MQTTMessage]] = deque()
        # Packet ids of malformed messages that wait for the batches before them: MQTT acknowledges in order.
        self._skipped: list[int] = []
        self._unacknowledged = 0
        self._remaining: int | None = None
        self._next_log = 0.0
        self._connection = MqttConnection(
            _parsed(address), client_id=client_id, session=session, timeout=timeout, on_message=self._receive
        )

    async def __aenter__(self) -> MqttSource:
        await self._connection.__aenter__()
        try:
            await self._connection.subscribe(self._topic.filter, self._qos)
        except BaseException:
            await self._connection.__aexit__(None, None, None)
            raise
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
            if (batch := self._take(size)) is not None:
                yield batch

    async def acknowledge(self, batch: MqttBatch) -> None:
        """Tell the broker that the batch is done with; acknowledge batches in their order, each once."""
        for receipt in batch.receipts:
            self._connection.acknowledge(receipt)
        self._unacknowledged -= 1
        self._acknowledge_skipped()

    def stop(self) -> None:
        """End the iteration after the messages that have arrived by now; later ones stay unacknowledged."""
        self._remaining = len(self._queue)
        self._connection.changed.set()

    def _receive(self, message: MQTTMessage) -> None:
        if len(self._queue) >= self._queue_messages:
            if self._qos:
                self._connection.pause()
            else:
                self._queue.popleft()
                self.counts.dropped += 1
                self._log(
                    "the queue of %d messages is full: %d dropped so far", self._queue_messages, self.counts.dropped
                )
        self._queue.append((time.perf_counter(), message))

    def _take(self, size: int) -> MqttBatch | None:
        streams: list[str] = []
        arrivals: list[float] = []
        rows: list[int] = []
        ts: list[NDArray[np.float64]] = []
        xs: list[NDArray[np.float64]] = []
        receipts = self._skipped
        for _ in range(size):
            arrival, message = self._queue.popleft()
            self.counts.messages += 1
            if message.qos:
                receipts.append(message.mid)
            try:
                t, x = self._codec.decode(bytes(message.payload))
                stream = self._stream_of(message)
            except PayloadError as error:
                self.counts.malformed += 1
                self._log("skipped a message: %s; %d malformed so far", error, self.counts.malformed)
                continue
            streams.append(stream)
            arrivals.append(arrival)
            rows.append(len(t))
            ts.append(t)
            xs.append(x)
        if not streams:
            self._acknowledge_skipped()
            return None
        self._skipped = []
        self._unacknowledged += 1
        self.counts.samples += sum(rows)
        of_row = np.repeat(np.arange(len(rows)), rows)
        names = pa.array(streams, pa.string()).take(pa.array(of_row))
        samples = Samples(names, np.concatenate(ts), np.concatenate(xs))
        return MqttBatch(samples, np.asarray(arrivals)[of_row], tuple(receipts))

    def _stream_of(self, message: MQTTMessage) -> str:
        try:
            stream = self._topic.stream_of(message.topic)
        except UnicodeDecodeError:
            stream = None
        if stream is None:
            raise PayloadError(f"its topic does not fit {self._topic.template!r}")
        return stream

    def _acknowledge_skipped(self) -> None:
        if self._unacknowledged == 0:
            for receipt in self._skipped:
                self._connection.acknowledge(receipt)
            self._skipped = []

    def _log(self, message: str, *arguments: object) -> None:
        if (now := time.monotonic()) >= self._next_log:
            self._next_log = now + _LOG_INTERVAL
            logger.warning("MQTT broker %s: " + message, self._connection.address, *arguments)


class MqttSink:
    """Predictions to MQTT topics, one JSON message per prediction.

    Args:
        address: the broker, ``mqtt://user:password@host:port`` or parsed.
        topic: template of the topics, one level of it ``{stream}``.
        qos: 0 or 1.
        client_id: the client's name at the broker; None lets the broker choose.
        inflight: messages that wait for confirmation at a time, at most.
        timeout: seconds for the broker to accept a connection or to confirm.
    Raises:
        BrokerError: the broker is not there, refuses, or goes away.
    """

    def __init__(
        self,
        address: MqttAddress | str,
        *,
        topic: str,
        qos: int = 1,
        client_id: str | None = None,
        inflight: int = 100,
        timeout: float = 10.0,
    ) -> None:
        self.counts = SinkCounts()
        self._qos = _checked_qos(qos)
        self._topic = TopicTemplate(topic)
        self._connection = MqttConnection(_parsed(address), client_id=client_id, timeout=timeout, inflight=inflight)

    async def __aenter__(self) -> MqttSink:
        await self._connection.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._connection.__aexit__(kind, error, traceback)

    async def write(self, batch: pa.RecordBatch) -> None:
        """Publish every prediction of a record batch; return when all are confirmed.

        Raises:
            ParameterError: a stream's name cannot be part of a topic; nothing of the batch was published.
        """
        rows = batch.to_pylist()
        topics = [self._topic.topic_for(row["stream"]) for row in rows]
        for topic, row in zip(topics, rows, strict=True):
            await self._connection.publish(topic, encode_prediction(row), self._qos)
        await self._connection.drain()
        self.counts.messages += len(rows)


class SamplePublisher:
    """Samples to MQTT topics, as a sensor would send them: what a replay is made of.

    Args:
        address: the broker, ``mqtt://user:password@host:port`` or parsed.
        topic: template of the topics, one level of it ``{stream}``.
        columns: names of the fields in the payload.
        qos: 0 or 1.
        batch: samples of one stream in a message, at most.
        inflight: messages that wait for confirmation at a time, at most.
        timeout: seconds for the broker to accept a connection or to confirm.
    Raises:
        BrokerError: the broker is not there, refuses, or goes away.
    """

    def __init__(
        self,
        address: MqttAddress | str,
        *,
        topic: str,
        columns: Columns,
        qos: int = 1,
        batch: int = 1,
        client_id: str | None = None,
        inflight: int = 100,
        timeout: float = 10.0,
    ) -> None:
        if batch < 1:
            raise ParameterError(f"batch={batch}: a message needs at least one sample")
        self.counts = SinkCounts()
        self._qos = _checked_qos(qos)
        self._topic = TopicTemplate(topic)
        self._codec = JsonCodec(columns)
        self._batch = batch
        self._connection = MqttConnection(_parsed(address), client_id=client_id, timeout=timeout, inflight=inflight)

    async def __aenter__(self) -> SamplePublisher:
        await self._connection.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                await self.flush()
        finally:
            await self._connection.__aexit__(kind, error, traceback)

    async def publish(self, samples: Samples) -> None:
        """Send the samples, in order within each stream; `flush`, or the end of the block, waits for confirmation.

        Raises:
            ParameterError: a stream's name cannot be part of a topic; none of the samples was sent.
        """
        names = samples.streams.to_pylist()
        topics = {name: self._topic.topic_for(name) for name in dict.fromkeys(names)}
        for name, rows in _messages(names, self._batch):
            payload = self._codec.encode_samples(samples.t[rows], samples.x[rows])
            await self._connection.publish(topics[name], payload, self._qos)
            self.counts.messages += 1

    async def flush(self) -> None:
        """Wait until every message is confirmed."""
        await self._connection.drain()


def _messages(names: list[str], batch: int) -> list[tuple[str, list[int]]]:
    """Rows of each message: at most `batch` rows of one stream, in the order in which messages begin."""
    messages: list[tuple[str, list[int]]] = []
    opened: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        if len(rows := opened.get(name, [])) in (0, batch):
            opened[name] = rows = []
            messages.append((name, rows))
        rows.append(row)
    return messages


def _parsed(address: MqttAddress | str) -> MqttAddress:
    return MqttAddress.parse(address) if isinstance(address, str) else address


def _checked_qos(qos: int) -> int:
    if qos not in (0, 1):
        raise ParameterError(
            f"qos={qos}: use 1 (at least once) or 0 (at most once); predictions are told apart by (stream, window)"
        )
    return qos
