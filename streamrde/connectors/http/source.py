"""Samples in, over HTTP and WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from types import TracebackType
from typing import Any

import msgspec

from streamrde.connectors.ends import Message, Source
from streamrde.connectors.http.options import Listening
from streamrde.connectors.http.server import WebServer
from streamrde.connectors.messages import MessageBatch, MessageReader, joined
from streamrde.errors import ParameterError

# What a client calls a body of which it knows no more. The configured codec reads it.
_NEUTRAL = frozenset({"", "application/octet-stream", "application/x-www-form-urlencoded", "text/plain"})


class Receipt(ABC):
    """A payload that waits until it is safe."""

    predictions: list[bytes] | None = None
    """Predictions that its samples lead to. None if they are not wanted."""
    streams: frozenset[str] = frozenset()

    @abstractmethod
    def finish(self, done: bool) -> None:
        """Note that the payload is safe, or will not be processed."""

    @abstractmethod
    def refuse(self, reason: str) -> None:
        """Note that the payload cannot be read."""


class Pending(Receipt):
    """A request.

    Args:
        wanted: keep the predictions that its samples lead to.
    """

    def __init__(self, *, wanted: bool = False) -> None:
        self.predictions = [] if wanted else None
        self.reason = ""
        """Why the payload cannot be read, if so."""
        self._done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def finish(self, done: bool) -> None:
        """See `Receipt.finish`."""
        if not self._done.done():
            self._done.set_result(done)

    def refuse(self, reason: str) -> None:
        """See `Receipt.refuse`."""
        self.reason = reason
        self.finish(True)

    async def wait(self) -> bool:
        """Return True once it is known what became of the payload, False if it is not going to be processed."""
        return await self._done


class Replies:
    """Answers to the messages of a WebSocket: which cannot be read, and how many are safe if the client asks for it.

    Args:
        confirms: tell how many are safe.
    """

    def __init__(self, *, confirms: bool) -> None:
        self._confirms = confirms
        self._texts: deque[str] = deque()
        self._taken = self._safe = 0
        self._ending = False
        self._changed = asyncio.Event()

    def receipt(self) -> Receipt:
        """Return the receipt of the next message."""
        self._taken += 1
        return _Note(self, self._taken)

    def finish(self, done: bool) -> None:
        """Note that the next message is safe. Messages become safe in their order."""
        if done:
            self._safe += 1
            if self._confirms:
                self._changed.set()

    def refuse(self, number: int, reason: str) -> None:
        """Note that a message cannot be read."""
        self._texts.append(_json({"error": reason, "message": number}))
        self._changed.set()

    def end(self, *, at_once: bool = False) -> None:
        """Let `send` end after all messages are safe, or now."""
        self._ending = True
        if at_once or not self._confirms:
            self._taken = self._safe
        self._changed.set()

    async def send(self, send: Callable[[str], Awaitable[None]]) -> None:
        """Send the answers."""
        told = 0
        while not (self._ending and self._safe >= self._taken):
            await self._changed.wait()
            self._changed.clear()
            while self._texts:
                await send(self._texts.popleft())
            if self._confirms and self._safe > told:
                told = self._safe
                await send(_json({"confirmed": told}))


class _Note(Receipt):
    """A message of a WebSocket."""

    def __init__(self, replies: Replies, number: int) -> None:
        self._replies = replies
        self._number = number

    def finish(self, done: bool) -> None:
        """See `Receipt.finish`."""
        self._replies.finish(done)

    def refuse(self, reason: str) -> None:
        """See `Receipt.refuse`."""
        self._replies.refuse(self._number, reason)


class HttpSource(Source[MessageBatch]):
    """Take samples that clients send: POST, or messages of a WebSocket, to a path with the stream's name.

    A request is answered when its batch is acknowledged: its predictions are out, and with a store its state is saved.
    A client that gets no answer, or 503, sends again. Messages of a WebSocket are confirmed if the client asks for it.

    Args:
        listening: where, and for whom.
        readers: reader of each codec, by its name. All count together.
        codec: name of the codec for bodies whose Content-Type names none.
        media_types: codec of each media type.
        queue_messages: payloads that wait here, at most. Beyond it, requests are answered with 503, and WebSockets are
            not read.
        batch_messages: payloads in a micro-batch, at most.
    """

    def __init__(
        self,
        listening: Listening,
        readers: Mapping[str, MessageReader],
        codec: str,
        media_types: Mapping[str, str],
        *,
        queue_messages: int = 1000,
        batch_messages: int = 1000,
    ) -> None:
        if queue_messages < 1 or batch_messages < 1:
            raise ParameterError("queue_messages and batch_messages must be at least 1")
        self.listening = listening
        self._readers = dict(readers)
        self._codec = codec
        self._media_types = dict(media_types)
        reader = self._readers[codec]
        self.counts, self.quarantine = reader.counts, reader.quarantine
        self._queue: deque[tuple[MessageReader, Message]] = deque()
        self._queue_messages = queue_messages
        self._batch_messages = batch_messages
        self._remaining: int | None = None
        self._pending: set[Receipt] = set()
        self._replies: set[Replies] = set()
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._server: WebServer | None = None
        self._asked: list[Receipt] = []

    @property
    def port(self) -> int:
        """Return the port that is listened on."""
        return self.listening.port if self._server is None else self._server.port

    @property
    def waiting(self) -> int:
        """Payloads that have arrived and were not delivered yet."""
        return len(self._queue)

    @property
    def is_full(self) -> bool:
        """Return whether no further payload is taken now."""
        return len(self._queue) >= self._queue_messages

    @property
    def is_stopping(self) -> bool:
        """Return whether no further payload is taken at all."""
        return self._remaining is not None

    async def __aenter__(self) -> HttpSource:
        self._server = await WebServer.attach(self.listening)
        self._server.source = self
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        for pending in list(self._pending):
            pending.finish(False)
        self._pending.clear()
        for replies in self._replies:
            replies.end(at_once=True)
        self._room.set()
        if self._server is not None:
            server, self._server = self._server, None
            server.source = None
            await server.detach()

    async def __aiter__(self) -> AsyncIterator[MessageBatch]:
        while True:
            # The batch before is processed: what its requests asked for is there.
            self._asked.clear()
            while not self._queue and self._remaining is None:
                await self._changed.wait()
                self._changed.clear()
            await asyncio.sleep(0)
            size = min(len(self._queue), self._batch_messages)
            if self._remaining is not None:
                size = min(size, self._remaining)
                self._remaining -= size
            if size == 0:
                return
            batch = self._next_batch(size)
            if not self.is_full:
                self._room.set()
            for receipt, reason in batch.refused:
                receipt.refuse(reason)
            yield batch

    async def acknowledge(self, batch: MessageBatch) -> None:
        """Answer the requests of a batch."""
        for receipt in batch.receipts:
            receipt.finish(True)

    def topic_of(self, stream: str) -> str | None:
        """Return the path to which the stream's payloads are sent, or None if that is no longer known."""
        return next((topic for reader in self._readers.values() if (topic := reader.topic_of(stream))), None)

    def stop(self) -> None:
        """End the iteration after what has arrived by now. Later requests are answered with 503."""
        if self._remaining is None:
            self._remaining = len(self._queue)
        self._changed.set()
        self._room.set()

    def take(self, topic: bytes, media_type: str, body: bytes, headers: Mapping[str, str], receipt: Receipt) -> None:
        """Put a payload into the queue.

        Args:
            topic: path of the request, without the first slash.
            media_type: Content-Type of the body; "" if it is not known.
            receipt: told what becomes of it.
        Raises:
            LookupError: no codec reads this media type.
        """
        reader = self._readers[self._codec_of(media_type)]
        self._queue.append((reader, Message(topic, body, time.perf_counter(), receipt, headers)))
        self._changed.set()

    async def request(
        self, topic: bytes, media_type: str, body: bytes, headers: Mapping[str, str], *, wanted: bool
    ) -> Pending | None:
        """Take the payload of a request. Return what became of it, or None if it was not processed.

        Args:
            topic, media_type, body, headers: as for `take`.
            wanted: with the predictions.
        """
        pending = Pending(wanted=wanted)
        self.take(topic, media_type, body, headers, pending)
        self._pending.add(pending)
        try:
            return pending if await pending.wait() else None
        finally:
            self._pending.discard(pending)

    @contextlib.contextmanager
    def replies(self, *, confirms: bool) -> Iterator[Replies]:
        """Answer messages of a WebSocket."""
        replies = Replies(confirms=confirms)
        self._replies.add(replies)
        try:
            yield replies
        finally:
            self._replies.discard(replies)

    def asked_for(self, stream: str) -> list[Receipt]:
        """Return the requests under way that want a stream's predictions."""
        return [pending for pending in self._asked if stream in pending.streams]

    @property
    def asks(self) -> bool:
        """Return whether some request under way wants predictions."""
        return bool(self._asked)

    async def room(self) -> bool:
        """Wait until a payload may be taken. Return False if the source stops."""
        while self.is_full and not self.is_stopping:
            self._room.clear()
            await self._room.wait()
        return not self.is_stopping

    def _next_batch(self, size: int) -> MessageBatch:
        """Read messages: those that follow one another together, and each that wants predictions apart."""
        groups: list[tuple[MessageReader, list[Message], bool]] = []
        for _ in range(size):
            reader, message = self._queue.popleft()
            apart = message.receipt.predictions is not None
            if groups and not apart and groups[-1][0] is reader and not groups[-1][2]:
                groups[-1][1].append(message)
            else:
                groups.append((reader, [message], apart))
        batches = []
        for reader, messages, apart in groups:
            batches.append(reader.read(messages))
            if apart:
                receipt: Receipt = messages[0].receipt
                receipt.streams = frozenset(batches[-1].samples.streams.to_pylist())
                self._asked.append(receipt)
        return joined(batches)

    def _codec_of(self, media_type: str) -> str:
        plain = media_type.partition(";")[0].strip().lower()
        if (found := self._media_types.get(plain)) is not None:
            return found
        if plain in _NEUTRAL:
            return self._codec
        known = ", ".join(sorted(self._media_types))
        raise LookupError(f"Content-Type {plain[:80]!r} is not one of {known}, and not left to the configuration")


def _json(content: Any) -> str:
    return msgspec.json.encode(content).decode()
