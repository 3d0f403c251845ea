"""What a cluster costs: messages per second beside a bare client, transactions, restoring, and what compression saves.

    python tests/benchmarks/cluster.py throughput [--messages 1000000] [--rounds 5]    # minutes
    python tests/benchmarks/cluster.py transactions restore compression

Broker and workers share the processors of one machine, so that CPU seconds per message are printed beside messages per
second. The broker is Tansu by default, since it is fast; `--broker strict` takes that of tests/kafka_server.

throughput    a bare loop of confluent-kafka, which consumes, produces a payload per prediction and commits both in one
              transaction; the same with a record of the changelog per stream and checkpoint; one worker; two workers.
              In turn, round after round, on the same messages, which wait in the topic.
transactions  one small transaction of each of so many producers, one after another
restore       a worker begins with so many streams in one partition: from the topic, and from its cache
compression   snapshots of both models in batches as Kafka compresses them
plan          from these costs, what ten million streams with a sample a second need
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

import streamrde as sr
from streamrde.demo.watch_data import COLUMNS, MODEL, held_out_files
from streamrde.runtime.replay import load_recording

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from brokers import free_port, kafka_broker
from cluster_torture import CHANNELS, SAMPLES, bootstrap, create_topics, make_model, make_round, payload

PARTITIONS = 12
STREAMS = 5000
CHECKPOINT = 0.5  # seconds
SETTLED = 0.05  # of the messages, after which is measured
TICKS = os.sysconf("SC_CLK_TCK")


def fill(url: str, topic: str, messages: int, streams: int, samples: int = 1) -> None:
    """Produce so many messages, in rounds over the streams. A message has so many samples of its stream."""
    from confluent_kafka import Producer

    producer = Producer(bootstrap(url) | {"partitioner": "murmur2_random", "linger.ms": 20})
    number = sent = 0
    while sent < messages:
        waiting: dict[str, list[bytes]] = {}
        for _ in range(samples):
            one = make_round(0, number, streams)
            number += 1
            for name, t, x in zip(one.streams, one.t.tolist(), one.x.tolist(), strict=True):
                waiting.setdefault(name, []).append(payload(t, x))
        for name, parts in waiting.items():
            data = parts[0] if samples == 1 else b"[" + b",".join(parts) + b"]"
            while True:
                with contextlib.suppress(BufferError):
                    producer.produce(topic, data, key=name)
                    break
                producer.poll(0.05)
            sent += 1
        producer.poll(0)
    assert not producer.flush(120), "the broker does not take the samples"


def bare(url: str, group: str, changelog: bool) -> None:
    """Consume, produce and commit as cheaply as the client library can, until killed."""
    from confluent_kafka import Consumer, Producer

    snapshot, prediction = os.urandom(SNAPSHOT), b"p" * PREDICTION
    consumer = Consumer(
        bootstrap(url)
        | {
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "partition.assignment.strategy": "cooperative-sticky",
        }
    )
    producer = Producer(bootstrap(url) | {"transactional.id": f"{group}-{os.getpid()}", "linger.ms": 5})
    producer.init_transactions(30)
    consumer.subscribe([SAMPLES])
    changed, taken, begun, due = set[bytes](), 0, False, 0.0
    while True:
        for message in consumer.consume(1000, 0.05):
            if message.error() is not None:
                continue
            if not begun:
                producer.begin_transaction()
                begun, due = True, time.monotonic() + CHECKPOINT
            taken += 1
            if taken % 5 < 2:  # a window has 2.5 samples
                while True:
                    with contextlib.suppress(BufferError):
                        producer.produce(f"{group}.out", prediction, key=message.key())
                        break
                    producer.poll(0.01)
            if changelog:
                changed.add(message.key())
        if begun and time.monotonic() >= due:
            for key in changed:
                while True:
                    with contextlib.suppress(BufferError):
                        producer.produce(f"{group}.changes", snapshot, key=key)
                        break
                    producer.poll(0.01)
            changed.clear()
            producer.send_offsets_to_transaction(
                consumer.position(consumer.assignment()), consumer.consumer_group_metadata(), 30
            )
            producer.commit_transaction(30)
            begun = False


SNAPSHOT, PREDICTION = 510, 125  # bytes, of the model of examples/cluster_torture.py
AROUND = 150  # bytes of a record of the changelog around the snapshot: key, headers, framing


def write_run(
    folder: Path,
    url: str,
    group: str,
    topic: str,
    *,
    port: int = 0,
    cache: bool = False,
    checkpoint: float = CHECKPOINT,
) -> Path:
    make_model().save(folder / "model.safetensors")
    path = folder / f"{group}.toml"
    path.write_text(
        f"""model = "{folder / "model.safetensors"}"
