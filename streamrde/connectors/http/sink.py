"""Predictions out, to whoever is connected over HTTP or WebSocket, and to requests that wait for them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any

import pyarrow as pa

from streamrde.connectors.codecs.predictions import encode_prediction
from streamrde.connectors.ends import Sink
from streamrde.connectors.http.options import Listening
from streamrde.connectors.http.server import WebServer
from streamrde.errors import ParameterError


class Viewer:
    """Hold predictions for someone who watches, up to a limit.

    Args:
        streams: streams to watch; empty: all.
        most: predictions that wait. Beyond it the oldest are dropped and counted.
    """

    def __init__(self, streams: set[str], most: int) -> None:
        self._streams = streams
        self._rows: deque[bytes] = deque()
        self._most = most
        self._lost = 0
        self._changed = asyncio.Event()
        self._closed = False

    def put(self, stream: str, row: bytes) -> int:
        """Add a prediction, and return how many were dropped for it."""
        if self._streams and stream not in self._streams:
            return 0
        dropped = len(self._rows) >= self._most
        if dropped:
            self._rows.popleft()
            self._lost += 1
        self._rows.append(row)
        self._changed.set()
        return int(dropped)

    def take_lost(self) -> int:
        """Return how many predictions were dropped since the last call."""
        lost, self._lost = self._lost, 0
        return lost

    def close(self) -> None:
        """End `next` once nothing waits."""
        self._closed = True
        self._changed.set()

    async def next(self, timeout: float) -> list[bytes] | None:
        """Return what waits, nothing if that is so for `timeout` seconds, and None at the end."""
        if not self._rows and not self._closed:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._changed.wait()
        rows = list(self._rows)
        self._rows.clear()
        return None if self._closed and not rows else rows


class HttpSink(Sink):
    """Send predictions to who watches ``/predictions``: server-sent events, or messages of a WebSocket.

    Nobody confirms them: a prediction that nobody watches is gone, and one who does not keep up loses the oldest and is
    told how many. Requests of a source on the same port get their predictions in the answer, if they ask.

    Args:
        listening: where, and for whom.
        queue_messages: predictions that wait for each viewer, at most.
        encode: makes JSON of a row of the prediction record batch.
    """

    def __init__(
        self,
        listening: Listening,
        *,
        queue_messages: int = 1000,
        encode: Callable[[Mapping[str, Any]], bytes] = encode_prediction,
    ) -> None:
        if queue_messages < 1:
            raise ParameterError("queue_messages must be at least 1")
        self.listening = listening
        self.lost = 0
        """Predictions that viewers were too slow for."""
        self._most = queue_messages
        self._encode = encode
        self._viewers: set[Viewer] = set()
        self._server: WebServer | None = None

    @property
    def port(self) -> int:
        """Return the port that is listened on."""
        return self.listening.port if self._server is None else self._server.port

    @property
    def viewers(self) -> int:
        """Return how many are watching."""
        return len(self._viewers)

    async def __aenter__(self) -> HttpSink:
        self._server = await WebServer.attach(self.listening)
        self._server.sink = self
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for viewer in self._viewers:
            viewer.close()
        if self._server is not None:
            server, self._server = self._server, None
            server.sink = None
            await server.detach()

    @contextlib.contextmanager
    def viewer(self, streams: set[str]) -> Iterator[Viewer]:
        """Watch predictions of some streams, or of all."""
        viewer = Viewer(streams, self._most)
        self._viewers.add(viewer)
        if self._server is None:
            viewer.close()
        try:
            yield viewer
        finally:
            self._viewers.discard(viewer)

    async def write(self, batch: pa.RecordBatch) -> None:
        """Hand every prediction to who watches its stream."""
        source = None if self._server is None else self._server.source
        if not self._viewers and not (source is not None and source.asks):
            return
        for row in batch.to_pylist():
            encoded, stream = self._encode(row), row["stream"]
            for viewer in self._viewers:
                self.lost += viewer.put(stream, encoded)
            for pending in source.asked_for(stream) if source is not None else ():
                if pending.predictions is not None:
                    pending.predictions.append(encoded)
        # Who watches has its turn between two batches.
        await asyncio.sleep(0)
