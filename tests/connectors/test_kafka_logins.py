"""Logins at a Kafka broker by password, certificate and token: who is let in, and what a refusal says."""

from __future__ import annotations

import asyncio
import base64
import http.server
import json
import threading
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest
from brokers import strict_kafka
from certificates import Authority
from kafka_server.handle import StrictKafka
from queue_checks import MODEL, sample, take

from streamrde.connectors.clients import Outgoing
from streamrde.connectors.kafka import KafkaSinkConfig, KafkaSourceConfig
from streamrde.connectors.kafka.config import OAuthConfig
from streamrde.connectors.queue_sections import TlsConfig
from streamrde.connectors.sections import RunSections
from streamrde.errors import BrokerError, ConfigError

pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")

USERS = {"me": "S3CRET=,"}
UNSECURED = {"enable.sasl.oauthbearer.unsecure.jwt": True, "sasl.oauthbearer.config": "principal=me"}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StrictKafka]:
    with strict_kafka(tmp_path_factory.mktemp("kafka")) as handle:
        yield handle


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> list[str]:
    return [*authority.issue("broker", "127.0.0.1")]


class TokenServer(http.server.BaseHTTPRequestHandler):
    """A token server with one client, whose tokens are unsecured ones of the user `me`."""

    asked: list[dict[str, list[str]]]

    def do_POST(self) -> None:
        body = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.asked.append(body)
        kind, _, credentials = self.headers.get("Authorization", "").partition(" ")
        if kind != "Basic" or base64.b64decode(credentials) != b"line1:S3CRET":
            return self._answer(401, {"error": "invalid_client"})
        now = time.time()
        parts = ({"alg": "none"}, {"sub": "me", "iat": int(now), "exp": int(now + 60)})
        encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
        return self._answer(200, {"access_token": f"{'.'.join(encoded)}.", "token_type": "Bearer", "expires_in": 60})

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", f"{len(data)}")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def tokens() -> Iterator[tuple[str, list[dict[str, list[str]]]]]:
    """The token server's address, and what it was asked."""
    asked: list[dict[str, list[str]]] = []
    handler = type("Handler", (TokenServer,), {"asked": asked})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/token", asked
        server.shutdown()
        thread.join()


