"""Samples in, over HTTP and WebSocket."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from types import TracebackType

from streamrde.connectors.ends import Message, Source
from streamrde.connectors.http.options import Listening
from streamrde.connectors.http.server import WebServer
from streamrde.connectors.messages import MessageBatch, MessageReader, joined
from streamrde.errors import ParameterError, PayloadError

# What a client calls a body of which it knows no more. The configured codec reads it.
_NEUTRAL = frozenset({"", "application/octet-stream", "application/x-www-form-urlencoded", "text/plain"})


class Pending:
    """A payload that waits until its predictions are safe.

    Args:
        wanted: keep the predictions that its samples lead to.
    """

    def __init__(self, *, wanted: bool) -> None:
        self.samples = 0
        self.streams: frozenset[str] = frozenset()
        self.predictions: list[bytes] | None = [] if wanted else None
        self._done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def finish(self, done: bool) -> None:
        """Note that the payload is safe, or will not be processed."""
        if not self._done.done():
            self._done.set_result(done)

    @property
    def is_done(self) -> bool:
        """Return whether it is known what became of the payload."""
        return self._done.done()

    async def wait(self) -> bool:
        """Return True once the payload is safe, False if it is not going to be processed."""
        return await self._done


class HttpSource(Source[MessageBatch]):
    """Take samples that clients send: POST, or messages of a WebSocket, to a path with the stream's name.

    A request is answered when its batch is acknowledged: its predictions are out, and with a store its state is saved.
    A client that gets no answer, or 503, sends again. WebSocket messages are not confirmed.

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
        self._queue: deque[MessageBatch] = deque()
        self._queue_messages = queue_messages
        self._batch_messages = batch_messages
        self._remaining: int | None = None
        self._pending: set[Pending] = set()
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._server: WebServer | None = None
        self._asked: list[Pending] = []

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
            batch = joined([self._queue.popleft() for _ in range(size)])
            if not self.is_full:
                self._room.set()
            self._asked += [one for one in batch.receipts if one.predictions is not None]
            yield batch

    async def acknowledge(self, batch: MessageBatch) -> None:
        """Answer the requests of a batch."""
        for pending in batch.receipts:
            self._pending.discard(pending)
            pending.finish(True)

    def topic_of(self, stream: str) -> str | None:
        """Return the path to which the stream's payloads are sent, or None if that is no longer known."""
        return next((topic for reader in self._readers.values() if (topic := reader.topic_of(stream))), None)

    def stop(self) -> None:
        """End the iteration after what has arrived by now. Later requests are answered with 503."""
        if self._remaining is None:
            self._remaining = len(self._queue)
        self._changed.set()
        self._room.set()

    def take(
        self, topic: bytes, media_type: str, body: bytes, headers: Mapping[str, str], *, wanted: bool | None = None
    ) -> Pending:
        """Read a payload, and put its samples into the queue.

        Args:
            topic: path of the request, without the first slash.
            media_type: Content-Type of the body; "" if it is not known.
            wanted: return the predictions, or not. None: nobody waits.
        Raises:
            PayloadError: it cannot be read.
            LookupError: no codec reads this media type.
        """
        reader = self._readers[self._codec_of(media_type)]
        pending = Pending(wanted=bool(wanted))
        receipt = None if wanted is None else pending
        batch = reader.read([Message(topic, body, time.perf_counter(), receipt, headers)])
        if batch.letters:
            # It is kept as a dead letter, and its sender is told.
            self._put(batch, None)
            raise PayloadError(batch.letters[0].reason)
        pending.samples = len(batch.samples.t)
        pending.streams = frozenset(batch.samples.streams.to_pylist()) if wanted else frozenset()
        self._put(batch, receipt)
        return pending

    def asked_for(self, stream: str) -> list[Pending]:
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

    async def finished(self) -> None:
        """Wait until nothing that was taken waits for its answer."""
        while self._pending:
            await next(iter(self._pending)).wait()
            await asyncio.sleep(0)

    @staticmethod
    def answered() -> Pending:
        """Return a payload that has been answered already."""
        pending = Pending(wanted=False)
        pending.finish(True)
        return pending

    def _put(self, batch: MessageBatch, receipt: Pending | None) -> None:
        if receipt is not None:
            self._pending.add(receipt)
        self._queue.append(batch)
        self._changed.set()

    def _codec_of(self, media_type: str) -> str:
        plain = media_type.partition(";")[0].strip().lower()
        if (found := self._media_types.get(plain)) is not None:
            return found
        if plain in _NEUTRAL:
            return self._codec
        known = ", ".join(sorted(self._media_types))
        raise LookupError(f"Content-Type {plain[:80]!r} is not one of {known}, and not left to the configuration")
