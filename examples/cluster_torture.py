"""Kill, pause and cut off the workers of a cluster again and again, and compare with a run that nobody disturbed.

    python examples/cluster_torture.py             # 2 workers, some kills, a zombie; half a minute
    python examples/cluster_torture.py --full      # 3 workers, 100 kills, 20 zombies, 20 stops, 20 cuts
    python examples/cluster_torture.py --full --url kafka://127.0.0.1:9092        # a real cluster; without cuts

A topic with 12 partitions gets samples of 5,000 streams. Workers, each `streamrde run` with the same file, make
predictions of them, with their state in Kafka. Meanwhile they are killed with SIGKILL, stopped with SIGSTOP for longer
than their session and woken as zombies, ended and started in turn, and cut off from the broker. At the end predictions
and dead letters are read with read_committed. The predictions are compared, byte for byte, with those of one Fleet that
got the same samples. Missing, different and duplicate ones must be none.

The broker is the strict one of tests/kafka_server. `--broker tansu` takes Tansu instead, which shows what an aborted
transaction wrote to read_committed: duplicates and differences found there may be its own.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import operator
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

import streamrde as sr
from streamrde.connectors.codecs import decode_prediction, encode_prediction

sys.path.append(str(Path(__file__).parents[1] / "tests"))

CHANNELS = ("a", "b")
STEP = 0.25  # seconds of the streams' time between two rounds
BEGIN = 1.75e9  # time of the first round, seconds since 1970
SESSION = 2.0  # seconds after which the group drops a worker that says nothing
QUIET = 60.0  # seconds without progress after which the rest is given up
SAMPLES, PREDICTIONS, LETTERS = "torture.samples", "torture.predictions", "torture.letters"
GROUP = "torture"


# Of the broker: what it does at a request, and the error that it answers.
FAULTS = [
    *((cut, api, "UNKNOWN_SERVER_ERROR") for cut in ("cut_before", "cut_after")
      for api in ("EndTxn", "AddOffsetsToTxn", "AddPartitionsToTxn", "TxnOffsetCommit", "Produce", "InitProducerId")),
    ("error", "EndTxn", "COORDINATOR_NOT_AVAILABLE"),
    ("error", "EndTxn", "CONCURRENT_TRANSACTIONS"),
    ("error", "AddPartitionsToTxn", "NOT_COORDINATOR"),
    ("error", "TxnOffsetCommit", "COORDINATOR_LOAD_IN_PROGRESS"),
    ("error", "Produce", "NOT_LEADER_OR_FOLLOWER"),
]  # fmt: skip
KINDS = ("kill", "pause", "turn", "cut", "fault")
SHORT = {"workers": 2, "kill": 2, "pause": 1, "turn": 1, "cut": 1, "fault": 2, "streams": 500, "rate": 500.0}
FULL = {"workers": 3, "kill": 100, "pause": 20, "turn": 20, "cut": 20, "fault": 50, "streams": 5000, "rate": 1000.0}


# Samples and what must become of them


class Round(NamedTuple):
    """What a round sends: a sample of most streams, and messages that nobody can read."""

    streams: list[str]
    t: np.ndarray  # (rows,)
    x: np.ndarray  # (rows, channels), NaN where a channel is missing
    broken: list[str]


def make_round(seed: int, number: int, streams: int) -> Round:
    """Return a round, which depends on its arguments only. Some of its samples are late, some have no value."""
    rng = np.random.default_rng([seed, number])
    chosen = rng.permutation(streams)[: max(1, streams * 4 // 5)]
    t = BEGIN + np.round(STEP * (number + rng.uniform(0.0, 0.9, len(chosen))), 3)
    t[rng.random(len(t)) < 0.01] -= 5 * STEP
    x = rng.normal(size=(len(t), len(CHANNELS)))
    x[rng.random(x.shape) < 0.02] = np.nan
    return Round([f"s{stream}" for stream in chosen], t, x, [f"broken-{number}"] if number % 3 == 0 else [])


def payload(t: float, x: Iterable[float]) -> bytes:
    values = [None if value != value else value for value in x]
    return msgspec.json.encode({"t": t, **dict(zip(CHANNELS, values, strict=True))})


def make_model(seed: int = 0) -> sr.Bundle:
    """Return a small model with random weights: what it predicts does not matter here, and its state is small."""
    header = sr.Header(
        channels=tuple(sr.Channel(name=name) for name in CHANNELS), depth=2, hidden=4, outputs=2,
        field=sr.MLP(width=8, layers=1), windows=sr.Every(2 * STEP),
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    return sr.Bundle(
        header,
        {
            name: np.ones(shape)
            if name.endswith(".scale")
            else np.zeros(shape)
            if name.endswith(".shift")
            else rng.normal(size=shape).astype(header.dtype) / 4
            for name, shape in header.shapes().items()
        },
    )


def undisturbed(bundle: sr.Bundle, rounds: Iterable[Round]) -> dict[tuple[str, int], bytes]:
    """Return the payload of each prediction that one process makes of all rounds."""
    fleet, expected = sr.Fleet(bundle, faults="drop"), dict[tuple[str, int], bytes]()
    for one in rounds:
        for row in fleet.push(pa.array(one.streams), one.t, one.x).to_pylist():
            expected[row["stream"], row["window"]] = encode_prediction(row)
    return expected


class Comparison(NamedTuple):
    """How what was found differs from what was expected."""

    expected: int
    missing: int
    unexpected: int
    different: int
    duplicates: int
    unordered: int  # windows of a stream after a later one

    @property
    def wrong(self) -> int:
        return sum(self[1:])


def compare(expected: dict[tuple[str, int], bytes], found: Iterable[bytes]) -> Comparison:
    """Compare the payloads of predictions, in the order in which they were read, with those expected."""
    seen, last = Counter[tuple[str, int]](), dict[str, int]()
    different, unordered = set[tuple[str, int]](), 0
    # The first of each stream: those after it differ, since the state does.
    first = dict[str, int]()
    for one in found:
        row = decode_prediction(one)
        key = stream, window = row["stream"], row["window"]
        seen[key] += 1
        if key in expected and expected[key] != one:
            different.add(key)
            first.setdefault(stream, window)
        unordered += window < last.get(stream, -1)
        last[stream] = max(window, last.get(stream, -1))
    for stream, window in sorted(first.items(), key=operator.itemgetter(1))[:20]:
        print(f"stream {stream} differs from window {window} on", file=sys.stderr)
    return Comparison(
        len(expected),
        len(expected.keys() - seen.keys()),
        len(seen.keys() - expected.keys()),
        len(different),
        seen.total() - len(seen),
        unordered,
    )


# Kafka's side


def bootstrap(url: str) -> dict[str, Any]:
    return {"bootstrap.servers": url.removeprefix("kafka://"), "log_level": 0}


def create_topics(url: str, partitions: dict[str, int]) -> None:
    """Create topics. Those of an earlier run would be compared with this one, so that they are refused."""
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewTopic

    client = AdminClient(bootstrap(url))
    for answer in client.create_topics([NewTopic(name, count) for name, count in partitions.items()]).values():
        answer.result(30)


class Feeder(threading.Thread):
    """Produce round after round, at so many messages per second, until it is stopped."""

    def __init__(self, url: str, *, seed: int, streams: int, rate: float) -> None:
        super().__init__(daemon=True)
        self.rounds = 0
        self.messages = 0
        self.problem: BaseException | None = None
        self._url, self._seed, self._streams, self._rate = url, seed, streams, rate
        self._ending = threading.Event()

    def run(self) -> None:
        try:
            self._run()
        except BaseException as error:
            self.problem = error

    def _run(self) -> None:
        from confluent_kafka import Producer

        # The partitioner of Kafka's own clients.
        own = {"enable.idempotence": True, "partitioner": "murmur2_random", "linger.ms": 20}
        producer, began = Producer(bootstrap(self._url) | own), time.monotonic()
        while not self._ending.is_set():
            one = make_round(self._seed, self.rounds, self._streams)
            messages = [
                (name, payload(t, x)) for name, t, x in zip(one.streams, one.t.tolist(), one.x.tolist(), strict=True)
            ]
            for name, data in [*messages, *((name, b"no sample") for name in one.broken)]:
                while True:
                    with contextlib.suppress(BufferError):
                        producer.produce(SAMPLES, data, key=name)
                        break
                    producer.poll(0.05)
                self.messages += 1
                if self.messages % 100 == 0:
                    producer.poll(0)
                    time.sleep(max(0.0, began + self.messages / self._rate - time.monotonic()))
            self.rounds += 1
        if left := producer.flush(60):
            raise RuntimeError(f"the broker does not take {left} samples")

    def end(self) -> None:
        self._ending.set()
        self.join()
        if self.problem is not None:
            raise self.problem


class Progress:
    """See how far the group has committed its input, and how much there is."""

    def __init__(self, url: str, partitions: int) -> None:
        from confluent_kafka import Consumer, TopicPartition

        own = {"group.id": GROUP, "enable.auto.commit": False, "isolation.level": "read_uncommitted"}
        # Offsets that belong to an open transaction are not waited for.
        self._consumer = Consumer(bootstrap(url) | own)
        self._partitions = [TopicPartition(SAMPLES, number) for number in range(partitions)]

    def committed(self) -> int:
        found = self._consumer.committed(self._partitions, timeout=20)
        return sum(max(one.offset, 0) for one in found)

    def end(self) -> int:
        return sum(self._consumer.get_watermark_offsets(one, timeout=20)[1] for one in self._partitions)

    def close(self) -> None:
        self._consumer.close()


def read_all(url: str, topic: str, isolation: str = "read_committed") -> Iterator[bytes]:
    """Yield the messages of a topic, each partition in its order, up to where it ends now."""
    from confluent_kafka import Consumer, KafkaError, TopicPartition

    own = {"group.id": f"{GROUP}-reader", "enable.auto.commit": False, "enable.partition.eof": True}
    consumer = Consumer(bootstrap(url) | own | {"isolation.level": isolation})
    try:
        numbers = consumer.list_topics(topic, timeout=20).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in numbers])
        left, quiet = set(numbers), time.monotonic() + QUIET
        while left:
            messages = consumer.consume(10_000, 0.2)
            if messages:
                quiet = time.monotonic() + QUIET
            elif time.monotonic() > quiet:
                raise RuntimeError(f"topic {topic}: partitions {sorted(left)} do not come to their end")
            for message in messages:
                error = message.error()
                if error is None:
                    yield message.value()
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard(message.partition())
    finally:
        consumer.close()


# Workers and what is done to them


class Link(NamedTuple):
    """How a worker reaches the broker."""

    url: str
    pulled: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
    """Lets nothing through while it is entered, and breaks no connection."""
    command: tuple[str, ...] = ()
    """Command that a worker is started by."""


class Worker:
    """One process of `streamrde run`, and its link to the broker."""

    def __init__(self, config: Path, log: Path, link: Link) -> None:
        self._command = [*link.command, sys.executable, "-m", "streamrde", "run", str(config), "--json"]
        self._log, self.link = log, link
        self.starts = 0
        self.statuses: list[int] = []
        self.down = False  # it is not to run now
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            # A worker that the client library aborts says where.
            environment = os.environ | {"PYTHONFAULTHANDLER": "1"}
            self.process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        self.starts += 1
        self.down = False

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, number)

    def kill(self) -> None:
        self.down = True
        self.send(signal.SIGKILL)
        self.process.wait()

    def end(self) -> int:
        """End it with SIGTERM, and return its exit status. One that takes too long is killed, and has another."""
        self.down = True
        self.send(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(90)
        self.kill()
        return self.process.returncode

    def supervise(self) -> None:
        """Start it again if it has ended by itself, as a supervisor such as systemd does, and remember its status."""
        if not self.down and (status := self.process.poll()) is not None:
            self.statuses.append(status)
            self.start()


class Torture:
    """Disturb workers, one disturbance after another, each at a random moment of their work."""

    def __init__(self, workers: list[Worker], progress: Progress, strict: Any, chance: random.Random) -> None:
        self._workers, self._progress, self._strict, self._chance = workers, progress, strict, chance
        self._cuts = 0
        self.statuses: list[int] = []  # of workers that were ended with SIGTERM

    def kill(self, worker: Worker) -> None:
        worker.kill()
        self._wait(self._chance.choice([0.0, 0.0, self._chance.uniform(0.0, 2 * SESSION)]))
        worker.start()

    def pause(self, worker: Worker) -> None:
        worker.send(signal.SIGSTOP)
        self._wait(SESSION + self._chance.uniform(1.0, 3.0))
        worker.send(signal.SIGCONT)

    def turn(self, worker: Worker) -> None:
        self.statuses.append(worker.end())
        self._wait(self._chance.uniform(0.0, 2.0))
        worker.start()

    def cut(self, worker: Worker) -> None:
        """Let nothing through to the broker for longer than a session, or shorter, in turn."""
        self._cuts += 1
        low, high = (1.5, 2.5) if self._cuts % 2 else (0.2, 0.8)
        with worker.link.pulled():
            self._wait(self._chance.uniform(low, high) * SESSION)

    def fault(self, _: Worker) -> None:
        """Let a broker fail in the middle of a transaction: before it applied a request, after it, or with an error."""
        action, api, code = self._chance.choice(FAULTS)
        self._strict.fault(action, api, code=code, skip=self._chance.randrange(4), client="streamrde")

    def run(self, plan: list[str]) -> None:
        for number, name in enumerate(plan):
            # Three of four meet workers that work again. The fourth may meet them while they restore.
            if number % 4 != 3:
                self.moving()
            self._wait(self._chance.uniform(0.1, 2.0))
            print(f"\r{number + 1} of {len(plan)}: {name:6}", end="", file=sys.stderr, flush=True)
            getattr(self, name)(self._chance.choice(self._workers))
        print(file=sys.stderr)

    def moving(self) -> None:
        """Wait until the group commits."""
        before, patience = self._progress.committed(), time.monotonic() + QUIET
        while self._progress.committed() <= before:
            if time.monotonic() > patience:
                raise SystemExit(f"the group has not committed for {QUIET:g} s; see the workers' logs (--keep FOLDER)")
            self._wait(0.1)

    def drained(self) -> int:
        """Wait until all input is committed. Return how much is not after a while without progress."""
        end, before, patience = self._progress.end(), -1, time.monotonic() + QUIET
        while (now := self._progress.committed()) < end and time.monotonic() < patience:
            if now > before:
                before, patience = now, time.monotonic() + QUIET
            self._wait(0.2)
        return end - now

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while True:
            for worker in self._workers:
                worker.supervise()
            if (left := until - time.monotonic()) <= 0:
                return
            time.sleep(min(0.1, left))


CONFIGURATION = """
model = "{model}"
[source]
kind = "kafka"
url = "{url}"
topic = "{SAMPLES}"
group = "{GROUP}"
{membership}
[sink]
kind = "kafka"
url = "{url}"
topic = "{PREDICTIONS}"
[dead_letters]
kind = "kafka"
url = "{url}"
topic = "{LETTERS}"
[state]
kind = "kafka"
checkpoint_seconds = 0.25
{cache}
[service]
port = 0
"""


def membership(number: int, options: argparse.Namespace) -> str:
    """Return the keys of a worker's place in the group. With KIP-848 the broker decides about sessions."""
    static = f'instance = "torture-{number}"\n' if options.static else ""
    if options.protocol == "consumer":
        return f'{static}protocol = "consumer"'
    times = f'"session.timeout.ms" = {SESSION * 1000:.0f}, "heartbeat.interval.ms" = {SESSION * 100:.0f}'
    return f"{static}options = {{ {times} }}"