[source]
kind = "kafka"
url = "{url}"
topic = "{topic}"
group = "{group}"
channels = ["{'", "'.join(CHANNELS)}"]
inflight = 10000
[sink]
kind = "kafka"
url = "{url}"
topic = "{group}.out"
[state]
kind = "kafka"
checkpoint_seconds = {checkpoint}
checkpoint_messages = 1000000
{f'cache = "{folder / "cache"}"' if cache else ""}
[service]
port = {port}
"""
    )
    return path


@contextlib.contextmanager
def processes(commands: list[list[str]], log: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    with log.open("ab") as out:
        started = [subprocess.Popen(command, stdout=out, stderr=out) for command in commands]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()


def cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Kind(NamedTuple):
    """What is measured: so many processes of a bare client or of workers."""

    name: str
    processes: int
    bare: bool = False
    changelog: bool = False
    checkpoint: float = CHECKPOINT
    samples: int = 1  # in a message


KINDS = (
    Kind("bare", 1, bare=True),
    Kind("bare with changelog", 1, bare=True, changelog=True),
    Kind("1 worker", 1),
    Kind("2 workers", 2),
    Kind("bare, 2 processes", 2, bare=True),
    Kind("1 worker, checkpoint 2 s", 1, checkpoint=2.0),
    Kind("1 worker, 10 samples", 1, samples=10),
)


def topic_of(kind: Kind) -> str:
    return SAMPLES if kind.samples == 1 else f"{SAMPLES}.{kind.samples}"


def measured(
    url: str, group: str, kind: Kind, commands: list[list[str]], messages: int, seconds: float, log: Path
) -> tuple[float, float]:
    """Return messages per second, and CPU seconds of the processes per million messages.

    It is measured from one commit to another, at least `seconds` later or when nearly all is done.
    """
    from confluent_kafka import Consumer, TopicPartition

    watcher = Consumer(bootstrap(url) | {"group.id": group, "isolation.level": "read_uncommitted"})
    partitions = [TopicPartition(topic_of(kind), number) for number in range(PARTITIONS)]
    began = last = (0.0, 0, 0.0)
    with processes(commands, log) as started:
        patience = time.monotonic() + 300
        while last[1] < 0.9 * messages and (not began[1] or last[0] - began[0] < seconds):
            time.sleep(0.02)
            done = sum(max(0, one.offset) for one in watcher.committed(partitions, timeout=20))
            now = time.monotonic()
            if done > last[1]:
                last = now, done, sum(map(cpu_seconds, started))
            if not began[1] and done > SETTLED * messages:
                began = last
            if now > patience or any(process.poll() is not None for process in started):
                text = log.read_text()[-2000:]
                raise SystemExit(f"{group} did not go on at {done} of {messages} messages; its log:\n{text}")
    watcher.close()
    if last is began:
        raise SystemExit(f"{group}: one commit took all; use more --messages")
    time_, count, spent = (after - before for before, after in zip(began, last, strict=True))
    return count / time_, spent / count * 1e6


def throughput(options: argparse.Namespace, url: str, folder: Path) -> None:
    found: dict[Kind, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    counts = {samples: options.messages // (1 if samples == 1 else 4) for samples in (1, 10)}
    for kind in {kind.samples: kind for kind in KINDS}.values():
        create_topics(url, {topic_of(kind): PARTITIONS})
        fill(url, topic_of(kind), counts[kind.samples], STREAMS, kind.samples)
    for number in range(options.rounds):
        for kind in KINDS:
            group = f"{re.sub(r'[^a-z0-9]+', '-', kind.name)}-{number}"
            create_topics(url, {f"{group}.out": PARTITIONS, f"{group}.changes": PARTITIONS})
            if kind.bare:
                command = [sys.executable, __file__, "bare", "--url", url, "--group", group]
                command += ["--changelog"] if kind.changelog else []
            else:
                config = write_run(folder, url, group, topic_of(kind), checkpoint=kind.checkpoint)
                command = [sys.executable, "-m", "streamrde", "run", str(config)]
            log = folder / f"{group}.log"
            commands = [command] * kind.processes
            one = measured(url, group, kind, commands, counts[kind.samples], options.seconds, log)
            print(f"{group:32}{one[0]:10,.0f}/s{one[1]:8.1f} us", file=sys.stderr, flush=True)
            found[kind].append(one)
    rates = {kind.name: statistics.median(rate for rate, _ in rows) for kind, rows in found.items()}
    print(f"\n{'messages per second':26}{'median':>10}{'min':>10}{'max':>10}{'us CPU/message':>16}{'of bare':>9}")
    for kind, rows in found.items():
        low, high = min(rate for rate, _ in rows), max(rate for rate, _ in rows)
        spent, rate = statistics.median(cost for _, cost in rows), rates[kind.name]
        print(f"{kind.name:26}{rate:10,.0f}{low:10,.0f}{high:10,.0f}{spent:16.1f}{rate / rates['bare']:9.2f}")
    print(f"2 workers / 1 worker: {rates['2 workers'] / rates['1 worker']:.2f}")


def transactions(options: argparse.Namespace, url: str, folder: Path) -> None:
    from confluent_kafka import Consumer, Producer, TopicPartition

    create_topics(url, {"transactions.in": 64, "transactions.out": 64})
    consumer = Consumer(bootstrap(url) | {"group.id": "transactions", "enable.auto.commit": False})
    consumer.subscribe(["transactions.in"])
    while not consumer.assignment():
        consumer.poll(0.1)
    print(f"\n{'producers':>10}{'to begin, s':>14}{'ms per transaction':>20}{'us CPU':>10}{'MB per producer':>18}")
    for count in (1, 4, 12, 48):
        memory, began = rss(), time.perf_counter()
        producers = [
            Producer(bootstrap(url) | {"transactional.id": f"t-{count}-{number}", "linger.ms": 0})
            for number in range(count)
        ]
        for producer in producers:
            producer.init_transactions(30)
        ready, rounds = time.perf_counter(), max(2, 100 // count)
        spent = resource.getrusage(resource.RUSAGE_SELF)
        for turn in range(rounds):
            for number, producer in enumerate(producers):
                producer.begin_transaction()
                for _ in range(10):
                    producer.produce("transactions.out", bytes(100), partition=number)
                producer.send_offsets_to_transaction(
                    [TopicPartition("transactions.in", number, turn)], consumer.consumer_group_metadata(), 30
                )
                producer.commit_transaction(30)
        ended, after = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        cpu = after.ru_utime + after.ru_stime - spent.ru_utime - spent.ru_stime
        done = rounds * count
        print(
            f"{count:10}{ready - began:14.2f}{(ended - ready) / done * 1e3:20.2f}{cpu / done * 1e6:10.0f}"
            f"{(rss() - memory) / count / 1e6:18.2f}"
        )
        del producers
    consumer.close()


def rss() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def restore(options: argparse.Namespace, url: str, folder: Path) -> None:
    from confluent_kafka import Producer

    create_topics(url, {"restore.in": 1, "restore.out": 1})
    producer = Producer(bootstrap(url) | {"linger.ms": 20})
    rng = np.random.default_rng(0)
    for number in range(options.streams):
        while True:
            with contextlib.suppress(BufferError):
                producer.produce(
                    "restore.in", payload(1.75e9, rng.normal(size=len(CHANNELS)).tolist()), key=f"s{number}"
                )
                break
            producer.poll(0.05)
    assert not producer.flush(120), "the broker does not take the samples"
    print(f"\n{'begins':24}{'streams':>9}{'MB':>8}{'seconds':>9}{'MB/s':>8}{'streams/s':>11}{'RSS, MB':>9}")
    for kind in ("with samples only", "from the topic", "from the topic again", "from the cache"):
        port, log = free_port(), folder / "restore.log"
        # The first one to have a cache fills it.
        cache = kind in ("from the topic again", "from the cache")
        config = write_run(folder, url, "restore", "restore.in", port=port, cache=cache)
        log.write_bytes(b"")
        with processes([[sys.executable, "-m", "streamrde", "run", str(config)]], log) as (worker,):
            patience = time.monotonic() + 300
            while not (found := partition(port)) or found["phase"] != "running" or found["lag"] != 0:
                time.sleep(0.1)
                if worker.poll() is not None or time.monotonic() > patience:
                    raise SystemExit(f"{kind}: {found}; its log:\n{log.read_text()[-2000:]}")
            memory = int(Path(f"/proc/{worker.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            worker.terminate()
            worker.wait(120)
        ((count, taken),) = re.findall(r"(\d+) streams restored in ([\d.]+) s", log.read_text())
        streams, seconds = int(count), max(float(taken), 0.01)
        size = streams * (SNAPSHOT + AROUND) / 1e6
        print(
            f"{kind:24}{streams:9}{size:8.1f}{seconds:9.2f}{size / seconds:8.1f}{streams / seconds:11,.0f}"
            f"{memory / 1e6:9.0f}"
        )


def partition(port: int) -> dict[str, Any]:
    """Return the status of the only partition of a worker, or nothing while it does not answer."""
    with (
        contextlib.suppress(OSError, IndexError, KeyError),
        urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=5) as answer,
    ):
        return dict(json.loads(answer.read())["partitions"][0])
    return {}


def compression(options: argparse.Namespace, url: str, folder: Path) -> None:
    recording = load_recording(held_out_files(), COLUMNS)
    kinds = {}
    for name, fleet, samples in (
        ("watch", sr.Fleet(sr.load(MODEL)), (pa.array(recording.streams), recording.t, recording.x)),
        ("small", sr.Fleet(make_model(), faults="drop"), None),
    ):
        found: list[bytes] = []
        for number in range(40):
            if samples is None:
                one = make_round(0, number, 50)
                fleet.push(pa.array(one.streams), one.t, one.x)
            else:  # a part of each recording, so that every state is another
                chosen = slice(number * 200, (number + 1) * 200)
                fleet.push(*(column[chosen] for column in samples))
            found += fleet.snapshot(list(fleet.streams)).values()
        kinds[name] = list(dict.fromkeys(found))
    print(f"\n{'snapshots':12}{'bytes':>8}{'records':>9}{'codec':>8}{'ratio':>8}{'MB/s in':>10}{'MB/s out':>10}")
    for name, snapshots in kinds.items():
        for records in (1, 20, 200):
            data = b"".join(snapshots[-records:])
            for codec in ("snappy", "lz4", "zstd", "gzip"):
                compressor = pa.Codec(codec)
                packed = compressor.compress(data, asbytes=True)
                works = (
                    (lambda c=compressor, d=data: c.compress(d)),
                    (lambda c=compressor, d=data, p=packed: c.decompress(p, len(d))),
                )
                speeds = [len(data) / seconds_of(work) / 1e6 for work in works]
                size, ratio = np.mean([*map(len, snapshots)]), len(data) / len(packed)
                print(f"{name:12}{size:8.0f}{records:9}{codec:>8}{ratio:8.2f}{speeds[0]:10.0f}{speeds[1]:10.0f}")


def plan(options: argparse.Namespace, url: str, folder: Path) -> None:
    """Print what streams at a sample a second need, from costs that the other parts have measured."""
    streams, allowed = options.plan_streams, 0.6  # share of a processor that may be busy
    print(f"\n{streams:,.0f} streams with a sample a second, {options.us:g} us of CPU per sample, ", end="")
    print(f"restoring at {options.restore_mb:g} MB/s, {options.overhead} bytes around a snapshot")
    print(
        "| Snapshot, bytes | Checkpoint, s | Samples per message | Processors | Partitions | Changelog, MB/s | ", end=""
    )
    print("Restore of a partition, s |")
    for snapshot, checkpoint, samples in (
        (3900, 1, 1), (3900, 10, 1), (3900, 60, 1), (510, 1, 1), (510, 10, 1), (510, 60, 1), (510, 60, 60),
    ):  # fmt: skip
        # Several samples in a message save two fifths of the work.
        processors = streams * options.us * (1.0 if samples == 1 else 0.6) * 1e-6 / allowed
        partitions = max(2 * processors, streams / options.streams)
        record = snapshot + options.overhead
        changelog = streams / max(checkpoint, samples) * record / 1e6
        seconds = streams / partitions * record / 1e6 / options.restore_mb
        print(
            f"| {snapshot:,} | {checkpoint} | {samples} | {processors:,.0f} | {partitions:,.0f} | {changelog:,.0f} | "
            f"{seconds:.1f} |"
        )
    print("The changelog is before replication.")


def seconds_of(work: Callable[[], object]) -> float:
    """Return the seconds of a call, by as many as take a twentieth of a second."""
    repeats, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < 0.05:
        work()
        repeats += 1
    return spent / repeats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "parts", nargs="+", choices=["throughput", "transactions", "restore", "compression", "plan", "bare"]
    )
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=10.0, help="of measuring throughput, at most")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=100_000, help="of restore")
    parser.add_argument("--plan-streams", type=float, default=1e7)
    parser.add_argument("--us", type=float, default=17.0, help="of plan: microseconds of CPU per sample")
    parser.add_argument("--restore-mb", type=float, default=60.0, help="of plan: MB/s of restoring")
    parser.add_argument("--overhead", type=int, default=AROUND, help="of plan: bytes of a record around the snapshot")
    parser.add_argument("--broker", choices=["tansu", "strict"], default="tansu")
    parser.add_argument("--url", help="kafka://host:port of a cluster instead")
    parser.add_argument("--group", help=argparse.SUPPRESS)
    parser.add_argument("--changelog", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.parts == ["bare"]:
        bare(options.url, options.group, options.changelog)
        return
    print(f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}, ", end="")
    print(f"broker: {options.url or options.broker}")
    works = {
        "throughput": throughput,
        "transactions": transactions,
        "restore": restore,
        "compression": compression,
        "plan": plan,
    }
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        folder = Path(temporary)
        url = options.url or stack.enter_context(kafka_broker(folder))
        for part in options.parts:
            works[part](options, url, folder)


if __name__ == "__main__":
    main()
