"""Ends of queues, whatever the queue: samples in, predictions, dead letters and recorded samples out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from streamrde.connectors.clients import Intake, Outgoing, QueueClient
from streamrde.connectors.codecs.predictions import encode_prediction
from streamrde.connectors.dead_letters import MESSAGE_BYTES, encode_letter
from streamrde.connectors.ends import DeadLetter, DeadLetters, End, Sink, Source
from streamrde.connectors.messages import MessageBatch, MessageReader
from streamrde.connectors.topics import TopicTemplate


class QueueSource(Source[MessageBatch]):
    """Receive samples from a queue, in micro-batches of the messages that have arrived.

    A message is acknowledged only by `acknowledge`. What was not acknowledged comes again, to this source after a lost
    connection and to the next one after its end, where the queue keeps it.

    Args:
        client: client of the queue, which puts messages into `intake`.
        intake: messages that have arrived.
        reader: how messages are read.
        batch_messages: messages in a micro-batch, at most.
    """

    def __init__(
        self,
        client: QueueClient,
        intake: Intake,
        reader: MessageReader,
        *,
        batch_messages: int = 1000,
    ) -> None:
        self.client = client
        self.connection = client.counts
        self.counts, self.quarantine, self.sequences = reader.counts, reader.quarantine, reader.sequences
        self._intake = intake
        self._reader = reader
        self._batch_messages = batch_messages
        intake.on_drop = lambda message: reader.dropped(message, intake.limit)
        self._remaining: int | None = None

    @property
    def waiting(self) -> int:
        """Messages that have arrived and were not delivered yet."""
        return len(self._intake.messages)

    async def __aenter__(self) -> Self:
        await self.client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.client.settle()
        finally:
            await self.client.__aexit__(kind, error, traceback)

    async def __aiter__(self) -> AsyncIterator[MessageBatch]:
        messages = self._intake.messages
        while True:
            while not messages and self._remaining is None:
                await self.client.wait()
            # A queue that never empties must not keep the other tasks from their turn.
            await asyncio.sleep(0)
            size = min(len(messages), self._batch_messages)
            if self._remaining is not None:
                size = min(size, self._remaining)
                self._remaining -= size
                if size == 0:
                    return
            if size:
                batch = self._read(size)
                self.client.changed.set()
                yield batch

    def _read(self, size: int) -> MessageBatch:
        """Return the first messages that have arrived as a batch."""
        messages = self._intake.messages
        return self._reader.read([messages.popleft() for _ in range(size)])

    async def acknowledge(self, batch: MessageBatch) -> None:
        """Acknowledge a batch to the queue. Acknowledge batches in their order, each once."""
        if batch.receipts:
            await self.client.acknowledge(batch.receipts)

    def topic_of(self, stream: str) -> str | None:
        """Return a topic from which the stream's messages come, or None if that is no longer known."""
        return self._reader.topic_of(stream)

    def stop(self) -> None:
        """End the iteration after the messages that have arrived by now. Later ones stay unacknowledged."""
        if self._remaining is None:  # a second call does not put off the end
            self._remaining = len(self._intake.messages)
        self.client.changed.set()


class _Publisher(End):
    """An end that publishes over a client of its own."""

    def __init__(self, client: QueueClient) -> None:
        self.client = client
        self.connection = client.counts

    async def __aenter__(self) -> Self:
        await self.client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.client.__aexit__(kind, error, traceback)


class QueueSink(_Publisher, Sink):
    """Predictions to a queue, one message per prediction.

    A prediction that was under way when the connection was lost is published again, so that the queue may have it
    twice; (stream, window) tells.

    Args:
        client: client of the queue.
        topic: template of the topics, one level of it ``{stream}``.
        encode: makes a payload of a row of the prediction record batch; JSON by default.
    """

    def __init__(
        self,
        client: QueueClient,
        topic: TopicTemplate,
        encode: Callable[[Mapping[str, Any]], bytes] = encode_prediction,
    ) -> None:
        super().__init__(client)
        topic.check_publishing()
        self._topic = topic
        self._encode = encode

    async def write(self, batch: pa.RecordBatch) -> None:
        """Publish every prediction of a record batch. Return when all are confirmed.

        Signs of a stream's name that its topic cannot have are written as in a URL.
        """
        rows = batch.to_pylist()
        topics = {name: self._topic.topic_of_any(name) for name in dict.fromkeys(row["stream"] for row in rows)}
        await self.client.publish([Outgoing(topics[row["stream"]], self._encode(row), _identity(row)) for row in rows])


class QueueDeadLetters(_Publisher, DeadLetters):
    """Dead letters to one topic of a queue, as JSON with the payload in base64."""

    def __init__(self, client: QueueClient, topic: str) -> None:
        super().__init__(client)
        self._topic = topic

    async def write(self, letters: Sequence[DeadLetter]) -> None:
        """Publish the letters. Return when all are confirmed."""
        await self.client.publish([Outgoing(self._topic, encode_letter(letter, MESSAGE_BYTES)) for letter in letters])


def _identity(row: Mapping[str, Any]) -> str:
    """Return a name for a prediction. Provisional ones have none: several may be of one window."""
    return "" if row.get("provisional") else f"{row['stream']}/{row['window']}"
