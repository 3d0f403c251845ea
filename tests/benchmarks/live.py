"""How fast a live run takes messages, beside a bare aiomqtt consumer that only acknowledges, and its latency.

    python tests/benchmarks/live.py                    # throughput and latency; needs mosquitto
    python tests/benchmarks/live.py --memory 1000000   # resident memory over so many messages

QoS 1: the messages wait at the broker, in the session of a client that is away; the clock runs while they are drained,
each consumer in turn, round after round. "bare" acknowledges and does nothing else; "source" is MqttSource alone:
decode, micro-batch, acknowledge; "run" is the whole pipeline: model, predictions confirmed by the broker, state saved
with a full sync before anything is acknowledged. QoS 0: a publisher in a process of its own sends at 1.4 times the rate
of "bare" at QoS 1, and what arrived in some seconds is counted. At twice that rate mosquitto itself falls behind, and
confirms no predictions in time. Latency is from the publication of the sample that closes
a window to the reception of its prediction, at half the rate of "run".
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiomqtt
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from brokers import mosquitto

import streamrde as sr
from streamrde.connectors.codecs import decode_prediction
from streamrde.connectors.mqtt import MqttAddress, MqttSink, MqttSource
from streamrde.connectors.mqtt.connection import MqttConnection
from streamrde.demo.watch_data import COLUMNS, MODEL
from streamrde.runtime.checkpoints import CheckpointPolicy
from streamrde.runtime.pipeline import Pipeline
from streamrde.state import SqliteStore

STREAMS = 100
INFLIGHT = 1000
CONFIG = f"max_inflight_messages {INFLIGHT}\nmax_queued_messages 0"


def payload(i: int) -> tuple[str, bytes]:
    """Message i: a sample of 50 Hz of one of the streams, about 80 bytes."""
    stream, n = i % STREAMS, i // STREAMS
    values = ", ".join(f'"{c}": {((i * 7919 + k) % 1000) / 100:.2f}' for k, c in enumerate(COLUMNS.channels))
    return f"live/s{stream}/imu", b'{"t": %.2f, %s}' % (n * 0.02, values.encode())


async def fill(url: str, messages: int, first: int = 0) -> None:
    async with MqttConnection(MqttAddress.parse(url), inflight=INFLIGHT) as client:
        for i in range(first, first + messages):
            await client.publish(*payload(i), 1)
        await client.drain()


async def subscribe(url: str, name: str) -> None:
    """Begin a session and leave."""
    address = MqttAddress.parse(url)
    async with aiomqtt.Client(address.host, address.port, identifier=name, clean_session=False) as client:
        await client.subscribe("live/+/imu", 1)


async def bare(url: str, messages: int, qos: int = 1, seconds: float = 0.0) -> float:
    """aiomqtt with acknowledgement by hand, and nothing else; returns messages per second."""
    address = MqttAddress.parse(url)
    options = {"identifier": "bare", "clean_session": False} if qos else {}
    client = aiomqtt.Client(address.host, address.port, **options)
    client._client.manual_ack_set(True)
    taken, began = 0, 0.0
    async with client:
        if not qos:
            await client.subscribe("live/+/imu", 0)
        async for message in client.messages:
            began = began or time.perf_counter()
            if qos:
                client._client.ack(message.mid, 1)
            taken += 1
            if taken == messages or (seconds and time.perf_counter() - began > seconds):
                break
        return taken / (time.perf_counter() - began)


async def source_only(url: str, messages: int, qos: int = 1, seconds: float = 0.0) -> float:
    options = {"client_id": "source", "session": True} if qos else {}
    source = MqttSource(url, topic="live/{stream}/imu", columns=COLUMNS, qos=qos, **options)
    began = 0.0
    async with source:
        async for batch in source:
            began = began or time.perf_counter()
            await source.acknowledge(batch)
            if source.counts.messages >= messages or (seconds and time.perf_counter() - began > seconds):
                break
        return source.counts.messages / (time.perf_counter() - began)


def service(url: str, folder: Path, qos: int = 1) -> Pipeline:
    options = {"client_id": "run", "session": True} if qos else {}
    source = MqttSource(url, topic="live/{stream}/imu", columns=COLUMNS, qos=qos, **options)
    store = SqliteStore(folder / f"state-{time.monotonic_ns()}.db")
    store.open({})
    return Pipeline(
        source,
        sr.Fleet(sr.load(MODEL), faults="drop"),
        MqttSink(url, topic="predictions/{stream}", inflight=INFLIGHT),
        store=store,
        policy=CheckpointPolicy(seconds=1.0, messages=INFLIGHT // 2),
    )


async def whole(url: str, messages: int, folder: Path, qos: int = 1, seconds: float = 0.0) -> float:
    pipeline = service(url, folder, qos)
    began: list[float] = []

    def on_batch(metrics) -> None:
        began.append(time.perf_counter()) if not began else None
        late = seconds and time.perf_counter() - began[0] > seconds
        if pipeline.source.counts.messages >= messages or late:
            pipeline.stop()

    pipeline._on_batch = on_batch
    await pipeline.run()
    pipeline.close()
    return pipeline.source.counts.messages / (time.perf_counter() - began[0])


async def throughput_qos_1(url: str, messages: int, rounds: int, folder: Path) -> dict[str, list[float]]:
    for name in ("bare", "source", "run"):
        await subscribe(url, name)
    rates: dict[str, list[float]] = {"bare": [], "source": [], "run": []}
    for _ in range(rounds):
        await fill(url, messages)
        rates["bare"].append(await bare(url, messages))
        rates["source"].append(await source_only(url, messages))
        rates["run"].append(await whole(url, messages, folder))
    return rates


async def throughput_qos_0(url: str, rate: float, rounds: int, folder: Path) -> dict[str, list[float]]:
    rates: dict[str, list[float]] = {"bare": [], "source": [], "run": []}
    sender = subprocess.Popen([sys.executable, __file__, "--send", url, str(rate)])
    try:
        for _ in range(rounds):
            rates["bare"].append(await bare(url, 0, 0, 3.0))
            rates["source"].append(await source_only(url, 1 << 60, 0, 3.0))
            rates["run"].append(await whole(url, 1 << 60, folder, 0, 3.0))
    finally:
        sender.kill()
        sender.wait()
    return rates


async def send(url: str, rate: float) -> None:
    async with MqttConnection(MqttAddress.parse(url), inflight=INFLIGHT) as client:
        began, i = time.perf_counter(), 0
        while True:
            while i < rate * (time.perf_counter() - began):
                await client.publish(*payload(i), 0)
                i += 1
            await asyncio.sleep(0.001)


async def probe(url: str, rate: float, seconds: float) -> dict[str, float]:
    """Send at a rate, in a process of its own, and time the predictions."""
    sent: dict[tuple[str, int], float] = {}
    waits: list[float] = []

    def received(message, receipt) -> None:
        row = decode_prediction(bytes(message.payload))
        n = round(row["t_end"] / 0.02)
        if (at := sent.get((row["stream"], n))) is not None:
            waits.append(time.perf_counter() - at)

    address = MqttAddress.parse(url)
    viewer = MqttConnection(address, subscriptions=[("predictions/+", 0)], on_message=received)
    async with viewer, MqttConnection(address, inflight=INFLIGHT) as client:
        began, i = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            while i < rate * (time.perf_counter() - began):
                topic, data = payload(i)
                sent[topic.split("/")[1], i // STREAMS] = time.perf_counter()
                await client.publish(topic, data, 1)
                i += 1
            await asyncio.sleep(0.001)
        await client.drain()
        await asyncio.sleep(1.0)
    figures = np.array(waits[len(waits) // 5 :]) * 1e3
    quantiles = np.quantile(figures, [0.5, 0.99]) if len(figures) else [np.nan] * 2
    return {
        "messages_per_second": i / seconds,
        "predictions": len(waits),
        "p50_ms": quantiles[0],
        "p99_ms": quantiles[1],
    }


async def latency(url: str, rate: float, seconds: float, folder: Path) -> dict[str, float]:
    pipeline = service(url, folder)
    running = asyncio.create_task(pipeline.run())
    command = [sys.executable, __file__, "--probe", url, str(rate), str(seconds)]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    out, _ = await process.communicate()
    pipeline.stop()
    await running
    pipeline.close()
    return json.loads(out)


async def memory(url: str, messages: int, folder: Path) -> list[tuple[int, float]]:
    """Resident memory of the process, in MB, every twentieth of the way."""
    await subscribe(url, "run")
    pipeline, seen, portion = service(url, folder), [], messages // 20
    running = asyncio.create_task(pipeline.run())
    for k in range(20):
        command = [sys.executable, __file__, "--fill", url, str(portion), str(k * portion)]
        process = await asyncio.create_subprocess_exec(*command)
        await process.wait()
        while pipeline.source.counts.messages < (k + 1) * portion:
            await asyncio.sleep(0.05)
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        seen.append(((k + 1) * portion, pages * os.sysconf("SC_PAGE_SIZE") / 1e6))
        print(f"{seen[-1][0]:>9,} messages: {seen[-1][1]:.1f} MB", flush=True)
    pipeline.stop()
    await running
    pipeline.close()
    return seen


def show(name: str, rates: dict[str, list[float]]) -> None:
    for consumer, values in rates.items():
        ratios = [value / base for value, base in zip(values, rates["bare"], strict=True)]
        print(
            f"{name}  {consumer:7} {statistics.median(values):>8,.0f} messages/s  "
            f"({min(values):,.0f}-{max(values):,.0f})  {statistics.median(ratios):.0%} of bare "
            f"({min(ratios):.0%}-{max(ratios):.0%})",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", type=int, metavar="MESSAGES")
    parser.add_argument("--send", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--fill", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--probe", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.send:
        asyncio.run(send(options.send[0], float(options.send[1])))
        return
    if options.fill:
        asyncio.run(fill(options.fill[0], int(options.fill[1]), int(options.fill[2])))
        return
    if options.probe:
        print(json.dumps(asyncio.run(probe(options.probe[0], float(options.probe[1]), float(options.probe[2])))))
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as temporary, mosquitto(Path(temporary), config=CONFIG) as url:
        folder = Path(temporary)
        if options.memory:
            seen = asyncio.run(memory(url, options.memory, folder))
            print(f"from a tenth of the way to the end: {seen[-1][1] - seen[1][1]:+.1f} MB")
            return
        rates = asyncio.run(throughput_qos_1(url, options.messages, options.rounds, folder))
        show("QoS 1", rates)
        show(
            "QoS 0", asyncio.run(throughput_qos_0(url, 1.4 * statistics.median(rates["bare"]), options.rounds, folder))
        )
        half = statistics.median(rates["run"]) / 2
        print("latency at half of that rate:", asyncio.run(latency(url, half, 10.0, folder)))


if __name__ == "__main__":
    main()