def passes(port: int, scheme: str = "kafka", **keys: Any) -> list[float]:
    """Publish a sample and receive it, both with these keys. A refusal is raised."""
    topic = f"t{time.monotonic_ns()}"
    keys = {"url": f"{scheme}://127.0.0.1:{port}", "timeout": 5.0, "wait": False} | keys

    async def main() -> list[float]:
        async with KafkaSinkConfig(topic=topic, create_topic=True, **keys).look() as client:
            await client.publish([Outgoing(f"{topic}/a", sample(1.0))])
        options = {"fetch.wait.max.ms": 10} | keys.pop("options", {})
        async with KafkaSourceConfig(topic=topic, group=topic, options=options, **keys).build(MODEL) as source:
            return await take(source, 1)

    return asyncio.run(main())


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_password_lets_in_and_a_wrong_one_is_final(
    broker: StrictKafka, mechanism: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = broker.listen(users=USERS, mechanisms=[mechanism])
    keys = {"user": "me", "password_env": "THE_PASSWORD", "mechanism": mechanism}
    monkeypatch.setenv("THE_PASSWORD", USERS["me"])
    assert passes(port, **keys) == [1.0]
    monkeypatch.setenv("THE_PASSWORD", "wr0ng")
    with pytest.raises(BrokerError, match="refuses user and password, or the mechanism") as caught:
        passes(port, **keys, timeout=3.0)
    assert caught.value.final
    assert "wr0ng" not in str(caught.value)


def test_a_client_with_a_certificate_is_let_in_and_one_without_is_told_of_it(
    broker: StrictKafka, authority: Authority, certificate: list[str]
) -> None:
    port = broker.listen(certificate=certificate, clients=authority.ca)
    own = authority.issue("client", "line1")
    tls = TlsConfig(ca=authority.ca, certificate=own[0], key=own[1])
    assert passes(port, "kafka+ssl", tls=tls) == [1.0]
    with pytest.raises(BrokerError, match=r"set tls\.certificate and tls.key if it asks for a client's certificate"):
        passes(port, "kafka+ssl", tls=TlsConfig(ca=authority.ca), timeout=3.0)


def test_a_password_travels_inside_of_tls(broker: StrictKafka, authority: Authority, certificate: list[str]) -> None:
    port = broker.listen(users=USERS, mechanisms=["SCRAM-SHA-512"], certificate=certificate)
    url = f"kafka+ssl://me:{urllib.parse.quote(USERS['me'])}@127.0.0.1:{port}"
    tls = TlsConfig(ca=authority.ca)
    assert passes(port, "kafka+ssl", tls=tls, url=url, mechanism="SCRAM-SHA-512") == [1.0]


def test_a_token_of_a_token_server_lets_in(
    broker: StrictKafka, tokens: tuple[str, list[dict[str, list[str]]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, (url, asked) = broker.listen(users=USERS, mechanisms=["OAUTHBEARER"]), tokens
    monkeypatch.setenv("THE_SECRET", "S3CRET")
    oauth = OAuthConfig(token_url=url, client_id="line1", client_secret_env="THE_SECRET", scope="kafka")
    assert passes(port, mechanism="OAUTHBEARER", oauth=oauth) == [1.0]
    assert asked[0] == {"grant_type": ["client_credentials"], "scope": ["kafka"]}


def test_a_refusal_of_the_token_server_names_the_keys(
    broker: StrictKafka, tokens: tuple[str, list[dict[str, list[str]]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, (url, _) = broker.listen(users=USERS, mechanisms=["OAUTHBEARER"]), tokens
    monkeypatch.setenv("THE_SECRET", "wr0ng")
    oauth = OAuthConfig(token_url=url, client_id="line1", client_secret_env="THE_SECRET")
    with pytest.raises(
        BrokerError, match=r"no token is accepted .*check oauth: token_url, client_id, its secret"
    ) as caught:
        passes(port, mechanism="OAUTHBEARER", oauth=oauth, timeout=3.0)
    assert "wr0ng" not in str(caught.value)


def test_an_unsecured_token_of_the_options_lets_in(broker: StrictKafka) -> None:
    port = broker.listen(users=USERS, mechanisms=["OAUTHBEARER"])
    assert passes(port, mechanism="OAUTHBEARER", options=UNSECURED) == [1.0]


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ({"mechanism": "OAUTHBEARER"}, r"needs tokens: give a table \[source.oauth\]"),
        ({"oauth": OAuthConfig(token_url="http://a", client_id="b")}, 'set source.mechanism = "OAUTHBEARER" too'),
        (
            {"mechanism": "OAUTHBEARER", "oauth": OAuthConfig(token_url="http://a", client_id="b")},
            "oauth has no secret: give client_secret_env or client_secret_file",
        ),
        (
            {"mechanism": "OAUTHBEARER", "user": "me", "oauth": OAuthConfig(token_url="http://a", client_id="b")},
            "has a user and oauth: give one of them",
        ),
        ({"options": {"sasl.oauthbearer.scope": "a"}}, "is decided here; use oauth.scope"),
        ({"options": {"group.instance.id": "a"}}, "is decided here; use instance"),
        ({"instance": "{machine}-1"}, r"write a name, in which \{host\} is the machine"),
        (
            {"protocol": "consumer", "options": {"session.timeout.ms": 1}},
            r'which the broker decides with protocol = "consumer" \(there it is group.consumer.session.timeout.ms\)',
        ),
    ],
)
def test_logins_and_members_that_cannot_be_are_refused(keys: dict[str, Any], match: str) -> None:
    source = KafkaSourceConfig(**({"url": "kafka://127.0.0.1", "topic": "sensors", "group": "g"} | keys))
    sink = KafkaSinkConfig(url="kafka://127.0.0.1", topic="predictions")
    with pytest.raises((ConfigError, ValueError), match=match):
        source.check("source", RunSections(source, sink, None, False))
