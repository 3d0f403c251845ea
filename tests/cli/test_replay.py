"""`streamrde replay --to` sends to each queue what a source of its kind reads."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from brokers import MOSQUITTO, NATS_SERVER, REDIS_SERVER, TANSU, kafka_broker, mosquitto, nats_server, redis_server
from queue_checks import MODEL, take
from typer.testing import CliRunner

from streamrde.cli import app
from streamrde.connectors.kafka import KafkaSourceConfig
from streamrde.connectors.mqtt import MqttSourceConfig
from streamrde.connectors.nats import NatsSourceConfig
from streamrde.connectors.redis import RedisSourceConfig
from streamrde.connectors.sections import SourceConfig

KINDS = {
    "mqtt": (
        MOSQUITTO,
        mosquitto,
        "",
        lambda url: MqttSourceConfig(url=url, topic="sensors/{stream}/imu", client_id="r", session=True, wait=False),
    ),
    "nats": (
        NATS_SERVER,
        nats_server,
        "nats",
        lambda url: NatsSourceConfig(
            url=url, topic="sensors.{stream}.imu", durable="r", create_stream=True, stream_name="s", wait=False
        ),
    ),
    "redis": (
        REDIS_SERVER,
        redis_server,
        "redis",
        lambda url: RedisSourceConfig(url=url, topic="sensors:{stream}:imu", group="r", discover=0.05, wait=False),
    ),
    "kafka": (
        TANSU,
        kafka_broker,
        "confluent_kafka",
        lambda url: KafkaSourceConfig(
            url=url, topic="sensors", group="r", create_topic=True, wait=False, options={"session.timeout.ms": 1000}
        ),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_replay_reaches_the_source(kind: str, tmp_path: Path) -> None:
    installed, server, module, section = KINDS[kind]
    if installed is None or (module and importlib.util.find_spec(module) is None):
        pytest.skip(f"the server or the client of {kind} is not installed")
    recording = tmp_path / "r.csv"
    recording.write_text("stream_id,t,a,b\np1,0.0,1,2\np1,0.5,3,4\n")
    check(server, section, tmp_path, recording)


def check(
    server: Callable[[Path], AbstractContextManager[str]],
    section: Callable[[str], SourceConfig],
    folder: Path,
    recording: Path,
) -> None:
    with server(folder) as url:

        async def main() -> list[float]:
            async with section(url).build(MODEL) as source:
                arguments = ["replay", str(recording), "--to", url, "--channels", "a,b", "--speed", "0"]
                done = await asyncio.to_thread(CliRunner().invoke, app, [*arguments, "--time-check", "off", "--json"])
                assert done.exit_code == 0, done.output
                assert '"messages":2' in done.output.replace(" ", "")
                return await take(source, 2)

        assert asyncio.run(main()) == [0.0, 0.5]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--to", "ftp://host"], "begin the address with one of"),
        (["--to", "http://127.0.0.1:1"], "takes samples at ws://"),
        (["--to", "redis://127.0.0.1:1", "--set", "maxlen"], "give KEY=VALUE"),
        (["--to", "redis://127.0.0.1:1", "--set", "maxlength=3"], "maxlength"),
        (["--to", "nats://127.0.0.1:1", "--topic", "a.b"], "must be {stream}"),
    ],
)
def test_a_wrong_target_is_named(arguments: list[str], match: str, tmp_path: Path) -> None:
    recording = tmp_path / "r.csv"
    recording.write_text("stream_id,t,a,b\np1,0.0,1,2\np1,0.5,3,4\n")
    options = ["--channels", "a,b", "--time-check", "off", *arguments]
    done = CliRunner().invoke(app, ["replay", str(recording), *options])
    assert done.exit_code != 0
    assert match in f"{done.output}{done.exception}"
