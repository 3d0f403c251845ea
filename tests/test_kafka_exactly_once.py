"""Two members move records from topic to topic, exactly once, while connections are cut and members are thrown out.

This is a test of the strict broker, and of librdkafka with it: a loop as short as the documentation of KIP-447 has it.
"""

from __future__ import annotations

import random
import threading

import pytest
from brokers import strict_kafka

kafka = pytest.importorskip("confluent_kafka", reason="pip install streamrde[kafka]")

RECORDS, PARTITIONS = 600, 2
APIS = (
    *("EndTxn", "TxnOffsetCommit", "Produce", "AddPartitionsToTxn", "AddOffsetsToTxn"),
    *("InitProducerId", "Heartbeat", "JoinGroup", "Fetch"),
)


def settings(broker, name, **more):
    quick = {"log_level": 0, "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 100, "retry.backoff.ms": 20}
    # Else a lost connection makes it forget its only broker, and sending offsets hangs (librdkafka #5456 and #5511).
    patient = {"metadata.recovery.strategy": "none"}
    return {"bootstrap.servers": broker.address, "client.id": name, **quick, **patient, **more}


def until_done(act):
    """Call a function of the transaction until it ends in success or in an error that no repetition helps."""
    while True:
        try:
            return act(10)
        except kafka.KafkaException as error:
            if not error.args[0].retriable():
                raise


class Member(threading.Thread):
    """Reads from `in` and writes to `out`; after an error it begins from what is committed."""

    def __init__(self, broker, name):
        super().__init__(name=name)
        self.broker = broker
        self.done = threading.Event()

    def run(self):
        while not self.done.is_set():
            try:
                self.work()
            except (kafka.KafkaException, SystemError):
                continue  # fenced, or out of the group: another producer, another member

    def work(self):
        producer = kafka.Producer(settings(self.broker, self.name, **{"transactional.id": self.name}))
        until_done(producer.init_transactions)
        reader = kafka.Consumer(
            settings(
                self.broker,
                self.name,
                **{
                    "group.id": "g",
                    "auto.offset.reset": "earliest",
                    "enable.auto.commit": False,
                    "session.timeout.ms": 3000,
                    "heartbeat.interval.ms": 100,
                    "partition.assignment.strategy": "cooperative-sticky",
                },
            )
        )
        try:
            reader.subscribe(["in"])
            while not self.done.is_set():
                taken = [message for message in reader.consume(20, 0.05) if not message.error()]
                if taken:
                    self.carry(producer, reader, taken)
        finally:
            reader.close()

    def carry(self, producer, reader, taken):
        # Taken before the assignment may change; what is of another's partition by now is refused by its generation.
        metadata = reader.consumer_group_metadata()
        ends = {message.partition(): message.offset() + 1 for message in taken}
        producer.begin_transaction()
        for message in taken:
            producer.produce("out", message.value(), partition=message.partition())
        try:
            sent = [kafka.TopicPartition("in", partition, end) for partition, end in ends.items()]
            until_done(lambda seconds: producer.send_offsets_to_transaction(sent, metadata, seconds))
            until_done(producer.commit_transaction)
        except kafka.KafkaException as error:
            if error.args[0].txn_requires_abort():
                until_done(producer.abort_transaction)
            raise


@pytest.mark.parametrize("seed", [1, 2])
def test_every_record_arrives_once_and_in_order(tmp_path, seed):
    chance = random.Random(seed)
    with strict_kafka(tmp_path) as broker:
        broker.create_topic("in", PARTITIONS)
        broker.create_topic("out", PARTITIONS)
        members = [Member(broker, f"member-{each}") for each in range(2)]
        for one in members:
            one.start()
        feed = kafka.Producer(settings(broker, "feed", **{"enable.idempotence": True}))
        try:
            for each in range(RECORDS):
                feed.produce("in", f"{each}", partition=each % PARTITIONS)
                feed.poll(0)
                members[0].done.wait(0.004)
                if each % 15 == 0:
                    action, api = chance.choice(["cut_before", "cut_after"]), chance.choice(APIS)
                    broker.fault(action, api, client=chance.choice(["member", "member", "feed"]))
                if each % 150 == 75:
                    known = broker.groups().get("g", {"members": []})["members"]
                    if known:
                        broker.expire_members("g", chance.choice(known)["id"])
                if each % 150 == 149:
                    broker.close_connections("member-0")
            assert feed.flush(30) == 0
            for _ in range(600):
                arrived = sum(len(broker.committed("out", each)) for each in range(PARTITIONS))
                if arrived >= RECORDS:
                    break
                members[0].done.wait(0.05)
        finally:
            for one in members:
                one.done.set()
            for one in members:
                one.join(30)
        for partition in range(PARTITIONS):
            expected = [f"{each}".encode() for each in range(partition, RECORDS, PARTITIONS)]
            assert [record.value for record in broker.committed("in", partition)] == expected
            assert [record.value for record in broker.committed("out", partition)] == expected
        assert sum(one["hits"] for one in broker.faults()) > 5
