"""Write to a changelog while no worker does: batches of records, each in one transaction."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import msgspec

from streamrde.cluster.changelog import Entry, transactional_id
from streamrde.cluster.contents import ChangelogPlace, begun, mapped
from streamrde.cluster.lag import members_of, refuse_members
from streamrde.cluster.topics import create_changelog, create_marker, delete_topic, marker_of
from streamrde.errors import BrokerError, StateError

logger = logging.getLogger(__name__)
# Records and bytes of a transaction.
_RECORDS, _BYTES = 10_000, 64_000_000
_ANSWER = 60.0
# Earlier workers that are shut out at a time.
_AT_ONCE = 16


class Filling:
    """Take a changelog for oneself and write to it, as a context.

    From `begin` on workers are kept out: those that run are shut out, their open transactions aborted, and those that
    start find the marker, until `finish`. What is read after `begin` is the last that was committed. Broken off before
    anything was changed, the marker goes. Later it stays, and the same command again ends what was begun.

    Args:
        place: with the input's topic and group.
        command: the command, which the marker keeps.
        resumes: commands that were broken off, or whose marker stays, and that this one may follow.
        dry: change nothing.
        show: takes a line about the progress.
    Raises:
        StateError: the group has members, or another command was broken off.
    """

    def __init__(
        self,
        place: ChangelogPlace,
        command: str,
        *,
        resumes: Collection[str] = (),
        dry: bool = False,
        show: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.place = place
        self.source, self.group = place.input
        self.counts = place.counts()
        self.marker = begun(place, self.counts)
        """The marker of a command that was broken off, or None."""
        if self.source not in self.counts:
            raise StateError(f"the input {self.source!r} is not at {place.broker}: create the topic, or check its name")
        if (before := (self.marker or {}).get("command", command)) not in (command, *resumes):
            raise StateError(
                f"{place.name}: `streamrde state {before}` was broken off or has moved the streams away; run it to its "
                "end, or move the streams back"
            )
        self._command = command
        self._dry = dry
        self._show = show
        self._producer: Any = None
        self._waiting: list[tuple[int, bytes, bytes | None, list[tuple[str, bytes]]]] = []
        self._bytes = 0
        self._changed = self.marker is not None
        self.written = 0
        """Records that are committed."""
        self._admin = place.admin()
        with mapped(place):
            refuse_members(members_of(self._admin, self.group), self.group)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None or self._producer is None:
            return
        if not self._changed:
            with contextlib.suppress(BrokerError):
                delete_topic(self._admin, marker_of(self.place.topic))
            return
        logger.warning(
            "%s: not finished, and closed to workers until it is: run `streamrde state %s` again",
            self.place.name, self._command,
        )  # fmt: skip

    def begin(self) -> None:
        """Set the marker and shut out whoever wrote before."""
        if self._dry:
            return
        partitions = self.counts[self.source]
        create_marker(self._admin, self.place.topic)
        self._producer = self.place.producer(f"{self.group}-{self.source}-state")
        names = [transactional_id(self.group, self.source, partition) for partition in range(partitions)]
        # Each takes some tenths of a second, in which it waits for the broker.
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for number, _ in enumerate(pool.map(self.place.producer, names), 1):
                self._show(f"shutting out earlier workers: partition {number} of {partitions}")
        self.tell()

    def tell(self, **facts: Any) -> None:
        """Keep facts in the marker, for a command that goes on after this one was broken off."""
        if self._dry:
            return
        told = msgspec.json.encode({"command": self._command, **facts})
        with mapped(self.place):
            self._producer.begin_transaction()
            self._producer.produce(marker_of(self.place.topic), told, partition=0)
            self._producer.commit_transaction(_ANSWER)

    def put(self, partition: int, entry: Entry) -> None:
        """Write an entry into a partition. What is put between two calls of `step` appears together."""
        if self._dry:
            return
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
        producer, self._changed = self._producer, True
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
        if not keep_marker and not self._dry:
            delete_topic(self._admin, marker_of(self.place.topic))

    def create(self) -> None:
        """Create the changelog if it is not there."""
        if not self._dry:
            partitions = self.counts[self.source]
            create_changelog(self._admin, self.place.topic, partitions, replication=self.place.replication)

    def seek(self, offsets: Mapping[int, int]) -> None:
        """Set the group's positions in the input."""
        if self._dry or not offsets:
            return
        self._changed = True
        from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition

        places = [TopicPartition(self.source, number, offset) for number, offset in offsets.items()]
        wanted = ConsumerGroupTopicPartitions(self.group, places)
        with mapped(self.place):
            self._admin.alter_consumer_group_offsets([wanted])[self.group].result(_ANSWER)

    def grow(self, partitions: int) -> None:
        """Give the changelog more partitions."""
        if self._dry:
            return
        self._changed = True
        from confluent_kafka.cimpl import NewPartitions

        with mapped(self.place):
            topic = self.place.topic
            self._admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(_ANSWER)
