"""A worker's place in the consumer group: one consumer for all its partitions, polled in a thread of its own.

Nothing else runs in the thread, so that the group hears of the worker however long its partitions take. Nothing else
calls the consumer: confluent-kafka lets no other thread in while one polls.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from streamrde.cluster.transactions import SILENT
from streamrde.connectors.ends import ConnectionCounts
from streamrde.connectors.kafka.fetched import fetch
from streamrde.errors import BrokerError

logger = logging.getLogger(__name__)
# Seconds for which one call of the client library may hold the thread.
_HOLD = 0.05
# Seconds for an answer of a broker that was away.
_ANSWER = 1.0
# Seconds between two looks at the partitions' ends.
_LOOK_EVERY = 1.0
# Messages that are fetched at a time.
_PART = 1000


class Task(NamedTuple):
    """A partition of the input, which is the work of one worker at a time."""

    topic: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.number}]"


class Owner(Protocol):
    """Answer for the partitions. All is called in the member's thread."""

    def assigned(self, tasks: list[Task]) -> None:
        """Take partitions, which are paused until `Member.begin`."""

    def revoked(self, tasks: list[Task]) -> None:
        """Give up partitions, and return when that is done: their next owner begins then."""

    def lost(self, tasks: list[Task]) -> None:
        """Drop partitions that another member may have already."""

    def fetched(self, messages: Sequence[Any]) -> None:
        """Take messages."""

    def unplaced(self, task: Task, reason: str) -> None:
        """Take note that a partition has no message at the position from which it is to be read."""

    def failed(self, error: Exception) -> None:
        """Take the error that ended the member."""


