"""A broker of MQTT 5 that answers what a test tells it to: the reasons that a real one is hard to move to."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from types import TracebackType

_CONNECT, _PUBLISH, _PUBACK, _SUBSCRIBE, _UNSUBSCRIBE, _PINGREQ = 1, 3, 4, 8, 10, 12


class ScriptedBroker:
    """Answers each packet with the next reason code of its kind; 0 (SUBACK: 1) where none is left.

    Args:
        connack, suback, puback: reason codes, in the order of the packets.
        limit: the Receive Maximum that it announces.
        kept: topics of messages of QoS 1 that it sends with every acceptance, as one that kept a session does.
    """

    def __init__(self, *, connack=(), suback=(), puback=(), limit: int | None = None, kept=()) -> None:
        self.codes = {"connack": deque(connack), "suback": deque(suback), "puback": deque(puback)}
        self.published: list[str] = []
        self.connects = 0
        self.most_unanswered = 0
        self.acknowledged: list[int] = []
        self._limit = limit
        self._kept = kept
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> ScriptedBroker:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"mqtt://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        await self._server.wait_closed()

    def disconnect(self, code: int) -> None:
        """Send DISCONNECT with a reason to every client, and close."""
        for writer in self._writers:
            if not writer.is_closing():
                writer.write(bytes([0xE0, 2, code, 0]))
                writer.close()

    def _next(self, kind: str, default: int = 0) -> int:
        codes = self.codes[kind]
        return codes.popleft() if codes else default

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readexactly(1))[0]
                size, shift = 0, 0
                while True:
                    byte = (await reader.readexactly(1))[0]
                    size |= (byte & 127) << shift
                    shift += 7
                    if byte < 128:
                        break
                body = await reader.readexactly(size)
                if not self._answer(head >> 4, (head >> 1) & 3, body, writer):
                    return
                await writer.drain()

    def _answer(self, kind: int, qos: int, body: bytes, writer: asyncio.StreamWriter) -> bool:
        if kind == _CONNECT:
            self.connects += 1
            code = self._next("connack")
            properties = b"" if self._limit is None else b"\x21" + self._limit.to_bytes(2, "big")
            answer = bytes([0x20, 3 + len(properties), bool(self._kept), code, len(properties)]) + properties
            for mid, topic in enumerate(self._kept, 1):
                answer += bytes([0x32, 5 + len(topic), 0, len(topic)]) + topic.encode() + bytes([0, mid, 0])
            writer.write(answer)
            if code:
                writer.close()
                return False
        elif kind == _SUBSCRIBE:
            writer.write(bytes([0x90, 4]) + body[:2] + bytes([0, self._next("suback", 1)]))
        elif kind == _UNSUBSCRIBE:
            writer.write(bytes([0xB0, 4]) + body[:2] + bytes([0, 17]))
        elif kind == _PUBLISH and qos:
            length = int.from_bytes(body[:2], "big")
            self.published.append(body[2 : 2 + length].decode())
            writer.write(bytes([0x40, 4]) + body[2 + length : 4 + length] + bytes([self._next("puback"), 0]))
        elif kind == _PUBACK:
            self.acknowledged.append(int.from_bytes(body[:2], "big"))
        elif kind == _PINGREQ:
            writer.write(bytes([0xD0, 0]))
        elif kind == 14:
            writer.close()
            return False
        return True
