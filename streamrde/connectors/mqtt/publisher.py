"""Recorded samples out, as sensors would send them."""

from __future__ import annotations

from types import TracebackType

from streamrde.connectors.codecs.json import JsonCodec
from streamrde.connectors.columns import Columns
from streamrde.connectors.ends import Codec, Publisher
from streamrde.connectors.mqtt.connection import MqttConnection
from streamrde.connectors.mqtt.link import MqttLink
from streamrde.connectors.mqtt.sink import SinkCounts
from streamrde.connectors.mqtt.topics import MqttAddress, checked_qos
from streamrde.connectors.publishing import messages_of, written
from streamrde.connectors.samples import Samples
from streamrde.connectors.topics import TopicTemplate
from streamrde.errors import ParameterError


class SamplePublisher(Publisher):
    """Publish samples to MQTT topics as a sensor would, for a replay.

    It does not connect again unless `link` says so: what a broker that crashed had confirmed and not stored is gone,
    and samples sent after it would arrive before those that are then sent again.

    Args:
        address: the broker, ``mqtt://user:password@host:port`` or parsed.
        topic: template of the topics, one level of it ``{stream}``.
        columns: names of the fields in the payload.
        qos: 0 or 1.
        batch: samples of one stream in a message, at most.
        client_id: the client's name at the broker; None lets the broker choose.
        inflight: messages that wait for confirmation at a time, at most.
        codec: how payloads are written; JSON with `columns` by default.
        link: version, TLS, reconnection.
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
        codec: Codec | None = None,
        link: MqttLink | None = None,
    ) -> None:
        if batch < 1:
            raise ParameterError(f"batch={batch}: a message needs at least one sample")
        self.counts = SinkCounts()
        self._sent = 0
        self._qos = checked_qos(qos)
        self._topic = TopicTemplate(topic)
        self._codec = codec or JsonCodec(written(columns))
        self._batch = batch
        link = link or MqttLink(reconnect=False)
        broker = MqttAddress.parsed(address)
        self._connection = MqttConnection(broker, link=link, client_id=client_id, inflight=inflight)

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
        """Send the samples, in order within each stream. `flush`, or the end of the block, waits for confirmation.

        Raises:
            ParameterError: a stream's name cannot be part of a topic; none of the samples was sent.
        """
        names = samples.streams.to_pylist()
        topics = {name: self._topic.topic_for(name) for name in dict.fromkeys(names)}
        for name, rows in messages_of(names, self._batch):
            payload = self._codec.encode_samples(samples.t[rows], samples.x[rows])
            await self._connection.publish(topics[name], payload, self._qos)
            self._sent += 1

    async def flush(self) -> None:
        """Wait until every message is confirmed."""
        await self._connection.drain()
        self.counts.messages = self.messages = self._sent
