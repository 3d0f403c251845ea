"""/healthz, /readyz, /status and /metrics over HTTP, on one small port."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import msgspec

from streamrde.errors import ParameterError

# A request is a line and some headers; who sends more, or takes longer, is no scraper.
_MAX_REQUEST = 8192
_TIMEOUT = 5.0
_MOST_CLIENTS = 32


class HealthServer:
    """Answer GET and HEAD, one request per connection.

    /healthz: 200 while the process turns its event loop. /readyz: 200 while samples become predictions, else 503 with
    what is in the way, a line each. /status: which streams went wrong, as JSON. /metrics: Prometheus' text format.
    There is no access control, hence the host.

    Args:
        obstacles: what keeps the run from working now; empty where nothing does.
        metrics: the text of /metrics.
        status: what /status shows.
        port: 0: any free one, see `port` after entering.
    Raises:
        ParameterError: the port cannot be listened on.
    """

    def __init__(
        self,
        *,
        obstacles: Callable[[], list[str]],
        metrics: Callable[[], bytes],
        status: Callable[[], Mapping[str, Any]] = dict,
        host: str = "127.0.0.1",
        port: int = 9464,
    ) -> None:
        self.host = host
        self.port = port
        self._obstacles = obstacles
        self._metrics = metrics
        self._status = status
        self._clients = 0
        self._server: asyncio.Server

    async def __aenter__(self) -> HealthServer:
        try:
            self._server = await asyncio.start_server(self._answer, self.host, self.port, limit=_MAX_REQUEST)
        except OSError as error:
            raise ParameterError(
                f"health: cannot listen on {self.host}:{self.port} ({error.strerror or error}); choose another port"
            ) from None
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        try:
            # A client that goes away, or talks too long, is not worth a word.
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                async with asyncio.timeout(_TIMEOUT):
                    if self._clients <= _MOST_CLIENTS:
                        request = await reader.readuntil(b"\r\n\r\n")
                        writer.write(self._response(request.split(b"\r\n", 1)[0]))
                        await writer.drain()
        except asyncio.CancelledError:
            pass  # The service ends; asyncio's own callback would log a handler that was cancelled as an error.
        finally:
            self._clients -= 1
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    def _response(self, line: bytes) -> bytes:
        method, _, rest = line.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        kind = "text/plain; charset=utf-8"
        if method not in (b"GET", b"HEAD"):
            status, body = "405 Method Not Allowed", b"GET only\n"
        elif path == b"/healthz":
            status, body = "200 OK", b"ok\n"
        elif path == b"/readyz":
            obstacles = self._obstacles()
            status = "503 Service Unavailable" if obstacles else "200 OK"
            body = ("\n".join(obstacles) or "ok").encode() + b"\n"
        elif path == b"/status":
            status, body, kind = "200 OK", msgspec.json.encode(self._status()) + b"\n", "application/json"
        elif path == b"/metrics":
            status, body, kind = "200 OK", self._metrics(), "text/plain; version=0.0.4; charset=utf-8"
        else:
            status, body = "404 Not Found", b"/healthz, /readyz, /status or /metrics\n"
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        return head.encode() + (b"" if method == b"HEAD" else body)
