"""A client of HTTP, as plain as it gets: what a test sends is what goes over the wire."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec


class Answer(NamedTuple):
    """What a server answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict:
        """The body, decoded."""
        return msgspec.json.decode(self.body)


async def request(port: int, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
    """Send a request of its own connection, and return the answer."""
    lines = {"Host": "127.0.0.1", "Content-Length": f"{len(body)}", "Connection": "close"}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        await writer.drain()
        raw, _, content = (await reader.read()).partition(b"\r\n\r\n")
        first, *rest = raw.decode().split("\r\n")
        pairs = (line.partition(": ") for line in rest)
        return Answer(int(first.split()[1]), {name.lower(): value for name, _, value in pairs}, content)
    finally:
        writer.close()


async def post(port: int, path: str, body: bytes, **headers: str) -> Answer:
    """Send a body."""
    return await request(port, "POST", path, body, **headers)


def events(connection: socket.socket) -> Iterator[tuple[str, Any]]:
    """Yield the server-sent events of an answer as they come, each with its name and data."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(1 << 20)
    data = data.partition(b"\r\n\r\n")[2]
    while True:
        *blocks, data = data.split(b"\n\n")
        for block in blocks:
            lines = dict(line.split(b": ", 1) for line in block.splitlines() if not line.startswith(b":"))
            if lines:
                yield lines[b"event"].decode(), msgspec.json.decode(lines[b"data"])
        data += connection.recv(1 << 20)
