"""Predictions and dead letters out, over MQTT."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from streamrde.connectors.codecs.predictions import encode_prediction
from streamrde.connectors.dead_letters import MESSAGE_BYTES, encode_letter
from streamrde.connectors.ends import DeadLetter, DeadLetters, End, Sink
from streamrde.connectors.mqtt.connection import MqttConnection
from streamrde.connectors.mqtt.link import MqttLink
from streamrde.connectors.mqtt.topics import MqttAddress, checked_qos
from streamrde.connectors.topics import TopicTemplate


@dataclass
class SinkCounts:
    """Counts of a sink's confirmed messages."""

    messages: int = 0
    """Messages: confirmed by the broker at QoS 1, handed to the network at QoS 0."""


class _Publisher(End):
    """An end that publishes over a connection of its own."""

    def __init__(self, connection: MqttConnection) -> None:
        self._connection = connection
        self.connection = connection.counts

    async def __aenter__(self) -> Self:
        await self._connection.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._connection.__aexit__(kind, error, traceback)


class MqttSink(_Publisher, Sink):
    """Predictions to MQTT topics, one message per prediction.

    A prediction that was under way when the connection was lost is sent again, so that the broker may have it twice;
    (stream, window) tells.

    Args:
        address: the broker, ``mqtt://user:password@host:port`` or parsed.
        topic: template of the topics, one level of it ``{stream}``; with further levels in braces it is for streams
            whose names have as many, as those of a source with the same levels.
        qos: 0 or 1.
        retain: the broker keeps each stream's last prediction for who subscribes later.
        client_id: the client's name at the broker; None lets the broker choose.
        inflight: messages that wait for confirmation at a time, at most.
        encode: makes a payload of a row of the prediction record batch; JSON by default.
        link: version, TLS, last will, reconnection.
    Raises:
        BrokerError: the broker is not there at first, or refuses.
    """

    def __init__(
        self,
        address: MqttAddress | str,
        *,
        topic: str,
        qos: int = 1,
        retain: bool = False,
        client_id: str | None = None,
        inflight: int = 100,
        encode: Callable[[Mapping[str, Any]], bytes] = encode_prediction,
        link: MqttLink | None = None,
    ) -> None:
        self.counts = SinkCounts()
        self._qos = checked_qos(qos)
        self._retain = retain
        self._topic = TopicTemplate(topic)
        self._topic.check_publishing()
        self._encode = encode
        super().__init__(MqttConnection(MqttAddress.parsed(address), link=link, client_id=client_id, inflight=inflight))

    async def write(self, batch: pa.RecordBatch) -> None:
        """Publish every prediction of a record batch. Return when all are confirmed.

        Signs of a stream's name that its topic cannot have are written as in a URL.
        """
        rows = batch.to_pylist()
        topics = [self._topic.topic_of_any(row["stream"]) for row in rows]
        for topic, row in zip(topics, rows, strict=True):
            await self._connection.publish(topic, self._encode(row), self._qos, retain=self._retain)
        await self._connection.drain()
        self.counts.messages += len(rows)


class MqttDeadLetters(_Publisher, DeadLetters):
    """Dead letters to one MQTT topic, as JSON with the payload in base64.

    Args:
        address: the broker.
        topic: the topic of all of them.
        client_id, link: as for `MqttSink`.
    """

    def __init__(
        self, address: MqttAddress | str, *, topic: str, client_id: str | None = None, link: MqttLink | None = None
    ) -> None:
        self._topic = topic
        super().__init__(MqttConnection(MqttAddress.parsed(address), link=link, client_id=client_id))

    async def write(self, letters: Sequence[DeadLetter]) -> None:
        """Publish the letters. Return when all are confirmed."""
        for letter in letters:
            await self._connection.publish(self._topic, encode_letter(letter, MESSAGE_BYTES), 1)
        await self._connection.drain()
