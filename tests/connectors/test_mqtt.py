"""One conformance suite over real brokers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import aiomqtt
import numpy as np
import pyarrow as pa
import pytest
from brokers import MOSQUITTO, free_port, mosquitto

from streamrde.connectors.codecs import JsonCodec, decode_prediction
from streamrde.connectors.mqtt import (
    MqttAddress,
    MqttBatch,
    MqttLink,
    MqttSink,
    MqttSource,
    SamplePublisher,
    Subscription,
    TopicTemplate,
)
from streamrde.connectors.quarantine import Quarantine
from streamrde.connectors.samples import Columns, Samples
from streamrde.errors import BrokerError, ParameterError

COLUMNS = Columns(channels=("a", "b"))
STREAMS = [f"s{i}" for i in range(5)]


def run(main: Awaitable[object], seconds: float = 20.0) -> None:
    """Run a test to its end, or fail after a time in which nothing should hang."""
    asyncio.run(asyncio.wait_for(main, seconds))


def make_samples(rows: int, seed: int = 0) -> Samples:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 2))
    x[rng.random(x.shape) < 0.1] = np.nan
    return Samples(pa.array(rng.choice(STREAMS, rows)), np.cumsum(rng.random(rows)), x)


def new_topic() -> str:
    return f"test-{uuid4().hex}/{{stream}}/imu"


def of_stream(samples: Samples, stream: str) -> tuple[np.ndarray, np.ndarray]:
    rows = np.asarray(samples.streams.to_pylist()) == stream
    return samples.t[rows], samples.x[rows]


def joined(batches: list[MqttBatch]) -> Samples:
    parts = [batch.samples for batch in batches]
    streams = pa.array([name for part in parts for name in part.streams.to_pylist()])
    return Samples(streams, np.concatenate([part.t for part in parts]), np.concatenate([part.x for part in parts]))


async def collect(source: MqttSource, rows: int) -> list[MqttBatch]:
    batches: list[MqttBatch] = []
    async for batch in source:
        batches.append(batch)
        await source.acknowledge(batch)
        if source.counts.samples >= rows:
            break
    return batches


@pytest.mark.slow
@pytest.mark.parametrize(("qos", "per_message"), [(1, 1), (0, 1), (1, 20)])
def test_every_sample_arrives_once_and_in_order(broker: str, qos: int, per_message: int) -> None:
    samples = make_samples(300)
    topic = new_topic()

    async def main() -> None:
        async with (
            MqttSource(broker, topic=topic, columns=COLUMNS, qos=qos) as source,
            SamplePublisher(broker, topic=topic, columns=COLUMNS, qos=qos, batch=per_message) as publisher,
        ):
            received = asyncio.create_task(collect(source, 300))
            before = time.perf_counter()
            await publisher.publish(samples)
            await publisher.flush()
            batches = await received
            await asyncio.sleep(0.05)
            source.stop()
            assert [batch async for batch in source] == []
            arrived = joined(batches)
            for stream in STREAMS:
                for sent, got in zip(of_stream(samples, stream), of_stream(arrived, stream), strict=True):
                    np.testing.assert_array_equal(got, sent)
            assert source.counts.samples == 300
            assert source.counts.messages == publisher.counts.messages
            assert source.counts.malformed == source.counts.dropped == 0
            arrivals = np.concatenate([batch.arrivals for batch in batches])
            assert arrivals.shape == (300,)
            assert before < arrivals.min() <= arrivals.max() < time.perf_counter()

    run(main())


def test_times_are_of_the_payload_from_its_zero_or_of_the_arrival(broker: str) -> None:
    async def main() -> None:
        address = MqttAddress.parse(broker)
        for columns, zero in ((COLUMNS, 946684800.0), (Columns(channels=("a", "b"), time=""), 0.0)):
            topic, before = new_topic(), time.time()
            async with (
                MqttSource(broker, topic=topic, columns=columns, time_zero=zero) as source,
                aiomqtt.Client(address.host, address.port) as client,
            ):
                for i in range(3):
                    await client.publish(topic.format(stream="s"), b'{"t": %d, "a": 2}' % i, qos=1)
                t = joined(await collect(source, 3)).t
            if zero:
                assert t.tolist() == [zero, zero + 1, zero + 2]
            else:
                assert before - 1e-3 <= t[0] <= t[1] <= t[2] <= time.time() + 1e-3

    run(main())


def test_malformed_messages_are_counted_acknowledged_and_skipped(broker: str, caplog: pytest.LogCaptureFixture) -> None:
    topic = new_topic()
    address = MqttAddress.parse(broker)

    async def main() -> None:
        async with (
            MqttSource(broker, topic=topic, columns=COLUMNS) as source,
            aiomqtt.Client(address.host, address.port) as client,
        ):
            bad = [b"", b"no json", b"[]", b'{"t": 1, "accX": 2}', b'{"a": 1}', b"\xff"]
            # More than a broker keeps in flight: were they not acknowledged, the good one would never come.
            for payload in bad * 10:
                await client.publish(topic.format(stream="s"), payload, qos=1)
            await client.publish(topic.format(stream="s"), b'{"t": 1, "a": 2}', qos=1)
            batches = await collect(source, 1)
            assert joined(batches).t.tolist() == [1.0]
            letters = [letter for batch in batches for letter in batch.letters]
            assert [letter.payload for letter in letters] == bad * 10
            reasons = [
                "truncated",
                "it is text, 'no json'",
                "no sample in it",
                "has no field 't'|has none of a, b",
                "",
                "",
            ]
            for reason, letter in zip(reasons * 10, letters, strict=True):
                assert re.search(reason, letter.reason), letter.reason
            assert {letter.topic for letter in letters} == {topic.format(stream="s")}
            assert source.counts.malformed == 60
            assert source.counts.messages == 61

    with caplog.at_level(logging.WARNING):
        run(main())
    assert [record.levelname for record in caplog.records] == ["WARNING"], "one line, not sixty"
    place = topic.format(stream="s")
    assert f"skipped a message on topic {place!r} (stream 's'): not a sample: Input data was truncated" in caplog.text


def test_a_sink_returns_when_the_broker_has_confirmed(broker: str, caplog: pytest.LogCaptureFixture) -> None:
    topic = new_topic()
    address = MqttAddress.parse(broker)
    rows = 250
    batch = pa.RecordBatch.from_pydict(
        {
            "stream": pa.array([f"s{i % 3}" for i in range(rows)]).dictionary_encode(),
            "window": pa.array(range(rows), pa.int64()),
            "t_start": np.arange(rows) / 3,
            "t_end": np.arange(1, rows + 1) / 3,
            "value": pa.FixedSizeListArray.from_arrays(pa.array(np.arange(2.0 * rows) / 7, pa.float32()), 2),
            "label": pa.array(["ok", "FEL"] * (rows // 2)).dictionary_encode(),
        }
    )

    async def main() -> None:
        async with (
            aiomqtt.Client(address.host, address.port) as client,
            MqttSink(broker, topic=topic) as sink,
        ):
            await client.subscribe(topic.format(stream="+"), qos=1)
            await sink.write(batch)
            assert sink.counts.messages == rows
            received = []
            async for message in client.messages:
                received.append(decode_prediction(message.payload))
                if len(received) == rows:
                    break
            received.sort(key=lambda row: row["window"])
            assert received == batch.to_pylist()

    with caplog.at_level(logging.WARNING):
        run(main())
    assert caplog.records == []


@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
def test_what_a_consumer_never_acknowledged_comes_again(mosquitto_url: str) -> None:
    samples = make_samples(100)
    topic = new_topic()

    def source() -> MqttSource:
        return MqttSource(mosquitto_url, topic=topic, columns=COLUMNS, client_id="fixed", session=True)

    async def main() -> None:
        async with source() as first, SamplePublisher(mosquitto_url, topic=topic, columns=COLUMNS) as publisher:
            await publisher.publish(samples)
            await publisher.flush()
            batches = aiter(first)
            taken = await anext(batches)
            await first.acknowledge(taken)
            lost = await anext(batches)
        async with source() as second:
            rest = joined(await collect(second, 100 - len(taken.samples.t)))
        assert len(lost.samples.t) > 0
        everything = Samples(None, np.concatenate([taken.samples.t, rest.t]), np.concatenate([taken.samples.x, rest.x]))
        np.testing.assert_array_equal(everything.t, samples.t)
        np.testing.assert_array_equal(everything.x, samples.x)

    run(main())


def test_the_broker_holds_back_while_nothing_is_acknowledged(mosquitto_url: str) -> None:
    topic = new_topic()

    async def main() -> None:
        async with (
            MqttSource(mosquitto_url, topic=topic, columns=COLUMNS) as source,
            SamplePublisher(mosquitto_url, topic=topic, columns=COLUMNS) as publisher,
        ):
            await publisher.publish(make_samples(500))
            await publisher.flush()
            await asyncio.sleep(0.1)
            source.stop()
            assert sum([len(batch.samples.t) async for batch in source]) == 20

    run(main())


@pytest.mark.slow
def test_a_full_queue_of_qos_1_waits_and_loses_nothing(broker: str) -> None:
    samples = make_samples(400)
    topic = new_topic()

    async def main() -> None:
        source = MqttSource(broker, topic=topic, columns=COLUMNS, batch_messages=10, queue_messages=30)
        async with source, SamplePublisher(broker, topic=topic, columns=COLUMNS) as publisher:
            await publisher.publish(samples)
            longest, batches = 0, []
            async for batch in source:
                await asyncio.sleep(0.005)  # slower than the broker sends
                longest = max(longest, len(source._queue))
                batches.append(batch)
                await source.acknowledge(batch)
                if source.counts.samples == 400:
                    break
        assert longest <= 30 + 20  # one read of the socket may bring some more
        got = joined(batches)
        for stream in STREAMS:
            np.testing.assert_array_equal(of_stream(got, stream)[0], of_stream(samples, stream)[0])
        assert source.counts.dropped == 0

    run(main())


def test_a_full_queue_of_qos_0_drops_the_oldest_and_counts(broker: str) -> None:
    topic = new_topic()
    samples = make_samples(50)

    async def main() -> None:
        async with (
            MqttSource(broker, topic=topic, columns=COLUMNS, qos=0, queue_messages=8, batch_messages=3) as source,
            SamplePublisher(broker, topic=topic, columns=COLUMNS, qos=1) as publisher,
        ):
            await publisher.publish(samples)
            await publisher.flush()
            while source.counts.dropped < 42:
                await asyncio.sleep(0.01)
            source.stop()
            batches = [batch async for batch in source]
            assert [len(batch.samples.t) for batch in batches] == [3, 3, 2]
            np.testing.assert_array_equal(joined(batches).t, samples.t[-8:])
            assert all(batch.receipts == () for batch in batches)

    run(main())


def test_stop_ends_a_source_that_waits(broker: str) -> None:
    async def main() -> None:
        async with MqttSource(broker, topic=new_topic(), columns=COLUMNS) as source:
            asyncio.get_running_loop().call_later(0.05, source.stop)
            assert [batch async for batch in source] == []

    run(main(), 5)


def test_a_second_stop_does_not_put_off_the_end(broker: str) -> None:
    async def main() -> None:
        topic = new_topic()
        async with MqttSource(broker, topic=topic, columns=Columns(channels=("a",)), qos=0) as source:
            for times in ((1.0, 2.0), (3.0, 4.0, 5.0)):
                await send(broker, *((topic.format(stream="s"), sample(t, a=1.0)) for t in times))
                while source.waiting < times[-1]:
                    await asyncio.sleep(0.01)
                source.stop()
            assert [t async for batch in source for t in batch.samples.t] == [1.0, 2.0]

    run(main())


def every_client(
    address: MqttAddress | str, timeout: float = 5.0
) -> list[Callable[[], MqttSource | MqttSink | SamplePublisher]]:
    return [
        lambda: MqttSource(
            address, topic="a/{stream}", columns=COLUMNS, link=MqttLink(timeout=timeout, reconnect=False)
        ),
        lambda: MqttSink(address, topic="a/{stream}", link=MqttLink(timeout=timeout, reconnect=False)),
        lambda: SamplePublisher(
            address, topic="a/{stream}", columns=COLUMNS, link=MqttLink(timeout=timeout, reconnect=False)
        ),
    ]


def fails_to_connect(url: str, match: str, timeout: float = 5.0) -> None:
    async def main() -> None:
        for make in every_client(url, timeout):
            with pytest.raises(BrokerError, match=match) as caught:
                async with make():
                    pass
            assert url.rpartition("@")[2].removeprefix("mqtt://") in str(caught.value)
            assert "S3CRET" not in str(caught.value)
            assert "S3CRET" not in repr(caught.value.__cause__)

    run(main())


def test_a_broker_that_is_not_there_is_an_error_with_a_remedy() -> None:
    fails_to_connect(f"mqtt://me:S3CRET@127.0.0.1:{free_port()}", "start the broker or check host, port")


def test_a_broker_that_is_silent_is_an_error_within_the_timeout() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        fails_to_connect(
            f"mqtt://me:S3CRET@127.0.0.1:{silent.getsockname()[1]}", "start the broker or check host, port", timeout=0.3
        )


@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
def test_a_broker_that_refuses_a_password_is_an_error_without_it(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.touch(0o600)
    made = subprocess.run(["mosquitto_passwd", "-b", str(passwords), "me", "right"], capture_output=True, check=False)
    assert made.returncode == 0, made.stderr
    with mosquitto(tmp_path, passwords=passwords) as url:
        fails_to_connect(url.replace("://", "://me:S3CRET@"), "refuses the connection.*check user and password")

        async def main() -> None:
            for make in every_client(url.replace("://", "://me:right@")):
                async with make():
                    pass

        run(main())


@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
def test_a_broker_that_goes_away_is_an_error(tmp_path: Path) -> None:
    row = {"stream": "s", "window": 0, "t_start": 0.0, "t_end": 1.0, "value": [1.0]}

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            with mosquitto(tmp_path) as url:
                source, sink, publisher = [make() for make in every_client(url)]
                for client in (source, sink):
                    await stack.enter_async_context(client)
                await publisher.__aenter__()
            with pytest.raises(BrokerError, match=r"127\.0\.0\.1:\d+ went away"):
                await anext(aiter(source))
            with pytest.raises(BrokerError, match=r"127\.0\.0\.1:\d+ went away"):
                await sink.write(pa.RecordBatch.from_pylist([row]))
            with pytest.raises(BrokerError, match=r"127\.0\.0\.1:\d+ went away"):
                await publisher.publish(make_samples(1000))
            await publisher.__aexit__(BrokerError, None, None)

    run(main())


@pytest.mark.parametrize(
    "arguments", [{"session": True}, {"qos": 2}, {"batch_messages": 0}, {"topic": "no/placeholder"}]
)
def test_arguments_that_cannot_work_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ParameterError):
        MqttSource("mqtt://host", **{"topic": "a/{stream}", "columns": COLUMNS, **arguments})


async def send(url: str, *messages: tuple[str, bytes]) -> None:
    address = MqttAddress.parse(url)
    async with aiomqtt.Client(address.host, address.port) as client:
        for topic, payload in messages:
            await client.publish(topic, payload, qos=1)


async def take(source: MqttSource, messages: int) -> list[MqttBatch]:
    """Batches until so many messages were taken."""
    batches: list[MqttBatch] = []
    async for batch in source:
        batches.append(batch)
        await source.acknowledge(batch)
        if source.counts.messages >= messages:
            break
    return batches


def sample(t: float, **beside: float) -> bytes:
    return json.dumps({"t": t, "a": 1.0, "b": 2.0} | beside).encode()


def test_status_texts_beside_the_data_set_their_topic_aside_and_not_the_stream(
    broker: str, caplog: pytest.LogCaptureFixture
) -> None:
    root = f"tele-{uuid4().hex}"

    async def main() -> None:
        source = MqttSource(broker, topic=f"{root}/{{stream}}/+", columns=COLUMNS, quarantine=Quarantine())
        async with source:
            info = [(f"{root}/d1/INFO", b'{"Version": "13.1", "RestartReason": "Power On"}')] * 12
            await send(broker, *info, *[(f"{root}/d1/SENSOR", sample(t)) for t in range(120)], *info)
            batches = await take(source, 144)
        assert joined(batches).t.tolist() == list(range(120))
        assert (source.counts.malformed, source.counts.quarantined) == (10, 14)
        assert sum(len(batch.letters) for batch in batches) == 24
        assert all(
            "has no time 't' and has none of a, b; it has: Version" in x.reason for b in batches for x in b.letters
        )
        assert len(source.quarantine) == 1
        assert source.topic_of("d1") == f"{root}/d1/SENSOR"
        assert source.topic_of("d2") is None

    with caplog.at_level(logging.WARNING):
        run(main())
    assert f"topic '{root}/d1/INFO' (stream 'd1') is set aside after 10 messages in a row" in caplog.text


def test_a_readable_message_ends_a_quarantine_and_is_used(broker: str, caplog: pytest.LogCaptureFixture) -> None:
    topic = new_topic()

    async def main() -> None:
        source = MqttSource(broker, topic=topic, columns=COLUMNS, quarantine=Quarantine(faults=3, seconds=1e6))
        async with source:
            place = topic.format(stream="s")
            await send(broker, *[(place, b"starting")] * 5, *[(place, sample(t)) for t in range(3)], (place, b"x"))
            batches = await take(source, 9)
        assert joined(batches).t.tolist() == [0.0, 1.0, 2.0]
        assert (source.counts.malformed, source.counts.quarantined) == (4, 2)

    with caplog.at_level(logging.WARNING):
        run(main())
    assert "can be read again" in caplog.text


def test_a_channel_that_sends_texts_leaves_the_others_alone(broker: str) -> None:
    root = f"esp-{uuid4().hex}"

    async def main() -> None:
        value = Columns(channels=("value",), time="")
        subscription = Subscription(TopicTemplate(f"{root}/{{stream}}/{{channel}}"), JsonCodec(value))
        source = MqttSource(broker, subscriptions=[subscription], columns=COLUMNS, quarantine=Quarantine(faults=2))
        async with source:
            bad = [(f"{root}/d/a", b"unavailable")] * 6 + [(f"{root}/d/rssi", b'{"value": -60}')]
            await send(broker, *bad, *[(f"{root}/d/b", b'{"value": 1.5}')] * 4)
            batches = await take(source, 11)
        assert joined(batches).x[:, 1].tolist() == [1.5] * 4
        assert (source.counts.malformed, source.counts.quarantined, source.counts.merged) == (3, 4, 0)
        assert "the channel 'rssi', which is none of a, b" in [x.reason for b in batches for x in b.letters][-1]

    run(main())


@pytest.mark.parametrize(
    ("template", "topics", "merged"),
    [
        ("{root}/+/{{stream}}/imu", ["{root}/p1/w1/imu", "{root}/p2/w1/imu"], 1),
        ("{root}/{{stream}}/#", ["{root}/w1/left", "{root}/w1/right/raw", "{root}/w1/x"], 1),
        ("{root}/{{site}}/{{stream}}/imu", ["{root}/p1/w1/imu", "{root}/p2/w1/imu"], 0),
        ("{root}/+/{{stream}}/imu", ["{root}/p1/w1/imu", "{root}/p2/w2/imu"], 0),
    ],
)
def test_devices_that_become_one_stream_are_said_once(
    broker: str, caplog: pytest.LogCaptureFixture, template: str, topics: list[str], merged: int
) -> None:
    root = f"plant-{uuid4().hex}"

    async def main() -> None:
        source = MqttSource(broker, topic=template.format(root=root), columns=COLUMNS)
        async with source:
            places = [topic.format(root=root) for topic in topics]
            await send(broker, *[(place, sample(t)) for t in range(5) for place in places])
            await take(source, 5 * len(places))
        assert source.counts.merged == merged

    with caplog.at_level(logging.WARNING):
        run(main())
    found = [record.getMessage() for record in caplog.records if "from two topics" in record.getMessage()]
    assert len(found) == merged
    if merged:
        assert all(repr(topic.format(root=root)) in found[0] for topic in topics[:2])


def test_messages_that_never_came_are_counted_by_their_numbers_and_said_once(
    broker: str, caplog: pytest.LogCaptureFixture
) -> None:
    topic = new_topic()
    columns = Columns(channels=("a", "b"), sequence="seq")

    async def main() -> None:
        async with MqttSource(broker, topic=topic, columns=columns) as source:
            place = topic.format(stream="s")
            numbers = [0, 1, 2, 999, 3001, 3002]
            messages = [(place, sample(n / 10, seq=n)) for n in numbers]
            messages.insert(3, (place, b"cut"))
            await send(broker, *messages, (topic.format(stream="other"), sample(0.0, seq=7)))
            batches = await take(source, 8)
        got = joined(batches)
        assert got.x.shape == (7, 2)
        np.testing.assert_array_equal(got.x, [[1.0, 2.0]] * 7)
        assert source.counts.missed == 995 + 2001  # the one that could not be read has come
        assert source.sequences.missed == {"s": 2996}

    with caplog.at_level(logging.WARNING):
        run(main())
    found = [record.getMessage() for record in caplog.records if "never came" in record.getMessage()]
    assert len(found) == 1
    assert "stream 's': 995 messages or samples never came, between number 3 and 999" in found[0]


def test_streams_of_several_levels_go_in_and_out_by_their_names(broker: str) -> None:
    root = f"plant-{uuid4().hex}"
    columns = {"window": 0, "t_start": 0.0, "t_end": 1.0, "value": [1.0]}

    async def main() -> None:
        address = MqttAddress.parse(broker)
        template = f"{root}/{{site}}/{{stream}}/imu"
        async with (
            aiomqtt.Client(address.host, address.port) as client,
            MqttSource(broker, topic=template, columns=COLUMNS) as source,
            MqttSink(broker, topic=f"{root}/out/{{site}}/{{stream}}") as sink,
        ):
            await client.subscribe(f"{root}/out/#", qos=1)
            await send(broker, *[(f"{root}/{site}/w1/imu", sample(0.0)) for site in ("p1", "p2")])
            names = joined(await take(source, 2)).streams.to_pylist()
            assert names == ["p1/w1", "p2/w1"]
            await sink.write(pa.RecordBatch.from_pylist([{"stream": name, **columns} for name in names]))
            found = []
            async for message in client.messages:
                found.append((str(message.topic), decode_prediction(message.payload)["stream"]))
                if len(found) == 2:
                    break
        assert sorted(found) == [(f"{root}/out/{name}", name) for name in names]

    run(main())


@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
def test_what_a_broker_drops_while_a_service_is_away_is_noticed_by_its_numbers(tmp_path: Path) -> None:
    columns = Columns(channels=("a", "b"), sequence="n")

    async def main() -> None:
        with mosquitto(tmp_path, config="max_queued_messages 100") as url:

            def source() -> MqttSource:
                return MqttSource(url, topic="s/{stream}/imu", columns=columns, client_id="away", session=True)

            async with source() as first:
                await send(url, ("s/w1/imu", sample(0.0, n=0)))
                await take(first, 1)
                assert first.counts.missed == 0
            await send(url, *[("s/w1/imu", sample(float(n), n=n)) for n in range(1, 300)])
            async with source() as second:
                while not second.waiting:
                    await asyncio.sleep(0.01)
                reading = asyncio.create_task(until_number(second, 300))
                await asyncio.sleep(0)
                while not reading.done():
                    # Until the queue is read, the broker may drop this one too.
                    await send(url, ("s/w1/imu", sample(300.0, n=300)))
                    await asyncio.sleep(0.05)
                numbers = await reading
            assert len(set(numbers)) + second.counts.missed == 300
            assert second.counts.missed >= 300 - 100 - 20 - 1
            assert second.sequences.missed == {"w1": second.counts.missed}

    run(main(), 60)


async def until_number(source: MqttSource, last: float) -> list[float]:
    """Times of the samples, up to one of that time."""
    found: list[float] = []
    async for batch in source:
        found += batch.samples.t.tolist()
        await source.acknowledge(batch)
        if last in found:
            return found
    return found