def write_configuration(folder: Path, number: int, link: Link, options: argparse.Namespace) -> Path:
    """Write the file of a worker. They differ in the broker's address only, where the links do."""
    settings = {
        "model": folder / "model.safetensors",
        "url": link.url,
        "membership": membership(number, options),
        "cache": f'cache = "{folder / f"cache-{number}"}"' if options.cache else "",
    }
    path = folder / f"worker-{number}.toml"
    path.write_text(CONFIGURATION.format_map(globals() | settings))
    return path


class Broker(NamedTuple):
    """A broker, and how each worker reaches it."""

    url: str
    strict: Any  # its control, or None where there is none
    links: list[Link]


def pulling(wire: Any) -> Callable[[], contextlib.AbstractContextManager[None]]:
    """Return a function that cuts a wire: both ways, then so that requests arrive and answers do not, in turn."""
    directions = itertools.cycle([None, None, "client", "broker"])

    @contextlib.contextmanager
    def pulled() -> Iterator[None]:
        wire.cut(next(directions))
        try:
            yield
        finally:
            wire.heal()

    return pulled


@contextlib.contextmanager
def started(options: argparse.Namespace, folder: Path) -> Iterator[Broker]:
    """Run the broker that is asked for."""
    if options.url:
        yield Broker(options.url, None, [Link(options.url)] * options.workers)
        return
    import brokers

    if options.broker == "tansu":
        print("Tansu shows aborted records to read_committed: they are found as duplicates here", file=sys.stderr)
        with brokers.kafka_broker(folder) as url:
            yield Broker(url, None, [Link(url)] * options.workers)
        return
    times = ["--session", f"{SESSION}", "--heartbeat", f"{SESSION / 10}"]
    with brokers.strict_kafka(folder, options=times) as strict, contextlib.ExitStack() as stack:
        if options.cables:
            import cables

            address, ends = stack.enter_context(cables.cables(options.workers))
            port = strict.listen(host=address)
            links = [Link(f"kafka://{address}:{port}", end.pulled, tuple(end.command)) for end in ends]
        else:
            from kafka_proxy import proxied

            wires = [stack.enter_context(proxied(strict)) for _ in range(options.workers)]
            links = [Link(wire.url, pulling(wire)) for wire in wires]
        yield Broker(strict.url, strict, links)


