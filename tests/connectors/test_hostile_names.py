"""Names of streams come from payloads: no name stops a run."""

import asyncio
import json
import threading

import numpy as np
import pyarrow as pa
import pytest
from bundles import make_bundle
from paho.mqtt import client as paho

from streamrde import Fleet
from streamrde.connectors.codecs.json import JsonCodec
from streamrde.connectors.columns import Columns
from streamrde.connectors.ends import Message
from streamrde.connectors.messages import MessageReader, Subscription
from streamrde.connectors.mqtt import MqttSink
from streamrde.connectors.topics import TopicTemplate


def reader():
    codec = JsonCodec(Columns(channels=("a",), sender=("id",)))
    return MessageReader([Subscription(TopicTemplate("x/#", named=False), codec)], ("a",), queue="test")


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b'{"t": 1, "a": NaN, "id": "\\ud800"}', "half of a surrogate pair"),
        (b'{"t": 1, "a": 1, "id": "%s"}' % (b"x" * 1001), "has 1001 bytes: send 1000 at most"),
        (b'{"t": 1, "a": 1, "id": ""}', "field 'id' is text, ''"),
    ],
)
def test_a_name_that_cannot_be_kept_makes_its_message_malformed(payload, reason):
    batch = reader().read([Message(b"x/1", payload, 0.0), Message(b"x/2", b'{"t": 1, "a": 1, "id": "w"}', 0.0)])
    assert batch.samples.streams.to_pylist() == ["w"]
    assert [reason in letter.reason for letter in batch.letters] == [True]


def test_predictions_of_streams_of_any_name_are_published(mosquitto_url):
    names = ["w1", "a/b", "+", "#", "nul\0", "%", "é" * 500, "\x1b[2J\n", "\x7f\x85", "\ufdd0\uffff"]
    bundle = make_bundle()
    fleet = Fleet(bundle)
    streams = pa.array([name for name in names for _ in range(2)])
    fleet.push(streams, np.tile([0.0, 0.25], len(names)), np.ones((2 * len(names), len(bundle.header.channels))))
    got, host, port = [], *mosquitto_url.removeprefix("mqtt://").split(":")
    viewer = paho.Client(paho.CallbackAPIVersion.VERSION2)
    viewer.on_message = lambda _, __, message: got.append((message.topic, json.loads(message.payload)["stream"]))
    subscribed = threading.Event()
    viewer.on_connect = lambda *_: viewer.subscribe("p/+", 1)
    viewer.on_subscribe = lambda *_: subscribed.set()
    viewer.connect(host, int(port))

    async def main():
        async with MqttSink(mosquitto_url, topic="p/{stream}") as sink:
            await sink.write(fleet.flush())
            while len({stream for _, stream in got}) < len(names):
                await asyncio.sleep(0.01)

    viewer.loop_start()
    try:
        assert subscribed.wait(20)
        asyncio.run(asyncio.wait_for(main(), 20))
    finally:
        viewer.disconnect()
        viewer.loop_stop()
    assert {stream for _, stream in got} == set(names)
    assert len(set(got)) == len({topic for topic, _ in got}) == len(names)
