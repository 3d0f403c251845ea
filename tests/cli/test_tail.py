"""Predictions are printed as they come, from whatever a run publishes them to."""

import asyncio
import contextlib
import json
import re
import signal
import subprocess
import sys
import threading

import brokers
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bundles import make_bundle
from services import eventually, publish
from typer.testing import CliRunner

from streamrde import Fleet
from streamrde.cli import app
from streamrde.config import RunConfig
from streamrde.config.run import outline_of
from streamrde.connectors.codecs.predictions import encode_prediction, prediction_of, read_prediction
from streamrde.connectors.files.writing import PredictionWriter
from streamrde.connectors.registry import PREDICTION_CODECS
from streamrde.errors import BrokerError, ConfigError, DataError, PayloadError
from streamrde.settings import convert

BUNDLE = make_bundle(seed=1)


def predictions():
    """Two windows of each of two streams."""
    streams, t = pa.array(["pump-7", "evil\x1b[2J"] * 3), np.repeat([0.0, 0.6, 1.2], 2)
    fleet = Fleet(BUNDLE)
    fleet.push(streams, t, np.ones((6, len(BUNDLE.header.channels))))
    return fleet.flush()


@contextlib.contextmanager
def publishing(sink):
    """A run's sink that publishes the same predictions again and again while the block lasts."""
    tables = {"model": "-", "source": {"kind": "mqtt", "url": "mqtt://127.0.0.1:1", "topic": "{stream}"}, "sink": sink}
    ended = threading.Event()

    async def go():
        async with convert(tables, RunConfig).sink.without_waiting().build(outline_of(BUNDLE)) as end:
            while not ended.is_set():
                await end.write(predictions())
                await asyncio.sleep(0.1)

    def run():
        try:
            asyncio.run(go())
        finally:
            if not ended.is_set():
                signal.raise_signal(signal.SIGINT)  # nothing comes any more: the command must not wait for it

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(30)


