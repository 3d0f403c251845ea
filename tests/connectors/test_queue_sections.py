"""What sections of queues answer before a run begins: `run --check`, missing extras, absent servers."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from pathlib import Path

import pytest
from brokers import NATS_SERVER, REDIS_SERVER, free_port, nats_server, redis_server
from queue_checks import MODEL

from streamrde.connectors.amqp import AmqpSinkConfig, AmqpSourceConfig
from streamrde.connectors.kafka import KafkaSinkConfig, KafkaSourceConfig
from streamrde.connectors.nats import NatsSinkConfig, NatsSourceConfig
from streamrde.connectors.queue_sections import QueueAccess
from streamrde.connectors.redis import RedisSinkConfig, RedisSourceConfig
from streamrde.errors import BrokerError, ConfigError, MissingExtraError


def sections(port: int) -> dict[str, tuple[QueueAccess, QueueAccess]]:
    nats, redis, amqp, kafka = (f"{scheme}://127.0.0.1:{port}" for scheme in ("nats", "redis", "amqp", "kafka"))
    return {
        "nats": (
            NatsSourceConfig(url=nats, topic="a.{stream}", durable="d"),
            NatsSinkConfig(url=nats, topic="p.{stream}", jetstream=False),
        ),
        "redis": (
            RedisSourceConfig(url=redis, topic="a:{stream}", group="g"),
            RedisSinkConfig(url=redis, topic="p:{stream}"),
        ),
        "amqp": (
            AmqpSourceConfig(url=amqp, topic="a.{stream}", queue_name="q"),
            AmqpSinkConfig(url=amqp, topic="p.{stream}"),
        ),
        "kafka": (
            KafkaSourceConfig(url=kafka, topic="a", group="g"),
            KafkaSinkConfig(url=kafka, topic="p", create_topic=True),
        ),
    }


@pytest.mark.parametrize("kind", ["nats", "redis", "amqp", "kafka"])
def test_a_server_that_is_not_there_is_an_error_of_the_check_and_without_waiting(kind: str) -> None:
    pytest.importorskip({"amqp": "aio_pika", "kafka": "confluent_kafka"}.get(kind, kind))
    for section in sections(free_port())[kind]:
        with pytest.raises(
            ConfigError, match=rf"cannot connect to .* 127\.0\.0\.1:\d+: .*check host, port and {kind}://"
        ):
            asyncio.run(section.probe())

        async def enter(section: QueueAccess) -> None:
            async with section.without_waiting().build(MODEL):
                pass

        with pytest.raises(BrokerError, match="cannot connect"):
            asyncio.run(enter(section))


@pytest.mark.parametrize(
    ("kind", "installed", "server"), [("nats", NATS_SERVER, nats_server), ("redis", REDIS_SERVER, redis_server)]
)
def test_the_check_says_what_it_reached(kind: str, installed: str | None, server, tmp_path: Path) -> None:
    if installed is None or importlib.util.find_spec(kind) is None:
        pytest.skip(f"the server or the client of {kind} is not installed")
    port = free_port()
    source, sink = sections(port)[kind]
    with server(tmp_path, port=port):
        assert f"127.0.0.1:{port}, without TLS: p" in asyncio.run(sink.probe())
        if kind == "nats":
            with pytest.raises(ConfigError, match="nats stream add"):
                asyncio.run(source.probe())
        else:
            assert ": a:{stream}" in asyncio.run(source.probe())


@pytest.mark.parametrize(
    ("kind", "library"),
    [("nats", "nats.aio.client"), ("redis", "redis.asyncio"), ("amqp", "aio_pika"), ("kafka", "confluent_kafka")],
)
def test_a_client_library_that_is_missing_is_named_with_its_command(
    kind: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)

    async def enter() -> None:
        async with sections(1)[kind][0].build(MODEL):
            pass

    with pytest.raises(MissingExtraError, match=rf"pip install 'streamrde\[{kind}\]'"):
        asyncio.run(enter())
