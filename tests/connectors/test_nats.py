"""NATS: JetStream as source and sink, plain subjects, and what a lost connection or a killed run leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from brokers import NATS_SERVER, free_port, nats_server
from queue_checks import MODEL, rest, sample, take, until

from streamrde.connectors.codecs import decode_prediction
from streamrde.connectors.ends import DeadLetter
from streamrde.connectors.nats import (
    NatsClient,
    NatsDeadLettersConfig,
    NatsSinkConfig,
    NatsSourceConfig,
    _converted,
)
from streamrde.connectors.queues import QueueSink, QueueSource
from streamrde.connectors.sections import RunSections
from streamrde.errors import BrokerError, ConfigError
from streamrde.testing import SinkConformance, SourceConformance, predictions_of

nats = pytest.importorskip("nats", reason="nats-py is not installed")
if NATS_SERVER is None:
    pytest.skip("nats-server is not installed: apt-get install nats-server", allow_module_level=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with nats_server(tmp_path_factory.mktemp("nats")) as url:
        yield url


def source_of(url: str, name: str, **keys: object) -> QueueSource:
    keys = {"durable": name, "create_stream": True, "stream_name": name, "wait": False} | keys
    return NatsSourceConfig(url=url, topic=f"{name}.{{stream}}.imu", **keys).build(MODEL)


async def publish(url: str, subject: str, *payloads: bytes, jetstream: bool = True, **options: object) -> None:
    client = await nats.connect(url)
    for payload in payloads:
        if jetstream:
            await client.jetstream().publish(subject, payload, **options)
        else:
            await client.publish(subject, payload, **options)
    await client.flush()
    await client.close()


class TestNatsSource(SourceConformance):
    @pytest.fixture(autouse=True)
    def place(self, server: str) -> None:
        self.url, self.name = server, f"s{uuid.uuid4().hex}"

    def open(self) -> QueueSource:
        return source_of(self.url, self.name, inflight=200)

    async def send(self, stream: str, t: float, x: tuple[float, float]) -> None:
        await publish(self.url, f"{self.name}.{stream}.imu", sample(t))


class TestPlainNatsSource(SourceConformance):
    redelivers = False

    @pytest.fixture(autouse=True)
    def place(self, server: str) -> None:
        self.url, self.name = server, f"s{uuid.uuid4().hex}"

    def open(self) -> QueueSource:
        return source_of(self.url, self.name, jetstream=False)

    async def send(self, stream: str, t: float, x: tuple[float, float]) -> None:
        await publish(self.url, f"{self.name}.{stream}.imu", sample(t), jetstream=False)


class TestNatsSink(SinkConformance):
    @pytest.fixture(autouse=True)
    def place(self, server: str) -> None:
        self.url, self.name = server, f"p{uuid.uuid4().hex}"

    def open(self) -> QueueSink:
        keys = {"create_stream": True, "stream_name": self.name}
        return NatsSinkConfig(url=self.url, topic=f"{self.name}.{{stream}}", **keys).build(MODEL)

    async def read(self) -> list[tuple[str, int]]:
        client = await nats.connect(self.url)
        found = []
        with contextlib.suppress(nats.js.errors.NotFoundError):
            reader = await client.jetstream().pull_subscribe(f"{self.name}.*", stream=self.name)
            with contextlib.suppress(TimeoutError, nats.errors.TimeoutError):
                while True:
                    found += [decode_prediction(m.data) for m in await reader.fetch(500, timeout=0.3)]
        await client.close()
        return [(row["stream"], row["window"]) for row in found]


def test_what_a_killed_run_left_comes_again_first_and_in_order(server: str) -> None:
    name = f"k{uuid.uuid4().hex}"

    async def main() -> None:
        source = source_of(server, name)
        await source.__aenter__()
        await publish(server, f"{name}.a.imu", *map(sample, range(10)))
        assert await take(source, 3, acknowledge=False)
        # Nothing is said to the server, as when the process is killed.
        source.client._nats._transport._io_writer.transport.abort()
        source.client._supervisor.cancel()
        await publish(server, f"{name}.a.imu", *map(sample, range(10, 15)))
        async with source_of(server, name) as again:
            assert await take(again, 15) == [float(t) for t in range(15)]
        async with source_of(server, name) as last:
            assert await rest(last) == []

    asyncio.run(main())


def test_a_lost_connection_loses_and_repeats_nothing(tmp_path: Path) -> None:
    port, name = free_port(), "line1"

    async def main() -> None:
        async with contextlib.AsyncExitStack() as ends:
            with nats_server(tmp_path, port=port) as url:
                source = source_of(url, name, timeout=2.0, longest_pause=0.2)
                await ends.enter_async_context(source)
                await publish(url, f"{name}.a.imu", *map(sample, range(6)))
                batches = [batch async for batch in until(source, 6)]
            # The server is away, and six messages are unacknowledged.
            while source.connection.connected:
                await asyncio.sleep(0.01)
            await source.acknowledge(batches[0])
            with nats_server(tmp_path, port=port) as url:
                while not source.connection.connected:
                    await asyncio.sleep(0.01)
                await publish(url, f"{name}.a.imu", *map(sample, range(6, 9)))
                for batch in batches[1:]:
                    await source.acknowledge(batch)
                assert await take(source, 3) == [6.0, 7.0, 8.0]
                assert source.connection.redelivered == 6
                assert source.connection.connects == 2
                await ends.aclose()
                async with source_of(url, name) as again:
                    assert await rest(again) == []

    asyncio.run(main())


def test_a_connection_that_breaks_while_it_is_set_up_is_made_again(server: str) -> None:
    name = f"b{uuid.uuid4().hex}"

    class Breaking(NatsClient):
        async def _consume(self, durable: str) -> None:
            await super()._consume(durable)
            if self.counts.connects == 1:
                self.counts.connects = 2
                self._nats._transport._io_writer.transport.abort()
                while not self._nats.is_closed:
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.1)  # the client library calls back after that

    async def main() -> None:
        source = source_of(server, name, longest_pause=0.1)
        source.client.__class__ = Breaking
        async with asyncio.timeout(20), source:
            await publish(server, f"{name}.a.imu", sample(0))
            assert await take(source, 1) == [0.0]
            source.client.lost("cut off")
            while source.connection.connects < 3 or not source.connection.connected:
                await asyncio.sleep(0.01)
            await publish(server, f"{name}.a.imu", sample(1))
            assert await take(source, 1) == [1.0]

    asyncio.run(main())


def test_only_what_a_request_does_wrong_is_refused_for_good() -> None:
    error = nats.js.errors.APIError
    assert {code: _converted(error(code=code)).final for code in (400, 404, 500, 503)} == {
        400: True, 404: True, 500: False, 503: False,
    }  # fmt: skip


def test_what_comes_while_a_new_consumer_is_away_is_received(server: str) -> None:
    name = f"n{uuid.uuid4().hex}"

    async def main() -> None:
        async with source_of(server, name, deliver="new"):
            pass
        await publish(server, f"{name}.a.imu", *map(sample, range(3)))
        async with source_of(server, name, deliver="new") as source:
            assert await take(source, 3) == [0.0, 1.0, 2.0]

    asyncio.run(main())


def test_headers_and_the_time_of_the_server_travel_with_a_message(server: str) -> None:
    name = f"h{uuid.uuid4().hex}"

    async def main() -> None:
        async with source_of(server, name) as source:
            await publish(server, f"{name}.a.imu", sample(1.0), headers={"line": "7"})
            while not source.waiting:
                await source.client.wait()
            message = source._intake.messages[0]
            assert message.properties == {"line": "7"}
            assert abs(message.stamped - time.time()) < 60

    asyncio.run(main())


def test_a_stream_that_is_missing_is_named_with_its_command(server: str) -> None:
    async def main() -> None:
        async with source_of(server, "nowhere", create_stream=False, stream_name=""):
            pass

    with pytest.raises(
        BrokerError, match=r"no stream with the subject 'nowhere\.\*\.imu'; create it with  nats stream add"
    ):
        asyncio.run(main())


def test_a_prediction_without_a_stream_to_take_it_is_an_error(server: str) -> None:
    async def main() -> None:
        sink = NatsSinkConfig(url=server, topic="nobody.{stream}", wait=False).build(MODEL)
        sink.client._subjects = ()
        async with sink:
            await sink.write(predictions_of("a", [0]))

    with pytest.raises(BrokerError, match=r"no JetStream stream takes the subject 'nobody\.a'"):
        asyncio.run(main())


def test_a_server_without_jetstream_is_named(tmp_path: Path) -> None:
    with nats_server(tmp_path, jetstream=False) as url:

        async def main() -> None:
            async with source_of(url, "x", stream_name=""):
                pass

        with pytest.raises(BrokerError, match="JetStream is not enabled there"):
            asyncio.run(main())


def test_a_wrong_password_is_final_and_is_not_shown(tmp_path: Path) -> None:
    config = "authorization { user: me, password: right }"
    with nats_server(tmp_path, config=config) as url:

        async def main() -> None:
            async with source_of(url.replace("//", "//me:S3CRET@"), "x", wait=True):
                pass

        with pytest.raises(BrokerError, match="refuses user, password or token") as caught:
            asyncio.run(main())
        assert "S3CRET" not in str(caught.value)


def test_a_repeated_prediction_is_dropped_by_the_stream(server: str) -> None:
    name = f"d{uuid.uuid4().hex}"

    async def main() -> int:
        sink = NatsSinkConfig(url=server, topic=f"{name}.{{stream}}", create_stream=True, stream_name=name).build(MODEL)
        async with sink:
            await sink.write(predictions_of("a", [0, 1]))
            await sink.write(predictions_of("a", [1, 2]))
            return (await sink.client._js.stream_info(name)).state.messages

    assert asyncio.run(main()) == 3


def test_dead_letters_go_to_a_subject(server: str) -> None:
    name = f"l{uuid.uuid4().hex}"

    async def main() -> None:
        client = await nats.connect(server)
        await client.jetstream().add_stream(name=name, subjects=[f"{name}.>"])
        async with NatsDeadLettersConfig(url=server, topic=f"{name}.dead").build() as letters:
            await letters.write([DeadLetter("why", "a.b", b"\x00", 1.0)])
            message = await client.jetstream().get_last_msg(name, f"{name}.dead")
            assert b'"reason":"why"' in message.data
            # In base64 it would be longer than the server takes.
            await letters.write([DeadLetter("long", "a.b", bytes(1_000_000), 1.0)])
            message = await client.jetstream().get_last_msg(name, f"{name}.dead")
            assert b'"bytes":1000000' in message.data
        await client.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ({"durable": None}, "durable is missing"),
        ({"durable": "a.b"}, "use a name without"),
        ({"topic": "predictions.{stream}"}, "is matched by the source's topic"),
        ({"topic": "a.>.{stream}"}, "must be a whole level, > the last"),
        ({"user": "me", "url": "nats://you@127.0.0.1"}, "give them once"),
        ({"url": "redis://127.0.0.1"}, "does not begin with nats:// or tls://"),
    ],
)
def test_what_cannot_work_is_refused_before_it_connects(keys: dict[str, object], match: str) -> None:
    url = "nats://127.0.0.1"
    source = NatsSourceConfig(**({"url": url, "topic": "a.{stream}", "durable": "d"} | keys))
    sink = NatsSinkConfig(url=url, topic="predictions.{stream}")
    with pytest.raises((ConfigError, ValueError), match=match):
        source.check("source", RunSections(source, sink, None, False))


def test_times_of_arrival_are_warned_of_where_messages_are_kept() -> None:
    source = NatsSourceConfig(url="nats://127.0.0.1", topic="a.{stream}", durable="d", time="")
    sink = NatsSinkConfig(url="nats://127.0.0.1", topic="predictions.{stream}")
    (text,) = source.warnings("source", RunSections(source, sink, None, False))
    assert 'set time = "@broker"' in text


def test_state_without_anything_that_keeps_messages_is_warned_of() -> None:
    source = NatsSourceConfig(url="nats://127.0.0.1", topic="a.{stream}", jetstream=False)
    sink = NatsSinkConfig(url="nats://127.0.0.1", topic="predictions.{stream}")
    (text,) = source.warnings("source", RunSections(source, sink, None, True))
    assert "they are lost" in text
    assert source.warnings("source", RunSections(source, sink, None, False)) == []
