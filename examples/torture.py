"""Kill the service and its broker again and again, and compare what came out with a run that nobody disturbed.

    python examples/torture.py                                        # some seconds; needs mosquitto
    python examples/torture.py --service-kills 100 --broker-kills 10  # some minutes

A mosquitto broker with a disk, a replayer that plays recordings of people into it, `streamrde run` with a state store,
and a client that collects the predictions. At random moments the service, or the broker, is killed with SIGKILL and
started again. At the end the predictions, told apart by (stream, window), must be those of the recordings pushed
through a Fleet: none missing, none other. With --sink parts they come from files, where none may be twice.

The broker writes to its disk after each change, yet what it confirms in its last moment may be lost with it. A sensor
that must lose nothing keeps what it sent for a while; so does the replayer: after a broker's death it goes back three
seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset

import streamrde as sr
from streamrde.connectors.codecs import decode_prediction
from streamrde.connectors.mqtt import MqttAddress, SamplePublisher
from streamrde.connectors.mqtt.connection import MqttConnection
from streamrde.connectors.samples import Samples
from streamrde.demo.watch_data import COLUMNS, MODEL, held_out_files
from streamrde.errors import BrokerError
from streamrde.runtime.replay import load_recording

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
TICK = 0.02  # seconds between two publications
BACK = 3.0  # seconds that the replayer goes back after a broker's death
BATCH = 10  # samples in a message


class Process:
    """A program that is started again when it has died."""

    def __init__(self, command: list[str], log: Path, port: int | None = None) -> None:
        self.command, self.log, self.port = command, log, port
        self.starts = 0
        self.ready_at = 0.0
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        self.starts += 1

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.start()

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


async def play(url: str, recording, seconds: float) -> int:
    """Publish the recording in about so many seconds; returns how often it went back."""
    rows, back, returns = len(recording.t), deque[tuple[float, int]](), 0
    pace = rows / seconds
    position, began = 0, time.monotonic()
    while position < rows:
        try:
            async with SamplePublisher(url, topic="torture/{stream}/imu", columns=COLUMNS, batch=BATCH) as publisher:
                while position < rows:
                    step = int(pace * (time.monotonic() - began)) - position
                    part = slice(position, position + max(1, min(step, 500)))
                    names = pa.array(recording.streams[part])
                    await publisher.publish(Samples(names, recording.t[part], recording.x[part]))
                    await publisher.flush()
                    position = part.stop
                    back.append((time.monotonic(), position))
                    while len(back) > 1 and back[1][0] < time.monotonic() - BACK:
                        back.popleft()
                    await asyncio.sleep(TICK)
        except BrokerError:
            position = back[0][1] if back else 0
            back = deque(list(back)[:1])
            returns += 1
            await asyncio.sleep(0.1)
    return returns


def undisturbed(recording) -> dict[tuple[str, int], list[float]]:
    fleet = sr.Fleet(sr.load(MODEL), faults="drop")
    batch = fleet.push(pa.array(recording.streams), recording.t, recording.x)
    return {(row["stream"], row["window"]): row["value"] for row in batch.to_pylist()}


def configuration(folder: Path, url: str, sink: str, health: int) -> str:
    ends = {
        "mqtt": f'kind = "mqtt"\nurl = "{url}"\ntopic = "predictions/{{stream}}"\nclient_id = "torture-sink"',
        "parts": f'kind = "parts"\nfolder = "{folder / "parts"}"\npart_rows = 200\npart_seconds = 5',
    }
    return f"""model = "{MODEL}"
