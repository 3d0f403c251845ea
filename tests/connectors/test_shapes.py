"""Messages of every shape are used as they are or refused, and every one of them is counted."""

from __future__ import annotations

import asyncio
import collections
import random
import time

import numpy as np
import pyarrow as pa
import pytest
from bundles import make_bundle
from paho.mqtt.client import MQTTMessage
from shapes import CHANNELS, FORMATS, UNITS, Message, Must, messages

from streamrde import Channel, Fleet
from streamrde.connectors.codecs import CborCodec, JsonCodec, MessagePackCodec
from streamrde.connectors.ends import Sink
from streamrde.connectors.mqtt import MqttAddress, MqttSource, Subscription, TopicTemplate
from streamrde.connectors.mqtt.connection import MqttConnection
from streamrde.connectors.quarantine import Quarantine
from streamrde.connectors.samples import Columns
from streamrde.runtime.pipeline import Pipeline

CODECS = {"json": JsonCodec, "msgpack": MessagePackCodec, "cbor": CborCodec}


def source_of(url: str, format: str, unit: str, **options: object) -> MqttSource:
    columns = Columns(channels=CHANNELS, time_unit=unit)
    subscription = Subscription(TopicTemplate("s/{stream}/+"), CODECS[format](columns))
    return MqttSource(url, columns=columns, subscriptions=[subscription], quarantine=Quarantine(), **options)


def fleet() -> Fleet:
    channels = tuple(Channel(name=name) for name in CHANNELS)
    return Fleet(make_bundle(channels=channels), faults="drop")


def delivered(message: Message) -> MQTTMessage:
    received = MQTTMessage(topic=message.topic.encode())
    received.payload = message.payload
    return received


def wrong(message: Message, t: np.ndarray, x: np.ndarray, refused: bool) -> str:
    """How a message was misread; empty where it was not."""
    if refused:
        return "refused" if message.must is Must.READ else ""
    if message.must is Must.REFUSE:
        return "used"
    wanted_t = np.array([t for t, _ in message.rows])
    wanted_x = np.array([values for _, values in message.rows])
    same = t.shape == wanted_t.shape and x.shape == wanted_x.shape
    if not same or not np.array_equal(x, wanted_x, equal_nan=True) or np.abs(t - wanted_t).max() > 2.4e-7:
        return "used wrongly"
    return ""


def carry(count: int, *, format: str, unit: str, seed: int) -> collections.Counter[str]:
    """Give messages to a source and a fleet; fail where one is misread, or where the counts do not add up."""
    source, streams = source_of("mqtt://127.0.0.1", format, unit), fleet()
    fates: collections.Counter[str] = collections.Counter()
    sent, rows, pushed = 0, 0, []
    for message in messages(random.Random(seed), count, format=format, unit=unit):
        sent += 1
        source._receive(delivered(message), None)
        batch = source._next_batch(1)
        reason = wrong(message, batch.samples.t, batch.samples.x, bool(batch.letters))
        assert not reason, (reason, message.shape, message.payload, batch)
        assert len(batch.letters) == (not len(batch.samples.t))
        assert all(letter.reason and letter.payload == message.payload for letter in batch.letters)
        rows += len(batch.samples.t)
        fates[message.shape.split(",")[0] + (" refused" if batch.letters else " used")] += 1
        if len(batch.samples.t):
            pushed.append(batch.samples)
        if len(pushed) == 200:
            push(streams, pushed)
    push(streams, pushed)
    counts = source.counts
    used_messages = sent - counts.malformed - counts.quarantined - counts.dropped
    assert used_messages == sum(number for fate, number in fates.items() if fate.endswith(" used"))
    assert counts.messages == sent
    assert sum(streams.counts()) == rows == counts.samples
    found = streams.counts()
    assert found.samples > 0
    assert found.late > 0 or count < 500
    return fates


def push(streams: Fleet, pushed: list[object]) -> None:
    if pushed:
        names = pa.concat_arrays([samples.streams for samples in pushed])
        t, x = (np.concatenate([getattr(samples, name) for samples in pushed]) for name in ("t", "x"))
        streams.push(names, t, x)
        pushed.clear()


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("unit", UNITS)
def test_no_message_is_used_wrongly_in_silence_and_the_counts_add_up(format: str, unit: str) -> None:
    fates = carry(500, format=format, unit=unit, seed=list(UNITS).index(unit))
    assert len(fates) > 15, "all shapes were there"


class Nowhere(Sink):
    """A sink that takes everything."""

    async def write(self, batch: pa.RecordBatch) -> None: ...


@pytest.mark.slow
def test_over_a_real_broker_every_message_is_accounted_for(mosquitto_url: str) -> None:
    sent = list(messages(random.Random(7), 1500))

    async def main() -> None:
        source, streams = source_of(mosquitto_url, "json", "s"), fleet()
        pipeline = Pipeline(source, streams, Nowhere())
        running = asyncio.create_task(pipeline.run())
        while not pipeline.started:
            await asyncio.sleep(0.01)
        async with MqttConnection(MqttAddress.parse(mosquitto_url)) as publisher:
            for message in sent:
                await publisher.publish(message.topic, message.payload, 1)
            await publisher.drain()
        deadline = time.monotonic() + 60
        while source.counts.messages < len(sent) and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        pipeline.stop()
        found = (await running).summary()
        read = {id(message) for message in sent if message.must is Must.READ}
        refused = sum(message.must is Must.REFUSE for message in sent)
        unread = found["malformed"] + found["quarantined"] + found["dropped"]
        assert refused <= unread <= len(sent) - len(read)
        fates = sum(found[name] for name in ("samples", "late", "duplicate", "rejected", "merged"))
        assert fates == found["rows"] == source.counts.samples
        assert source.counts.messages == len(sent)

    asyncio.run(asyncio.wait_for(main(), 120))
