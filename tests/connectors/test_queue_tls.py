"""TLS to NATS, Redis and Kafka: the right certificate is accepted, a wrong one is a refusal for good."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from brokers import NATS_SERVER, REDIS_SERVER, TANSU, free_port, kafka_broker, nats_server, redis_server, tls_relay
from certificates import Authority
from queue_checks import MODEL

from streamrde.connectors.kafka import KafkaSourceConfig
from streamrde.connectors.nats import NatsSourceConfig
from streamrde.connectors.queue_sections import QueueSourceConfig, TlsConfig
from streamrde.connectors.redis import RedisSourceConfig
from streamrde.errors import BrokerError, ConfigError


@contextmanager
def encrypted_nats(folder: Path, certificate: tuple[str, str]) -> Iterator[str]:
    config = f'tls {{ cert_file: "{certificate[0]}", key_file: "{certificate[1]}" }}'
    with nats_server(folder, config=config) as url:
        yield url.replace("nats://", "tls://")


@contextmanager
def encrypted_redis(folder: Path, certificate: tuple[str, str]) -> Iterator[str]:
    port = free_port()
    options = ["--tls-port", f"{port}", "--tls-cert-file", certificate[0], "--tls-key-file", certificate[1]]
    with redis_server(folder, options=[*options, "--tls-auth-clients", "no", "--tls-ca-cert-file", certificate[0]]):
        yield f"rediss://127.0.0.1:{port}"


@contextmanager
def encrypted_kafka(folder: Path, certificate: tuple[str, str]) -> Iterator[str]:
    plain, port = free_port(), free_port()
    with kafka_broker(folder, port=plain, advertised=port), tls_relay(port, plain, certificate):
        yield f"kafka+ssl://127.0.0.1:{port}"


def nats_source(url: str, **keys: object) -> QueueSourceConfig:
    return NatsSourceConfig(url=url, topic="a.{stream}", durable="d", stream_name="s", create_stream=True, **keys)


def redis_source(url: str, **keys: object) -> QueueSourceConfig:
    return RedisSourceConfig(url=url, topic="a:{stream}", group="g", **keys)


def kafka_source(url: str, **keys: object) -> QueueSourceConfig:
    options = {"session.timeout.ms": 1000}
    return KafkaSourceConfig(url=url, topic="a", group="g", create_topic=True, timeout=3.0, options=options, **keys)


QUEUES = [
    pytest.param(NATS_SERVER, "nats", encrypted_nats, nats_source, id="nats"),
    pytest.param(REDIS_SERVER, "redis", encrypted_redis, redis_source, id="redis"),
    pytest.param(TANSU, "confluent_kafka", encrypted_kafka, kafka_source, id="kafka"),
]


@pytest.mark.parametrize(("installed", "client", "server", "section"), QUEUES)
def test_a_certificate_is_checked(
    installed: str | None,
    client: str,
    server: Callable,
    section: Callable[..., QueueSourceConfig],
    tmp_path: Path,
) -> None:
    if installed is None or importlib.util.find_spec(client) is None:
        pytest.skip(f"the server or the client of {client} is not installed")
    right, other = Authority(tmp_path), Authority(tmp_path, "other")
    with server(tmp_path, right.issue("server", "127.0.0.1")) as url:

        async def main(ca: str) -> None:
            async with asyncio.timeout(20), section(url, tls=TlsConfig(ca=ca)).build(MODEL) as source:
                assert source.connection.connected

        asyncio.run(main(right.ca))
        with pytest.raises(BrokerError, match=r"certificate is not accepted.*set tls\.ca"):
            asyncio.run(main(other.ca))


def test_tls_for_an_address_without_it_is_refused() -> None:
    with pytest.raises(ConfigError, match="use rediss://"):
        redis_source("redis://127.0.0.1", tls=TlsConfig()).address()
