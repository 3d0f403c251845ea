"""A client of a WebSocket server, against the server of the websockets library on a real socket."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
import threading
from collections.abc import Awaitable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from brokers import free_port

from streamrde.connectors.codecs import decode_prediction
from streamrde.connectors.queue_sections import TlsConfig
from streamrde.connectors.queues import QueueSink, QueueSource
from streamrde.connectors.sections import ModelOutline, RunSections
from streamrde.connectors.websocket import WebSocketSink, WebSocketSinkConfig, WebSocketSourceConfig
from streamrde.errors import BrokerError, ConfigError
from streamrde.testing import SinkConformance, SourceConformance, predictions_of

websockets = pytest.importorskip("websockets", reason="the extra 'web' is not installed")
OUTLINE = ModelOutline(("a", "b"), pa.schema([]), {})


class Server:
    """A WebSocket server in a thread of its own. It keeps what it gets and sends what it is told to."""

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.port, self.received, self.paths, self.headers = port, [], [], []
        self._tls, self._clients = tls, set()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)

    def __enter__(self) -> Server:
        self._thread.start()
        self.call(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self._stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    @property
    def url(self) -> str:
        return f"{'wss' if self._tls else 'ws'}://127.0.0.1:{self.port}"

    @property
    def clients(self) -> int:
        return len(self._clients)

    def call(self, work: Awaitable[object]) -> object:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    async def send(self, message: str | bytes) -> None:
        """Send to whoever is connected, from any loop."""
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._send(message), self.loop))

    async def drop(self) -> None:
        """Close all connections, from any loop."""
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._drop(), self.loop))

    async def _start(self) -> None:
        self._server = await websockets.serve(self._serve, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _drop(self) -> None:
        for client in list(self._clients):
            await client.close(1011, "gone")

    async def _send(self, message: str | bytes) -> None:
        for client in list(self._clients):
            await client.send(message)

    async def _serve(self, client: websockets.ServerConnection) -> None:
        self.paths.append(client.request.path)
        self.headers.append(client.request.headers)
        self._clients.add(client)
        try:
            with contextlib.suppress(websockets.ConnectionClosed):
                async for message in client:
                    self.received.append(message)
        finally:
            self._clients.discard(client)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


def source(url: str, **keys: object) -> QueueSource:
    return WebSocketSourceConfig(url=url, **{"wait": False, "longest_pause": 0.1} | keys).build(OUTLINE)


def run(main: Awaitable[object], seconds: float = 20.0) -> None:
    asyncio.run(asyncio.wait_for(main, seconds))


class TestWebSocketSource(SourceConformance):
    redelivers = False
    most_waiting = 50

    @pytest.fixture(autouse=True)
    def place(self, server: Server) -> None:
        self.server = server

    def open(self) -> QueueSource:
        return source(f"{self.server.url}/imu", stream="device", queue_messages=self.most_waiting)

    async def send(self, stream: str, t: float, x: tuple[float, float]) -> None:
        while not self.server.clients:
            await asyncio.sleep(0.001)
        await self.server.send(json.dumps({"device": stream, "t": t, "a": x[0], "b": x[1]}))


class TestWebSocketSink(SinkConformance):
    @pytest.fixture(autouse=True)
    def place(self, server: Server) -> None:
        self.server = server

    def open(self) -> WebSocketSink:
        return WebSocketSinkConfig(url=self.server.url, wait=False).build(OUTLINE)

    async def read(self) -> list[tuple[str, int]]:
        # The server's library confirms what it has read. The handler gets it a moment later.
        known = -1
        while known != len(self.server.received):
            known = len(self.server.received)
            await asyncio.sleep(0.05)
        rows = [decode_prediction(message.encode()) for message in list(self.server.received)]
        return [(row["stream"], row["window"]) for row in rows]


async def times(end: QueueSource, rows: int) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    async for batch in end:
        found += zip(batch.samples.streams.to_pylist(), batch.samples.t.tolist(), strict=True)
        await end.acknowledge(batch)
        if len(found) >= rows:
            break
    return found


def test_a_lost_connection_is_made_again_and_subscribes_again(server: Server) -> None:
    async def main() -> None:
        async with (end := source(f"{server.url}/a/w%201?type=acc", subscribe=('{"want": "imu"}',))):
            for t in range(2):
                while server.clients < 1 or len(server.received) <= t:
                    await asyncio.sleep(0.001)
                await server.send(json.dumps({"t": t, "a": 1, "b": 2}))
                assert await times(end, 1) == [("w 1", float(t))]
                if not t:
                    await server.drop()
        assert end.connection.connects == 2
        assert server.received == ['{"want": "imu"}'] * 2
        assert server.paths == ["/a/w%201?type=acc"] * 2

    run(main())


def test_the_stream_is_in_the_path_where_a_topic_says_so(server: Server) -> None:
    async def main() -> None:
        async with (end := source(f"{server.url}/plant/w1/imu", topic="plant/{stream}/imu")):
            while not server.clients:
                await asyncio.sleep(0.001)
            await server.send(b'{"t": 1, "a": 1, "b": 2}')
            assert await times(end, 1) == [("w1", 1.0)]
        async with (end := source(server.url)):
            while not server.clients:
                await asyncio.sleep(0.001)
            await server.send(b'{"t": 2, "a": 1, "b": 2}')
            assert await times(end, 1) == [("127.0.0.1", 2.0)]

    run(main())


def test_user_and_token_go_into_the_header_and_nowhere_else(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WS_TOKEN", "s3cret")

    async def main() -> None:
        for keys in ({"token_env": "WS_TOKEN"}, {"user": "me", "password_env": "WS_TOKEN"}):
            async with source(server.url, **keys) as end:
                assert "s3cret" not in end.client.name
        basic = base64.b64encode(b"me:s3cret").decode()
        assert [one["Authorization"] for one in server.headers] == ["Bearer s3cret", f"Basic {basic}"]

    run(main())
    with pytest.raises(ConfigError, match="use one of them"):
        source(server.url, token_env="WS_TOKEN", user="me", password_env="WS_TOKEN")


def test_what_is_no_websocket_server_is_refused_with_a_remedy(server: Server) -> None:
    async def connect(url: str) -> None:
        async with source(url):
            pass

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async def refused() -> None:
        async with await asyncio.start_server(refuse, "127.0.0.1", port):
            with pytest.raises(BrokerError, match="refuses with status 401; check user, password or token") as caught:
                await connect(f"ws://127.0.0.1:{port}")
            assert caught.value.final

    with pytest.raises(BrokerError, match="start the server or check host, port and ws://"):
        run(connect(f"ws://127.0.0.1:{free_port()}"))
    port = free_port()
    run(refused())


def test_too_long_a_message_ends_the_connection_and_the_next_goes_on(server: Server) -> None:
    async def main() -> None:
        async with (end := source(server.url, max_bytes=100)):
            while not server.clients:
                await asyncio.sleep(0.001)
            await server.send(bytes(101))
            while end.connection.connects < 2 or not server.clients:
                await asyncio.sleep(0.001)
            await server.send('{"t": 1, "a": 1, "b": 2}')
            assert await times(end, 1) == [("127.0.0.1", 1.0)]

    run(main())


def test_predictions_under_way_are_sent_again(server: Server) -> None:
    async def main() -> None:
        async with (sink := WebSocketSinkConfig(url=server.url, longest_pause=0.1).build(OUTLINE)):
            await sink.write(predictions_of("a", range(2)))
            await server.drop()
            await sink.write(predictions_of("a/b", range(2, 4)))
        assert [json.loads(message)["window"] for message in server.received] == [0, 1, 2, 3]

    run(main())


class TestSinkWithPaths(TestWebSocketSink):
    """Each stream has a connection of its own."""

    def open(self) -> QueueSink:
        return WebSocketSinkConfig(url=f"{self.server.url}/out", topic="p/{stream}", wait=False).build(OUTLINE)


def test_each_stream_has_a_path_and_connections_are_limited(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamrde.connectors.websocket._MOST_SOCKETS", 2)

    async def main() -> None:
        section = WebSocketSinkConfig(url=f"{server.url}/out?key=1", topic="p/{stream}", longest_pause=0.1)
        async with (sink := section.build(OUTLINE)):
            for stream in ("a", "b", "c d", "a"):
                await sink.write(predictions_of(stream, range(2)))
                assert server.clients <= 3
            await server.drop()
            await sink.write(predictions_of("c d", range(2, 4)))
        paths = ["/out/p/a?key=1", "/out/p/b?key=1", "/out/p/c%20d?key=1", "/out/p/a?key=1", "/out/p/c%20d?key=1"]
        assert server.paths == paths
        assert [json.loads(message)["window"] for message in server.received] == [0, 1] * 4 + [2, 3]

    run(main())


def test_a_certificate_is_checked(tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")

    async def connect(**tls: str) -> None:
        section = WebSocketSourceConfig(url=server.url, wait=False)
        if tls:
            section = type(section)(url=server.url, wait=False, tls=TlsConfig(**tls))
        async with section.build(OUTLINE):
            pass

    with Server(tls=context) as server:
        run(connect(ca=str(tmp_path / "ca.pem")))
        with pytest.raises(BrokerError, match=r"certificate is not accepted .* set tls\.ca"):
            run(connect())


def test_a_section_warns_that_nothing_is_kept_and_its_probe_reaches_the_server(server: Server) -> None:
    section = WebSocketSourceConfig(url=f"{server.url}/imu?key=s3cret")
    sections = RunSections(section, WebSocketSinkConfig(url=server.url), None, True)
    section.check("source", sections)
    assert "they are lost" in section.warnings("source", sections)[0]
    said = asyncio.run(section.probe())
    assert said == f"WebSocket server 127.0.0.1:{server.port}, without TLS: /imu"
    with pytest.raises(ConfigError, match="start the server"):
        asyncio.run(WebSocketSinkConfig(url=f"ws://127.0.0.1:{free_port()}").probe())
