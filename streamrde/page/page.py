"""Serve the page: its files, and events to each viewer, who may be as slow as can be."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

import msgspec

from streamrde.page.access import COOKIE, Access
from streamrde.page.files import OPEN, is_file, read
from streamrde.page.part import Part
from streamrde.page.roll import Roll
from streamrde.page.status import status
from streamrde.runtime.health import Request
from streamrde.runtime.recent import Recent
from streamrde.runtime.service import Served

_EVERY = 0.5
"""Seconds between two looks at the list of streams and the counters."""
_EVERY_PART = 0.2
_MOST_VIEWERS = 16
_PATIENCE = 30.0
"""Seconds after which a viewer who takes nothing is sent away. It comes back by itself."""
_GOODBYE = 1.0
"""Seconds for which the end of a run waits for viewers."""
_BUFFER = 256 << 10
_LONGEST_FORM = 1024
_SECURITY = (
    "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'\r\n"
    "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nCache-Control: no-store\r\n"
    "Cross-Origin-Resource-Policy: same-origin\r\n"
)


class Page:
    """Answer requests for the page. It reads from the run, and changes nothing.

    The run never waits: a viewer gets a message only when it has taken the one before, and a message has all that
    changed meanwhile, as far as it is still kept.

    Args:
        run: the pipeline or worker.
        recent: what `run` appends to.
        access: who may look.
        channels: names of the channels, with units.
        title: shown above the page, such as the model's description.
    """

    def __init__(
        self,
        run: Served,
        recent: Recent,
        *,
        access: Access | None = None,
        channels: list[tuple[str, str]],
        title: str = "",
    ) -> None:
        self._run = run
        self._recent = recent
        self._access = access or Access()
        self._channels = channels
        self._title = title
        self._roll = Roll(recent)
        self._status = b"{}"
        self._looked = -1.0
        self._viewers = 0
        self._closing = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def answer(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer a request. Return False if it is not for the page."""
        path = request.path
        if not (is_file(path) or path in ("/page/live", "/page/stream")):
            return False
        refused = self._access.refusal(request.headers)
        if path == "/page/login" and request.method == "POST":
            await self._log_in(request, reader, writer)
        elif request.method not in ("GET", "HEAD"):
            _respond(writer, 405, "text/plain; charset=utf-8", b"GET only\n")
        elif refused is not None and refused[0] == HTTPStatus.UNAUTHORIZED and path == "/":
            _respond(writer, 303, "text/plain; charset=utf-8", b"", extra="Location: /page/login\r\n")
        elif refused is not None and not (refused[0] == HTTPStatus.UNAUTHORIZED and path in OPEN):
            _respond(writer, refused[0], "text/plain; charset=utf-8", refused[1].encode() + b"\n")
        elif is_file(path):
            kind, body = read(path)
            _respond(writer, 200, kind, b"" if request.method == "HEAD" else body, length=len(body))
        elif request.method == "HEAD":
            _respond(writer, 200, "text/event-stream", b"")
        elif self._viewers >= _MOST_VIEWERS:
            _respond(writer, 503, "text/plain; charset=utf-8", b"too many viewers\n")
        elif path == "/page/live":
            await self._send(reader, writer, self._list(), _EVERY)
        else:
            stream = parse_qs(request.query, keep_blank_values=True).get("name", [""])[0]
            await self._send(reader, writer, self._stream(stream), _EVERY_PART)
        return True

    async def close(self) -> None:
        """Say goodbye to the viewers. Those that do not take it in time are sent away without."""
        self._closing.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_GOODBYE)
        for task in self._tasks:
            task.cancel()

    async def _log_in(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = request.headers.get("content-length", "")
        if not length.isdigit() or int(length) > _LONGEST_FORM:
            _respond(writer, 400, "text/plain; charset=utf-8", b"a form with a token is expected\n")
            return
        async with asyncio.timeout(_EVERY * 10):
            body = await reader.readexactly(int(length))
        token = parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0]
        if not self._access.knows(token):
            _respond(writer, 303, "text/plain; charset=utf-8", b"", extra="Location: /page/login?wrong\r\n")
            return
        cookie = f"Set-Cookie: {COOKIE}={self._access.cookie}; Path=/; HttpOnly; SameSite=Strict\r\n"
        _respond(writer, 303, "text/plain; charset=utf-8", b"", extra=f"Location: /\r\n{cookie}")

    async def _send(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, frames: Callable[[], bytes], every: float
    ) -> None:
        """Send events until the viewer goes or the run ends."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (for mypy)
        self._viewers += 1
        self._tasks.add(task)
        transport = writer.transport
        if (wire := writer.get_extra_info("socket")) is not None:
            # What waits in the kernel is old news.
            with suppress(OSError):
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        try:
            _respond(writer, 200, "text/event-stream", b"", length=None)
            taken = time.monotonic()
            while not (self._closing.is_set() or reader.at_eof() or transport.is_closing()):
                now = time.monotonic()
                if not transport.get_write_buffer_size():
                    taken = now
                    writer.write(frames())
                elif now - taken > _PATIENCE:
                    transport.abort()
                with suppress(TimeoutError):
                    async with asyncio.timeout(every):
                        await self._closing.wait()
            if self._closing.is_set():
                # One that is behind, on a busy machine for example, is to learn that the run has ended, too.
                await _taken(transport)
                writer.write(frames() + b"event: end\ndata: {}\n\n")
                await _taken(transport)
        finally:
            if transport.get_write_buffer_size():
                transport.abort()
            self._viewers -= 1
            self._tasks.discard(task)

    def _look(self) -> None:
        """Look at the run, unless another viewer just did."""
        if self._closing.is_set() or time.monotonic() - self._looked >= 0.8 * _EVERY:
            self._roll.refresh(self._run.pipelines)
            shown = status(self._run, self._recent) | {"title": self._title, "beyond": self._roll.beyond}
            self._status = msgspec.json.encode(shown)
            self._looked = time.monotonic()

    def _list(self) -> Callable[[], bytes]:
        seen, until, after = 0, 0, -1

        def frames() -> bytes:
            nonlocal seen, until, after
            self._look()
            if after < 0:
                until = self._roll.version
            rows, after = self._roll.changes(seen, after)
            if after < 0:
                seen = until
            return _event("status", self._status) + (_event("streams", msgspec.json.encode(rows)) if rows else b"")

        return frames

    def _stream(self, name: str) -> Callable[[], bytes]:
        part, first = Part(self._recent, name), True

        def frames() -> bytes:
            nonlocal first
            found = part.changes()
            if first:
                first = False
                found["channels"] = self._channels
            elif not found:
                return b": nothing new\n\n"
            return _event("part", msgspec.json.encode(found))

        return frames


async def _taken(transport: asyncio.WriteTransport) -> None:
    """Wait until a viewer has taken all that was sent, or is gone."""
    while transport.get_write_buffer_size() and not transport.is_closing():
        await asyncio.sleep(_GOODBYE / 50)


def _event(name: str, data: bytes) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


def _respond(
    writer: asyncio.StreamWriter, status: int, kind: str, body: bytes, *, length: int | None = -1, extra: str = ""
) -> None:
    size = "" if length is None else f"Content-Length: {len(body) if length < 0 else length}\r\n"
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {kind}\r\n{size}"
    writer.write(f"{head}{_SECURITY}{extra}Connection: close\r\n\r\n".encode() + body)
