"""/healthz, /readyz, /status and /metrics over HTTP, on one small port."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Protocol

import msgspec

from streamrde.errors import ParameterError

# A request is a line and some headers; who sends more, or takes longer, is no scraper.
_MAX_REQUEST = 8192
_TIMEOUT = 5.0
_MOST_CLIENTS = 32


class Request(NamedTuple):
    """The head of a request."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    """By names in lower case."""

    @classmethod
    def parse(cls, head: bytes) -> Request:
        """Parse what comes before the body."""
        line, *rest = head.decode("latin-1").split("\r\n")
        method, _, target = line.partition(" ")
        path, _, query = target.partition(" ")[0].partition("?")
        pairs = (header.partition(":") for header in rest if header)
        return cls(method, path, query, {name.strip().lower(): value.strip() for name, _, value in pairs})


class Pages(Protocol):
    """Further paths on the port."""

    async def answer(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer a request, for as long as it takes. Return False if it is for none of the paths."""

    async def close(self) -> None:
        """End the answers that are still being given."""


class HealthServer:
    """Answer GET and HEAD, one request per connection.

    /healthz: 200 while the process turns its event loop. /readyz: 200 while samples become predictions, else 503 with
    what is in the way, a line each. /status: which streams went wrong, as JSON. /metrics: Prometheus' text format.
    There is no access control, hence the host.

    Args:
        obstacles: what keeps the run from working now; empty where nothing does.
        metrics: the text of /metrics.
        status: what /status shows.
        page: further paths, "/" among them.
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
        page: Pages | None = None,
        host: str = "127.0.0.1",
        port: int = 9464,
    ) -> None:
        self.host = host
        self.port = port
        self._obstacles = obstacles
        self._metrics = metrics
        self._status = status
        self._page = page
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
        if self._page is not None:
            await self._page.close()
        await self._server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # A client that goes away, or talks too long, is not worth a word.
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                request = await self._request(reader)
                if request is None:
                    pass
                elif self._page is None or not await self._page.answer(request, reader, writer):
                    writer.write(self._response(request))
                async with asyncio.timeout(_TIMEOUT):
                    await writer.drain()
        except asyncio.CancelledError:
            pass  # The service ends; asyncio's own callback would log a handler that was cancelled as an error.
        finally:
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _request(self, reader: asyncio.StreamReader) -> Request | None:
        """Return a request, or None where too many clients are asking at a time."""
        self._clients += 1
        try:
            async with asyncio.timeout(_TIMEOUT):
                if self._clients > _MOST_CLIENTS:
                    return None
                return Request.parse(await reader.readuntil(b"\r\n\r\n"))
        finally:
            self._clients -= 1

    def _response(self, request: Request) -> bytes:
        method, path = request.method, request.path
        kind = "text/plain; charset=utf-8"
        if method not in ("GET", "HEAD"):
            status, body = "405 Method Not Allowed", b"GET only\n"
        elif path == "/healthz":
            status, body = "200 OK", b"ok\n"
        elif path == "/readyz":
            obstacles = self._obstacles()
            status = "503 Service Unavailable" if obstacles else "200 OK"
            body = ("\n".join(obstacles) or "ok").encode() + b"\n"
        elif path == "/status":
            status, body, kind = "200 OK", msgspec.json.encode(self._status()) + b"\n", "application/json"
        elif path == "/metrics":
            status, body, kind = "200 OK", self._metrics(), "text/plain; version=0.0.4; charset=utf-8"
        else:
            status, body = "404 Not Found", b"/healthz, /readyz, /status or /metrics\n"
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        return head.encode() + (b"" if method == "HEAD" else body)
