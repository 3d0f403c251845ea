"""Attach to sensor streams over MQTT: every stream is classified while it runs.

usage: python examples/attach_to_stream.py [mqtt://host:port]

Without a broker's address it starts one in this process (extra `demo`) and plays two recordings into it.
"""

import asyncio
import sys

import streamrde as sr
from streamrde.connectors.broker import EmbeddedBroker
from streamrde.connectors.mqtt import MqttSink, MqttSource, SamplePublisher
from streamrde.demo.watch_data import COLUMNS, MODEL, held_out_files
from streamrde.runtime import Metrics, run
from streamrde.runtime.replay import Recording, load_recording, replay


async def serve(url: str, recording: Recording | None = None) -> Metrics:
    source = MqttSource(url, topic="sensors/{stream}/imu", columns=COLUMNS)
    sink = MqttSink(url, topic="predictions/{stream}")
    fleet = sr.Fleet(sr.load(MODEL), faults="drop")
    connected = asyncio.Event()
    service = asyncio.create_task(run(source, fleet, sink, on_start=connected.set, on_batch=show))
    if recording is not None:
        await connected.wait()
        async with SamplePublisher(url, topic="sensors/{stream}/imu", columns=COLUMNS, batch=10) as sensors:
            await replay(recording, sensors, speed=10, tick=0.02)
        source.stop()
    return await service


def show(metrics: Metrics) -> None:
    print(f"\r{metrics.streams} streams, {metrics.rows} samples, {metrics.predictions} predictions", end="")


if len(sys.argv) > 1:
    asyncio.run(serve(sys.argv[1]))
else:
    whole = load_recording(held_out_files()[0], COLUMNS)
    names = sorted(set(whole.streams))[:2]
    two = [i for i, name in enumerate(whole.streams) if name in names]
    with EmbeddedBroker() as broker:
        metrics = asyncio.run(serve(broker.url, Recording(whole.streams[two], whole.t[two], whole.x[two])))
    print(f"\np50 {metrics.latency.quantile(0.5) * 1e3:.1f} ms from arrival to confirmed prediction")