class Member:
    """A member of a consumer group.

    Args:
        settings: of the client library, for a consumer.
        patterns: topics, or regular expressions for them.
        owner: of the partitions.
        refusal: turns an error of the client library into one with a remedy.
        counts: state of the connection.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        patterns: Sequence[str],
        owner: Owner,
        *,
        refusal: Callable[[Any], BrokerError],
        counts: ConnectionCounts,
    ) -> None:
        self.counts = counts
        self._settings = {**settings, "error_cb": self._on_error}
        self._patterns = [*patterns]
        self._owner = owner
        self._refusal = refusal
        self._orders: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._ending = False
        self._consumer: Any = None
        self._metadata: Any = None
        self._ends: dict[Task, int] = {}
        # Partitions of which the end was reached, where the settings ask for that.
        self._read: set[Task] = set()
        self._next_look = 0.0
        self._stopped: set[Task] = set()
        # The last order to begin with each partition: an earlier one that is carried out later would go back.
        self._begins: dict[Task, object] = {}
        self._thread = threading.Thread(target=self._run, name="kafka-member", daemon=True)

    def start(self) -> None:
        """Join the group."""
        from confluent_kafka import Consumer

        self._consumer = Consumer(self._settings, logger=SILENT)
        self.counts.connected, self.counts.connects = True, 1
        self._thread.start()

    def begin(self, task: Task, offset: int, begun: Callable[[], None]) -> None:
        """Deliver a partition's messages from an offset on.

        Args:
            begun: called in the member's thread before the first of them is delivered. What comes until then is from
                another place.
        """
        order = self._begins[task] = object()
        self._orders.put(lambda: self._begin(task, offset, begun, order))

    def hold(self, task: Task, held: bool) -> None:
        """Deliver no more messages of a partition, or more again."""
        self._orders.put(lambda: self._hold(task, held))

    def membership(self) -> Any:
        """Return the metadata that prove the membership to a transaction, as of the latest poll."""
        return self._metadata

    def lag(self, task: Task, offset: int) -> int | None:
        """Return the number of messages after an offset, as of the latest fetch, or None if it is not known."""
        high = self._ends.get(task, -1)
        return None if high < 0 else max(0, high - offset)

    def is_read(self, task: Task) -> bool:
        """Return True if the broker had no more of a partition when it was last asked, and said so."""
        return task in self._read

    def stop(self) -> None:
        """Leave the group."""
        self._ending = True
        self._orders.put(lambda: None)

    def join(self, timeout: float) -> None:
        """Wait until the group is left."""
        self._thread.join(timeout)

    def _run(self) -> None:
        from confluent_kafka import KafkaException

        consumer = self._consumer
        try:
            consumer.subscribe(
                self._patterns, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
            while not self._ending:
                for _ in range(self._orders.qsize()):
                    self._orders.get()()
                if found := fetch(consumer, _PART, _HOLD):
                    self._take(found)
                elif not self.counts.connected:
                    self._ask()
                self._look()
        except KafkaException as error:
            self._owner.failed(self._refusal(error.args[0]))
        except Exception as error:
            self._owner.failed(error)
        finally:
            self._ending = True
            self.counts.connected = False
            consumer.close()

    def _look(self) -> None:
        """Note what other threads may ask for."""
        from confluent_kafka import TopicPartition

        self._metadata = self._consumer.consumer_group_metadata()
        if (now := time.monotonic()) >= self._next_look:
            self._next_look = now + _LOOK_EVERY
            owned = [Task(one.topic, one.partition) for one in self._consumer.assignment()]
            self._ends = {
                task: self._consumer.get_watermark_offsets(TopicPartition(*task), cached=True)[1] for task in owned
            }

    def _take(self, messages: list[Any]) -> None:
        good, ends = [], set[Task]()
        for message in messages:
            if (error := message.error()) is None:
                good.append(message)
            elif error.name() == "_PARTITION_EOF":
                ends.add(Task(message.topic(), message.partition()))
            elif error.name() == "_AUTO_OFFSET_RESET":
                self._stopped.add(Task(message.topic(), message.partition()))
                self._owner.unplaced(Task(message.topic(), message.partition()), error.str())
            elif not error.retriable():
                refused = self._refusal(error)
                if refused.final:
                    raise refused
        if good:
            self._owner.fetched(good)
        self._read |= ends

    def _on_assign(self, consumer: Any, given: list[Any]) -> None:
        from confluent_kafka import TopicPartition

        # Nothing is delivered before `begin`, so any offset will do, but it must be a number: the answer to a question
        # for the end could come after the seek, and win. If no message is there, `_stopped` takes care.
        consumer.incremental_assign([TopicPartition(one.topic, one.partition, 0) for one in given])
        self._stopped -= {Task(one.topic, one.partition) for one in given}
        consumer.pause(given)
        self._metadata = consumer.consumer_group_metadata()
        self._owner.assigned([Task(one.topic, one.partition) for one in given])

    def _on_revoke(self, consumer: Any, taken: list[Any]) -> None:
        if not self._ending:
            self._metadata = consumer.consumer_group_metadata()
            self._owner.revoked([Task(one.topic, one.partition) for one in taken])
        self._unassign(consumer, taken)

    def _on_lost(self, consumer: Any, taken: list[Any]) -> None:
        self._owner.lost([Task(one.topic, one.partition) for one in taken])
        self._unassign(consumer, taken)

    def _unassign(self, consumer: Any, taken: list[Any]) -> None:
        from confluent_kafka import KafkaException

        try:
            consumer.incremental_unassign(taken)
        except KafkaException:
            # While the group is left nothing is delivered any more, and an error would end `close` half-way.
            if not self._ending:
                raise

    def _owned(self, task: Task) -> bool:
        return any((one.topic, one.partition) == task for one in self._consumer.assignment())

    def _begin(self, task: Task, offset: int, begun: Callable[[], None], order: object) -> None:
        from confluent_kafka import KafkaException, TopicPartition

        if not self._owned(task) or self._begins.get(task) is not order:
            return
        self._read.discard(task)
        place = [TopicPartition(*task)]
        if task in self._stopped:
            # The client library goes on with a partition that it could not read from only when it is given anew.
            self._stopped.discard(task)
            self._consumer.incremental_unassign(place)
            self._consumer.incremental_assign([TopicPartition(*task, offset)])
            self._consumer.resume(place)
            begun()
            return
        self._consumer.pause(place)
        try:
            self._consumer.seek(TopicPartition(*task, offset))
        except KafkaException as error:
            if error.args[0].name() != "_STATE":
                raise
            # The client library has not yet begun with the partition: after the next poll.
            self._orders.put(lambda: self._begin(task, offset, begun, order))
            return
        self._consumer.resume(place)
        begun()

    def _hold(self, task: Task, held: bool) -> None:
        from confluent_kafka import TopicPartition

        if self._owned(task):
            (self._consumer.pause if held else self._consumer.resume)([TopicPartition(*task)])

    def _on_error(self, error: Any) -> None:
        if error.fatal():
            self._owner.failed(self._refusal(error))
        elif error.name() == "_ALL_BROKERS_DOWN" and self.counts.connected:
            self.counts.connected = False
            logger.warning("no broker of the cluster answers; the client connects again by itself")

    def _ask(self) -> None:
        """Find out if the brokers are back."""
        from confluent_kafka import KafkaException

        try:
            self._consumer.list_topics(timeout=_ANSWER)
        except KafkaException:
            return
        self.counts.connected = True
        self.counts.connects += 1
        logger.warning("the cluster answers again")
