"""Connections to the server that do not become requests are closed, so that they cannot use up what is allowed."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol


def protocol_with(timeout: float) -> type[H11Protocol]:
    """Return uvicorn's protocol of a connection, with a limit of seconds for the head of a request.

    uvicorn has none: a client that sends nothing, or its headers a byte at a time, would stay connected for ever.
    """

    class Protocol(H11Protocol):
        _tick: asyncio.TimerHandle | None = None
        _before: object = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            """Begin to watch."""
            super().connection_made(transport)
            self._tick = self.loop.call_later(timeout, self._look)

        def connection_lost(self, exc: Exception | None) -> None:
            """Watch no more."""
            if self._tick is not None:
                self._tick.cancel()
            super().connection_lost(exc)

        def _look(self) -> None:
            if self.transport.is_closing() or self.transport.get_protocol() is not self:
                return  # it is a WebSocket by now
            cycle = self.cycle
            waits = cycle is None or cycle.response_complete
            if waits and cycle is self._before:
                self.transport.close()
                return
            self._before = cycle
            self._tick = self.loop.call_later(timeout, self._look)

    return Protocol
