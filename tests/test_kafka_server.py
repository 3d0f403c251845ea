"""The strict broker keeps Kafka's rules, as confluent-kafka sees them."""

from __future__ import annotations

import itertools
import time
from contextlib import contextmanager

import pytest
from brokers import strict_kafka

kafka = pytest.importorskip("confluent_kafka", reason="pip install streamrde[kafka]")
admin = pytest.importorskip("confluent_kafka.admin")

_names = itertools.count()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with strict_kafka(tmp_path_factory.mktemp("kafka")) as handle:
        yield handle


@pytest.fixture
def broker(running):
    yield running
    running.clear()
    running.release_markers()


@pytest.fixture(params=["classic", "consumer"])
def protocol(request):
    return request.param


@pytest.fixture
def topic(broker):
    name = f"t{next(_names)}"
    broker.create_topic(name)
    return name


def settings(broker, **more):
    quiet = {"log_level": 0, "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 100, "retry.backoff.ms": 20}
    return {
        "bootstrap.servers": broker.address,
        **quiet,
        **{key.replace("_", "."): value for key, value in more.items()},
    }


def producer(broker, name=None, **more):
    if name is not None:
        more["transactional_id"] = name
    made = kafka.Producer(settings(broker, **more))
    if name is not None:
        made.init_transactions(10)
    return made


@contextmanager
def consumer(broker, group=None, **more):
    if more.get("group_protocol") == "consumer":  # the broker says when sessions end, and it assigns
        for name in ("session_timeout_ms", "heartbeat_interval_ms", "partition_assignment_strategy"):
            more.pop(name, None)
    else:
        more = {"session_timeout_ms": 6000, "heartbeat_interval_ms": 100} | more
    group = group or f"g{next(_names)}"
    made = kafka.Consumer(
        settings(broker, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False, **more)
    )
    try:
        yield made
    finally:
        made.close()


def values(broker, topic, *, isolation="read_committed"):
    """Read a partition up to the end that this isolation sees."""
    with consumer(broker, isolation_level=isolation, enable_partition_eof=True, fetch_wait_max_ms=20) as reader:
        reader.assign([kafka.TopicPartition(topic, 0, 0)])
        found = []
        while True:
            message = reader.poll(10)
            assert message is not None
            if message.error():
                assert message.error().code() == kafka.KafkaError._PARTITION_EOF
                return found
            found.append(message.value())


def joined(*consumers, partitions):
    """Poll until these consumers have so many partitions in sum."""
    until = time.monotonic() + 20
    while sum(len(one.assignment()) for one in consumers) != partitions or any(
        not one.assignment() for one in consumers
    ):
        assert time.monotonic() < until
        for one in consumers:
            one.poll(0.02)


def failure(reader):
    """Poll until an error comes, and return its code."""
    while True:
        message = reader.poll(10)
        assert message is not None
        if message.error():
            return message.error().code()


def code(error):
    return error.value.args[0].code()


# Transactions


def test_committed_records_are_seen_and_aborted_ones_are_not(broker, topic):
    one = producer(broker, topic)
    for end, text in ((one.commit_transaction, "a"), (one.abort_transaction, "b"), (one.commit_transaction, "c")):
        one.begin_transaction()
        one.produce(topic, text)
        one.flush(10)
        end(10)
    assert values(broker, topic) == [b"a", b"c"]
    assert values(broker, topic, isolation="read_uncommitted") == [b"a", b"b", b"c"]
    assert [record.standing for record in broker.records(topic)] == ["committed", "aborted", "committed"]


def test_a_successor_aborts_its_predecessors_open_transaction_and_fences_it(broker, topic):
    old = producer(broker, topic)
    old.begin_transaction()
    old.produce(topic, "open")
    old.flush(10)
    new = producer(broker, topic)
    assert values(broker, topic) == []
    assert broker.offsets(topic) == {"start": 0, "stable": 2, "end": 2}
    with pytest.raises(kafka.KafkaException) as error:
        old.commit_transaction(10)
    assert code(error) == kafka.KafkaError._FENCED
    assert error.value.args[0].fatal()
    new.begin_transaction()
    new.produce(topic, "new")
    new.commit_transaction(10)
    assert values(broker, topic) == [b"new"]


def test_a_zombies_records_are_refused_by_epoch(broker, topic):
    old = producer(broker, topic)
    old.begin_transaction()
    old.produce(topic, "before")
    old.flush(10)
    producer(broker, topic)
    old.produce(topic, "after")
    with pytest.raises(kafka.KafkaException) as error:  # a callback of the record's would end in a SystemError
        old.flush(10)
    assert code(error) == kafka.KafkaError._FENCED
    assert [record.value for record in broker.records(topic)] == [b"before"]


def test_an_open_transaction_holds_readers_of_committed_records_back(broker, topic):
    first, second = producer(broker, f"{topic}-1"), producer(broker, f"{topic}-2")
    first.begin_transaction()
    first.produce(topic, "first")
    first.flush(10)
    second.begin_transaction()
    second.produce(topic, "second")
    second.commit_transaction(10)
    assert values(broker, topic) == []
    assert broker.offsets(topic) == {"start": 0, "stable": 0, "end": 3}
    first.commit_transaction(10)
    assert values(broker, topic) == [b"first", b"second"]


def test_interleaved_transactions_are_told_apart(broker, topic):
    first, second = producer(broker, f"{topic}-1"), producer(broker, f"{topic}-2")
    for one in (first, second):
        one.begin_transaction()
    for text in range(6):
        one = (first, second)[text % 2]
        one.produce(topic, f"{text}")
        one.flush(10)
    first.abort_transaction(10)
    second.commit_transaction(10)
    assert values(broker, topic) == [b"1", b"3", b"5"]


def test_a_transaction_that_is_open_too_long_is_aborted_and_its_producer_fenced(broker, topic):
    one = producer(broker, topic, transaction_timeout_ms=1000, message_timeout_ms=1000)
    one.begin_transaction()
    one.produce(topic, "late")
    one.flush(10)
    assert broker.expire_transactions(topic) == [topic]
    assert values(broker, topic) == []
    with pytest.raises(kafka.KafkaException) as error:
        one.commit_transaction(10)
    assert code(error) == kafka.KafkaError._FENCED


def test_a_transactions_timeout_passes_by_itself(broker, topic):
    one = producer(broker, topic, transaction_timeout_ms=1000, message_timeout_ms=1000)
    one.begin_transaction()
    one.produce(topic, "late")
    one.flush(10)
    until = time.monotonic() + 10
    while broker.records(topic)[0].standing == "open":
        assert time.monotonic() < until
        time.sleep(0.05)
    assert broker.records(topic)[0].standing == "aborted"


def test_markers_that_come_late_keep_the_reader_waiting_and_the_producer_too(broker, topic):
    one = producer(broker, topic)
    broker.hold_markers()
    one.begin_transaction()
    one.produce(topic, "a")
    one.commit_transaction(10)
    assert broker.transactions()[topic]["state"] == "PrepareCommit"
    assert values(broker, topic) == []
    one.begin_transaction()
    one.produce(topic, "b")
    asked = broker.counts()["AddPartitionsToTxn"]
    one.poll(0)
    broker.await_requests("AddPartitionsToTxn", asked + 2)  # answered by CONCURRENT_TRANSACTIONS, and asked again
    assert len(broker.records(topic)) == 1
    broker.release_markers()
    one.commit_transaction(10)
    assert values(broker, topic) == [b"a", b"b"]


def test_offsets_of_a_transaction_are_unstable_until_it_ends(broker, topic, protocol):
    one, group = producer(broker, topic), f"{topic}-group"
    with consumer(broker, group, group_protocol=protocol) as member:
        member.subscribe([topic])
        joined(member, partitions=1)
        for offset, end in ((5, one.abort_transaction), (7, one.commit_transaction)):
            one.begin_transaction()
            sent = [kafka.TopicPartition(topic, 0, offset)]
            one.send_offsets_to_transaction(sent, member.consumer_group_metadata(), 10)
            assert broker.groups()[group]["pending"] == [[topic, 0, offset]]
            with pytest.raises(kafka.KafkaException) as error:  # it asks for stable offsets, again and again
                member.committed([kafka.TopicPartition(topic, 0)], timeout=0.2)
            assert code(error) == kafka.KafkaError._TIMED_OUT
            end(10)
            assert broker.groups()[group]["committed"] == ([[topic, 0, 7]] if offset == 7 else [])
        assert member.committed([kafka.TopicPartition(topic, 0)], timeout=10)[0].offset == 7


@contextmanager
def moved_on(broker, topic, protocol):
    """A member's metadata of one generation, after a second member has begun the next one."""
    group = f"{topic}-group"
    with consumer(broker, group, group_protocol=protocol) as first:
        first.subscribe([topic])
        joined(first, partitions=1)
        metadata = first.consumer_group_metadata()
        generation = broker.groups()[group]["generation"]
        with consumer(broker, group, group_protocol=protocol) as second:
            second.subscribe([topic])
            while broker.groups()[group]["generation"] == generation or broker.groups()[group]["state"] != "Stable":
                first.poll(0.02)
                second.poll(0.02)
            yield metadata


def test_a_zombies_offsets_are_refused_by_generation(broker, topic, protocol):
    one = producer(broker, topic)
    with moved_on(broker, topic, protocol) as metadata:
        one.begin_transaction()
        with pytest.raises(kafka.KafkaException) as error:
            one.send_offsets_to_transaction([kafka.TopicPartition(topic, 0, 1)], metadata, 10)
    assert code(error) == kafka.KafkaError.ILLEGAL_GENERATION
    assert error.value.args[0].txn_requires_abort()
    one.abort_transaction(10)
    assert broker.groups()[f"{topic}-group"]["committed"] == []


def test_offsets_of_a_member_that_was_removed_are_refused(broker, topic, protocol):
    one, group = producer(broker, topic), f"{topic}-group"
    slow = {"session_timeout_ms": 30_000, "heartbeat_interval_ms": 20_000, "client_id": f"{topic}-member"}
    with consumer(broker, group, group_protocol=protocol, **slow) as member:
        member.subscribe([topic])
        joined(member, partitions=1)
        metadata = member.consumer_group_metadata()
        (known,) = broker.groups()[group]["members"]
        broker.pause(f"{topic}-member")  # so that it does not join again
        assert broker.expire_members(group, "another") == []
        assert broker.expire_members(group) == [known["id"]]
        one.begin_transaction()
        with pytest.raises(kafka.KafkaException) as error:
            one.send_offsets_to_transaction([kafka.TopicPartition(topic, 0, 1)], metadata, 10)
        assert code(error) == kafka.KafkaError.UNKNOWN_MEMBER_ID
        broker.resume()


def test_an_ended_transaction_whose_answer_was_lost_is_ended_once(broker, topic):
    one = producer(broker, topic)
    for action in ("cut_after", "cut_before"):
        order = broker.fault(action, "EndTxn")
        one.begin_transaction()
        one.produce(topic, action)
        one.commit_transaction(20)
        assert broker.faults()[order]["hits"] == 1
    assert values(broker, topic) == [b"cut_after", b"cut_before"]
    assert broker.offsets(topic)["end"] == 4


def test_offsets_whose_answer_was_lost_are_sent_again(broker, topic):
    one, group = producer(broker, topic), f"{topic}-group"
    with consumer(broker, group) as member:
        member.subscribe([topic])
        joined(member, partitions=1)
        broker.fault("cut_after", "TxnOffsetCommit")
        one.begin_transaction()
        one.send_offsets_to_transaction([kafka.TopicPartition(topic, 0, 3)], member.consumer_group_metadata(), 20)
        one.commit_transaction(20)
        assert broker.groups()[group]["committed"] == [[topic, 0, 3]]


# Idempotence


def test_records_whose_answer_was_lost_are_stored_once_and_in_order(broker, topic):
    one = producer(broker, enable_idempotence=True, linger_ms=0)
    broker.fault("cut_after", "Produce", skip=1, count=2)
    for text in range(30):
        one.produce(topic, f"{text}")
        one.poll(0.005)
    assert one.flush(20) == 0
    assert values(broker, topic) == [f"{text}".encode() for text in range(30)]


def test_records_without_idempotence_are_stored_twice_then(broker, topic):
    one = producer(broker, enable_idempotence=False)
    order = broker.fault("cut_after", "Produce")
    one.produce(topic, "again")
    assert one.flush(20) == 0
    assert broker.faults()[order]["hits"] == 1
    assert values(broker, topic) == [b"again", b"again"]


# Groups


@pytest.mark.parametrize(
    "how",
    [
        {"partition_assignment_strategy": "range"},
        {"partition_assignment_strategy": "cooperative-sticky"},
        {"group_protocol": "consumer"},
    ],
    ids=lambda how: next(iter(how.values())),
)
def test_members_share_partitions_and_take_over_those_of_one_that_leaves(broker, how):
    name = f"t{next(_names)}"
    broker.create_topic(name, 4)
    group = f"{name}-group"
    with consumer(broker, group, **how) as first:
        first.subscribe([name])
        joined(first, partitions=4)
        with consumer(broker, group, **how) as second:
            second.subscribe([name])
            joined(first, second, partitions=4)
            assert len(first.assignment()) == 2
        joined(first, partitions=4)
        first.commit(offsets=[kafka.TopicPartition(name, 1, 9)], asynchronous=False)
    with consumer(broker, group) as later:
        assert later.committed([kafka.TopicPartition(name, 1)], timeout=10)[0].offset == 9


def test_a_member_that_falls_silent_loses_its_partitions(broker, topic):
    group = f"{topic}-group"
    silent = {"client_id": f"{topic}-silent", "session_timeout_ms": 1000}
    with consumer(broker, group, **silent) as first, consumer(broker, group) as second:
        first.subscribe([topic])
        joined(first, partitions=1)
        broker.pause(f"{topic}-silent")
        second.subscribe([topic])
        joined(second, partitions=1)
        broker.resume()


def test_a_static_member_that_returns_keeps_generation_and_partitions(broker, topic, protocol):
    group = f"{topic}-group"
    static = {"group_instance_id": "one", "session_timeout_ms": 30_000, "group_protocol": protocol}
    with consumer(broker, group, **static) as first:
        first.subscribe([topic])
        joined(first, partitions=1)
    before = broker.groups()[group]
    with consumer(broker, group, **static) as again:
        again.subscribe([topic])
        joined(again, partitions=1)
        after = broker.groups()[group]
        assert after["generation"] == before["generation"]
        assert after["members"][0]["id"] != before["members"][0]["id"]


def test_a_static_member_whose_place_was_taken_is_fenced(broker, topic):
    group, one = f"{topic}-group", producer(broker, topic)
    static = {"group_instance_id": "one", "session_timeout_ms": 30_000}
    with consumer(broker, group, **static) as first, consumer(broker, group, **static) as second:
        first.subscribe([topic])
        joined(first, partitions=1)
        metadata = first.consumer_group_metadata()
        second.subscribe([topic])
        joined(second, partitions=1)
        one.begin_transaction()
        with pytest.raises(kafka.KafkaException) as error:
            one.send_offsets_to_transaction([kafka.TopicPartition(topic, 0, 1)], metadata, 10)
        assert code(error) == kafka.KafkaError.FENCED_INSTANCE_ID
        assert failure(first) in (kafka.KafkaError._FATAL, kafka.KafkaError.FENCED_INSTANCE_ID)


def test_a_second_member_of_a_static_instance_waits_in_the_consumer_protocol(broker, topic):
    group = f"{topic}-group"
    static = {"group_instance_id": "one", "group_protocol": "consumer"}
    with consumer(broker, group, **static) as first, consumer(broker, group, **static) as second:
        first.subscribe([topic])
        joined(first, partitions=1)
        (before,) = broker.groups()[group]["members"]
        second.subscribe([topic])
        assert failure(second) in (kafka.KafkaError._FATAL, kafka.KafkaError.UNRELEASED_INSTANCE_ID)
        assert broker.groups()[group]["members"] == [before]


def test_a_partition_moves_only_when_its_owner_let_it_go(broker):
    name = f"t{next(_names)}"
    broker.create_topic(name, 2)
    group, held, seen = f"{name}-group", set(), []
    how = {"group_protocol": "consumer"}

    def on_assign(_, partitions):
        for one in partitions:
            seen.append((one.partition, one.partition in held))
            held.add(one.partition)

    def on_revoke(_, partitions):
        for one in partitions:
            held.discard(one.partition)

    with consumer(broker, group, **how) as first, consumer(broker, group, **how) as second:
        first.subscribe([name], on_assign=on_assign, on_revoke=on_revoke)
        joined(first, partitions=2)
        second.subscribe([name], on_assign=on_assign, on_revoke=on_revoke)
        joined(first, second, partitions=2)
    assert len(seen) >= 3
    assert not any(twice for _, twice in seen)


def test_partitions_that_are_added_are_assigned(broker, protocol):
    name = f"t{next(_names)}"
    broker.create_topic(name, 1)
    with consumer(broker, group_protocol=protocol, topic_metadata_refresh_interval_ms=100) as member:
        member.subscribe([name])
        joined(member, partitions=1)
        client = admin.AdminClient(settings(broker))
        client.create_partitions([admin.NewPartitions(name, 3)])[name].result(10)
        joined(member, partitions=3)


def test_a_group_changes_its_protocol_while_it_is_empty(broker, topic):
    group = f"{topic}-group"
    for offset, protocol in enumerate(["classic", "consumer", "classic"]):
        with consumer(broker, group, group_protocol=protocol) as member:
            member.subscribe([topic])
            joined(member, partitions=1)
            expected = offset or kafka.OFFSET_INVALID
            assert member.committed([kafka.TopicPartition(topic, 0)], timeout=10)[0].offset == expected
            member.commit(offsets=[kafka.TopicPartition(topic, 0, offset + 1)], asynchronous=False)


def test_offsets_of_a_group_with_members_are_theirs_alone(broker, topic):
    group = f"{topic}-group"
    with consumer(broker, group) as member, consumer(broker, group) as stranger:
        member.subscribe([topic])
        joined(member, partitions=1)
        with pytest.raises(kafka.KafkaException) as error:
            stranger.commit(offsets=[kafka.TopicPartition(topic, 0, 1)], asynchronous=False)
        assert code(error) == kafka.KafkaError.UNKNOWN_MEMBER_ID


# Logs


def test_a_reader_waits_for_records(broker, topic):
    with consumer(broker, fetch_wait_max_ms=10_000) as reader:
        reader.assign([kafka.TopicPartition(topic, 0, 0)])
        assert reader.poll(0.3) is None
        one = producer(broker)
        one.produce(topic, "now")
        one.flush(10)
        assert reader.poll(10).value() == b"now"


def test_offsets_by_time_are_those_of_the_first_record_not_before(broker, topic):
    one = producer(broker)
    for text in range(5):
        one.produce(topic, f"{text}", timestamp=1000 + 10 * text)
    one.flush(10)
    with consumer(broker) as reader:
        found = [
            reader.offsets_for_times([kafka.TopicPartition(topic, 0, at)])[0].offset for at in (0, 1011, 1040, 1041)
        ]
    assert found == [0, 2, 4, -1]


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_compaction_keeps_the_latest_committed_record_of_each_key(broker, compression):
    name = f"t{next(_names)}"
    broker.create_topic(name, cleanup_policy="compact")
    one = producer(broker, name, compression_type=compression)
    for end, texts in ((one.commit_transaction, "ab"), (one.commit_transaction, "bc"), (one.abort_transaction, "a")):
        one.begin_transaction()
        for text in texts:
            one.produce(name, text * 200, key=text)
        one.produce(name, None if end == one.commit_transaction else "x", key="gone")
        one.flush(10)
        end(10)
    one.begin_transaction()
    one.produce(name, "open", key="c")
    one.flush(10)
    before = broker.offsets(name)
    assert broker.compact(name) == 4
    assert [(record.key, record.offset) for record in broker.records(name)] == [
        (b"a", 0),
        (b"b", 4),
        (b"c", 5),
        (b"gone", 6),
        (b"c", 11),
    ]
    assert values(broker, name) == [b"a" * 200, b"b" * 200, b"c" * 200, None]
    assert broker.compact(name, tombstones=False) == 1
    assert values(broker, name) == [b"a" * 200, b"b" * 200, b"c" * 200]
    one.commit_transaction(10)
    assert values(broker, name)[-1] == b"open"
    assert broker.offsets(name)["end"] == before["end"] + 1


def test_a_reader_passes_the_end_of_a_log_that_compaction_emptied(broker):
    name = f"t{next(_names)}"
    broker.create_topic(name, cleanup_policy="compact")
    one = producer(broker)
    one.produce(name, None, key="a")
    one.flush(10)
    broker.compact(name, tombstones=False)
    assert values(broker, name) == []
    one.produce(name, "b", key="b")
    one.flush(10)
    assert values(broker, name) == [b"b"]


def test_a_compacted_topic_takes_no_record_without_a_key(broker):
    name, reports = f"t{next(_names)}", []
    broker.create_topic(name, cleanup_policy="compact")
    one = producer(broker)
    one.produce(name, "a", on_delivery=lambda failure, _: reports.append(failure.code()))
    one.flush(10)
    assert reports == [kafka.KafkaError.INVALID_RECORD]


def test_retention_moves_the_start_of_the_log(broker, topic):
    one = producer(broker)
    for text in range(5):
        one.produce(topic, f"{text}")
        one.flush(10)
    assert broker.retain(topic, 3) == 3
    with consumer(broker) as reader:
        assert reader.get_watermark_offsets(kafka.TopicPartition(topic, 0)) == (3, 5)
        reader.assign([kafka.TopicPartition(topic, 0, 1)])  # out of range: it begins at the earliest
        assert reader.poll(10).value() == b"3"


# Administration


def test_topics_are_made_grown_described_changed_and_deleted(broker):
    name = f"t{next(_names)}"
    client = admin.AdminClient(settings(broker))
    new = admin.NewTopic(name, 3, 1, config={"cleanup.policy": "compact"})
    client.create_topics([new])[name].result(10)
    with pytest.raises(kafka.KafkaException) as error:
        client.create_topics([new])[name].result(10)
    assert code(error) == kafka.KafkaError.TOPIC_ALREADY_EXISTS
    client.create_partitions([admin.NewPartitions(name, 5)])[name].result(10)
    assert len(client.list_topics(name, 10).topics[name].partitions) == 5
    resource = admin.ConfigResource(admin.ConfigResource.Type.TOPIC, name)
    resource.add_incremental_config(
        admin.ConfigEntry("retention.ms", "7", incremental_operation=admin.AlterConfigOpType.SET)
    )
    client.incremental_alter_configs([resource])[resource].result(10)
    found = client.describe_configs([resource])[resource].result(10)
    assert (found["cleanup.policy"].value, found["retention.ms"].value) == ("compact", "7")
    client.delete_topics([name])[name].result(10)
    assert name not in client.list_topics(timeout=10).topics


def test_records_and_groups_are_deleted(broker, topic, protocol):
    one, group = producer(broker), f"{topic}-group"
    one.produce(topic, "a")
    one.flush(10)
    client = admin.AdminClient(settings(broker))
    at = kafka.TopicPartition(topic, 0, 1)
    assert client.delete_records([at])[at].result(10).low_watermark == 1
    with consumer(broker, group, group_protocol=protocol) as member:
        member.subscribe([topic])
        joined(member, partitions=1)
        described = client.describe_consumer_groups([group])[group].result(10)
        assert described.members[0].assignment.topic_partitions == [kafka.TopicPartition(topic, 0)]
        with pytest.raises(kafka.KafkaException) as error:
            client.delete_consumer_groups([group])[group].result(10)
        assert code(error) == kafka.KafkaError.NON_EMPTY_GROUP
    assert group in [one.group_id for one in client.list_consumer_groups().result(10).valid]
    client.delete_consumer_groups([group])[group].result(10)
    assert group not in broker.groups()
