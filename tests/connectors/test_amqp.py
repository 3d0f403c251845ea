"""AMQP: a durable queue of RabbitMQ as source, an exchange as sink, and what a lost connection leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tomllib
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from brokers import RABBITMQ_SERVER, rabbitmq_server, relay
from queue_checks import MODEL, rest, sample, take, until

from streamrde.cli.listening import listen, place_of
from streamrde.config import RunConfig
from streamrde.connectors.amqp import AmqpDeadLettersConfig, AmqpSinkConfig, AmqpSourceConfig
from streamrde.connectors.codecs import decode_prediction
from streamrde.connectors.ends import DeadLetter
from streamrde.connectors.queues import QueueSink, QueueSource
from streamrde.connectors.sections import RunSections
from streamrde.connectors.topics import AMQP
from streamrde.demo.watch_data import MODEL as DEMO
from streamrde.errors import BrokerError, ConfigError
from streamrde.looking.documents import document
from streamrde.looking.messages import Captured, look_at_messages
from streamrde.settings import convert
from streamrde.testing import SinkConformance, SourceConformance, predictions_of

aio_pika = pytest.importorskip("aio_pika", reason="aio-pika is not installed")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if RABBITMQ_SERVER is None:
        pytest.skip("rabbitmq-server is not installed: apt-get install rabbitmq-server")
    with rabbitmq_server(tmp_path_factory.mktemp("rabbitmq")) as url:
        yield url


def source_of(url: str, name: str, **keys: object) -> QueueSource:
    keys = {"queue_name": name, "create_queue": True, "wait": False} | keys
    return AmqpSourceConfig(url=url, topic=f"{name}.{{stream}}.imu", **keys).build(MODEL)


@contextlib.asynccontextmanager
async def channel_of(url: str) -> AsyncIterator[Any]:
    async with await aio_pika.connect(url) as connection:
        yield await connection.channel()


async def publish(url: str, key: str, *payloads: bytes, **properties: object) -> None:
    async with channel_of(url) as channel:
        exchange = await channel.get_exchange("amq.topic")
        for payload in payloads:
            await exchange.publish(aio_pika.Message(payload, delivery_mode=2, **properties), key)


async def bound(url: str, name: str) -> None:
    async with channel_of(url) as channel:
        queue = await channel.declare_queue(name, durable=True)
        await queue.bind("amq.topic", f"{name}.*")


async def read_all(url: str, name: str) -> list[bytes]:
    async with channel_of(url) as channel:
        queue = await channel.get_queue(name)
        found = []
        while (message := await queue.get(fail=False)) is not None:
            await message.ack()
            found.append(message.body)
        return found


class TestAmqpSource(SourceConformance):
    most_waiting = 50

    @pytest.fixture(autouse=True)
    def place(self, server: str) -> None:
        self.url, self.name = server, uuid.uuid4().hex

    def open(self) -> QueueSource:
        return source_of(self.url, self.name, queue_messages=50)

    async def send(self, stream: str, t: float, x: tuple[float, float]) -> None:
        await publish(self.url, f"{self.name}.{stream}.imu", sample(t))


class TestAmqpSink(SinkConformance):
    @pytest.fixture(autouse=True)
    def place(self, server: str) -> None:
        self.url, self.name, self.seen = server, uuid.uuid4().hex, []
        asyncio.run(bound(server, self.name))

    def open(self) -> QueueSink:
        return AmqpSinkConfig(url=self.url, topic=f"{self.name}.{{stream}}", wait=False).build(MODEL)

    async def read(self) -> list[tuple[str, int]]:
        rows = [decode_prediction(body) for body in await read_all(self.url, self.name)]
        self.seen += [(row["stream"], row["window"]) for row in rows]
        return self.seen


def test_a_lost_connection_loses_and_repeats_nothing(server: str, caplog: pytest.LogCaptureFixture) -> None:
    name = uuid.uuid4().hex
    address, port = server.rsplit(":", 1)

    async def main() -> None:
        with relay(int(port)) as (between, cut):
            async with source_of(f"{address}:{between}", name, longest_pause=0.2) as source:
                # Two messages are alike, as those of a sensor may be.
                await publish(server, f"{name}.a.imu", *map(sample, [0, 1, 1, 2]))
                batches = [batch async for batch in until(source, 4)]
                cut()
                while source.connection.connected:
                    await asyncio.sleep(0.01)
                await source.acknowledge(batches[0])
                while not source.connection.connected:
                    await asyncio.sleep(0.01)
                for batch in batches[1:]:
                    await source.acknowledge(batch)
                await publish(server, f"{name}.a.imu", *map(sample, [1, 3]))
                assert await take(source, 2) == [1.0, 3.0]
                assert source.connection.redelivered == 4
        async with source_of(server, name) as again:
            assert await rest(again) == []

    asyncio.run(main())
    assert {record.name for record in caplog.records} == {"streamrde.connectors.clients"}


def test_predictions_under_way_when_the_connection_is_lost_are_published_again(server: str) -> None:
    name = uuid.uuid4().hex
    address, port = server.rsplit(":", 1)

    async def main() -> None:
        await bound(server, name)
        with relay(int(port)) as (between, cut):
            url = f"{address}:{between}"
            sink = AmqpSinkConfig(url=url, topic=f"{name}.{{stream}}", longest_pause=0.2, inflight=50).build(MODEL)
            async with sink:
                writing = asyncio.create_task(sink.write(predictions_of("a", range(2000))))
                while not writing.done() and sink.connection.connects < 3:
                    await asyncio.sleep(0.02)
                    if sink.connection.connected:
                        cut()
                await writing
        rows = [decode_prediction(body)["window"] for body in await read_all(server, name)]
        assert sorted(set(rows)) == list(range(2000))

    asyncio.run(main())


def test_headers_and_the_time_of_a_message_travel_with_it(server: str) -> None:
    name = uuid.uuid4().hex

    async def main() -> None:
        async with source_of(server, name) as source:
            await publish(server, f"{name}.a.imu", sample(1.0), headers={"line": "7", "n": 3}, timestamp=1700000000)
            while not source.waiting:
                await source.client.wait()
            message = source._intake.messages[0]
            assert message.properties == {"line": "7", "n": "3"}
            assert message.stamped == 1700000000.0

    asyncio.run(main())


def test_dead_letters_go_to_an_exchange(server: str) -> None:
    name = uuid.uuid4().hex

    async def main() -> list[bytes]:
        await bound(server, name)
        async with AmqpDeadLettersConfig(url=server, topic=f"{name}.dead").build() as letters:
            await letters.write([DeadLetter("why", "a.b", b"\x00", 1.0)])
        return await read_all(server, name)

    (body,) = asyncio.run(main())
    assert json.loads(body)["reason"] == "why"


def test_a_queue_that_is_missing_is_named_with_its_remedy(server: str) -> None:
    async def main() -> None:
        async with source_of(server, "nowhere", create_queue=False):
            pass

    with pytest.raises(BrokerError, match=r"no queue 'nowhere'.*create_queue = true"):
        asyncio.run(main())


def test_a_prediction_that_no_queue_takes_is_an_error(server: str) -> None:
    async def main(**keys: object) -> None:
        async with AmqpSinkConfig(url=server, topic="nobody.{stream}", wait=False, **keys).build(MODEL) as sink:
            await sink.write(predictions_of("a", [0, 1]))

    with pytest.raises(BrokerError, match=r"no queue takes the routing key 'nobody\.a'"):
        asyncio.run(main())
    asyncio.run(main(mandatory=False))


def test_a_queue_that_is_deleted_ends_the_source(server: str) -> None:
    name = uuid.uuid4().hex

    async def main() -> None:
        async with source_of(server, name) as source:
            async with channel_of(server) as channel:
                await channel.queue_delete(name)
            async for _ in source:
                pass

    with pytest.raises(BrokerError, match="deleted the queue"):
        asyncio.run(main())


def test_a_wrong_password_and_a_wrong_host_are_final_and_not_shown(server: str) -> None:
    async def main(url: str) -> None:
        async with asyncio.timeout(20), source_of(url, "x", wait=True):
            pass

    with pytest.raises(BrokerError, match="refuses user and password") as caught:
        asyncio.run(main(server.replace("guest:guest", "guest:S3CRET")))
    assert "S3CRET" not in str(caught.value)
    with pytest.raises(BrokerError, match="check virtual host and permissions"):
        asyncio.run(main(f"{server}/elsewhere"))


def test_a_topic_that_would_come_back_is_refused() -> None:
    url = "amqp://127.0.0.1"
    source = AmqpSourceConfig(url=url, topic="a.{stream}.#", queue_name="q")
    with pytest.raises(ConfigError, match="is matched by the source's topic"):
        source.check("source", RunSections(source, AmqpSinkConfig(url=url, topic="a.{stream}"), None, False))


def test_init_listens_by_a_queue_of_its_own(server: str) -> None:
    name = uuid.uuid4().hex
    place = place_of(f"{server}/{name}.#")
    assert place is not None
    assert "guest" not in place.shown

    async def overheard() -> list[Captured]:
        await bound(server, name)
        work = asyncio.create_task(asyncio.to_thread(listen, place, seconds=1.5, keys={}, say=lambda text: None))
        sent = 0
        while not work.done():
            await publish(server, f"{name}.w{sent % 2}", b'{"t": %d, "x": 0.5}' % sent)
            await publish(server, f"beside.{name}", b"{}")
            sent += 1
        captured = (await work)[0]
        assert len(await read_all(server, name)) == sent, "a message was taken"
        return captured

    captured = asyncio.run(overheard())
    assert {one.topic for one in captured} == {f"{name}.w0", f"{name}.w1"}
    found = look_at_messages(captured, place.shown, kind="amqp", url=place.url, grammar=AMQP)
    tables = tomllib.loads(document(found, "run", command="", model=str(DEMO), channels={"x": "x"}))
    source = tables["source"]
    assert (source["topic"], source["queue_name"], source["create_queue"]) == (f"{name}.{{stream}}", "streamrde", True)
    convert(tables, RunConfig).check()
