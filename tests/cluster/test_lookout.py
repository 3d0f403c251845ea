"""Keys in partitions where they should not be are counted, and said once."""

from __future__ import annotations

import logging

import pytest

from streamrde.cluster.lookout import Lookout
from streamrde.cluster.member import Task
from streamrde.cluster.partitioners import PARTITIONERS


@pytest.fixture
def lookout():
    return Lookout()


def see(lookout, names, partitioner, count=12):
    for name in names:
        number = PARTITIONERS[partitioner](name.encode(), count)
        lookout.see(Task("in", number), [b"in/" + name.encode()], count)


def test_keys_of_one_partitioner_are_right(lookout, caplog):
    for _ in range(2):
        see(lookout, [f"s{i}" for i in range(200)], "murmur2")
    assert [lookout.strays(Task("in", i)) + lookout.twice(Task("in", i)) for i in range(12)] == [0] * 12
    assert caplog.records == []


def test_two_sorts_of_producers_are_warned_of_once(lookout, caplog):
    see(lookout, [f"s{i}" for i in range(200)], "crc32")
    see(lookout, [f"t{i}" for i in range(40)], "murmur2")
    (record,) = caplog.records
    assert (record.levelno, "as murmur2 does" in record.message) == (logging.WARNING, True)
    assert 30 <= sum(lookout.strays(Task("in", i)) for i in range(12)) <= 40


def test_a_stream_in_two_partitions_is_an_error_and_counted_once(lookout, caplog):
    for _ in range(3):
        lookout.see(Task("in", 1), [b"in/a"], 4)
        lookout.see(Task("in", 2), [b"in/a"], 4)
    assert (lookout.twice(Task("in", 1)), lookout.twice(Task("in", 2))) == (0, 1)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "stream 'a' comes in partition 2 of topic 'in' and in partition 1" in record.message


def test_a_partition_that_is_given_up_may_come_back_elsewhere(lookout, caplog):
    lookout.see(Task("in", 1), [b"in/a"], 4)
    lookout.forget(Task("in", 1))
    lookout.see(Task("in", 2), [b"in/a"], 4)
    assert lookout.twice(Task("in", 2)) == 0
    assert lookout.strays(Task("in", 1)) == 0
    assert caplog.records == []


def test_one_partition_has_nothing_to_mistake(lookout):
    lookout.see(Task("in", 0), [b"in/a"], 1)
    assert lookout.strays(Task("in", 0)) == 0
