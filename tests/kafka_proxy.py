"""The network between a client and a Kafka broker, for tests that cut it.

The broker opens a port of its own for the proxy and tells the clients who come through it the proxy's address, so that
a client stays behind its proxy. Several proxies may be in front of one broker: one for each worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from brokers import free_port
from kafka_server.handle import StrictKafka

_TOWARDS = ("broker", "client")


class Wire:
    """A proxy that runs in a thread.

    Attributes:
        address: host and port for bootstrap.servers.
        url: its kafka:// address.
    """

    def __init__(self, port: int, target: int) -> None:
        self.address = f"127.0.0.1:{port}"
        self.url = f"kafka://{self.address}"
        self._port, self._target = port, target
        self._seconds = 0.0
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda *_: None)  # connections break on purpose
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{port}")

    def start(self) -> None:
        """Accept connections."""
        self._thread.start()

        async def begin() -> None:
            self._open = {towards: asyncio.Event() for towards in _TOWARDS}
            for one in self._open.values():
                one.set()
            await self._listen()

        self._run(begin())

    def stop(self) -> None:
        """End the thread and all connections."""

        async def end() -> None:
            await self._close()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for one in tasks:
                one.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self._run(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def cut(self, towards: str | None = None) -> None:
        """Carry nothing any more, both ways or one; connections stay open, and new ones are accepted.

        What was sent waits as in TCP, until `heal` or `reset`. Towards "client" only, requests are carried out and
        nobody hears of it.
        """
        self._do(lambda: [self._open[one].clear() for one in ([towards] if towards else _TOWARDS)])

    def heal(self) -> None:
        """Carry again, also what has waited, and accept connections."""

        async def heal() -> None:
            for one in self._open.values():
                one.set()
            if self._server is None:
                await self._listen()

        self._run(heal())

    def reset(self) -> None:
        """Break all connections at once; what has waited is lost."""
        self._do(lambda: [_break(one) for one in list(self._writers)])

    def refuse(self) -> None:
        """Break all connections and refuse new ones, until `heal`."""
        self._run(self._close())

    def delay(self, seconds: float) -> None:
        """Carry each piece so much later; 0 is at once."""
        self._do(lambda: setattr(self, "_seconds", seconds))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _do(self, work: Callable[[], Any]) -> None:
        async def once() -> None:
            work()

        self._run(once())

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for one in list(self._writers):
            _break(one)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        far = None
        try:
            far_reader, far = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(far)
            await asyncio.gather(self._carry(reader, far, "broker"), self._carry(far_reader, writer, "client"))
        except OSError:
            pass
        finally:
            for one in (writer, far):
                if one is not None:
                    self._writers.discard(one)
                    _break(one)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, towards: str) -> None:
        while data := await reader.read(65536):
            if self._seconds:
                await asyncio.sleep(self._seconds)
            await self._open[towards].wait()
            writer.write(data)
            await writer.drain()
        await self._open[towards].wait()  # the end of a connection is not heard either
        raise ConnectionResetError


def _break(writer: asyncio.StreamWriter) -> None:
    """Close a connection so that the other end sees a reset."""
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextmanager
def proxied(broker: StrictKafka) -> Iterator[Wire]:
    """A proxy in front of the broker; close all clients behind it first."""
    port = free_port()
    wire = Wire(port, broker.listen(advertised=f"127.0.0.1:{port}"))
    wire.start()
    try:
        yield wire
    finally:
        wire.stop()
