"""Messages of live sources are looked at: codec, topics, shapes, times, and a file that run reads at once."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
import tomllib

import brokers
import msgspec
import numpy as np
import paho.mqtt.client as paho
import pytest
from bundles import make_bundle
from typer.testing import CliRunner

import streamrde as sr
from streamrde.cli import app
from streamrde.cli.listening import pairs, place_of
from streamrde.config import RunConfig
from streamrde.connectors.topics import NATS
from streamrde.demo.watch_data import MODEL
from streamrde.disk import read_toml
from streamrde.errors import BrokerError, ConfigError, DataError
from streamrde.looking.documents import document
from streamrde.looking.matching import labels_of
from streamrde.looking.messages import Captured, look_at_messages
from streamrde.settings import convert

T0 = 1_709_287_200
URL = "mqtt://127.0.0.1:1883"


def look(*messages, **options):
    payloads = [(topic, one if isinstance(one, bytes) else json.dumps(one).encode()) for topic, one in messages]
    captured = [Captured(topic, payload, T0 + i) for i, (topic, payload) in enumerate(payloads)]
    return look_at_messages(captured, f"{URL}/#", url=URL, **options)


def values(found):
    return {key: guess.value for key, guess in found.columns.items()}


def connection(found):
    return {key: guess.value for key, guess in found.connection.items() if not key.startswith("sink.")}


def names(found):
    return [channel.name for channel in found.channels]


def imu(device, i, **more):
    return f"sensors/{device}/imu", {"t": T0 + 0.02 * i, "ax": 0.1 * i, "ay": -0.2, **more}


def test_flat_objects_on_a_topic_per_device():
    found = look(*(imu(device, i) for i in range(5) for device in ("w1", "w2")))
    assert connection(found) == {"kind": "mqtt", "url": URL, "topic": "sensors/{stream}/imu", "codec": "json"}
    assert values(found) == {"time": "t"}
    assert names(found) == ["ax", "ay"]
    assert found.rate.streams == 2
    assert found.connection["sink.topic"].value == "predictions/{stream}"
    assert not found.doubts


@pytest.mark.parametrize(
    ("payload", "keys", "channels"),
    [
        (
            {"ts": T0 * 1000, "values": {"ax": 0.1, "ay": 2}},
            {"time": "ts", "time_unit": "ms"},
            ["values.ax", "values.ay"],
        ),
        ([0.1, 0.2, 0.3], {"time": ""}, ["[0]", "[1]", "[2]"]),
        ({"time": "2024-03-01T10:00:00Z", "acc": [1, 2.5]}, {"time": "time"}, ["acc[0]", "acc[1]"]),
        ([{"t": T0, "ax": 1.5}, {"t": T0 + 1, "ax": 2.5}], {"time": "t"}, ["ax"]),
        ({"t": [T0, T0 + 1], "ax": [0.5, 0.25]}, {"time": "t"}, ["ax"]),
        (
            {"data": {"readings": [{"time": T0, "p": 1.5}]}, "fw": "v2.1"},
            {"records": "data.readings", "time": "time"},
            ["p"],
        ),
        (
            {"timestamp": T0, "values": [{"id": "dev.ax", "v": 0.1, "q": True}, {"id": "dev.ay", "v": 7}]},
            {"records": "values", "time": "timestamp", "name": "id", "value": "v", "others": "ignore"},
            ["dev.ax", "dev.ay"],
        ),
        ({"t": str(T0), "temp": "21.5", "pump": "ON", "level": "unavailable"}, {"time": "t"}, ["temp", "pump"]),
        (
            {"d1": [{"ts": T0, "x": 1.5}], "d2": [{"ts": T0, "x": 2}]},
            {"records": "*", "stream": "@key", "time": "ts"},
            ["x"],
        ),
    ],
)  # fmt: skip
def test_shapes_of_payloads(payload, keys, channels):
    found = look(("sensors/w1/imu", payload))
    assert values(found) == keys
    assert names(found) == channels


def test_codecs_are_told_apart():
    row = {"t": T0 + 0.5, "ax": 0.25}
    packs = {
        "json": json.dumps(row).encode(),
        "msgpack": msgspec.msgpack.encode(row),
        "lines": b"imu,host=a ax=0.25 1709287200500000000",
    }
    for codec, payload in packs.items():
        found = look(("sensors/w1/imu", payload), ("sensors/w2/imu", payload))
        assert found.connection["codec"].value == codec
        assert names(found) == ["ax"]
    assert values(look(("a/b1/c", packs["lines"])))["time_unit"] == "ns"
    with pytest.raises(DataError, match=r"no codec reads these payloads.*packed"):
        look(("a/b", b"\x01\x02\x00\xff\xfe"))


def test_a_value_per_topic_names_the_channel():
    bare = look(*((f"plant/{device}/{channel}", 1.5) for device in ("p1", "p2") for channel in ("temp", "hum")))
    assert connection(bare)["topic"] == "plant/{stream}/{channel}"
    assert values(bare) == {"time": "", "value": "", "others": "ignore"}
    assert names(bare) == ["temp", "hum"]
    wrapped = look(("plant/p1/temp", {"val": 3.5, "ts": T0 * 1000}), ("plant/p1/hum", {"val": 40, "ts": T0 * 1000}))
    assert values(wrapped) == {"time": "ts", "time_unit": "ms", "value": "val", "others": "ignore"}
    assert names(wrapped) == ["temp", "hum"]


def test_the_payload_names_the_stream_where_the_topic_does_not():
    found = look(*(("fleet/up", {"deviceId": f"d{i % 2}", "t": T0 + i, "x": 0.5 * i}) for i in range(8)))
    assert values(found) == {"stream": "deviceId", "time": "t"}
    assert found.rate.streams == 2
    numbered = look(*(("fleet/dev-1", {"id": 100 + i, "t": T0 + i, "x": 0.5 * i}) for i in range(8)))
    assert "stream" not in values(numbered)
    assert names(numbered) == ["x"]


def test_other_kinds_of_messages_are_left_out_and_named():
    found = look(
        *(imu("w1", i) for i in range(6)), ("sensors/w1/state", {"uptime": 3, "on": True}), ("log/w1", b"started")
    )
    assert names(found) == ["ax", "ay"]
    assert [name for name, _ in found.unused] == ["topic sensors/w1/state", "topic log/w1"]


def test_one_topic_alone_is_unsure():
    found = look(("building/kitchen/climate", {"temp": 21.5}))
    assert found.connection["topic"].value == "building/kitchen/{stream}"
    assert "another level" in found.connection["topic"].unsure
    assert found.connection["topic"].others[0].value == "building/{stream}/climate"


def test_other_queues_have_other_signs():
    found = look(*(imu_of(i) for i in range(4)), kind="nats", grammar=NATS)
    assert found.connection["topic"].value == "sensors.{stream}.imu"
    assert found.connection["sink.topic"].value == "predictions.{stream}"


def imu_of(i):
    topic, payload = imu(f"w{i % 2}", i)
    return topic.replace("/", "."), payload


@pytest.mark.parametrize("template", ["a/{site}/{stream}", "a/+/{stream}", "a/{stream}/#", "a/{site}/{stream}/#"])
def test_a_template_that_was_given_is_kept(template):
    sent = [(f"a/s{i % 2}/w{i % 3}", {"t": T0 + i, "x": float(np.sin(i))}) for i in range(30)]
    found = look(*sent, template=template)
    assert found.connection["topic"] == (template, "as it was given", "", ())
    assert found.rate.streams == {"a/{stream}/#": 2, "a/+/{stream}": 3}.get(template, 6)
    assert look(*sent, template="b/{stream}").connection["topic"].value == "a/{a}/{stream}"


def test_what_is_written_is_read_by_run():
    found = look(*(imu(device, i) for i in range(5) for device in ("w1", "w2")))
    text = document(found, "run", command="", channels={"ax": "ax", "ay": "ay"})
    config = convert(tomllib.loads(text), RunConfig)
    assert config.source.topic == "sensors/{stream}/imu"
    config.check()


def test_silence_is_an_error_and_so_are_urls_that_cannot_be_listened_to():
    with pytest.raises(DataError, match="no message came"):
        look()
    assert place_of("data.csv") is None
    assert place_of("mqtts://broker/a/#") == ("mqtt", "mqtts://broker", "a/#", {})
    assert place_of("wss://me:p%40ss@host/x/y") == (
        "websocket", "wss://host/x/y", None, {"user": "me", "password": "p@ss"}
    )  # fmt: skip
    assert place_of("redis://me:secret@127.0.0.1/imu:*") == (
        "redis", "redis://127.0.0.1", "imu:*", {"user": "me", "password": "secret"}
    )  # fmt: skip
    assert place_of("rediss://h/3/imu:*")[1:3] == ("rediss://h/3", "imu:*")
    assert place_of("redis://h/0")[1:3] == ("redis://h/0", "")
    assert place_of("amqp://h/plant/lab.#")[1:3] == ("amqp://h/plant", "lab.#")
    assert place_of("amqps://h/lab.#")[1:3] == ("amqps://h", "lab.#")
    assert place_of("https://h/data.csv") is None
    assert pairs(["user=me", "keepalive=30", "session=false"]) == {"user": "me", "keepalive": 30, "session": False}
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        pairs(["user"])


@pytest.fixture
def broker(tmp_path):
    if brokers.MOSQUITTO is None:
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    with brokers.mosquitto(tmp_path) as url:
        yield url


@pytest.fixture
def sensors(broker):
    """Two devices that send all the time."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", int(broker.rsplit(":", 1)[1]))
    client.loop_start()
    stop = threading.Event()

    def send():
        i = 0
        while not stop.is_set():
            for device in ("w1", "w2"):
                row = {
                    "t": T0 + 0.02 * i,
                    **{name: np.sin(0.1 * i) for name in ("accX", "accY", "accZ", "wx", "wy", "wz")},
                }
                client.publish(f"lab/{device}/imu", json.dumps(row))
            i += 1
            stop.wait(0.02)

    thread = threading.Thread(target=send)
    thread.start()
    yield broker
    stop.set()
    thread.join()
    client.loop_stop()
    client.disconnect()


