"""What times that cannot be right cost everybody else: latency of the other streams, and of /metrics.

Run: python tests/benchmarks/hostile_times.py [--seconds 4] [--streams 200]. One process, no broker: batches of all
streams every 50 ms through a pipeline, and in the middle of it a sample 10 years ahead, or in ms, us or ns, a silence
that is bridged in full, 3,000 streams that come back at once after 20 s, or 200 sensors that are off for a night, by a
clock that runs 300 times as fast.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

import streamrde as sr
from streamrde.connectors import ends
from streamrde.connectors.samples import Samples
from streamrde.runtime.exposition import Exposition
from streamrde.runtime.health import HealthServer
from streamrde.runtime.pipeline import Pipeline
from streamrde.runtime.silence import Silence

MODEL = Path(sr.__file__).parent / "demo" / "watch" / "model.safetensors"
TICK = 0.05
NOW = 1.7e9
WINDOW = 0.5


class Batch:
    def __init__(self, names, t, due):
        x = np.sin(np.outer(np.asarray(t) - NOW, np.arange(1, 7))) * 0.3
        self.samples = Samples(pa.array(names, pa.string()), np.asarray(t, float), x)
        self.arrivals, self.messages, self.letters, self.ends = np.full(len(t), due), len(t), (), ()
        self.source = ""
        self.due = due


class Source(ends.Source):
    def __init__(self, streams, seconds, hostile, clock):
        self.clock = clock
        self.names = [f"s{i}" for i in range(streams)]
        self.ticks, self.hostile, self.late = int(seconds / TICK), hostile, []

    async def __aiter__(self):
        begin = time.perf_counter() + TICK
        for tick in range(self.ticks):
            due = begin + tick * TICK
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if tick in (1, self.ticks // 2):
                names, t = self.hostile(tick > 1)
                if names:
                    yield Batch(names, t, due)
            now = NOW + tick * TICK if self.clock is None else self.clock.now()
            yield Batch(self.names, np.full(len(self.names), now), due)

    async def acknowledge(self, batch):
        if len(batch.samples.t) == len(self.names):
            self.late.append(time.perf_counter() - batch.due)

    def stop(self):
        return None


class Sink(ends.Sink):
    rows = 0

    async def write(self, batch):
        # As a broker would: encoded one by one, confirmed together.
        for row in batch.to_pylist():
            sr_encode(row)
            self.rows += 1
            if self.rows % 50 == 0:
                await asyncio.sleep(0)


def sr_encode(row):
    from streamrde.connectors.codecs import encode_prediction

    return encode_prediction(row)


class Night:
    """A clock that goes a minute at a time, five times a second."""

    def __init__(self):
        self.passed = 0.0

    def now(self):
        return NOW + self.passed

    async def sleep(self, seconds):
        await asyncio.sleep(0.2)
        self.passed += 60.0


def far(times):
    return lambda again: (["far"], [times if again else NOW])


def returning(count):
    return lambda again: ([f"r{i}" for i in range(count)], np.full(count, NOW + (20.0 if again else 0.0)))


def asleep(count):
    return lambda again: ([], []) if again else ([f"n{i}" for i in range(count)], np.full(count, NOW))


def quiet(again):
    return [], []


def cases(scale=1.0):
    return {
        "nothing": (quiet, None),
        "10 years ahead": (far(NOW + 10 * 365.25 * 86400), None),
        "in ms": (far(NOW * 1e3), None),
        "in us": (far(NOW * 1e6), None),
        "in ns": (far(NOW * 1e9), None),
        "a silence bridged in full": (far(NOW + 999 * WINDOW), None),
        "3,000 streams come back": (returning(int(3000 * scale)), None),
        "a night by the clock": (asleep(int(200 * scale)), Night),
    }


async def ask(port, took):
    while True:
        began = time.perf_counter()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
        await reader.read()
        writer.close()
        took.append(time.perf_counter() - began)
        await asyncio.sleep(0.03)


async def measure(hostile, clock, streams, seconds):
    clock = clock() if clock else None
    source, sink, took = Source(streams, seconds, hostile, clock), Sink(), []
    bundle = sr.load(MODEL)
    if clock is not None:
        bundle = sr.Bundle(msgspec_hold(bundle.header), bundle.tensors)
    fleet = sr.Fleet(bundle, faults="drop", time_check="off")
    silence = Silence(advance="clock", every=1.0) if clock else None
    pipeline = Pipeline(source, fleet, sink, flush=False, silence=silence, clock=clock)
    exposition = Exposition(pipeline.metrics, connections={}, refresh=pipeline.count)
    async with HealthServer(obstacles=list, metrics=exposition.text, port=0) as server:
        asking = asyncio.create_task(ask(server.port, took))
        await pipeline.run()
        asking.cancel()
    late, took = np.array(source.late) * 1e3, np.array(took) * 1e3
    return np.quantile(late, [0.5, 0.99]), np.quantile(took, [0.5, 1.0]), sink.rows


def msgspec_hold(header):
    import msgspec

    return msgspec.structs.replace(header, interpolation="hold")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the 3,000 and of the 200 streams")
    given = parser.parse_args(arguments)
    print(f"{'case':28} {'others p50':>10} {'p99':>8} {'/metrics p50':>13} {'worst':>8} {'predictions':>12}   (ms)")
    for case, (hostile, clock) in cases(given.scale).items():
        late, took, rows = asyncio.run(measure(hostile, clock, given.streams, given.seconds))
        print(f"{case:28} {late[0]:10.1f} {late[1]:8.1f} {took[0]:13.1f} {took[1]:8.1f} {rows:12,}")


if __name__ == "__main__":
    main()
