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
"""

from __future__ import annotations

import argparse
import contextlib
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


def fill(url: str, topic: str, messages: int, streams: int) -> None:
    """Produce so many samples, in rounds over the streams."""
    from confluent_kafka import Producer

    producer, number, sent = Producer(bootstrap(url) | {"partitioner": "murmur2_random", "linger.ms": 20}), 0, 0
    while sent < messages:
        one = make_round(0, number, streams)
        number += 1
        for name, t, x in zip(one.streams, one.t.tolist(), one.x.tolist(), strict=True):
            while True:
                with contextlib.suppress(BufferError):
                    producer.produce(topic, payload(t, x), key=name)
                    break
                producer.poll(0.05)
            sent += 1
            if sent == messages:
                break
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


def write_run(folder: Path, url: str, group: str, topic: str, *, port: int = 0, cache: bool = False) -> Path:
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
checkpoint_seconds = {CHECKPOINT}
checkpoint_messages = 1000000
{f'cache = "{folder / "cache"}"' if cache else ""}
[service]
port = {port}
log_level = "warning"
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


def measured(
    url: str, group: str, commands: list[list[str]], messages: int, seconds: float, log: Path
) -> tuple[float, float]:
    """Return messages per second, and CPU seconds of the processes per million messages.

    It is measured from one commit to another, at least `seconds` later or when nearly all is done.
    """
    from confluent_kafka import Consumer, TopicPartition

    watcher = Consumer(bootstrap(url) | {"group.id": group, "isolation.level": "read_uncommitted"})
    partitions = [TopicPartition(SAMPLES, number) for number in range(PARTITIONS)]
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
    time_, count, spent = (after - before for before, after in zip(began, last, strict=True))
    return count / time_, spent / count * 1e6


def throughput(options: argparse.Namespace, url: str, folder: Path) -> None:
    create_topics(url, {SAMPLES: PARTITIONS})
    fill(url, SAMPLES, options.messages, STREAMS)
    run = [sys.executable, "-m", "streamrde", "run"]
    kinds = {"bare": 1, "bare with changelog": 1, "1 worker": 1, "2 workers": 2, "bare, 2 processes": 2}
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    for number in range(options.rounds):
        for kind, count in kinds.items():
            group = f"{re.sub(r'[^a-z0-9]+', '-', kind)}-{number}"
            create_topics(url, {f"{group}.out": PARTITIONS, f"{group}.changes": PARTITIONS})
            if "bare" in kind:
                command = [sys.executable, __file__, "bare", "--url", url, "--group", group]
                command += ["--changelog"] if "changelog" in kind else []
            else:
                command = [*run, str(write_run(folder, url, group, SAMPLES))]
            found[kind].append(
                measured(url, group, [command] * count, options.messages, options.seconds, folder / f"{group}.log")
            )
    rates = {kind: statistics.median(rate for rate, _ in rows) for kind, rows in found.items()}
    print(f"\n{'messages per second':24}{'median':>10}{'min':>10}{'max':>10}{'us CPU/message':>16}{'of bare':>9}")
    for kind, rows in found.items():
        low, high = min(rate for rate, _ in rows), max(rate for rate, _ in rows)
        spent = statistics.median(cost for _, cost in rows)
        print(f"{kind:24}{rates[kind]:10,.0f}{low:10,.0f}{high:10,.0f}{spent:16.1f}{rates[kind] / rates['bare']:9.2f}")
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
                producer.produce("restore.in", payload(1.75e9, rng.normal(size=len(CHANNELS))), key=f"s{number}")
                break
            producer.poll(0.05)
    assert not producer.flush(120), "the broker does not take the samples"
    print(f"\n{'begins':24}{'streams':>9}{'MB':>8}{'seconds':>9}{'MB/s':>8}{'streams/s':>11}{'RSS, MB':>9}")
    for kind in ("with samples only", "from the topic", "from the topic again", "from the cache"):
        port = free_port()
        # The first one to have a cache fills it.
        cache = kind in ("from the topic again", "from the cache")
        config = write_run(folder, url, "restore", "restore.in", port=port, cache=cache)
        with processes([[sys.executable, "-m", "streamrde", "run", str(config)]], folder / "restore.log") as (worker,):
            patience = time.monotonic() + 300
            while (found := metrics(port)).get("lag_messages", 1) or not found.get("streams") or found["restoring"]:
                time.sleep(0.1)
                if worker.poll() is not None or time.monotonic() > patience:
                    raise SystemExit(f"{kind}: {found}; its log:\n{(folder / 'restore.log').read_text()[-2000:]}")
            memory = int(Path(f"/proc/{worker.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            time.sleep(2 * CHECKPOINT)
            worker.terminate()
            worker.wait(120)
        size, seconds = found["restore_bytes"] / 1e6, found["restore_seconds"]
        print(
            f"{kind:24}{found['streams']:9.0f}{size:8.1f}{seconds:9.2f}{size / max(seconds, 1e-9):8.1f}"
            f"{found['streams'] / max(seconds, 1e-9):11,.0f}{memory / 1e6:9.0f}"
        )


def metrics(port: int) -> dict[str, float]:
    """Return the metrics of the only partition of a worker, or nothing while it does not answer."""
    with contextlib.suppress(OSError):
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
        rows = re.findall(r"^streamrde_partition_(\w+)\{.*?\} (\S+)$", text, re.MULTILINE)
        return {name: float(value) for name, value in rows}
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


def seconds_of(work: Callable[[], object]) -> float:
    """Return the seconds of a call, by as many as take a twentieth of a second."""
    repeats, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < 0.05:
        work()
        repeats += 1
    return spent / repeats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=["throughput", "transactions", "restore", "compression", "bare"])
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=10.0, help="of measuring throughput, at most")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=100_000, help="of restore")
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
    }
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        folder = Path(temporary)
        url = options.url or stack.enter_context(kafka_broker(folder))
        for part in options.parts:
            works[part](options, url, folder)


if __name__ == "__main__":
    main()