[source]
kind = "mqtt"
url = "{url}"
topic = "torture/{{stream}}/imu"
client_id = "torture"
session = true
inflight = 100
[sink]
{ends[sink]}
[state]
path = "{folder / "state.db"}"
checkpoint_seconds = 0.25
[service]
port = {health}
"""


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


def in_files(folder: Path) -> list[tuple[tuple[str, int], list[float]]]:
    files = sorted((folder / "parts").glob("part-*.parquet"))
    rows = pa.dataset.dataset(files).to_table().to_pylist() if files else []
    return [((row["stream"], row["window"]), row["value"]) for row in rows]


async def torture(options: argparse.Namespace, folder: Path) -> dict[str, float | int | str]:
    chance = random.Random(options.seed)
    recording = load_recording(held_out_files()[: options.people], COLUMNS)
    expected = undisturbed(recording)
    port, health = free_ports(2)
    url = f"mqtt://127.0.0.1:{port}"
    (folder / "mosquitto").mkdir()
    (folder / "mosquitto.conf").write_text(
        f"user root\nlistener {port} 127.0.0.1\nallow_anonymous true\n"
        "max_queued_messages 0\nmax_inflight_messages 100\n"
        f"persistence true\npersistence_location {folder}/mosquitto/\nautosave_on_changes true\nautosave_interval 1\n"
    )
    (folder / "run.toml").write_text(configuration(folder, url, options.sink, health))
    broker = Process([MOSQUITTO, "-c", str(folder / "mosquitto.conf")], folder / "mosquitto.log", port)
    await broker.listening()

    received: list[tuple[tuple[str, int], list[float]]] = []

    def collect(message, receipt) -> None:
        row = decode_prediction(bytes(message.payload))
        received.append(((row["stream"], row["window"]), row["value"]))
        collector.acknowledge(receipt)

    collector = MqttConnection(
        MqttAddress.parse(url), client_id="collector", session=True, subscriptions=[("predictions/+", 1)],
        on_message=collect,
    )  # fmt: skip
    service = Process(
        [sys.executable, "-m", "streamrde", "run", str(folder / "run.toml")], folder / "service.log", health
    )
    supervisor = asyncio.create_task(keep_alive(service))
    try:
        async with collector:
            await service.listening()
            await asyncio.sleep(0.5)
            # Long enough for every kill to find the recording still playing.
            kills = ["service"] * options.service_kills + ["broker"] * options.broker_kills
            chance.shuffle(kills)
            pauses = [chance.uniform(0.1, 3.0) for _ in kills]
            playing = asyncio.create_task(play(url, recording, sum(pauses) + 3.0))
            for name, pause in zip(kills, pauses, strict=True):
                await asyncio.sleep(pause)
                process = service if name == "service" else broker
                process.kill()
                if process is broker:
                    await broker.listening()
            returns = await playing
            deadline = time.monotonic() + 60
            wanted = expected.keys()

            def seen() -> set[tuple[str, int]]:
                return {key for key, _ in received} if options.sink == "mqtt" else set()

            while not wanted <= seen() and time.monotonic() < deadline:
                await asyncio.sleep(0.2)
                if options.sink == "parts" and time.monotonic() > deadline - 50:
                    break  # what waits in the outbox becomes a part at the end
            await service.listening()
            supervisor.cancel()
            await asyncio.sleep(0.5)
            service.process.send_signal(signal.SIGTERM)
            ended = await asyncio.to_thread(service.process.wait, 60)
            await asyncio.sleep(0.5)
    finally:
        supervisor.cancel()
        for process in (service, broker):
            process.process.kill()
            process.process.wait()
    if options.sink == "parts":
        received = in_files(folder)
    got = dict(received)
    different = [
        key for key in expected.keys() & got.keys() if not np.allclose(got[key], expected[key], rtol=0, atol=1e-6)
    ]
    return {
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
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--service-kills", type=int, default=4)
    parser.add_argument("--broker-kills", type=int, default=1)
    parser.add_argument("--sink", choices=["mqtt", "parts"], default="mqtt")
    parser.add_argument("--people", type=int, default=1, help="recordings of so many people, 14 streams each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for logs, state and files; default: a temporary one")
    options = parser.parse_args()
    if MOSQUITTO is None:
        print("mosquitto is not installed: apt-get install mosquitto")
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        result = asyncio.run(torture(options, folder))
    print(json.dumps(result, indent=2))
    wrong = result["missing"] + result["unexpected"] + result["different"] + result["exit_status_after_sigterm"]
    if options.sink == "parts":
        wrong += result["duplicates"]
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
