"""Looking at topics of Kafka: keys, levels or payloads name the streams, and nothing is left behind."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from brokers import strict_kafka
from kafka_server.handle import StrictKafka
from typer.testing import CliRunner

from streamrde.cli import app
from streamrde.cli.listening import place_of
from streamrde.config import RunConfig
from streamrde.errors import BrokerError
from streamrde.settings import convert

kafka = pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")

T0 = 1_700_000_000.0


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StrictKafka]:
    with strict_kafka(tmp_path_factory.mktemp("kafka")) as found:
        for topic in ("keyed", "lab.w1.imu", "lab.w2.imu", "plant.a", "plant.b", "inside", "single"):
            found.create_topic(topic, 2)
        producer = kafka.Producer({"bootstrap.servers": found.address, "log_level": 0})
        for i in range(40):
            row = {"t": T0 + 0.1 * i, "x": math.sin(0.3 * i), "y": math.cos(0.2 * i)}
            data = json.dumps(row).encode()
            for key in ("dev.1", "dev.2"):
                producer.produce("keyed", data, key=key)
                producer.produce("inside", json.dumps({"device_id": key} | row).encode())
                for topic in ("plant.a", "plant.b"):
                    producer.produce(topic, data, key=key)
            for topic in ("lab.w1.imu", "lab.w2.imu"):
                producer.produce(topic, data)
            producer.produce("single", data, key=f"message-{i}")
        assert producer.flush(10) == 0
        yield found


def init(broker: StrictKafka, topic: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["init", f"{broker.url}/{topic}", "--seconds", "1", "--json"])
    assert done.exit_code == 0, done.exception
    assert broker.groups() == {}
    return tomllib.loads(json.loads(done.output)["toml"])


@pytest.mark.parametrize(
    ("listened", "topic", "stream"),
    [
        ("keyed", "keyed", None),
        ("lab.*.imu", "lab.{stream}.imu", None),
        ("plant.*", "plant.{plant}", None),
        ("inside", "inside", "device_id"),
    ],
)
def test_a_topic_is_looked_at_without_a_trace(
    broker: StrictKafka, listened: str, topic: str, stream: str | None
) -> None:
    tables = init(broker, listened)
    source, columns = tables["source"], tables["columns"]
    assert (source["topic"], columns.get("stream"), columns["time"]) == (topic, stream, "t")
    assert (tables["sink"]["topic"], tables["sink"]["create_topic"]) == ("predictions", True)
    columns["channels"] = ["x"]
    convert(tables, RunConfig).check()


def test_keys_of_single_messages_name_no_streams(broker: StrictKafka) -> None:
    assert init(broker, "single")["source"]["topic"] == "{stream}"


def test_a_topic_that_is_not_there_is_an_error_with_those_that_are(broker: StrictKafka) -> None:
    done = CliRunner().invoke(app, ["init", f"{broker.url}/nowhere", "--seconds", "1"])
    assert isinstance(done.exception, BrokerError)
    assert "has no topic 'nowhere'; it has: inside, keyed" in str(done.exception)


def test_urls_of_kafka_are_read() -> None:
    assert place_of("kafka://me:p%40ss@h:9092/lab.*")[:4] == (
        "kafka", "kafka://h:9092", "lab.*", {"user": "me", "password": "p@ss"}
    )  # fmt: skip
    assert place_of("kafka+ssl://h/imu")[1:3] == ("kafka+ssl://h", "imu")
