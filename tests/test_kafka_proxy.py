"""A cut between a client and the broker, as confluent-kafka lives through it."""

from __future__ import annotations

import pytest
from brokers import strict_kafka
from kafka_proxy import proxied

kafka = pytest.importorskip("confluent_kafka", reason="pip install streamrde[kafka]")


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with strict_kafka(tmp_path_factory.mktemp("kafka")) as handle:
        handle.create_topic("t")
        yield handle


@pytest.fixture
def wire(broker):
    with proxied(broker) as wire:
        yield wire


def producer(wire, name, **more):
    quick = {"log_level": 0, "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 100}
    made = kafka.Producer({"bootstrap.servers": wire.address, "transactional.id": name, **quick, **more})
    made.init_transactions(10)
    return made


def begun(wire, broker, name, **more):
    one = producer(wire, name, **more)
    one.begin_transaction()
    one.produce("t", name)
    one.flush(10)
    return one


def standing(broker, name):
    (found,) = [record.standing for record in broker.records("t") if record.value == name.encode()]
    return found


def test_clients_stay_behind_their_proxy(broker, wire):
    begun(wire, broker, "through").commit_transaction(10)
    assert standing(broker, "through") == "committed"
    wire.refuse()
    one = kafka.Producer({"bootstrap.servers": wire.address, "log_level": 0})
    with pytest.raises(kafka.KafkaException):
        one.list_topics(timeout=0.3)
    wire.heal()
    assert "t" in one.list_topics(timeout=10).topics


def test_what_waits_in_a_cut_arrives_when_it_heals(broker, wire):
    one = begun(wire, broker, "held")
    wire.cut()
    with pytest.raises(kafka.KafkaException) as error:
        one.commit_transaction(0.3)
    assert error.value.args[0].retriable()
    assert standing(broker, "held") == "open"
    wire.heal()
    one.commit_transaction(10)
    assert standing(broker, "held") == "committed"


def test_a_commit_whose_answer_is_cut_has_happened_and_may_be_repeated(broker, wire):
    one = begun(wire, broker, "unknown")
    wire.cut("client")
    with pytest.raises(kafka.KafkaException) as error:
        one.commit_transaction(0.3)
    assert error.value.args[0].retriable()
    assert standing(broker, "unknown") == "committed"
    wire.reset()
    wire.heal()
    one.commit_transaction(10)
    assert [record.value for record in broker.committed("t")].count(b"unknown") == 1


def test_a_successor_beyond_the_cut_fences_the_one_behind_it(broker, wire):
    one = begun(wire, broker, "zombie")
    wire.cut()
    with proxied(broker) as other:
        producer(other, "zombie")
        assert standing(broker, "zombie") == "aborted"
    wire.heal()
    with pytest.raises(kafka.KafkaException) as error:
        one.commit_transaction(10)
    assert error.value.args[0].code() == kafka.KafkaError._FENCED


def test_a_slow_wire_is_slow_and_loses_nothing(broker, wire):
    wire.delay(0.05)
    begun(wire, broker, "slow").commit_transaction(10)
    assert standing(broker, "slow") == "committed"
