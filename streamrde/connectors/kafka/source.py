"""Samples from Kafka."""

from __future__ import annotations

from dataclasses import replace

from streamrde.connectors.clients import Intake
from streamrde.connectors.kafka.reader import KafkaReader
from streamrde.connectors.messages import MessageBatch, MessageReader
from streamrde.connectors.queues import QueueSource


class KafkaSource(QueueSource):
    """Receive samples from Kafka. See `QueueSource`.

    Args:
        client: consumer that puts messages into `intake`.
        intake: messages that have arrived.
        reader: how messages are read.
    """

    client: KafkaReader

    def __init__(self, client: KafkaReader, intake: Intake, reader: MessageReader) -> None:
        super().__init__(client, intake, reader)

    def _read(self, size: int) -> MessageBatch:
        messages, spans = self.client.deliver(size)
        return replace(self._reader.read(messages), receipts=spans)
