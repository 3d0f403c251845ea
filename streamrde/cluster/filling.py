"""Write to a changelog while no worker does: batches of records, each in one transaction."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from streamrde.cluster.changelog import Entry, transactional_id
from streamrde.cluster.contents import ChangelogPlace, mapped
from streamrde.cluster.lag import members_of, refuse_members
from streamrde.cluster.topics import create_changelog, create_marker, delete_topic, marker_of

# Records and bytes of a transaction.
_RECORDS, _BYTES = 10_000, 64_000_000
_ANSWER = 60.0


class Filling:
    """Take a changelog for oneself and write to it.

    Other workers are refused from `start` on: those that run are shut out, their open transactions aborted, and those
    that start find the marker, until `finish`. Broken off in between, the marker stays, and the same command again ends
    what was begun.

    Args:
        place: with the input's topic and group.
        show: takes a line about the progress.
    Raises:
        StateError: the group has members.
    """

    def __init__(self, place: ChangelogPlace, *, show: Callable[[str], None] = lambda _: None) -> None:
        self.place = place
        self.source, self.group = place.input
        self._show = show
        self._producer: Any = None
        self._waiting: list[tuple[int, bytes, bytes | None, list[tuple[str, bytes]]]] = []
        self._bytes = 0
        self.written = 0
        """Records that are committed."""
        self._admin = place.admin()
        with mapped(place):
            refuse_members(members_of(self._admin, self.group), self.group)

    def start(self, partitions: int, *, why: Mapping[str, Any]) -> None:
        """Set the marker and shut out whoever wrote before.

        Args:
            partitions: of the input.
            why: the command, which the marker keeps.
        """
        create_marker(self._admin, self.place.topic)
        for partition in range(partitions):
            self._show(f"shutting out earlier workers: partition {partition} of {partitions}")
            self.place.producer(transactional_id(self.group, self.source, partition))
        self._producer = self.place.producer(f"{self.group}-{self.source}-state")
        marker = marker_of(self.place.topic)
        with mapped(self.place):
            self._producer.begin_transaction()
            self._producer.produce(marker, msgspec.json.encode(dict(why)), partition=0)
            self._producer.commit_transaction(_ANSWER)

    def put(self, partition: int, entry: Entry) -> None:
        """Write an entry into a partition. What is put between two calls of `step` appears together."""
        headers = [] if entry.data is None else entry.headers
        self._waiting.append((partition, entry.key, entry.data, headers))
        self._bytes += len(entry.data or b"")

    def step(self) -> None:
        """Commit if there is enough for a transaction."""
        if len(self._waiting) >= _RECORDS or self._bytes >= _BYTES:
            self.commit()

    def commit(self) -> None:
        """Commit what was put.

        Raises:
            BrokerError: the broker refuses it. Nothing of it is there then.
        """
        if not self._waiting:
            return
        producer = self._producer
        with mapped(self.place):
            producer.begin_transaction()
            try:
                for partition, key, value, headers in self._waiting:
                    self._produce(partition, key, value, headers)
                producer.commit_transaction(_ANSWER)
            except BaseException:
                with contextlib.suppress(Exception):
                    producer.abort_transaction(_ANSWER)
                raise
        self.written += len(self._waiting)
        self._waiting, self._bytes = [], 0
        self._show(f"writing {self.place.name}: {self.written:,} records")

    def _produce(self, partition: int, key: bytes, value: bytes | None, headers: list[tuple[str, bytes]]) -> None:
        while True:
            try:
                self._producer.produce(self.place.topic, value, key, partition=partition, headers=headers)
            except BufferError:
                self._producer.poll(0.1)
            else:
                return

    def finish(self, *, keep_marker: bool = False) -> None:
        """Commit the rest and let workers in again, unless the marker is to stay."""
        self.commit()
        if not keep_marker:
            delete_topic(self._admin, marker_of(self.place.topic))

    def create(self, partitions: int) -> None:
        """Create the changelog if it is not there."""
        create_changelog(self._admin, self.place.topic, partitions, replication=self.place.replication)

    def seek(self, offsets: Mapping[int, int]) -> None:
        """Set the group's positions in the input."""
        from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition

        places = [TopicPartition(self.source, number, offset) for number, offset in offsets.items()]
        wanted = ConsumerGroupTopicPartitions(self.group, places)
        with mapped(self.place):
            self._admin.alter_consumer_group_offsets([wanted])[self.group].result(_ANSWER)

    def grow(self, partitions: int) -> None:
        """Give the changelog more partitions."""
        from confluent_kafka.cimpl import NewPartitions

        with mapped(self.place):
            topic = self.place.topic
            self._admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(_ANSWER)