def test_init_listens_and_writes_what_run_reads(sensors, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    url = f"{sensors}/lab/#"
    done = CliRunner().invoke(app, ["init", url, "--model", str(MODEL), "--seconds", "1", "--out", "run.toml"])
    assert done.exit_code == 0, done.exception
    assert "messages in 1 s on 2 topics" in (tmp_path / "run.toml").read_text()
    config = read_toml(tmp_path / "run.toml", RunConfig)
    assert config.source.topic == "lab/{stream}/imu"
    assert config.source.channels == ("accX", "accY", "accZ", "wx", "wy", "wz")
    checked = CliRunner().invoke(app, ["run", "--check", "run.toml"])
    assert checked.exit_code == 0, checked.exception


def init(*arguments):
    done = CliRunner().invoke(app, ["init", *arguments, "--seconds", "1", "--json"])
    assert done.exit_code == 0, done.exception
    return tomllib.loads(json.loads(done.output)["toml"])


def checked(tables):
    """Read tables as run does, for the demo's model, and raise what it would not run with."""
    tables["columns"]["channels"] = ["x"]
    convert(tables, RunConfig).check()


def test_the_password_of_a_url_is_shown_nowhere(sensors):
    host = sensors.removeprefix("mqtt://")
    tables = init(f"mqtt://me:secret@{host}/lab/#")
    assert "secret" not in str(tables)
    assert (tables["source"]["url"], tables["source"]["user"]) == (sensors, "me")
    assert tables["sink"]["password_env"] == tables["source"]["password_env"] == "STREAMRDE_PASSWORD"
    with pytest.raises(DataError) as failed:
        init_raises(f"mqtt://me:secret@{host}/nobody/#")
    assert "secret" not in str(failed.value)


def init_raises(url):
    raise CliRunner().invoke(app, ["init", url, "--seconds", "0.3"]).exception


def test_subjects_of_nats_are_listened_to(tmp_path):
    nats = pytest.importorskip("nats", reason="extra nats")
    if brokers.NATS_SERVER is None:
        pytest.skip("nats-server is not installed: apt-get install nats-server")

    async def send(url, stop):
        client = await nats.connect(url)
        i = 0
        while not stop.is_set():
            for device in ("w1", "w2"):
                await client.publish(f"lab.{device}.imu", json.dumps({"t": T0 + 0.1 * i, "x": 0.5 * i}).encode())
            i += 1
            await asyncio.sleep(0.05)
        await client.close()

    with brokers.nats_server(tmp_path) as url, meanwhile(send, url):
        tables = init(f"{url}/lab.>")
    assert tables["source"]["topic"] == "lab.{stream}.imu"
    checked(tables)


@pytest.fixture
def redis(tmp_path):
    client = pytest.importorskip("redis", reason="extra redis")
    if brokers.REDIS_SERVER is None:
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    with brokers.redis_server(tmp_path, options=("--requirepass", "secret")) as url:
        connected = client.Redis.from_url(url, password="secret")
        yield url, connected
        connected.close()


def test_streams_of_redis_are_listened_to_without_a_trace(redis):
    url, client = redis
    for i in range(20):
        for device in ("w1", "w2"):
            row = {"t": T0 + 0.1 * i, "x": 0.5 * i}
            client.xadd(f"lab:{device}:imu", {"data": json.dumps(row), "host": "a"})
            client.xadd(f"flat:{device}", {"x": float(np.sin(i)), "y": float(np.cos(i))})
    client.set("lab:w3:imu", "no stream")
    before = {key: client.xinfo_stream(key) for key in client.keys("*:w[12]*")}
    address = url.replace("redis://", "redis://:secret@")
    tables = init(f"{address}/lab:*:imu")
    assert "secret" not in str(tables)
    source = tables["source"]
    assert (source["url"], source["topic"], source["field"]) == (url, "lab:{stream}:imu", "data")
    assert "field" not in tables["sink"]
    assert tables["columns"]["time"] == "t"
    flat = init(address, "--source", "topic=flat:{stream}")
    assert (flat["source"]["topic"], flat["source"]["field"]) == ("flat:{stream}", "")
    assert flat["columns"]["time"] == "@broker"
    given = init(address, "--source", "topic=lab:{stream}:imu", "--source", "field=data", "--source", "group=g")
    assert (given["source"]["field"], given["source"]["group"]) == ("data", "g")
    assert {key: client.xinfo_stream(key) for key in before} == before  # no group, no entry
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STREAMRDE_PASSWORD", "secret")
        checked(tables)
        checked(flat)


def test_other_layouts_of_entries_are_named(redis):
    url, client = redis
    for i in range(20):
        client.xadd("lab:w1", {"data": json.dumps({"t": T0 + 0.1 * i, "x": 0.5 * i})})
    client.xadd("lab:log", {"level": "info", "code": "7"})
    address = url.replace("redis://", "redis://:secret@")
    done = CliRunner().invoke(app, ["init", address, "--seconds", "0.5", "--json"])
    doubts = json.loads(done.output)["unsure"]
    assert [doubt for doubt in doubts if "lab:log" in doubt]


def test_what_is_wrong_with_a_url_of_redis_is_said(redis):
    url = redis[0].replace("redis://", "redis://:secret@")
    with pytest.raises(ConfigError, match="end it with the database's number"):
        init_raises(url.removesuffix("/0") + "/x/")
    with pytest.raises(DataError, match="no message came; check the number of the database, and the keys") as failed:
        init_raises(url)
    assert "secret" not in str(failed.value)
    with pytest.raises(BrokerError, match="it refuses user and password"):
        init_raises(redis[0])


def test_new_entries_of_redis_are_heard(redis):
    url, client = redis

    async def send(stop):
        i = 0
        while not stop.is_set():
            client.xadd("lab:w1", {"payload": json.dumps({"t": T0 + 0.1 * i, "x": 0.5 * i})})
            i += 1
            await asyncio.sleep(0.02)

    with meanwhile(send):
        tables = init(url.replace("redis://", "redis://:secret@") + "/lab:*")
    assert (tables["source"]["topic"], tables["source"]["field"]) == ("lab:{stream}", "payload")


def test_websocket_servers_are_listened_to():
    serving = pytest.importorskip("websockets.asyncio.server", reason="extra web")
    port = brokers.free_port()

    async def serve(stop):
        async def handle(socket):
            i = 0
            while not stop.is_set():
                await socket.send(json.dumps({"device_id": f"w{i % 2}", "t": T0 + 0.1 * i, "x": 0.5 * i}))
                i += 1
                await asyncio.sleep(0.02)

        async with serving.serve(handle, "127.0.0.1", port):
            while not stop.is_set():
                await asyncio.sleep(0.05)

    with meanwhile(serve):
        time.sleep(0.3)
        tables = init(f"ws://127.0.0.1:{port}/imu")
    assert tables["source"] == {"kind": "websocket", "url": f"ws://127.0.0.1:{port}/imu", "codec": "json"}
    assert tables["columns"]["stream"] == "device_id"
    checked(tables)


@contextlib.contextmanager
def meanwhile(work, *arguments):
    """Run a coroutine in a thread until the block ends."""
    stop = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(work(*arguments, stop)))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_values_that_come_apart_are_merged():
    found = look(*((f"plant/p1/{channel}", {"val": i, "ts": (T0 + i) * 1000}) for i in range(4) for channel in "ab"))
    tables = tomllib.loads(document(found, "run", command="", channels={"a": "a", "b": "b"}))
    assert tables["order"] == {"merge": True, "lateness": 1.0}
    assert convert(tables, RunConfig).order.merge
    bare = look(("plant/p1/a", 1.5), ("plant/p1/b", 2.5))
    assert "order" not in tomllib.loads(document(bare, "run", command="", channels={}))