def torture(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    chance, began = random.Random(options.seed), time.monotonic()
    plan = [name for name in KINDS for _ in range(getattr(options, name))]
    chance.shuffle(plan)
    with started(options, folder) as broker:
        url = broker.url
        create_topics(url, {SAMPLES: options.partitions, PREDICTIONS: options.partitions, LETTERS: 1})
        make_model().save(folder / "model.safetensors")
        feeder = Feeder(url, seed=options.seed, streams=options.streams, rate=options.rate)
        progress = Progress(url, options.partitions)
        feeder.start()
        workers = [
            Worker(write_configuration(folder, number, link, options), folder / f"worker-{number}.log", link)
            for number, link in enumerate(broker.links)
        ]
        try:
            torment = Torture(workers, progress, broker.strict, chance)
            torment.run(plan)
            torment.moving()
            feeder.end()
            left = torment.drained()
            torment.statuses += [worker.end() for worker in workers]
        finally:
            for worker in workers:
                worker.kill()
            progress.close()
        predictions, letters = list(read_all(url, PREDICTIONS)), list(read_all(url, LETTERS))
        written = sum(1 for _ in read_all(url, PREDICTIONS, "read_uncommitted"))
    rounds = [make_round(options.seed, number, options.streams) for number in range(feeder.rounds)]
    result = compare(undisturbed(make_model(), rounds), predictions)
    broken = sum(len(one.broken) for one in rounds)
    return {
        "broker": options.url or options.broker,
        "protocol": options.protocol,
        "static": options.static,
        "cache": options.cache,
        "seed": options.seed,
        "seconds": round(time.monotonic() - began),
        "workers": options.workers,
        "partitions": options.partitions,
        "streams": options.streams,
        "messages": feeder.messages,
        **{f"{name}s": getattr(options, name) for name in KINDS},
        "starts": sum(worker.starts for worker in workers),
        "ended_by_themselves": [status for worker in workers for status in worker.statuses],
        "statuses_after_sigterm": dict(Counter(torment.statuses)),
        "not_committed": max(0, left),
        "predictions": result.expected,
        "aborted_predictions": written - len(predictions),
        **{name: value for name, value in result._asdict().items() if name != "expected"},
        "letters": broken,
        "letters_missing": max(0, broken - len(letters)),
        "letters_duplicate": max(0, len(letters) - broken),
    }


WRONG = (
    "missing", "unexpected", "different", "duplicates", "unordered", "not_committed", "letters_missing",
    "letters_duplicate",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument(
        "--short", action="store_true", help="2 workers, 2 kills, a zombie, a stop, a cut, 2 faults (the default)"
    )
    sizes.add_argument(
        "--full", action="store_true", help="3 workers, 100 kills, 20 zombies, 20 stops, 20 cuts, 50 faults"
    )
    parser.add_argument("--workers", type=int)
    parser.add_argument("--kill", type=int, metavar="N", help="kill a worker with SIGKILL N times")
    parser.add_argument("--pause", type=int, metavar="N", help="stop a worker for longer than its session N times")
    parser.add_argument("--turn", type=int, metavar="N", help="end a worker with SIGTERM and start it again N times")
    parser.add_argument("--cut", type=int, metavar="N", help="cut the workers off from the broker N times")
    parser.add_argument("--fault", type=int, metavar="N", help="let the broker fail in a transaction N times")
    parser.add_argument("--cables", action="store_true", help="workers in network namespaces, to be cut off; as root")
    parser.add_argument("--streams", type=int)
    parser.add_argument("--rate", type=float, help="messages per second")
    parser.add_argument("--partitions", type=int, default=12)
    parser.add_argument("--cache", action="store_true", help="with local copies of the state")
    parser.add_argument("--protocol", choices=["classic", "consumer"], default="classic", help="of rebalances")
    parser.add_argument("--static", action="store_true", help="workers that the group knows by name (KIP-345)")
    parser.add_argument("--broker", choices=["strict", "tansu"], default="strict")
    parser.add_argument("--url", help="kafka://host:port of a cluster that does not have the topics torture.* yet")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for logs and configuration; default: a temporary one")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    usual = FULL if options.full else SHORT
    for name, value in usual.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.url or options.broker == "tansu":
        options.cut = options.fault = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        result = torture(options, folder)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        for name, value in result.items():
            print(f"{name.replace('_', ' '):24}{value}")
    return int(any(result[name] for name in WRONG))


if __name__ == "__main__":
    sys.exit(main())
