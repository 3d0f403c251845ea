"""One recording by every way through the package: the same predictions."""

import asyncio
import json
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from brokers import any_broker
from bundles import make_bundle, make_recording
from services import service

import streamrde as sr
from streamrde.connectors import Columns
from streamrde.connectors.files.arrow import FileSink
from streamrde.connectors.mqtt import MqttSource, SamplePublisher
from streamrde.errors import BrokerError
from streamrde.inference.table import Counts
from streamrde.runtime import run
from streamrde.runtime.replay import Recording, load_recording, replay

pytestmark = pytest.mark.slow

COLUMNS = Columns(channels=("a", "b"))


def streamrde(*arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    command = [sys.executable, "-m", "streamrde", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if check and done.returncode:
        raise AssertionError(f"{command} failed:\n{done.stdout}\n{done.stderr}")
    return done


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.safetensors"
    make_bundle().save(path)
    return path


@pytest.fixture
def recording(tmp_path):
    """Three interleaved streams as a Parquet file."""
    parts = [(f"s{i}", *make_recording(i, 80)) for i in range(3)]
    names = np.repeat([p[0] for p in parts], 80)
    t = np.concatenate([p[1] for p in parts])
    x = np.concatenate([p[2] for p in parts])
    order = np.argsort(t, kind="stable")
    table = pa.table({"stream_id": names[order], "t": t[order], "a": x[order, 0], "b": x[order, 1]})
    path = tmp_path / "recording.parquet"
    pa.parquet.write_table(table, path)
    return path


def by_key(rows):
    return {(r["stream"], r["window"]): r for r in rows}


def predict_one_by_one(model, recording):
    bundle = sr.load(model)
    table = pa.parquet.read_table(recording)
    predictors, found = {}, {}
    for name, t, *x in zip(*(table[c].to_pylist() for c in ("stream_id", "t", "a", "b")), strict=True):
        predictor = predictors.setdefault(name, sr.Predictor(bundle, stream=name))
        for p in predictor.push(t, x):
            found[name, p.window] = p
    for predictor in predictors.values():
        found |= {(p.stream, p.window): p for p in predictor.flush()}
    return found


@pytest.mark.parametrize("suffix", [".parquet", ".feather", ".arrows"])
def test_score_equals_the_predictor_bit_for_bit(tmp_path, model, recording, suffix):
    out = tmp_path / f"predictions{suffix}"
    summary = json.loads(streamrde("score", recording, "--model", model, "--out", out, "--json").stdout)
    expected = predict_one_by_one(model, recording)
    if suffix == ".parquet":
        table = pa.parquet.read_table(out)
    elif suffix == ".feather":
        table = pa.feather.read_table(out)
    else:
        table = pa.ipc.open_stream(out.read_bytes()).read_all()
    got = by_key(table.to_pylist())
    assert got.keys() == expected.keys()
    for key, row in got.items():
        assert np.array(row["value"], np.float32).tobytes() == expected[key].value.tobytes()
        assert (row["t_start"], row["t_end"]) == (expected[key].t_start, expected[key].t_end)
    assert (summary["rows"], summary["predictions"], summary["streams"]) == (240, len(expected), 3)
    assert table.schema.metadata[b"streamrde.model"].decode() == sr.load(model).fingerprint


def test_batches_of_any_size_score_the_same(tmp_path, model, recording):
    tables = []
    for rows in (1, 7, 1000):
        out = tmp_path / f"{rows}.arrow"
        sr.score(recording, model, out=out, batch_rows=rows)
        tables.append(pa.feather.read_table(out).sort_by([("stream", "ascending"), ("window", "ascending")]))
    assert tables[0].equals(tables[1])
    assert tables[0].equals(tables[2])


def write_config(path, model, url, **source):
    lines = [f"{key} = {json.dumps(value)}" for key, value in source.items()]
    path.write_text(
        "\n".join(
            [
                f'model = "{model}"',
                f'[source]\nkind = "mqtt"\nurl = "{url}"\ntopic = "plant/{{stream}}/imu"',
                *lines,
                f'[sink]\nkind = "arrow"\npath = "{path.parent / "live.parquet"}"',
            ]
        )
    )


def test_over_mqtt_the_predictions_are_those_of_the_file(tmp_path, model, recording):
    expected = predict_one_by_one(model, recording)
    with any_broker(tmp_path) as url:
        config = tmp_path / "run.toml"
        write_config(config, model, url, client_id="service", session=True)
        with service(config) as process:
            wait_until_subscribed(url, process)
            streamrde(
                "replay", recording, "--to", url, "--topic", "plant/{stream}/imu", "--speed", "0", "--model", model
            )
            time.sleep(3.0)  # the broker has confirmed them; the service takes them at once, if it gets a core
            process.send_signal(signal.SIGTERM)
            out, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    summary = json.loads(out)
    assert (summary["rows"], summary["malformed"], summary["late"]) == (240, 0, 0)
    got = by_key(pa.parquet.read_table(tmp_path / "live.parquet").to_pylist())
    assert got.keys() == expected.keys()
    for key, row in got.items():
        assert np.array(row["value"], np.float32).tobytes() == expected[key].value.tobytes()
    assert summary["latency_p99_ms"] > 0


def wait_until_subscribed(url, process):
    """Publish probes for a stream of their own until the service has had time to subscribe."""
    # mosquitto and amqtt both start fast; importing the package takes longest. A session makes the order of the
    # subscription and the first message irrelevant once it exists, so only its beginning matters.
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        if _subscribers(url):
            return
        time.sleep(0.2)
    raise AssertionError("the service did not start: " + (process.stderr.read() if process.stderr else ""))


def _subscribers(url):
    port = int(url.rsplit(":", 1)[1])
    connections = pathlib.Path("/proc/net/tcp").read_text().splitlines()
    established = [line.split() for line in connections if line.split()[3] == "01"]
    connected = any(int(fields[2].split(":")[1], 16) == port for fields in established)
    if connected:
        time.sleep(1.5)  # connected; the subscription is the next packet
    return connected


def test_malformed_messages_are_counted_and_skipped(tmp_path, model):
    import aiomqtt

    async def everything(url):
        bundle = sr.load(model)
        port = int(url.rsplit(":", 1)[1])
        source = MqttSource(url, topic="plant/{stream}/imu", columns=COLUMNS)
        fleet = sr.Fleet(bundle, faults="drop")
        began = asyncio.Event()
        task = asyncio.create_task(
            run(source, fleet, FileSink(tmp_path / "out.parquet", fleet.schema), on_start=began.set)
        )
        await asyncio.wait_for(began.wait(), 20)
        async with aiomqtt.Client("127.0.0.1", port) as client:
            for payload in (
                b'{"t": 0.0, "a": 1.0, "b": 2.0}',
                b"not json",
                b'{"t": 1.5, "a": 1.0, "b": 2.0}',
                b'{"t": 0.5, "a": 1.0, "b": 2.0}',
                b'{"t": 2.0, "a": "high", "b": 2.0}',
                b'{"t": 2.5, "a": null, "b": 2.0}',
                b'{"t": 3.0, "a": 1.0, "b": 2.0}',
            ):
                await client.publish("plant/p/imu", payload, qos=1)
        deadline = time.monotonic() + 20
        while source.counts.messages < 7 and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        source.stop()
        return await asyncio.wait_for(task, 20)

    with any_broker(tmp_path) as url:
        metrics = asyncio.run(everything(url))
    # A null is a channel that was not observed.
    assert metrics.malformed == 2
    assert metrics.counts == Counts(samples=4, late=1)
    assert metrics.rows == 5
    assert pa.parquet.read_table(tmp_path / "out.parquet")["window"].to_pylist() == [0, 1, 2]


def test_replay_keeps_the_pace_and_the_order(tmp_path):
    t = np.repeat(np.arange(20) * 0.05, 2)
    sent = Recording(np.array(["a", "b"] * 20, dtype=object), t, np.arange(80.0).reshape(40, 2))

    async def everything(url):
        ticks = []
        began = time.perf_counter()
        async with SamplePublisher(url, topic="r/{stream}", columns=COLUMNS) as publisher:
            rows = await replay(sent, publisher, speed=2.0, tick=0.05, on_tick=lambda s: ticks.append(len(s.t)))
        return rows, ticks, time.perf_counter() - began

    with any_broker(tmp_path) as url:
        rows, ticks, seconds = asyncio.run(asyncio.wait_for(everything(url), 30))
    assert rows == 40
    assert ticks == [4] * 10
    assert seconds >= 0.45  # 0.95 s of signal at twice its speed


def test_load_recording_sorts_by_time(recording):
    loaded = load_recording(str(recording), COLUMNS)
    assert len(loaded.t) == 240
    assert (np.diff(loaded.t) >= 0).all()


def test_a_broker_that_is_not_there_is_a_clear_error(tmp_path, model):
    config = tmp_path / "run.toml"
    write_config(config, model, "mqtt://user:secret@127.0.0.1:1")
    done = streamrde("run", config, "--no-wait", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("streamrde: cannot connect to MQTT broker 127.0.0.1:1")
    assert "secret" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "live.parquet").exists()


def test_a_sink_that_fails_leaves_the_batch_unacknowledged(tmp_path, model):
    class Failing(FileSink):
        async def write(self, batch):
            raise BrokerError("gone")

    async def attempt(url, sink, expected):
        source = MqttSource(url, topic="f/{stream}", columns=COLUMNS, client_id="one", session=True)
        fleet = sr.Fleet(sr.load(model), faults="drop")
        task = asyncio.create_task(run(source, fleet, sink(tmp_path / "out.parquet", fleet.schema)))
        while fleet.counts().samples < expected and not task.done():
            await asyncio.sleep(0.02)
        source.stop()
        return await task

    async def everything(url):
        async with MqttSource(url, topic="f/{stream}", columns=COLUMNS, client_id="one", session=True):
            pass  # the session begins
        samples = Recording(np.array(["s"] * 8, dtype=object), np.arange(8.0), np.ones((8, 2)))
        async with SamplePublisher(url, topic="f/{stream}", columns=COLUMNS) as publisher:
            await replay(samples, publisher, speed=0)
        with pytest.raises(BrokerError, match="gone"):
            await asyncio.wait_for(attempt(url, Failing, 8), 20)
        return await asyncio.wait_for(attempt(url, FileSink, 8), 20)

    with any_broker(tmp_path) as url:
        metrics = asyncio.run(everything(url))
    assert metrics.counts.samples == 8
    assert pa.parquet.read_table(tmp_path / "out.parquet")["window"].to_pylist() == list(range(7))


def test_ctrl_c_on_score_is_clean(tmp_path, model):
    t, x = make_recording(0, 20_000)
    table = pa.table({"stream_id": ["s"] * len(t), "t": t, "a": x[:, 0], "b": x[:, 1]})
    begun = pa.BufferOutputStream()
    stream = pa.ipc.new_stream(begun, table.schema)
    stream.write_table(table)
    command = [sys.executable, "-m", "streamrde", "score", "-", "-m", str(model), "-o", str(tmp_path / "p.csv")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdin.write(begun.getvalue())
    process.stdin.flush()  # the stream does not end, so that the interrupt surely comes in the middle
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob(".p.csv*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(tmp_path.glob(".p.csv*"))
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert b"Traceback" not in process.communicate()[1]
    assert not list(tmp_path.glob("*p.csv*"))  # half of the predictions must not pass for all
