"""Kafka that fails on demand: nothing is lost, and each partition keeps its order."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from brokers import strict_kafka
from kafka_mock import FETCH, HEARTBEAT, JOIN_GROUP, METADATA, OFFSET_COMMIT, PRODUCE, MockCluster, mock_kafka
from queue_checks import MODEL, sample

from streamrde.connectors.codecs import decode_prediction
from streamrde.connectors.kafka import KafkaSinkConfig, KafkaSourceConfig
from streamrde.connectors.queues import QueueSource
from streamrde.errors import BrokerError
from streamrde.testing import predictions_of

kafka = pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")

NOT_LEADER, TIMED_OUT, COORDINATOR_LOADS, ILLEGAL_GENERATION, UNKNOWN_MEMBER, REBALANCING = 6, 7, 14, 22, 25, 27
QUICK: dict[str, Any] = {"session.timeout.ms": 2000, "heartbeat.interval.ms": 50, "fetch.wait.max.ms": 10}
QUICK |= {"retry.backoff.ms": 10, "reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 100}


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    """Two brokers, and a topic with two partitions, each led by one of them."""
    with mock_kafka(2) as found:
        found.create_topic("t", 2)
        for partition in (0, 1):
            found.lead("t", partition + 1, partition)
        yield found


def source_of(cluster: MockCluster, **keys: Any) -> QueueSource:
    keys = {"group": "g", "topic": "t", "options": QUICK, "longest_pause": 0.2, "timeout": 5.0} | keys
    return KafkaSourceConfig(url=cluster.url, brokers=tuple(cluster.servers[1:]), **keys).build(MODEL)


def fill(cluster: MockCluster, begin: int, end: int) -> None:
    """Send samples to both partitions in turn."""
    producer = kafka.Producer({"bootstrap.servers": ",".join(cluster.servers), "log_level": 0})
    for t in range(begin, end):
        producer.produce("t", sample(float(t)), key=f"s{t % 2}", partition=t % 2)
    assert producer.flush(10) == 0


async def received(source: QueueSource, count: int) -> dict[str, list[float]]:
    """Receive and acknowledge so many samples. Return the times of each stream."""
    found: dict[str, list[float]] = {"s0": [], "s1": []}
    async with asyncio.timeout(20):
        async for batch in source:
            for stream, t in zip(batch.samples.streams.to_pylist(), batch.samples.t.tolist(), strict=True):
                found[stream].append(t)
            await source.acknowledge(batch)
            count -= len(batch.samples.t)
            if count <= 0:
                return found
    raise AssertionError("the source ended")


def expected(begin: int, end: int) -> dict[str, list[float]]:
    return {f"s{own}": [float(t) for t in range(begin, end) if t % 2 == own] for own in (0, 1)}


def committed(cluster: MockCluster) -> list[int]:
    consumer = kafka.Consumer({"bootstrap.servers": ",".join(cluster.servers), "group.id": "g", "log_level": 0})
    found = consumer.committed([kafka.TopicPartition("t", number) for number in (0, 1)], timeout=10)
    consumer.close()
    return [one.offset for one in found]


@pytest.mark.parametrize(
    ("request_", "codes"),
    [
        pytest.param(FETCH, [NOT_LEADER, TIMED_OUT, NOT_LEADER], id="fetch"),
        pytest.param(METADATA, [TIMED_OUT, NOT_LEADER], id="metadata"),
        pytest.param(OFFSET_COMMIT, [REBALANCING], id="commit-while-rebalancing"),
        pytest.param(OFFSET_COMMIT, [ILLEGAL_GENERATION], id="commit-of-an-old-generation"),
        pytest.param(OFFSET_COMMIT, [COORDINATOR_LOADS, TIMED_OUT], id="commit-while-loading"),
        pytest.param(HEARTBEAT, [REBALANCING], id="rebalance"),
        pytest.param(HEARTBEAT, [ILLEGAL_GENERATION], id="lost-by-generation"),
        pytest.param(HEARTBEAT, [UNKNOWN_MEMBER], id="lost-by-name"),
        pytest.param(JOIN_GROUP, [COORDINATOR_LOADS], id="join"),
    ],
)
def test_an_error_of_the_broker_loses_repeats_and_mixes_nothing(
    cluster: MockCluster, request_: int, codes: list[int]
) -> None:
    async def main() -> None:
        if request_ == JOIN_GROUP:
            cluster.fail(request_, *codes)
        async with source_of(cluster) as source:
            fill(cluster, 0, 40)
            first = await received(source, 40)
            if request_ != JOIN_GROUP:
                cluster.fail(request_, *codes)
            fill(cluster, 40, 100)
            second = await received(source, 60)
            await asyncio.sleep(0.2)  # heartbeats come between
            fill(cluster, 100, 140)
            third = await received(source, 40)
            assert {own: first[own] + second[own] + third[own] for own in first} == expected(0, 140)
            while not source.connection.connected:
                await source.client.wait()
            await source.client.settle()
        assert committed(cluster) == [70, 70]

    asyncio.run(main())


def test_a_source_follows_its_partitions_to_another_broker(cluster: MockCluster) -> None:
    async def main() -> None:
        cluster.coordinate("g", 1)
        async with source_of(cluster) as source:
            fill(cluster, 0, 40)
            assert await received(source, 40) == expected(0, 40)
            cluster.lead("t", 2, 0)
            cluster.coordinate("g", 2)
            cluster.stop(1)
            await asyncio.to_thread(fill, cluster, 40, 100)
            assert await received(source, 60) == expected(40, 100)
            await source.client.settle()
        assert committed(cluster) == [50, 50]

    asyncio.run(main())


@pytest.mark.parametrize("codes", [[NOT_LEADER, TIMED_OUT], [NOT_LEADER] * 4])
def test_a_sink_sends_again_what_a_broker_refused_and_keeps_the_order(cluster: MockCluster, codes: list[int]) -> None:
    async def main() -> None:
        config = KafkaSinkConfig(url=cluster.url, topic="p", options={"retry.backoff.ms": 10}, timeout=5.0)
        async with config.build(MODEL) as sink:
            for window in range(0, 60, 20):
                cluster.fail(PRODUCE, *codes)
                await sink.write(predictions_of("a", [*range(window, window + 20)]))

    cluster.create_topic("p", 1)
    asyncio.run(main())
    consumer = kafka.Consumer({"bootstrap.servers": cluster.servers[0], "group.id": "r", "log_level": 0})
    consumer.assign([kafka.TopicPartition("p", 0, 0)])
    rows: list[int] = []
    while len(rows) < 60:
        for message in consumer.consume(60, 10.0):
            rows.append(decode_prediction(message.value())["window"])
    consumer.close()
    assert rows == [*range(60)]


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_static_member_is_back_at_once_in_both_protocols(tmp_path: Path, protocol: Any) -> None:
    with strict_kafka(tmp_path) as broker:
        broker.create_topic("t", 2)
        options = {"fetch.wait.max.ms": 10} | ({"session.timeout.ms": 45_000} if protocol == "classic" else {})
        config = KafkaSourceConfig(
            url=broker.url, topic="t", group="g", instance="{host}-a", protocol=protocol, options=options
        )

        async def main() -> set[str]:
            members: set[str] = set()
            for begin in (0, 20):
                source = config.build(MODEL)
                async with source:
                    fill_at(broker.address, begin, begin + 20)
                    found = await received(source, 20)
                    assert found == expected(begin, begin + 20)
                    members |= {member["instance"] for member in broker.groups()["g"]["members"]}
            return members

        assert asyncio.run(main()) == {f"{socket.gethostname()}-a"}


def fill_at(address: str, begin: int, end: int) -> None:
    producer = kafka.Producer({"bootstrap.servers": address, "log_level": 0})
    for t in range(begin, end):
        producer.produce("t", sample(float(t)), key=f"s{t % 2}", partition=t % 2)
    assert producer.flush(10) == 0


def test_a_position_that_another_client_moved_while_this_was_away_is_an_error(cluster: MockCluster) -> None:
    async def main() -> None:
        async with source_of(cluster) as source:
            fill(cluster, 0, 40)
            await received(source, 40)
            await source.client.settle()
            # As it finds the group's position at its next assignment, when another member had the partition meanwhile.
            await source.client._call(source.client._after_break, ("t", 0), 30)
            await received(source, 100)

    with pytest.raises(BrokerError, match=r"takes partitions away \(t 0\).*\[state\] kind = \"kafka\""):
        asyncio.run(main())


def test_messages_that_come_twice_are_used_once(cluster: MockCluster) -> None:
    async def main() -> None:
        async with source_of(cluster) as source:
            fill(cluster, 0, 40)
            assert await received(source, 40) == expected(0, 40)
            # As after an assignment that came while messages were being fetched.
            back = [kafka.TopicPartition("t", number, 5) for number in (0, 1)]
            for place in back:
                await source.client._call(source.client._kafka.seek, place)
            fill(cluster, 40, 60)
            assert await received(source, 20) == expected(40, 60)
            assert source.connection.redelivered == 30
            await source.client.settle()
        assert committed(cluster) == [30, 30]

    asyncio.run(main())
