"""Redis Streams: a consumer group as source, XADD as sink, and what a lost connection or a killed run leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from brokers import REDIS_SERVER, free_port, redis_server
from queue_checks import MODEL, rest, sample, take, until

from streamrde.connectors.codecs import decode_prediction
from streamrde.connectors.ends import DeadLetter
from streamrde.connectors.queues import QueueSink, QueueSource
from streamrde.connectors.redis import RedisDeadLettersConfig, RedisSinkConfig, RedisSourceConfig
from streamrde.connectors.sections import RunSections
from streamrde.errors import BrokerError, ConfigError
from streamrde.testing import SinkConformance, SourceConformance, predictions_of

redis = pytest.importorskip("redis.asyncio", reason="redis is not installed")
if REDIS_SERVER is None:
    pytest.skip("redis-server is not installed: apt-get install redis-server", allow_module_level=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        yield url


def source_of(url: str, name: str, **keys: object) -> QueueSource:
    keys = {"group": "run", "discover": 0.05, "wait": False} | keys
    return RedisSourceConfig(url=url, topic=f"{name}:{{stream}}:imu", **keys).build(MODEL)


async def add(url: str, key: str, *entries: bytes | dict[str, object]) -> None:
    async with redis.Redis.from_url(url) as client:
        for entry in entries:
            await client.xadd(key, {"payload": entry} if isinstance(entry, bytes) else entry)


class TestRedisSource(SourceConformance):
    most_waiting = 50

    @pytest.fixture(autouse=True)
    def place(self, server: str) -> None:
        self.url, self.name = server, uuid.uuid4().hex

    def open(self) -> QueueSource:
        return source_of(self.url, self.name, queue_messages=50)

    async def send(self, stream: str, t: float, x: tuple[float, float]) -> None:
        await add(self.url, f"{self.name}:{stream}:imu", sample(t))


class TestRedisSink(SinkConformance):
    @pytest.fixture(autouse=True)
    def place(self, server: str) -> None:
        self.url, self.name = server, uuid.uuid4().hex

    def open(self) -> QueueSink:
        return RedisSinkConfig(url=self.url, topic=f"{self.name}:{{stream}}", wait=False).build(MODEL)

    async def read(self) -> list[tuple[str, int]]:
        async with redis.Redis.from_url(self.url) as client:
            keys = [key async for key in client.scan_iter(match=f"{self.name}:*")]
            entries = [entry for key in keys for entry in await client.xrange(key)]
        rows = [decode_prediction(fields[b"payload"]) for _, fields in entries]
        return [(row["stream"], row["window"]) for row in rows]


def test_what_a_killed_run_left_comes_again_first_and_in_order(server: str) -> None:
    name = uuid.uuid4().hex

    async def main() -> None:
        await add(server, f"{name}:a:imu", *map(sample, range(10)))
        async with source_of(server, name, inflight=4) as source:
            assert await take(source, 4, acknowledge=False) == [0.0, 1.0, 2.0, 3.0]
        await add(server, f"{name}:a:imu", *map(sample, range(10, 15)))
        async with source_of(server, name) as again:
            assert await take(again, 15) == [float(t) for t in range(15)]
        async with source_of(server, name) as last:
            assert await rest(last) == []

    asyncio.run(main())


def test_a_lost_connection_loses_and_repeats_nothing(tmp_path: Path) -> None:
    port, name = free_port(), "line1"

    async def main() -> None:
        async with contextlib.AsyncExitStack() as ends:
            with redis_server(tmp_path, port=port) as url:
                await add(url, f"{name}:a:imu", *map(sample, range(6)))
                source = source_of(url, name, timeout=2.0, longest_pause=0.2)
                await ends.enter_async_context(source)
                batches = [batch async for batch in until(source, 6)]
            # The server is away, and six messages are unacknowledged.
            while source.connection.connected:
                await asyncio.sleep(0.01)
            await source.acknowledge(batches[0])
            with redis_server(tmp_path, port=port) as url:
                while not source.connection.connected:
                    await asyncio.sleep(0.01)
                for batch in batches[1:]:
                    await source.acknowledge(batch)
                await add(url, f"{name}:a:imu", *map(sample, range(6, 9)))
                assert await take(source, 3) == [6.0, 7.0, 8.0]
                assert source.connection.redelivered == 6
                await ends.aclose()
                async with source_of(url, name) as again:
                    assert await rest(again) == []

    asyncio.run(main())


def test_entries_of_a_consumer_that_is_gone_are_taken_over(server: str) -> None:
    name = uuid.uuid4().hex

    async def main() -> None:
        await add(server, f"{name}:a:imu", *map(sample, range(3)))
        async with source_of(server, name, consumer="gone") as source:
            await take(source, 3, acknowledge=False)
        async with source_of(server, name) as other:
            assert await rest(other) == []
        await asyncio.sleep(0.01)
        async with source_of(server, name, claim=0.001) as heir:
            assert await take(heir, 3) == [0.0, 1.0, 2.0]

    asyncio.run(main())


def test_keys_that_appear_later_are_found(server: str) -> None:
    name = uuid.uuid4().hex

    async def main() -> None:
        async with source_of(server, name, deliver="new") as source:
            for stream in "ab":
                await add(server, f"{name}:{stream}:imu", sample(1.0))
                await add(server, f"{name}:{stream}:imu:other", sample(9.0))
                assert await take(source, 1) == [1.0]
            assert source.counts.malformed == 0

    asyncio.run(main())


def test_fields_of_an_entry_can_be_the_values(server: str) -> None:
    name = uuid.uuid4().hex

    async def main() -> None:
        await add(server, f"{name}:a:imu", {"t": "1.5", "a": 2, "b": -3.5, "note": "x"})
        async with source_of(server, name, field="") as source:
            (batch,) = [batch async for batch in until(source, 1)]
            assert batch.samples.t.tolist() == [1.5]
            assert batch.samples.x.tolist() == [[2.0, -3.5]]

    asyncio.run(main())


def test_further_fields_are_properties_and_the_id_has_the_time(server: str) -> None:
    name = uuid.uuid4().hex

    async def main() -> None:
        async with redis.Redis.from_url(server) as client:
            await client.xadd(f"{name}:a:imu", {"payload": sample(1.0), "line": "7"}, id="1700000000123-0")
        async with source_of(server, name) as source:
            while not source.waiting:
                await source.client.wait()
            message = source._intake.messages[0]
            assert message.properties == {"line": "7"}
            assert message.stamped == pytest.approx(1700000000.123)

    asyncio.run(main())


def test_an_entry_without_the_payload_is_a_dead_letter(server: str) -> None:
    name = uuid.uuid4().hex

    async def main() -> None:
        await add(server, f"{name}:a:imu", {"data": "1"}, sample(2.0))
        async with source_of(server, name) as source:
            batches = [batch async for batch in until(source, 1)]
            assert [letter.topic for batch in batches for letter in batch.letters] == [f"{name}:a:imu"]

    asyncio.run(main())


def test_a_sink_keeps_about_as_many_entries_as_it_is_told(server: str) -> None:
    name = uuid.uuid4().hex

    async def main() -> int:
        sink = RedisSinkConfig(url=server, topic=f"{name}:{{stream}}", maxlen=100).build(MODEL)
        async with sink:
            await sink.write(predictions_of("a", range(1000)))
        async with redis.Redis.from_url(server) as client:
            return await client.xlen(f"{name}:a")

    assert 100 <= asyncio.run(main()) < 500


def test_dead_letters_go_to_a_stream(server: str) -> None:
    name = uuid.uuid4().hex

    async def main() -> None:
        async with RedisDeadLettersConfig(url=server, topic=f"{name}:dead").build() as letters:
            await letters.write([DeadLetter("why", "a:b", b"\x00", 1.0)])
        async with redis.Redis.from_url(server) as client:
            ((_, fields),) = await client.xrange(f"{name}:dead")
        assert json.loads(fields[b"payload"])["reason"] == "why"

    asyncio.run(main())


def test_a_key_of_another_type_is_an_error(server: str) -> None:
    async def main() -> None:
        async with redis.Redis.from_url(server) as client:
            await client.set("text:a", "x")
        sink = RedisSinkConfig(url=server, topic="text:{stream}", wait=False).build(MODEL)
        async with sink:
            await sink.write(predictions_of("a", [0]))

    with pytest.raises(BrokerError, match="another type than a stream"):
        asyncio.run(main())


def test_a_wrong_password_is_final_and_is_not_shown(tmp_path: Path) -> None:
    with redis_server(tmp_path, options=["--requirepass", "right"]) as url:

        async def main(given: str) -> None:
            async with source_of(given, "x", wait=True):
                pass

        for given in (url, url.replace("//", "//:S3CRET@")):
            with pytest.raises(BrokerError, match="refuses user and password") as caught:
                asyncio.run(main(given))
            assert "S3CRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ({"field": "", "codec": "cbor"}, "makes the fields of an entry its values"),
        ({"topic": "predictions:{stream}"}, "is matched by the source's topic"),
        ({"url": "redis://127.0.0.1/one"}, "end it with the database's number"),
        ({"url": "nats://127.0.0.1"}, "does not begin with redis:// or rediss://"),
    ],
)
def test_what_cannot_work_is_refused_before_it_connects(keys: dict[str, object], match: str) -> None:
    url = "redis://127.0.0.1"
    source = RedisSourceConfig(**({"url": url, "topic": "a:{stream}", "group": "g"} | keys))
    sink = RedisSinkConfig(url=url, topic="predictions:{stream}")
    with pytest.raises((ConfigError, ValueError), match=match):
        source.check("source", RunSections(source, sink, None, False))
