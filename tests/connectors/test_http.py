"""HTTP and WebSocket against a real server on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from brokers import free_port
from typer.testing import CliRunner
from web import Answer, post, request

import streamrde as sr
from streamrde.cli import app
from streamrde.connectors.codecs import JsonCodec, decode_prediction
from streamrde.connectors.codecs.arrow import ArrowCodec
from streamrde.connectors.codecs.cbor import CborCodec
from streamrde.connectors.codecs.msgpack import MessagePackCodec
from streamrde.connectors.columns import Columns
from streamrde.connectors.ends import Codec
from streamrde.connectors.http import HttpSink, HttpSinkConfig, HttpSource, HttpSourceConfig, ListenConfig, Listening
from streamrde.connectors.http.sink import Viewer
from streamrde.connectors.messages import MessageBatch
from streamrde.connectors.sections import ModelOutline, RunSections
from streamrde.demo.watch_data import COLUMNS as WATCH
from streamrde.demo.watch_data import MODEL
from streamrde.errors import ConfigError, ParameterError
from streamrde.runtime.pipeline import Pipeline
from streamrde.state import SqliteStore
from streamrde.testing import SinkConformance, SourceConformance, predictions_of

pytest.importorskip("starlette", reason="the extra 'web' is not installed")
pytest.importorskip("uvicorn", reason="the extra 'web' is not installed")
websockets = pytest.importorskip("websockets", reason="the extra 'web' is not installed")

COLUMNS = Columns(channels=("a", "b"))
OUTLINE = ModelOutline(("a", "b"), pa.schema([]), {})


def source(section: HttpSourceConfig | None = None, **listen: object) -> HttpSource:
    """Build a source that listens on any free port."""
    section = section or HttpSourceConfig()
    return msgspec.structs.replace(section, listen=ListenConfig(**{"port": 0} | listen)).build(OUTLINE)


def run(main: Awaitable[object], seconds: float = 20.0) -> None:
    asyncio.run(asyncio.wait_for(main, seconds))


class TestHttpSource(SourceConformance):
    redelivers = False

    def open(self) -> HttpSource:
        self.source = source()
        self.requests: set[asyncio.Task[Answer]] = set()
        return self.source

    async def send(self, stream: str, t: float, x: tuple[float, float]) -> None:
        """Begin a request, and leave once it is taken: it is answered when its batch is acknowledged."""
        taken = self.source.counts.messages + self.source.waiting
        body = JsonCodec(COLUMNS).encode_samples([t], [x])
        self.requests.add(asyncio.create_task(post(self.source.port, f"/streams/{stream}", body)))
        while self.source.counts.messages + self.source.waiting == taken:
            await asyncio.sleep(0)


class TestWebSocketsToTheServer(SourceConformance):
    redelivers = False
    most_waiting = 50

    def open(self) -> HttpSource:
        self.source = source(HttpSourceConfig(queue_messages=self.most_waiting))
        self.sockets: dict[int, object] = {}
        return self.source

    async def send(self, stream: str, t: float, x: tuple[float, float]) -> None:
        port = self.source.port
        if port not in self.sockets:
            self.sockets[port] = await websockets.connect(f"ws://127.0.0.1:{port}/streams/{stream}")
        if stream != "a":
            async with websockets.connect(f"ws://127.0.0.1:{port}/streams/{stream}") as other:
                await other.send(JsonCodec(COLUMNS).encode_samples([t], [x]))
            return
        await self.sockets[port].send(JsonCodec(COLUMNS).encode_samples([t], [x]))


class Watched(HttpSink):
    """A sink that someone watches from its first moment on."""

    websocket = False

    async def __aenter__(self) -> HttpSink:
        await super().__aenter__()
        self.seen: list[tuple[str, int]] = []
        self.watching = asyncio.create_task(self.watch_messages() if self.websocket else self.watch_events())
        while not self.viewers:
            await asyncio.sleep(0.001)
        return self

    async def __aexit__(self, *error: object) -> None:
        await super().__aexit__(*error)
        await self.watching

    async def watch_events(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"GET /predictions HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async for line in reader:
            if line.startswith(b"data: "):
                self.note(line[6:])
        writer.close()

    async def watch_messages(self) -> None:
        async with websockets.connect(f"ws://127.0.0.1:{self.port}/predictions") as socket:
            async for message in socket:
                self.note(message.encode())

    def note(self, row: bytes) -> None:
        prediction = decode_prediction(row.strip())
        self.seen.append((prediction["stream"], prediction["window"]))


class TestHttpSinkByEvents(SinkConformance):
    kind = Watched
    opened: Watched | None = None

    def open(self) -> HttpSink:
        self.opened = self.kind(Listening(port=0))
        return self.opened

    async def read(self) -> list[tuple[str, int]]:
        if self.opened is None:
            return []
        for _ in range(20):
            await asyncio.sleep(0.01)
        return self.opened.seen


class TestHttpSinkByWebSocket(TestHttpSinkByEvents):
    class kind(Watched):
        websocket = True


@contextlib.asynccontextmanager
async def reading(end: HttpSource) -> AsyncIterator[list[MessageBatch]]:
    """Open a source whose batches are acknowledged as they come."""
    batches: list[MessageBatch] = []

    async def read() -> None:
        async for batch in end:
            batches.append(batch)
            await end.acknowledge(batch)

    async with end:
        task = asyncio.create_task(read())
        yield batches
        end.stop()
        await task


def rows(batches: list[MessageBatch]) -> list[tuple[str, float, list[float]]]:
    return [
        (stream, t, x.tolist())
        for batch in batches
        for stream, t, x in zip(batch.samples.streams.to_pylist(), batch.samples.t, batch.samples.x, strict=True)
    ]


@pytest.mark.parametrize(
    ("kind", "codec"),
    [
        ("", JsonCodec),
        ("application/json; charset=utf-8", JsonCodec),
        ("application/x-www-form-urlencoded", JsonCodec),  # what curl says of --data
        ("application/msgpack", MessagePackCodec),
        ("application/cbor", CborCodec),
        ("application/vnd.apache.arrow.stream", ArrowCodec),
    ],
)
def test_the_content_type_chooses_the_codec(kind: str, codec: type[Codec]) -> None:
    async def main() -> None:
        body = codec(COLUMNS).encode_samples([1.0, 2.0], [[3.0, 4.0], [5.0, np.nan]])
        async with reading(end := source()) as batches:
            answer = await post(end.port, "/streams/s", body, **({"Content_Type": kind} if kind else {}))
            assert (answer.status, answer.json) == (202, {"accepted": True})
        [(first), (stream, t, x)] = rows(batches)
        assert first == ("s", 1.0, [3.0, 4.0])
        assert (stream, t, x[0], np.isnan(x[1])) == ("s", 2.0, 5.0, True)

    run(main())


def test_a_media_type_without_a_codec_is_refused_by_name() -> None:
    async def main() -> None:
        async with reading(end := source()) as batches:
            answer = await post(end.port, "/streams/s", b"<a/>", Content_Type="text/html")
            assert answer.status == 415
            assert "Content-Type 'text/html' is not one of application/" in answer.json["error"]
            answer = await post(end.port, "/streams/s", b"", Content_Encoding="gzip")
            assert answer.status == 415
        assert batches == []

    run(main())


def test_what_cannot_be_read_is_answered_with_the_reason_and_becomes_a_dead_letter() -> None:
    async def main() -> None:
        async with reading(end := source()) as batches:
            answer = await post(end.port, "/streams/<script>", b'{"t": 1, "accX": "<b>"}')
            assert answer.status == 400
            assert "has none of a, b" in answer.json["error"]
            assert answer.headers["content-type"] == "application/json"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert (await post(end.port, "/elsewhere", b'{"t": 1, "a": 2}')).status == 400
            assert (await request(end.port, "GET", "/streams/s")).status == 405
            assert (await post(end.port, "/streams/a%2Fb", b'{"t": 1, "a": 2, "b": 3}')).status == 202
            for path in ("/streams/%ff", "/streams/", "/streams/a/b"):
                assert (await post(end.port, path, b'{"t": 1, "a": 2}')).status == 400
        assert rows(batches) == [("a%2Fb", 1.0, [2.0, 3.0])]
        topics = [letter.topic for batch in batches for letter in batch.letters]
        unknown = "streams/\N{REPLACEMENT CHARACTER}"
        assert topics == ["streams/<script>", "elsewhere", unknown, "streams/", "streams/a/b"]
        assert end.counts.malformed == 5

    run(main())


def test_a_stream_has_its_name_from_a_header_and_secrets_are_no_properties(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_TOKEN", "s3cret")

    async def main() -> None:
        section = HttpSourceConfig(topic="samples", stream="@property.x-device")
        async with reading(end := source(section, token_env="HTTP_TOKEN")) as batches:
            headers = {"Authorization": "Bearer s3cret", "X_Device": "w1"}
            assert (await post(end.port, "/samples", b'{"t": 1, "a": 2, "b": 3}', **headers)).status == 202
        assert rows(batches) == [("w1", 1.0, [2.0, 3.0])]
        section = HttpSourceConfig(topic="samples", stream="@property.authorization")
        async with reading(end := source(section, token_env="HTTP_TOKEN")) as batches:
            answer = await post(end.port, "/samples", b'{"t": 1, "a": 2, "b": 3}', **headers)
            assert answer.status == 400
            assert "s3cret" not in answer.body.decode()

    run(main())


def test_too_long_a_body_is_refused_before_it_is_read() -> None:
    async def main() -> None:
        async with reading(end := source(max_bytes=100)) as batches:
            assert (await post(end.port, "/streams/s", bytes(101))).status == 413
            reader, writer = await asyncio.open_connection("127.0.0.1", end.port)
            head = "POST /streams/s HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            writer.write(head.encode() + b"41\r\n" + bytes(65) + b"\r\n41\r\n" + bytes(65) + b"\r\n")
            assert b" 413 " in await reader.readline()
            writer.close()
            async with websockets.connect(f"ws://127.0.0.1:{end.port}/streams/s") as socket:
                await socket.send(bytes(101))
                with pytest.raises(websockets.ConnectionClosed):
                    await socket.recv()
                assert socket.close_code == 1009
        assert batches == []

    run(main())


def test_a_body_that_does_not_come_is_given_up() -> None:
    async def main() -> None:
        async with reading(end := source(timeout=0.05)):
            reader, writer = await asyncio.open_connection("127.0.0.1", end.port)
            writer.write(b"POST /streams/s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n12")
            assert b" 408 " in await reader.readline()
            writer.close()

    run(main())


def test_connections_that_do_not_become_requests_are_closed() -> None:
    async def main() -> None:
        async with reading(end := source(timeout=0.1)):
            silent, slow = [await asyncio.open_connection("127.0.0.1", end.port) for _ in range(2)]
            slow[1].write(b"POST /streams/s HTTP/1.1\r\nHost: lo")
            kept = await asyncio.open_connection("127.0.0.1", end.port)
            body = b'{"t": 1, "a": 2}'
            head = b"POST /streams/s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
            kept[1].write(head + body)
            assert b" 202 " in await kept[0].readuntil(b"}")
            kept[1].write(b"POST ")  # the next request never comes
            async with websockets.connect(f"ws://127.0.0.1:{end.port}/streams/s") as socket:
                for reader, _ in (silent, slow, kept):
                    assert await reader.read() == b""
                await asyncio.sleep(0.25)
                await socket.send("no json")
                assert "error" in await socket.recv()
            for _, writer in (silent, slow, kept):
                writer.close()

    run(main())


def test_a_request_under_way_is_not_closed() -> None:
    async def main() -> None:
        async with (end := source(timeout=0.05)):
            asking = asyncio.create_task(post(end.port, "/streams/s", b'{"t": 1, "a": 2}'))
            batch = await anext(aiter(end))
            await asyncio.sleep(0.3)
            await end.acknowledge(batch)
            assert (await asking).status == 202

    run(main())


def test_only_who_has_the_token_comes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_TOKEN", "s3cret")

    async def main() -> None:
        body = b'{"t": 1, "a": 2, "b": 3}'
        async with reading(end := source(token_env="HTTP_TOKEN")) as batches:
            for wrong in ({}, {"Authorization": "Bearer s3cre"}, {"Authorization": "Basic s3cret"}):
                answer = await post(end.port, "/streams/s", body, **wrong)
                assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
                assert "s3cret" not in answer.body.decode()
            right = {"Authorization": "Bearer s3cret"}
            assert (await post(end.port, "/streams/s", body, **right)).status == 202
            with pytest.raises(websockets.InvalidStatus, match="401"):
                await websockets.connect(f"ws://127.0.0.1:{end.port}/streams/s")
            async with websockets.connect(f"ws://127.0.0.1:{end.port}/streams/s", additional_headers=right) as socket:
                await socket.send(body.replace(b"1", b"2"))
                while len(rows(batches)) < 2:
                    await asyncio.sleep(0.01)
        assert "s3cret" not in repr(end.listening)

    run(main())


def test_pages_of_other_origins_and_names_that_point_here_are_refused() -> None:
    async def main() -> None:
        body = b'{"t": 1, "a": 2, "b": 3}'
        async with reading(end := source(origins=("https://mine.example",))):
            assert (await post(end.port, "/streams/s", body, Origin="https://evil.example")).status == 403
            assert (await post(end.port, "/streams/s", body, Host="rebound.example")).status == 403
            answer = await post(end.port, "/streams/s", body, Origin="https://mine.example")
            assert (answer.status, answer.headers["access-control-allow-origin"]) == (202, "https://mine.example")
            with pytest.raises(websockets.InvalidStatus, match="403"):
                await websockets.connect(f"ws://127.0.0.1:{end.port}/streams/s", origin="https://evil.example")

    run(main())


def test_a_request_is_answered_when_its_batch_is_acknowledged_and_not_before() -> None:
    async def main() -> None:
        async with (end := source()):
            asking = asyncio.create_task(post(end.port, "/streams/s", b'{"t": 1, "a": 2}'))
            batch = await anext(aiter(end))
            await asyncio.sleep(0.05)
            assert not asking.done()
            await end.acknowledge(batch)
            assert (await asking).status == 202
            lost = asyncio.create_task(post(end.port, "/streams/s", b'{"t": 2, "a": 2}'))
            while not end.waiting:
                await asyncio.sleep(0.001)
        answer = await lost
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert "send it again" in answer.json["error"]

    run(main())


def test_a_full_queue_is_answered_with_a_time_to_try_again() -> None:
    async def main() -> None:
        async with (end := source(HttpSourceConfig(queue_messages=2))):
            waiting = [asyncio.create_task(post(end.port, "/streams/s", b'{"t": %d, "a": 2}' % t)) for t in range(2)]
            while end.waiting < 2:
                await asyncio.sleep(0.001)
            answer = await post(end.port, "/streams/s", b'{"t": 3, "a": 2}')
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            end.stop()
            async for batch in end:
                await end.acknowledge(batch)
            assert [one.status for one in await asyncio.gather(*waiting)] == [202, 202]
            assert (await post(end.port, "/streams/s", b'{"t": 4, "a": 2}')).status == 503

    run(main())


def test_a_message_of_a_websocket_that_cannot_be_read_is_answered() -> None:
    async def main() -> None:
        async with reading(end := source()) as batches:
            async with websockets.connect(f"ws://127.0.0.1:{end.port}/streams/s") as socket:
                await socket.send("no json")
                assert "it is text" in msgspec.json.decode(await socket.recv())["error"]
                await socket.send('{"t": 1, "a": 2, "b": 3}')
                while not rows(batches):
                    await asyncio.sleep(0.01)
            async with websockets.connect(f"ws://127.0.0.1:{end.port}/streams/s?type=text/html") as socket:
                await socket.send("x")
                with pytest.raises(websockets.ConnectionClosed):
                    await socket.recv()
                assert socket.close_code == 1003

    run(main())


def test_messages_of_a_websocket_are_confirmed_when_they_are_safe() -> None:
    async def main() -> None:
        async with (
            (end := source()),
            websockets.connect(f"ws://127.0.0.1:{end.port}/streams/s?confirm=1") as socket,
        ):
            for t in range(3):
                await socket.send('{"t": %d, "a": 2, "b": 3}' % t)  # noqa: UP031
            while end.waiting < 3:
                await asyncio.sleep(0.001)
            batch = await anext(aiter(end))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(socket.recv(), 0.05)
            await end.acknowledge(batch)
            assert msgspec.json.decode(await socket.recv()) == {"confirmed": 3}
            await socket.send("no json")
            await socket.send('{"t": 5, "a": 2, "b": 3}')
            while end.waiting < 2:
                await asyncio.sleep(0.001)
            end.stop()
            async for batch in end:
                reply = msgspec.json.decode(await socket.recv())
                assert (reply["message"], "it is text" in reply["error"]) == (4, True)
                await end.acknowledge(batch)
            assert msgspec.json.decode(await socket.recv()) == {"confirmed": 5}
            await socket.send("one more, which nobody takes")
            with pytest.raises(websockets.ConnectionClosed):
                await socket.recv()
            assert socket.close_code == 1001

    run(main())


def test_a_whole_run_answers_with_predictions_and_shows_them(tmp_path: Path) -> None:
    """Samples go in by POST; predictions are in the answer, and are what a viewer sees."""

    async def main() -> None:
        port = free_port()
        listening = Listening(port=port)
        outline = ModelOutline(WATCH.channels, pa.schema([]), {})
        section = HttpSourceConfig(listen=ListenConfig(port=port))
        sink = Watched(listening)
        store = SqliteStore(tmp_path / "state.db")
        store.open({})
        pipeline = Pipeline(section.build(outline), sr.Fleet(sr.load(MODEL), faults="drop"), sink, store=store)
        running = asyncio.create_task(pipeline.run())
        while not pipeline.started:
            await asyncio.sleep(0.01)
        x = np.random.default_rng(0).normal(size=(400, len(WATCH.channels)))
        body = JsonCodec(WATCH).encode_samples(np.arange(400) / 50, x)
        answer = await post(port, "/streams/s?predictions=1", body)
        assert answer.status == 200
        windows = [(row["stream"], row["window"]) for row in answer.json["predictions"]]
        assert windows
        assert windows == [("s", k) for k in range(len(windows))]
        late = await post(port, "/streams/s", body)  # what is sent again is dropped as late or repeated
        assert late.status == 202
        assert (await post(port, "/streams/s?predictions=1", body)).json["predictions"] == []
        pipeline.stop()
        await running
        pipeline.close()
        assert sink.seen == windows
        assert pipeline.fleet.counts().late + pipeline.fleet.counts().duplicate == 800

    run(main())


def test_predictions_cannot_be_asked_for_where_they_go_elsewhere() -> None:
    async def main() -> None:
        async with reading(end := source()):
            assert (await post(end.port, "/streams/s?predictions=1", b'{"t": 1, "a": 2}')).status == 400
            assert (await request(end.port, "GET", "/predictions")).status == 404
            assert (await request(end.port, "GET", "/healthz")).json == {"ok": True}

    run(main())


def test_a_slow_viewer_loses_the_oldest_and_is_told() -> None:
    async def main() -> None:
        sink = HttpSink(Listening(port=0), queue_messages=3)
        async with sink:
            with sink.viewer({"a"}) as viewer:
                await sink.write(predictions_of("a", range(5)))
                await sink.write(predictions_of("b", range(5)))
                rows = await viewer.next(1.0)
                assert [decode_prediction(row)["window"] for row in rows] == [2, 3, 4]
                assert (viewer.take_lost(), viewer.take_lost(), sink.lost) == (2, 0, 2)
                assert await viewer.next(0.01) == []
                viewer.close()
                assert await viewer.next(0.01) is None

    run(main())


def test_a_viewer_of_events_is_told_what_it_lost() -> None:
    async def main() -> None:
        sink = HttpSink(Listening(port=0), queue_messages=1)
        async with sink:
            reader, writer = await asyncio.open_connection("127.0.0.1", sink.port)
            writer.write(b"GET /predictions?stream=a HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"content-type: text/event-stream" in head.lower()
            while not sink.viewers:
                await asyncio.sleep(0.001)
            await sink.write(predictions_of("a", range(3)))
            assert await reader.readuntil(b'event: lost\ndata: {"lost":2}\n\n')
            row = await reader.readuntil(b"}\n\n")
            assert decode_prediction(row[row.index(b"data: ") + 6 :].strip())["window"] == 2
            writer.close()

    run(main())


def test_recorded_samples_are_replayed_to_the_server(tmp_path: Path) -> None:
    (recording := tmp_path / "r.csv").write_text("stream_id,t,a,b\np1,0.0,1,2\np2,0.5,3,4\np1,1.0,5,6\n")

    async def main() -> None:
        async with reading(end := source()) as batches:
            url = f"ws://127.0.0.1:{end.port}"
            arguments = ["replay", str(recording), "--to", url, "--channels", "a,b", "--speed", "0"]
            arguments += ["--time-check", "off", "--set", "confirms=true"]
            done = await asyncio.to_thread(CliRunner().invoke, app, [*arguments, "--json"])
            assert done.exit_code == 0, done.output
            assert '"messages":3' in done.output.replace(" ", "")
            wrong = await asyncio.to_thread(CliRunner().invoke, app, [*arguments, "--topic", "nowhere/{stream}"])
            assert wrong.exit_code == 1
            assert "it refuses a message: its topic does not fit 'streams/{stream}'" in str(wrong.exception)
        assert sorted(rows(batches)) == [("p1", 0.0, [1.0, 2.0]), ("p1", 1.0, [5.0, 6.0]), ("p2", 0.5, [3.0, 4.0])]

    run(main())


def test_settings_that_cannot_work_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(section: HttpSourceConfig, sink: HttpSinkConfig | None = None) -> list[str]:
        sections = RunSections(section, sink or HttpSinkConfig(), None, False)
        for name, end in sections.named().items():
            end.check(name, sections)
        return [text for name, end in sections.named().items() for text in end.warnings(name, sections)]

    assert check(HttpSourceConfig()) == []
    assert "counts twice" in check(HttpSourceConfig(time=""))[0]
    for host in ("0.0.0.0", "::", "192.168.1.5", "sensors.example"):
        with pytest.raises(ConfigError, match=r"source\.listen: host = .* without a token: anyone"):
            check(HttpSourceConfig(listen=ListenConfig(host=host)))
    with pytest.raises(ConfigError, match=r"source\.listen and sink\.listen have one host and port"):
        check(HttpSourceConfig(), HttpSinkConfig(listen=ListenConfig(connections=5)))
    monkeypatch.setenv("HTTP_TOKEN", "s3cret")
    open_listen = ListenConfig(host="0.0.0.0", token_env="HTTP_TOKEN")
    assert "travels without encryption" in check(HttpSourceConfig(listen=open_listen))[0]
    with pytest.raises(ConfigError, match="HTTP_TOKEN2 is not set"):
        check(HttpSourceConfig(listen=ListenConfig(token_env="HTTP_TOKEN2")))


def test_answers_are_sent_at_once() -> None:
    with Listening(port=0).socket() as listening, socket.create_connection(listening.getsockname()) as client:
        accepted, _ = listening.accept()
        with accepted:
            # asyncio turns off the delay of small packets on sockets that say that they are TCP.
            assert accepted.proto == socket.IPPROTO_TCP
            assert client.getpeername() == accepted.getsockname()


def test_a_port_in_use_and_ends_that_differ_are_refused() -> None:
    async def main() -> None:
        async with (end := source()):
            with pytest.raises(ParameterError, match=r"cannot listen on 127.0.0.1:.*choose another port"):
                async with HttpSink(Listening(port=end.port, connections=3)):
                    pass
        port = free_port()
        async with source(port=port):
            with pytest.raises(ParameterError, match="differ in other settings"):
                async with HttpSink(Listening(port=port, connections=3)):
                    pass

    run(main())


def test_a_probe_names_what_would_serve() -> None:
    assert asyncio.run(HttpSourceConfig().probe()).startswith("http://127.0.0.1:8080, starlette ")
    with pytest.raises(ConfigError, match="cannot be used"):
        asyncio.run(HttpSourceConfig(listen=ListenConfig(certificate="absent.pem")).probe())


def test_samples_come_over_tls(tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme")
    issued = trustme.CA().issue_cert("127.0.0.1")
    certificate, key = str(tmp_path / "server.crt"), str(tmp_path / "server.key")
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)

    async def main() -> None:
        async with reading(end := source(certificate=certificate, key=key)) as batches:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            async with websockets.connect(f"wss://127.0.0.1:{end.port}/streams/s", ssl=context) as socket:
                await socket.send('{"t": 1, "a": 2, "b": 3}')
                while not rows(batches):
                    await asyncio.sleep(0.01)

    run(main())


def test_a_viewer_watches_what_it_asks_for() -> None:
    viewer = Viewer({"a"}, 2)
    assert [viewer.put(stream, b"") for stream in "aabaa"] == [0, 0, 0, 1, 1]
