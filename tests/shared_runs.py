"""Runs that share the partitions of a topic, in this process, and what they must come to."""

from __future__ import annotations

import asyncio
import functools
import json
import time
import uuid
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from bundles import make_bundle
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from streamrde.config import RunConfig
from streamrde.connectors.codecs.predictions import encode_prediction
from streamrde.inference.bundle import Bundle
from streamrde.inference.fleet import Fleet
from streamrde.settings import convert

QUICK = {"session.timeout.ms": 2000, "heartbeat.interval.ms": 200, "fetch.wait.max.ms": 20}
Row = tuple[str, float, tuple[float, float]]
BUNDLE = make_bundle(seed=1)


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test in a loop of its own, for a minute at most."""

    @functools.wraps(test)
    def run(*arguments: Any, **fixtures: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*arguments, **fixtures), 60))

    return run


def rows_of(streams: int, each: int, *, begin: int = 0, seed: int = 0) -> list[Row]:
    """Samples of streams in turn, `each` of every stream, 0.2 s apart."""
    rng = np.random.default_rng(seed)
    return [
        (f"s{stream}", (begin + i) * 0.2, (float(a), float(b)))
        for i in range(each)
        for stream, (a, b) in enumerate(rng.normal(size=(streams, 2)))
    ]


def expected(rows: Sequence[Row], bundle: Bundle = BUNDLE) -> list[tuple[str, bytes]]:
    """The predictions of one fleet that nobody disturbs, as they are sent: key and payload, sorted."""
    names, t, x = zip(*rows, strict=True)
    batch = Fleet(bundle).push(pa.array(names), np.array(t), np.array(x))
    return sorted((row["stream"], encode_prediction(row)) for row in batch.to_pylist())


class SharedRun:
    """A group of workers over topics of their own.

    Args:
        url: kafka:// address of a broker.
        folder: where files go.
        partitions: of the input.
        tables: further keys of the run's sections.
    """

    def __init__(self, url: str, folder: Path, *, partitions: int = 4, **tables: dict[str, Any]) -> None:
        name = uuid.uuid4().hex[:12]
        self.source, self.sink, self.group = f"in{name}", f"out{name}", f"g{name}"
        self.changelog = f"{self.group}.{self.source}.state"
        self.partitions = partitions
        self.client = {"bootstrap.servers": url.removeprefix("kafka://"), "log_level": 0}
        self.admin = AdminClient(self.client)
        self.model = folder / "model.safetensors"
        BUNDLE.save(self.model)
        own = tables.get("source", {})
        # With the newer protocol the broker decides about sessions.
        quick = QUICK if own.get("protocol") != "consumer" else {"fetch.wait.max.ms": 20}
        options = quick | own.pop("options", {})
        self.tables: dict[str, Any] = {
            "model": f"{self.model}",
            "source": {"kind": "kafka", "url": url, "topic": self.source, "group": self.group, "options": options},
            "sink": {"kind": "kafka", "url": url, "topic": self.sink},
            "state": {"kind": "kafka", "checkpoint_seconds": 0.05},
        }
        for section, keys in tables.items():
            self.tables[section] = self.tables.get(section, {}) | keys
        self.create(self.source, partitions)
        self.create(self.sink, 1)

    def create(self, topic: str, partitions: int) -> None:
        self.admin.create_topics([NewTopic(topic, partitions)])[topic].result(10)

    def config(self, **tables: dict[str, Any]) -> RunConfig:
        """The run of a worker, with keys of its own."""
        own = {name: self.tables.get(name, {}) | keys for name, keys in tables.items()}
        return convert(self.tables | own, RunConfig)

    def send(self, rows: Sequence[Row], *, transactional: bool = False, **where: Any) -> None:
        """Publish samples with their streams as the keys."""
        # Faults of the broker hit this producer, too. It must not send anything twice, or out of order.
        steady = {"enable.idempotence": True, "metadata.recovery.strategy": "none"}
        producer = Producer(self.client | steady | ({"transactional.id": uuid.uuid4().hex} if transactional else {}))
        if transactional:
            producer.init_transactions()
            producer.begin_transaction()
        for stream, t, (a, b) in rows:
            producer.produce(self.source, json.dumps({"t": t, "a": a, "b": b}).encode(), key=stream, **where)
        assert producer.flush(10) == 0
        if transactional:
            producer.commit_transaction()

    def send_raw(self, payload: bytes | None, **where: Any) -> None:
        """Publish any payload."""
        producer = Producer(self.client)
        producer.produce(self.source, payload, **where)
        assert producer.flush(10) == 0

    def read(self, topic: str, *, wanted: int = 0, seconds: float = 20.0) -> list[Any]:
        """The committed messages of a topic, all that there are once there are so many."""
        consumer = Consumer(
            self.client
            | {"group.id": "reader", "auto.offset.reset": "earliest", "enable.partition.eof": True}
            | {"fetch.wait.max.ms": 20, "isolation.level": "read_committed"}
        )
        numbers = self.admin.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in numbers])
        found, ends, deadline = list[Any](), set[int](), time.monotonic() + seconds
        while (len(found) < wanted or len(ends) < len(numbers)) and time.monotonic() < deadline:
            message = consumer.poll(0.2)
            if message is None:
                continue
            if message.error() is None:
                found.append(message)
                ends.discard(message.partition())
            else:
                ends.add(message.partition())
        consumer.close()
        return found

    def predictions(self, wanted: int = 0, seconds: float = 20.0) -> list[tuple[str, bytes]]:
        """Key and payload of the committed predictions, sorted."""
        found = self.read(self.sink, wanted=wanted, seconds=seconds)
        return sorted((message.key().decode(), message.value()) for message in found)

    def positions(self) -> list[int]:
        """The group's position in each partition."""
        consumer = Consumer(self.client | {"group.id": self.group})
        places = [TopicPartition(self.source, number) for number in range(self.partitions)]
        try:
            return [one.offset for one in consumer.committed(places, timeout=10)]
        finally:
            consumer.close()


class Working:
    """A worker that runs in this loop, as a context.

    Args:
        run: the group.
        options: settings of the client library, for its consumer.
        tables: keys of its own.
    """

    def __init__(
        self,
        run: SharedRun,
        *,
        bundle: Bundle = BUNDLE,
        options: dict[str, Any] | None = None,
        **tables: dict[str, Any],
    ) -> None:
        source = tables.get("source", {})
        tables["source"] = source | {"options": run.tables["source"]["options"] | (options or {})}
        self.worker = run.config(**tables).worker(bundle)
        self.task: asyncio.Task[Any]

    async def __aenter__(self) -> Working:
        self.task = asyncio.create_task(self.worker.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.worker.stop()
        await self.task

    async def until(self, ready: Any, seconds: float = 30.0) -> None:
        """Wait until something about the worker is so."""
        deadline = time.monotonic() + seconds
        while not ready(self.worker):
            if self.task.done():
                self.task.result()
            assert time.monotonic() < deadline, self.worker.status()
            await asyncio.sleep(0.02)

    async def running(self, partitions: int) -> None:
        """Wait until so many partitions are at work here."""
        await self.until(lambda worker: sum(one.phase == "running" for one in worker.partitions.values()) == partitions)


async def eventually(ready: Any, seconds: float = 30.0) -> None:
    """Wait until a blocking question is answered with something true."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if await asyncio.to_thread(ready):
                return
        except KafkaException:
            pass
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
