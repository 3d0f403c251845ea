"""Samples of one partition, from the messages that a worker's consumer has fetched for it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import msgspec

from streamrde.connectors.ends import ConnectionCounts, Message, Source
from streamrde.connectors.kafka.fetched import Run
from streamrde.connectors.messages import MessageBatch, MessageReader
from streamrde.errors import StateError

logger = logging.getLogger(__name__)


class Position(msgspec.Struct, frozen=True):
    """Say where in a partition the input goes on.

    Attributes:
        offset: of the next message.
        token: names the transaction that saved the position, so that a copy of the state knows if it is still the same.
    """

    offset: int
    token: str = ""

    def encode(self) -> bytes:
        """Return the position as the store keeps it."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> Position:
        """Return the position from what the store has."""
        return msgspec.json.decode(data, type=cls)


class Inlet(Source[MessageBatch]):
    """Deliver what the consumer has fetched of a partition, in micro-batches.

    Nothing is acknowledged: the store commits the position with the state. A batch has the offset after it as receipt.

    Args:
        reader: how messages are read.
        connection: the consumer's.
        begin: offset of the first message. Those before it are not taken.
        limit: messages that may wait. More come only from what was under way.
        hold: called when more than `limit` wait (True), and when half of that wait again (False).
        batch_messages: messages in a micro-batch, at most.
    """

    def __init__(
        self,
        reader: MessageReader,
        connection: ConnectionCounts,
        *,
        begin: int = 0,
        limit: int,
        hold: Callable[[bool], None],
        batch_messages: int = 1000,
    ) -> None:
        self.connection = connection
        self.counts, self.quarantine = reader.counts, reader.quarantine
        self._reader = reader
        self._limit = limit
        self._hold = hold
        self._held = False
        self._batch_messages = batch_messages
        self._messages: deque[Message] = deque()
        self._changed = asyncio.Event()
        self._end = begin
        self._stopped = False
        self._failure: StateError | None = None

    @property
    def waiting(self) -> int:
        """Messages that have arrived and were not delivered yet."""
        return len(self._messages)

    def put(self, run: Run) -> None:
        """Take the next messages of the partition."""
        if run.begin >= self._end:
            self._messages.extend(run.messages)
        else:
            # The consumer went back by itself, as it may after it was dropped from its group.
            logger.warning("%s[%d]: fetched again from %d on", run.topic, run.partition, run.begin)
            self._messages.extend(one for one in run.messages if one.receipt >= self._end)
        self._end = max(self._end, run.end)
        self._changed.set()
        if len(self._messages) > self._limit and not self._held:
            self._held = True
            self._hold(True)

    async def __aiter__(self) -> AsyncIterator[MessageBatch]:
        messages = self._messages
        while not self._stopped:
            if not messages:
                self._changed.clear()
                await self._changed.wait()
                if self._failure is not None:
                    raise self._failure
                continue
            # A partition that never empties must not keep the other tasks from their turn.
            await asyncio.sleep(0)
            size = min(len(messages), self._batch_messages)
            batch = self._reader.read([messages.popleft() for _ in range(size)])
            # What was deleted behind its last message is passed, too.
            batch = replace(batch, receipts=(messages[0].receipt if messages else self._end,))
            if self._held and len(messages) <= self._limit // 2:
                self._held = False
                self._hold(False)
            yield batch

    def fail(self, error: StateError) -> None:
        """Let the iteration raise an error after the messages that have come."""
        self._failure = error
        self._changed.set()

    def stop(self) -> None:
        """End the iteration after the batch that is being worked on. The next owner reads what waits."""
        self._stopped = True
        self._changed.set()

    def position_after(self, batch: MessageBatch) -> bytes:
        """See `Source.position_after`."""
        return Position(batch.receipts[0]).encode()

    def topic_of(self, stream: str) -> str | None:
        """See `Source.topic_of`."""
        return self._reader.topic_of(stream)
