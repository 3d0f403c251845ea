"""How fast the sources of NATS, Redis, AMQP and Kafka take messages, each beside a bare client that acknowledges.

    python tests/benchmarks/sources.py [nats] [redis] [amqp] [kafka] [kafka-sink] [--messages 20000] [--rounds 5]

The messages wait in the queue. Both consumers drain it in turn, round after round, on the same server and with the
same limit of unacknowledged messages. "bare" acknowledges what the client library gives it, as cheaply as the library
can, and does nothing else. "source" decodes JSON, makes micro-batches and acknowledges them. tests/benchmarks/live.py
does the same for MQTT.

Kafka's client library works in threads of its own, so that messages are counted per second of this process's CPU time,
from the making of the client on. "bare" calls `consume` and looks at each message's value, and the bare producer of
"kafka-sink" publishes payloads that are there already.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from brokers import kafka_broker, nats_server, rabbitmq_server, redis_server
from queue_checks import MODEL, sample

from streamrde.connectors.amqp import AmqpSinkConfig, AmqpSourceConfig
from streamrde.connectors.clients import Outgoing
from streamrde.connectors.kafka import KafkaSinkConfig, KafkaSourceConfig
from streamrde.connectors.nats import NatsSinkConfig, NatsSourceConfig
from streamrde.connectors.redis import RedisSinkConfig, RedisSourceConfig
from streamrde.testing import predictions_of

INFLIGHT = 1000
QUICK = {"session.timeout.ms": 6000, "fetch.wait.max.ms": 10}


async def fill(section, topic: str, messages: int) -> None:
    async with section.look() as client:
        await client.publish([Outgoing(topic, sample(i * 0.02)) for i in range(messages)])


async def drained(section, messages: int) -> float:
    """Return messages per second of a source."""
    async with section.build(MODEL) as source:
        taken, began = 0, 0.0
        async for batch in source:
            began = began or time.perf_counter()
            taken += batch.messages
            await source.acknowledge(batch)
            if taken >= messages:
                break
        await source.client.settle()
        return taken / (time.perf_counter() - began)


async def bare_nats(url: str, messages: int) -> float:
    import nats
    from nats.js.api import ConsumerConfig

    client = await nats.connect(url)
    context, taken, done = client.jetstream(), 0, asyncio.Event()
    began = 0.0

    async def take(message) -> None:
        nonlocal taken, began
        began = began or time.perf_counter()
        await message.ack()
        taken += 1
        if taken >= messages:
            done.set()

    config = ConsumerConfig(max_ack_pending=INFLIGHT)
    await context.subscribe("b.*.imu", durable="bare", cb=take, manual_ack=True, config=config, pending_bytes_limit=-1)
    await done.wait()
    await client.flush()
    rate = taken / (time.perf_counter() - began)
    await client.close()
    return rate


async def bare_redis(url: str, messages: int) -> float:
    from redis.asyncio import Redis

    async with Redis.from_url(url, protocol=2) as client:
        taken, began = 0, time.perf_counter()
        while taken < messages:
            found = await client.xreadgroup("bare", "bare", {"b:s1:imu": ">"}, count=INFLIGHT, block=1000)
            for key, entries in found:
                await client.xack(key, "bare", *[identity for identity, _ in entries])
                taken += len(entries)
        return taken / (time.perf_counter() - began)


async def bare_amqp(url: str, messages: int) -> float:
    import aio_pika

    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=INFLIGHT)
        queue, taken, began = await channel.get_queue("bare"), 0, 0.0
        async with queue.iterator() as messages_of_queue:
            async for message in messages_of_queue:
                began = began or time.perf_counter()
                taken += 1
                await message.ack()
                if taken >= messages:
                    break
        return taken / (time.perf_counter() - began)


async def nats(url: str, messages: int, rounds: int) -> dict[str, list[float]]:
    section = NatsSourceConfig(
        url=url, topic="b.{stream}.imu", durable="source", stream_name="b", create_stream=True, inflight=INFLIGHT
    )
    async with section.build(MODEL):
        pass
    rates: dict[str, list[float]] = {"bare": [], "source": []}
    for _ in range(rounds):
        await fill(NatsSinkConfig(url=url, topic="b.{stream}.imu"), "b.s1.imu", messages)
        rates["bare"].append(await bare_nats(url, messages))
        rates["source"].append(await drained(section, messages))
    return rates


async def redis(url: str, messages: int, rounds: int) -> dict[str, list[float]]:
    from redis.asyncio import Redis

    async with Redis.from_url(url) as client:
        for group in ("bare", "source"):
            await client.xgroup_create("b:s1:imu", group, "0", mkstream=True)
    section = RedisSourceConfig(url=url, topic="b:{stream}:imu", group="source", inflight=INFLIGHT)
    rates: dict[str, list[float]] = {"bare": [], "source": []}
    for _ in range(rounds):
        await fill(RedisSinkConfig(url=url, topic="b:{stream}:imu"), "b:s1:imu", messages)
        rates["bare"].append(await bare_redis(url, messages))
        rates["source"].append(await drained(section, messages))
    return rates


async def amqp(url: str, messages: int, rounds: int) -> dict[str, list[float]]:
    def section(name: str) -> AmqpSourceConfig:
        return AmqpSourceConfig(url=url, topic="b.{stream}.imu", queue_name=name, create_queue=True, inflight=INFLIGHT)

    for name in ("bare", "source"):
        async with section(name).build(MODEL):
            pass
    rates: dict[str, list[float]] = {"bare": [], "source": []}
    for _ in range(rounds):
        await fill(AmqpSinkConfig(url=url, topic="b.{stream}.imu"), "b.s1.imu", messages)
        rates["bare"].append(await bare_amqp(url, messages))
        rates["source"].append(await drained(section("source"), messages))
    return rates


def bare_kafka(url: str, group: str, messages: int) -> float:
    import confluent_kafka

    began, taken = time.process_time(), 0
    settings = {"bootstrap.servers": url.removeprefix("kafka://"), "group.id": group, "enable.auto.commit": False}
    consumer = confluent_kafka.Consumer(settings | {"auto.offset.reset": "earliest", "log_level": 0} | QUICK)
    consumer.subscribe(["b"])
    while taken < messages:
        fetched = consumer.consume(INFLIGHT, 1.0)
        taken += sum(message.error() is None and message.value() is not None for message in fetched)
        if fetched:
            consumer.commit(message=fetched[-1], asynchronous=True)
    rate = taken / (time.process_time() - began)
    consumer.close()
    return rate


async def kafka(url: str, messages: int, rounds: int) -> dict[str, list[float]]:
    await fill(KafkaSinkConfig(url=url, topic="b", create_topic=True), "b/s1", messages)
    rates: dict[str, list[float]] = {"bare": [], "source": []}
    for i in range(rounds):
        rates["bare"].append(bare_kafka(url, f"bare{i}", messages))
        began = time.process_time()
        await drained(KafkaSourceConfig(url=url, topic="b", group=f"source{i}", options=QUICK), messages)
        rates["source"].append(messages / (time.process_time() - began))
    return rates


async def kafka_sink(url: str, messages: int, rounds: int) -> dict[str, list[float]]:
    import confluent_kafka

    config = KafkaSinkConfig(url=url, topic="p", create_topic=True)
    batch = predictions_of("a", [*range(INFLIGHT)])
    payloads = [config.encoding().encode_prediction(row) for row in batch.to_pylist()]
    rates: dict[str, list[float]] = {"bare": [], "sink": []}
    async with config.build(MODEL) as sink:
        for _ in range(rounds):
            began = time.process_time()
            settings = {"bootstrap.servers": url.removeprefix("kafka://"), "enable.idempotence": True, "log_level": 0}
            producer = confluent_kafka.Producer(settings)
            for _ in range(messages // INFLIGHT):
                for payload in payloads:
                    producer.produce("p", payload, key="a")
                producer.flush()
            rates["bare"].append(messages / (time.process_time() - began))
            began = time.process_time()
            for _ in range(messages // INFLIGHT):
                await sink.write(batch)
            rates["sink"].append(messages / (time.process_time() - began))
    return rates


QUEUES = {"nats": (nats_server, nats), "redis": (redis_server, redis), "amqp": (rabbitmq_server, amqp)}
QUEUES |= {"kafka": (kafka_broker, kafka), "kafka-sink": (kafka_broker, kafka_sink)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("queues", nargs="*", help=", ".join(QUEUES))
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}, {options.messages:,} messages a round")
    for name in options.queues or QUEUES:
        server, measured = QUEUES[name]
        with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as url:
            rates = asyncio.run(measured(url, options.messages, options.rounds))
        (_, bares), (own, owns) = rates.items()
        ratios = [rate / bare for rate, bare in zip(owns, bares, strict=True)]
        unit = "messages/CPU s" if name.startswith("kafka") else "messages/s"
        for consumer, values in rates.items():
            print(
                f"{name:6} {consumer:7} {statistics.median(values):>8,.0f} {unit} "
                f"({min(values):,.0f}-{max(values):,.0f})"
            )
        print(f"{name:6} {own} is {statistics.median(ratios):.2f}x of bare ({min(ratios):.2f}-{max(ratios):.2f})")


if __name__ == "__main__":
    main()