def uncommented(text, *tables):
    """TOML with the tables of these names that stand in comments."""
    lines, on = [], False
    for line in text.splitlines():
        on = line.removeprefix("# ") in [f"[{table}]" for table in tables] or (on and line.startswith("# "))
        lines.append(line.removeprefix("# ") if on else line)
    return "\n".join(lines)


def test_a_run_has_the_page_and_late_labels_in_comments():
    found = look(*(imu("w1", i) for i in range(4)))
    text = document(found, "run", command="", channels={"ax": "ax", "ay": "ay"})
    assert not {"service", "labels"} & tomllib.loads(text).keys()
    config = convert(tomllib.loads(uncommented(text, "service", "labels")), RunConfig)
    config.check()
    assert config.service.page
    assert f"http://127.0.0.1:{config.service.port}/ " in text
    assert config.labels.columns == ("label",)


@pytest.mark.parametrize(
    ("settings", "columns"),
    [
        ({"task": "classification", "labels": ("x", "y", "z")}, ("label",)),
        ({"task": "classification", "outputs": 1, "labels": ("leak",)}, ("label",)),
        ({"task": "regression", "outputs": 1, "labels": ()}, ("label",)),
        ({"task": "regression", "outputs": 2, "labels": ()}, ("label_0", "label_1")),
        ({"task": "regression", "outputs": 2, "labels": ("a", "level")}, ("true_a", "level")),  # a is a channel
        (
            {
                "outputs": 4,
                "heads": (
                    sr.Head(name="kind", outputs=3, task="classification"),
                    sr.Head(name="level", outputs=1),
                ),
            },
            ("kind", "level"),
        ),
    ],
)
def test_columns_of_late_labels_fit_the_model(settings, columns, tmp_path):
    bundle = make_bundle(**settings)
    bundle.save(tmp_path / "model.safetensors")
    names = labels_of(tmp_path / "model.safetensors")
    assert names == columns
    text = document(look(imu("w1", 0)), "run", command="", channels={"a": "ax", "b": "ay"}, labels=names)
    convert(tomllib.loads(uncommented(text, "labels")), RunConfig).labels.check(bundle.header)


def test_ctrl_c_uses_what_came(sensors, tmp_path):
    command = [sys.executable, "-m", "streamrde", "init", f"{sensors}/lab/#", "--seconds", "60"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert process.stderr.readline().startswith("listening")
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=20)
    assert process.returncode == 0, error
    assert tomllib.loads(out)["source"]["topic"] == "lab/{stream}/imu"
