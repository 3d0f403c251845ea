"""The strict broker's SASL and TLS, as confluent-kafka uses them."""

from __future__ import annotations

import base64
import json
import time

import pytest
from brokers import strict_kafka
from certificates import Authority

kafka = pytest.importorskip("confluent_kafka", reason="pip install streamrde[kafka]")

USERS = {"me": "S3,=cret"}


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with strict_kafka(tmp_path_factory.mktemp("kafka")) as handle:
        handle.create_topic("t")
        yield handle


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


def topics(port, **settings):
    """Return the topics' names that a client gets, or the code of the error it was told."""
    told = []
    client = kafka.Producer(
        {"bootstrap.servers": f"127.0.0.1:{port}", "log_level": 0, "error_cb": lambda error: told.append(error.code())}
        | {name.replace("_", "."): value for name, value in settings.items()}
    )
    try:
        return list(client.list_topics(timeout=10 if "wrong" not in f"{settings}" else 0.5).topics)
    except kafka.KafkaException:
        client.poll(0)
        return told


def token(subject, algorithm="none"):
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    expires = time.time() + 60
    text = f"{part({'alg': algorithm})}.{part({'sub': subject, 'iat': time.time(), 'exp': expires})}."
    return text, expires


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_passwords_open_the_door_and_others_do_not(broker, mechanism):
    port = broker.listen(users=USERS, mechanisms=[mechanism])
    sasl = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": mechanism, "sasl_username": "me"}
    assert topics(port, **sasl, sasl_password=USERS["me"]) == ["t"]
    assert kafka.KafkaError._AUTHENTICATION in topics(port, **sasl, sasl_password="wrong")
    assert kafka.KafkaError._AUTHENTICATION in topics(
        port, **sasl | {"sasl_username": "wrong"}, sasl_password=USERS["me"]
    )


def test_nobody_is_let_in_without_a_login(broker):
    assert "t" not in topics(broker.listen(users=USERS), client_id="wrong")


def test_a_mechanism_that_is_not_offered_is_refused(broker):
    port = broker.listen(users=USERS, mechanisms=["SCRAM-SHA-512"])
    sasl = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", "sasl_username": "me"}
    assert kafka.KafkaError._AUTHENTICATION in topics(port, **sasl, sasl_password=USERS["me"], client_id="wrong")


@pytest.mark.parametrize(("subject", "algorithm", "enters"), [("me", "none", True), ("wrong", "none", False)])
def test_tokens_open_the_door_by_their_subject(broker, subject, algorithm, enters):
    port = broker.listen(users=USERS)

    def fetch(_):
        return token(subject, algorithm)

    client = kafka.Producer(
        {
            "bootstrap.servers": f"127.0.0.1:{port}",
            "log_level": 0,
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "OAUTHBEARER",
            "oauth_cb": fetch,
        }
    )
    client.poll(0)
    if enters:
        assert "t" in client.list_topics(timeout=10).topics
    else:
        with pytest.raises(kafka.KafkaException):
            client.list_topics(timeout=0.5)


def test_tls_asks_for_a_clients_certificate_where_it_is_to(broker, authority):
    server, mine = authority.issue("server", "127.0.0.1"), authority.issue("client", "me")
    open_to_all = broker.listen(certificate=server)
    known_only = broker.listen(certificate=server, clients=authority.ca)
    tls = {"security_protocol": "SSL", "ssl_ca_location": authority.ca}
    shown = {"ssl_certificate_location": mine[0], "ssl_key_location": mine[1]}
    assert topics(open_to_all, **tls) == ["t"]
    assert topics(known_only, **tls, **shown) == ["t"]
    assert topics(known_only, **tls, client_id="wrong") != ["t"]
