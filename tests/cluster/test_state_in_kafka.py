"""`streamrde state` on changelogs, at a broker that keeps Kafka's rules."""

from __future__ import annotations

import contextlib
import uuid
from dataclasses import replace

import pytest
from brokers import strict_kafka

import streamrde as sr
from streamrde.cluster.changelog import POSITION, Entry, identity_entry
from streamrde.cluster.contents import ChangelogContents, ChangelogPlace, begun
from streamrde.cluster.moving import move, source_entry, to_changelog
from streamrde.cluster.partitioners import PARTITIONERS
from streamrde.cluster.rehashing import rehash
from streamrde.cluster.thinning import thin
from streamrde.cluster.topics import check_topics, marker_of
from streamrde.errors import BrokerError, StateError
from streamrde.state import Checkpoint, SqliteStore
from streamrde.state.portable import PortableFile, write_portable

kafka = pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")

IDENTITY = {"model": "0123456789abcdef", "source.time_unit": "s"}
NOW = 1_700_000_000.0
STREAMS = [f"pump-{i}" for i in range(40)]


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with strict_kafka(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture
def place(broker):
    """A changelog that is not there yet, and its input with four partitions."""
    name = uuid.uuid4().hex[:8]
    broker.create_topic(f"in{name}", 4)
    settings = {"bootstrap.servers": broker.address}
    return ChangelogPlace(f"state{name}", settings, f"in{name}", f"group{name}", config="run.toml")


def snapshot(number):
    accumulator = sr.LogSignature(2, 2)
    accumulator.push([0.0, number])
    return accumulator.snapshot()


@pytest.fixture
def store(tmp_path):
    """A file with 39 streams that run and one that ended."""
    kept = SqliteStore(tmp_path / "state.db")
    kept.open(IDENTITY)
    kept.commit(Checkpoint(snapshots={name: snapshot(i) for i, name in enumerate(STREAMS)}, saved=NOW))
    windows = {"pump-0": 7, "pump-1": 3}
    kept.commit(Checkpoint(ended=["pump-0"], windows=windows, positions={"models before": b'["ab"]'}, saved=NOW + 1))
    yield kept
    kept.close()


def send(place, keys, partitioner="murmur2", count=4):
    """Messages of these keys, where a client with the partitioner puts them."""
    producer = kafka.Producer({**place.settings, "log_level": 0})
    for key in keys:
        producer.produce(place.source, b"{}", key=key, partition=PARTITIONERS[partitioner](key.encode(), count))
    assert producer.flush(10) == 0


def read_all(place):
    """Let the group have read what is there."""
    consumer = place.consumer()
    numbers = range(place.counts()[place.source])
    places = [kafka.TopicPartition(place.source, number) for number in numbers]
    ends = [
        kafka.TopicPartition(one.topic, one.partition, consumer.get_watermark_offsets(one, timeout=10)[1])
        for one in places
    ]
    consumer.commit(offsets=ends, asynchronous=False)
    consumer.close()


def everything(contents):
    return {record.name: record[1:5] for record in contents.records()}


def partitions_of(contents):
    return {record.name: record.partition for record in contents.records()}


def expected(partitioner, count):
    return {name: PARTITIONERS[partitioner](name.encode(), count) for name in STREAMS}


@pytest.mark.parametrize("partitioner", ["murmur2", "crc32"])
def test_a_store_moves_to_kafka_and_back_unchanged(place, store, tmp_path, partitioner):
    send(place, STREAMS, partitioner)
    read_all(place)
    before = everything(store)
    report = move(store, place)
    assert (report.streams, report.ended) == (39, 1)
    contents = ChangelogContents(place)
    assert everything(contents) == before
    assert partitions_of(contents) == expected(partitioner, 4)
    assert contents.head().identity == IDENTITY
    assert contents.head().positions == {"models before": b'["ab"]'}
    assert sum(contents.head().offsets.values()) == 40
    assert not store.path.exists()
    assert (tmp_path / "state.db.moved").exists()
    check_topics(place.counts(), changelog=place.topic, source=place.source)

    back = tmp_path / "back.db"
    assert move(place, back).streams == 39
    with contextlib.closing(SqliteStore(back)) as again:
        again.open(IDENTITY)
        assert everything(again) == before
        assert again.positions() == {"models before": b'["ab"]'}
    with pytest.raises(StateError, match="or has moved its streams away"):
        check_topics(place.counts(), changelog=place.topic, source=place.source)


def test_what_was_moved_away_can_be_moved_to_again(place, store, tmp_path):
    send(place, STREAMS)
    move(store, place)
    move(place, tmp_path / "back.db")
    with contextlib.closing(SqliteStore(tmp_path / "back.db")) as again:
        again.open(IDENTITY)
        again.commit(Checkpoint(snapshots={"pump-2": snapshot(99)}, saved=NOW + 5))
        again.prune(NOW + 1)
        assert move(again, place).streams == 1
    assert everything(ChangelogContents(place)).keys() == {"pump-0", "pump-2"}
    check_topics(place.counts(), changelog=place.topic, source=place.source)


def test_a_check_writes_nothing(place, store, broker):
    send(place, STREAMS)
    report = move(store, place, check=True)
    assert (report.done, report.streams) == (False, 39)
    assert "4 partitions, placed by murmur2" in report.notes
    assert place.counts().keys() & {place.topic, marker_of(place.topic)} == set()
    assert store.path.exists()


def test_keys_that_tell_no_partitioner_need_one(place, store):
    with pytest.raises(StateError, match=r"no keys yet; say where streams belong with --partitioner murmur2\|crc32"):
        move(store, place)
    send(place, STREAMS[:20], "murmur2")
    send(place, STREAMS[20:], "crc32")
    with pytest.raises(StateError, match="lie elsewhere, as"):
        move(store, place)
    assert move(store, place, partitioner="crc32").streams == 39
    assert partitions_of(ChangelogContents(place)) == expected("crc32", 4)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_group_with_members_is_refused(place, store, protocol):
    send(place, STREAMS)
    own = {"group.id": place.group, "client.id": "worker-1", "log_level": 0, "group.protocol": protocol}
    worker = kafka.Consumer({**place.settings, **own})
    worker.subscribe([place.source])
    while not worker.assignment():
        worker.poll(0.1)
    for command in (lambda: move(store, place), lambda: rehash(place), lambda: thin(place, before=NOW)):
        with pytest.raises(StateError, match=r"has 1 members \(worker-1@.*stop all workers first"):
            command()
    worker.close()
    move(store, place)


def test_a_changelog_that_has_streams_is_not_overwritten(place, store, tmp_path):
    send(place, STREAMS)
    move(store, place)
    with contextlib.closing(SqliteStore(tmp_path / "other.db")) as other:
        other.open(IDENTITY)
        with pytest.raises(StateError, match="has 40 streams already"):
            move(other, place)


def test_predictions_that_wait_for_their_file_are_not_left_behind(place, store):
    send(place, STREAMS)
    store.commit(Checkpoint(outbox=[b"x"]))
    with pytest.raises(StateError, match="holds 1 batches of predictions"):
        move(store, place)


def test_an_old_worker_is_shut_out_and_what_it_left_open_is_gone(place, store, broker):
    send(place, STREAMS)
    move(store, place)
    zombie = place.producer(f"{place.group}-{place.source}-0")
    zombie.begin_transaction()
    zombie.produce(place.topic, *reversed(_pair(Entry("pump-3", b"wrong", saved=NOW + 9))), partition=0)
    assert zombie.flush(10) == 0
    assert thin(place, before=NOW).streams == 0
    with pytest.raises(kafka.KafkaException):
        zombie.commit_transaction(10)
    assert b"wrong" not in {row[0] for row in everything(ChangelogContents(place)).values()}


def _pair(entry):
    return entry.key, entry.data


def test_a_move_that_was_broken_off_is_ended_by_the_same_command(place, store, monkeypatch, caplog):
    send(place, STREAMS)
    before = everything(store)
    monkeypatch.setattr("streamrde.cluster.filling._RECORDS", 10)

    def records():
        for number, record in enumerate(type(store).records(store)):
            if number == 25:
                raise KeyboardInterrupt
            yield record

    with monkeypatch.context() as patched:
        patched.setattr(store, "records", records)
        with pytest.raises(KeyboardInterrupt):
            move(store, place)
    assert begun(place, place.counts())["command"] == "move"
    assert "closed to workers until it is: run `streamrde state move` again" in caplog.text
    with pytest.raises(StateError, match="`streamrde state move` was broken off"):
        thin(place, before=NOW)
    with pytest.raises(StateError, match="run the same command again"):
        check_topics(place.counts(), changelog=place.topic, source=place.source)
    assert 0 < len(ChangelogContents(place)) < 40
    store.prune(NOW + 0.5)  # meanwhile the run on SQLite went on
    move(store, place)
    assert everything(ChangelogContents(place)) == {"pump-0": before["pump-0"]}
    assert begun(place, place.counts()) is None


@pytest.mark.parametrize("action", ["cut_after", "cut_before"])
@pytest.mark.parametrize("api", ["EndTxn", "Produce"])
def test_a_connection_that_breaks_in_a_transaction_changes_nothing(place, store, broker, monkeypatch, action, api):
    monkeypatch.setattr("streamrde.cluster.filling._RECORDS", 10)
    send(place, STREAMS)
    before = everything(store)
    where = {"transactional_id": f"{place.group}-{place.source}-state"}
    fault = broker.fault(action, api, skip=3, where=where)
    move(store, place)
    broker.await_fault(fault)
    assert everything(ChangelogContents(place)) == before
    check_topics(place.counts(), changelog=place.topic, source=place.source)


def test_of_two_commands_at_once_the_later_one_wins(place, store, monkeypatch):
    monkeypatch.setattr("streamrde.cluster.filling._RECORDS", 10)
    send(place, STREAMS)
    before = everything(store)

    def records():
        for number, record in enumerate(type(store).records(store)):
            if number == 15:
                place.producer(f"{place.group}-{place.source}-state")
            yield record

    with monkeypatch.context() as patched:
        patched.setattr(store, "records", records)
        with pytest.raises(BrokerError, match="another command works on the changelog"):
            move(store, place)
    assert store.path.exists()
    move(store, place)
    assert everything(ChangelogContents(place)) == before


def test_compaction_by_the_broker_changes_nothing(place, store, broker):
    send(place, STREAMS)
    move(store, place)
    found = everything(ChangelogContents(place))
    thin(place, before=NOW + 2, only_ended=True)
    del found["pump-0"]
    assert everything(ChangelogContents(place)) == found
    broker.compact(place.topic)
    assert everything(ChangelogContents(place)) == found
    broker.compact(place.topic, tombstones=False)
    assert everything(ChangelogContents(place)) == found


def test_old_streams_are_deleted(place, store):
    send(place, STREAMS)
    move(store, place)
    assert (thin(place, before=NOW + 0.5, check=True).streams, len(ChangelogContents(place))) == (39, 40)
    report = thin(place, before=NOW + 0.5)
    assert (report.streams, report.ended) == (39, 0)
    assert everything(ChangelogContents(place)).keys() == {"pump-0"}
    check_topics(place.counts(), changelog=place.topic, source=place.source)


def test_an_export_of_a_changelog_goes_into_another_and_seeks(place, store, tmp_path, broker):
    send(place, STREAMS)
    read_all(place)
    move(store, place)
    contents = ChangelogContents(place)
    write_portable(tmp_path / "x.arrow", contents, len(contents))
    send(place, STREAMS)
    read_all(place)
    other = replace(place, topic=place.topic + "2")
    file = PortableFile(tmp_path / "x.arrow")
    report = to_changelog(file, other, check=True)
    assert any("samples between them are missing or come twice" in note for note in report.notes)
    report = to_changelog(file, other, seek=True)
    assert everything(ChangelogContents(other)) == everything(contents)
    committed = {number: offset for topic, number, offset in broker.groups()[place.group]["committed"]}
    assert committed == dict(contents.head().offsets)


# Rehash.


@pytest.fixture
def filled(place, store):
    send(place, STREAMS, "crc32")
    read_all(place)
    move(store, place)
    return place


def grow(place, count):
    admin = place.admin()
    from confluent_kafka.cimpl import NewPartitions

    admin.create_partitions([NewPartitions(place.source, count)])[place.source].result(10)


@pytest.mark.parametrize("count", [8, 5])
def test_rehash_puts_every_stream_where_its_samples_are_now(filled, count):
    before = everything(ChangelogContents(filled))
    grow(filled, count)
    with pytest.raises(StateError, match="streamrde state rehash run"):
        check_topics(filled.counts(), changelog=filled.topic, source=filled.source, config="run.toml")
    planned = rehash(filled, check=True)
    assert filled.counts()[filled.topic] == 4
    report = rehash(filled)
    moved = sum(PARTITIONERS["crc32"](s.encode(), 4) != PARTITIONERS["crc32"](s.encode(), count) for s in STREAMS)
    assert planned.moved == report.moved == moved > 0
    assert (report.before, report.after, report.partitioner) == (4, count, "crc32")
    contents = ChangelogContents(filled)
    assert everything(contents) == before
    assert partitions_of(contents) == expected("crc32", count)
    assert contents.twice() == []
    assert contents.head().identity == IDENTITY
    assert {*contents.head().offsets} == {*range(count)}
    assert all(any(entry.name == POSITION + "models before" for entry in own) for own in contents.own)
    check_topics(filled.counts(), changelog=filled.topic, source=filled.source)
    assert rehash(filled).done is False


def test_new_partitions_are_read_from_their_beginning(filled, broker):
    grow(filled, 8)
    send(filled, STREAMS, "crc32", 8)
    consumer = filled.consumer()
    assert consumer.committed([kafka.TopicPartition(filled.source, 7)], timeout=10)[0].offset < 0
    consumer.close()
    rehash(filled)
    committed = {number: offset for topic, number, offset in broker.groups()[filled.group]["committed"]}
    assert {committed[number] for number in range(4, 8)} == {0}


def test_unread_messages_of_streams_that_move_are_refused(filled):
    grow(filled, 8)
    send(filled, STREAMS, "crc32", 8)  # come after the change, and lie where they belong
    assert rehash(filled, check=True).moved > 0
    send(filled, STREAMS, "crc32", 4)  # of a producer that does not know of the change
    for check in (True, False):
        with pytest.raises(StateError, match=r"has not read \d+ messages of \d+ streams in partition \d.*run run.toml"):
            rehash(filled, check=check)
    assert filled.counts()[filled.topic] == 4
    assert marker_of(filled.topic) not in filled.counts()
    read_all(filled)
    rehash(filled)


def test_a_rehash_that_was_broken_off_goes_on(filled, monkeypatch):
    before = everything(ChangelogContents(filled))
    grow(filled, 8)
    monkeypatch.setattr("streamrde.cluster.filling._RECORDS", 6)
    entries = ChangelogContents.entries

    def broken(self):
        for number, entry in enumerate(entries(self)):
            if number == 20:
                raise KeyboardInterrupt
            yield entry

    with monkeypatch.context() as patched:
        patched.setattr(ChangelogContents, "entries", broken)
        with pytest.raises(KeyboardInterrupt):
            rehash(filled)
    contents = ChangelogContents(filled)
    assert everything(contents) == before
    assert contents.twice() == []
    found = partitions_of(contents)
    assert found != expected("crc32", 4)
    assert found != expected("crc32", 8)
    with pytest.raises(StateError, match="run the same command again"):
        check_topics(filled.counts(), changelog=filled.topic, source=filled.source)
    rehash(filled)
    assert everything(ChangelogContents(filled)) == before
    assert partitions_of(ChangelogContents(filled)) == expected("crc32", 8)


def test_a_stream_in_two_partitions_is_refused_or_kept_where_it_belonged(filled):
    right = PARTITIONERS["crc32"](b"pump-5", 4)
    producer = filled.producer("mistaken")
    producer.begin_transaction()
    wrong = Entry("pump-5", snapshot(77), saved=NOW + 5)
    producer.produce(filled.topic, wrong.data, wrong.key, partition=(right + 1) % 4, headers=wrong.headers)
    producer.commit_transaction(10)
    assert ChangelogContents(filled).twice() == ["pump-5"]
    grow(filled, 8)
    with pytest.raises(StateError, match=r"1 streams have a state in two partitions \(pump-5\)"):
        rehash(filled)
    rehash(filled, keep_placed=True)
    contents = ChangelogContents(filled)
    assert contents.twice() == []
    assert everything(contents)["pump-5"][0] == snapshot(5)
    assert partitions_of(contents) == expected("crc32", 8)


def test_producers_that_changed_their_partitioner_are_told(filled):
    grow(filled, 8)
    send(filled, [f"new-{i}" for i in range(200)], "murmur2", 8)
    read_all(filled)
    with pytest.raises(StateError, match=r"lie where crc32 puts them, and the messages of .* where murmur2 does"):
        rehash(filled)


def test_streams_that_no_key_names_are_refused(filled, store):
    with pytest.raises(StateError, match="named by fields or topics"):
        rehash(replace(filled, keyed=False))


def test_workers_with_different_models_are_told(filled):
    producer = filled.producer("mistaken")
    producer.begin_transaction()
    other = identity_entry({"model": "other"})
    producer.produce(filled.topic, other.data, other.key, partition=2, headers=other.headers)
    producer.produce(
        filled.topic, source_entry(7, "").data, source_entry(7, "").key, partition=2, headers=other.headers
    )
    producer.commit_transaction(10)
    with pytest.raises(StateError, match="partitions belong to different models or settings"):
        ChangelogContents(filled).head()