def tailed(url, *options, count=4):
    done = CliRunner().invoke(app, ["tail", url, "--limit", str(count), *options, "--json"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def assert_complete(rows):
    known = {row["stream"]: row for row in (json.loads(encode_prediction(one)) for one in predictions().to_pylist())}
    assert len(rows) == 4
    for row in rows:
        assert row["stream"] in known
        assert row["value"] == pytest.approx(known[row["stream"]]["value"], rel=1e-6)


@pytest.fixture
def mqtt(tmp_path):
    with brokers.any_broker(tmp_path) as url:
        yield url


@pytest.mark.parametrize("codec", PREDICTION_CODECS.names())
def test_predictions_in_any_codec_come_over_mqtt(mqtt, codec):
    with publishing({"kind": "mqtt", "url": mqtt, "topic": "p/{stream}", "codec": codec}):
        rows, errors = tailed(f"{mqtt}/p/#")
    assert_complete(rows)
    assert {row["topic"] for row in rows} == {"p/pump-7", "p/evil%1B[2J"}
    assert "4 predictions" in errors


def test_predictions_come_from_nats(tmp_path):
    if brokers.NATS_SERVER is None:
        pytest.skip("nats-server is not installed")
    with (
        brokers.nats_server(tmp_path) as url,
        publishing({"kind": "nats", "url": url, "topic": "p.{stream}", "jetstream": False}),
    ):
        rows, _ = tailed(f"{url}/p.>")
    assert_complete(rows)


def test_predictions_come_from_redis(tmp_path):
    if brokers.REDIS_SERVER is None:
        pytest.skip("redis-server is not installed")
    with brokers.redis_server(tmp_path) as url, publishing({"kind": "redis", "url": url, "topic": "p:{stream}"}):
        rows, _ = tailed(f"{url}/p:*")
    assert_complete(rows)


def test_predictions_come_from_kafka(tmp_path):
    sink = {"kind": "kafka", "topic": "p", "create_topic": True}
    with brokers.strict_kafka(tmp_path) as broker, publishing(sink | {"url": broker.url}):
        eventually(lambda: _has(broker.url, "p"))
        rows, _ = tailed(f"{broker.url}/p")
    assert_complete(rows)
    with pytest.raises(BrokerError):
        tailed(broker.url + "/p")


def _has(url, topic):
    from confluent_kafka.admin import AdminClient

    return topic in AdminClient({"bootstrap.servers": url.removeprefix("kafka://")}).list_topics(timeout=10).topics


@pytest.mark.slow
def test_predictions_come_from_rabbitmq(tmp_path):
    if brokers.RABBITMQ_SERVER is None:
        pytest.skip("rabbitmq-server is not installed")
    with (
        brokers.rabbitmq_server(tmp_path) as url,
        publishing({"kind": "amqp", "url": url, "topic": "p.{stream}", "mandatory": False}),
    ):
        rows, _ = tailed(f"{url}/p.*")
    assert_complete(rows)


def test_predictions_come_from_a_runs_own_server():
    port = brokers.free_port()
    with publishing({"kind": "http", "listen": {"port": port}}):
        eventually(lambda: _listens(port))
        rows, _ = tailed(f"ws://127.0.0.1:{port}/predictions")
    assert_complete(rows)


def _listens(port):
    import socket

    socket.create_connection(("127.0.0.1", port), timeout=1).close()
    return True


def test_lines_for_people_and_the_end_by_ctrl_c(mqtt):
    command = [sys.executable, "-m", "streamrde", "tail", f"{mqtt}/p/#"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines = []
    with publishing({"kind": "mqtt", "url": mqtt, "topic": "p/{stream}"}):
        lines += [process.stdout.readline() for _ in range(4)]
        publish(mqtt, ("p/other", b"{}"))
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "predictions" in errors.splitlines()[-1]
    row = read_prediction(encode_prediction(predictions().to_pylist()[0]))
    assert any(line.split()[:5] == ["1.2", "s", "pump-7", "window", str(row["window"])] for line in lines)
    assert "evil\\x1b[2J" in "".join(lines)
    assert "\x1b" not in "".join(lines) + rest


def test_a_closed_pipe_ends_it_quietly(mqtt):
    command = [sys.executable, "-m", "streamrde", "tail", f"{mqtt}/p/#"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with publishing({"kind": "mqtt", "url": mqtt, "topic": "p/{stream}"}):
        assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == 0
    assert "BrokenPipe" not in process.stderr.read()
    process.stderr.close()


def test_other_messages_are_counted_and_the_first_is_named(mqtt):
    with publishing({"kind": "mqtt", "url": mqtt, "topic": "p/{stream}"}):
        process = subprocess.Popen(
            [sys.executable, "-m", "streamrde", "tail", f"{mqtt}/#", "--json"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout.readline()
        publish(mqtt, ("sensors/a", b'{"t": 1, "a": 2}'), ("sensors/b", b"\xff\x00"))
        assert any("topic sensors/a: not a prediction" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "other messages" in errors


@pytest.mark.parametrize("url", ["predictions.parquet", "ftp://host/p"])
def test_what_is_no_live_topic_is_refused_with_what_is(url):
    with pytest.raises(ConfigError, match="live topics"):
        tailed(url)


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"{}", b"\x80", b"\xa0", b"\xde\x00", b"\xbf", b"\xff", b"\xa1\xa1", b"nul"]
)
def test_what_is_no_prediction_is_an_error_of_ours(payload):
    with pytest.raises(PayloadError, match="not a prediction"):
        read_prediction(payload)


@pytest.mark.parametrize("suffix", [".parquet", ".feather", ".arrow", ".arrows"])
def test_a_file_shows_its_last_predictions(tmp_path, suffix):
    batch = predictions()
    with PredictionWriter(tmp_path / f"p{suffix}", batch.schema) as writer:
        for _ in range(8):
            writer.write(batch)
    done = CliRunner().invoke(app, ["tail", str(tmp_path / f"p{suffix}"), "--limit", "3", "--json"])
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    own = [msgspec.to_builtins(prediction_of(row)) for row in (batch.to_pylist() * 8)[-3:]]
    assert [(row["stream"], row["window"], row["value"]) for row in rows] == [
        (row["stream"], row["window"], row["value"]) for row in own
    ]
    assert len(CliRunner().invoke(app, ["tail", str(tmp_path / f"p{suffix}")]).stdout.splitlines()) == 10


def test_a_folder_shows_what_comes_into_it(tmp_path):
    batch = predictions()

    def write(number):
        with PredictionWriter(tmp_path / f"part-{number:06}.parquet", batch.schema) as writer:
            writer.write(batch)

    write(1)
    command = [sys.executable, "-m", "streamrde", "tail", str(tmp_path), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert len([process.stdout.readline() for _ in range(batch.num_rows)]) == batch.num_rows
    (tmp_path / "notes.txt").write_text("no prediction")
    write(2)
    came = [json.loads(process.stdout.readline()) for _ in range(batch.num_rows)]
    assert [row["stream"] for row in came] == batch.column("stream").to_pylist()
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=60)
    assert (rest, process.returncode) == ("", 0)
    assert errors.splitlines()[-1] == f"{2 * batch.num_rows} predictions"


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("none.parquet", "neither live topics"),
        ("p.csv", "write one of these, or read this file with pandas, polars or DuckDB"),
        ("junk.parquet", "give a file that a run or `streamrde score` wrote"),
        ("other.parquet", "no column 'stream', so these are no predictions"),
    ],
)
def test_what_is_no_file_of_predictions_is_refused_with_the_remedy(tmp_path, name, match):
    (tmp_path / "p.csv").write_text("stream,value")
    (tmp_path / "junk.parquet").write_bytes(b"junk")
    pq.write_table(pa.table({"t": [1.0]}), tmp_path / "other.parquet")
    with pytest.raises((ConfigError, DataError), match=re.escape(match)):
        CliRunner().invoke(app, ["tail", str(tmp_path / name)], catch_exceptions=False)
