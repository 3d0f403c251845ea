"""A transactional producer, whose transactions are tried until they are committed or the producer is worth nothing."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from streamrde.errors import BrokerError, StateError

if TYPE_CHECKING:
    from confluent_kafka import Message, TopicPartition

logger = logging.getLogger(__name__)
# Seconds for which one call of the client library may hold its thread, and for one that needs answers of brokers.
_HOLD = 0.5
_ANSWER = 10.0
# Pauses before a transaction is tried again, in seconds.
_PAUSE = 0.05
_PAUSE_MOST = 2.0
SILENT = logging.getLogger("librdkafka")
"""Takes what the client library would write to the terminal. All of it comes as errors, too."""
SILENT.setLevel(logging.CRITICAL + 1)
# Errors of the transaction's coordinator while it moves or ends what a predecessor left open.
_SOON = (
    "_TIMED_OUT", "_TRANSPORT", "_ALL_BROKERS_DOWN", "_WAIT_COORD", "COORDINATOR_LOAD_IN_PROGRESS",
    "COORDINATOR_NOT_AVAILABLE", "NOT_COORDINATOR", "CONCURRENT_TRANSACTIONS",
)  # fmt: skip


class FencedError(StateError):
    """Another owner of the partition has taken over, or the broker has ended the producer's transactions.

    What the last transaction did is not known here. The topics say it.
    """


class AbandonedError(Exception):
    """The partition was given up while its producer was at work."""


class Record(NamedTuple):
    """A message to produce."""

    topic: str
    value: bytes | None
    key: bytes | str | None = None
    partition: int = -1
    """Partition; -1: the key decides."""
    headers: Sequence[tuple[str, bytes]] = ()


class Transactions:
    """A producer whose records appear together with a position of the group, or not at all.

    All methods but `abandon` block and belong to one thread at a time.

    Args:
        settings: of the client library, for a producer.
        name: transactional id. A producer that opens under the same id fences this one.
        membership: returns the consumer's metadata in its group, which fence a member that has been dropped.
        refusal: turns an error of the client library into one with a remedy.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        name: str,
        *,
        membership: Callable[[], Any],
        refusal: Callable[[Any], BrokerError],
    ) -> None:
        self.name = name
        self.aborted = 0
        """Transactions that were aborted and tried again."""
        self._settings = {**settings, "transactional.id": name}
        self._membership = membership
        self._refusal = refusal
        self._abandoned = threading.Event()
        self._producer: Any = None
        self._offset = -1

    def abandon(self) -> None:
        """Let every call that is under way, and every later one, raise AbandonedError soon. Any thread may call it."""
        self._abandoned.set()

    def check(self) -> None:
        """Raise AbandonedError if the partition was given up."""
        if self._abandoned.is_set():
            raise AbandonedError

    def open(self) -> None:
        """Fence every other owner, and wait until the transaction that it left open has ended."""
        from confluent_kafka import KafkaException, Producer

        self._producer = Producer(self._settings, logger=SILENT)
        said = ""
        while True:
            self.check()
            try:
                self._producer.init_transactions(_HOLD * 10)
                return
            except KafkaException as error:
                problem = error.args[0]
                if not (problem.retriable() or problem.name() in _SOON):
                    raise self._judged(problem) from None
                if problem.name() not in ("_TIMED_OUT", "CONCURRENT_TRANSACTIONS") and said != problem.str():
                    said = problem.str()
                    logger.warning("%s: waiting for the broker: %s", self.name, said)
            self._abandoned.wait(_PAUSE)

    def commit(self, records: Sequence[Record], position: TopicPartition | None) -> int:
        """Commit records and the group's position in one transaction. Return the offset of the last record.

        A transaction that fails is aborted, and tried again with the same records.

        Raises:
            FencedError: this producer is done with. It may have committed.
            StateError: a record is longer than its topic takes.
            BrokerError: the broker refuses for good.
            AbandonedError: after `abandon`. It may have committed.
        """
        from confluent_kafka import KafkaException

        pause, said = _PAUSE, ""
        while True:
            try:
                return self._attempt(records, position)
            except KafkaException as error:
                problem = error.args[0]
                if problem.name() == "MSG_SIZE_TOO_LARGE":
                    raise _too_long(records) from None
                if not problem.txn_requires_abort():
                    raise self._judged(problem) from None
                if (refused := self._refusal(problem)).final:
                    raise refused from None
                if said != (said := f"{problem.name()}: {problem.str()}"):
                    logger.warning("%s: transaction aborted, trying again: %s", self.name, said)
            self.aborted += 1
            try:
                self._insist(self._producer.abort_transaction, _ANSWER)
            except KafkaException as error:
                raise self._judged(error.args[0]) from None
            self._abandoned.wait(pause)
            pause = min(2 * pause, _PAUSE_MOST)

    def close(self) -> None:
        """Let go of the producer. A transaction that is open is aborted by the next owner, or by the broker."""
        producer, self._producer = self._producer, None
        if producer is not None:
            from confluent_kafka import KafkaException

            with contextlib.suppress(KafkaException, SystemError):  # a fenced one says so once more
                producer.purge()
                producer.poll(0)

    def _attempt(self, records: Sequence[Record], position: TopicPartition | None) -> int:
        producer = self._producer
        self.check()
        producer.begin_transaction()
        for record in records[:-1]:
            self._produce(record)
        self._produce(records[-1], on_delivery=self._delivered)
        if position is not None:
            self._insist(lambda: producer.send_offsets_to_transaction([position], self._membership(), _ANSWER))
        while self._served(producer.flush, _HOLD):
            self.check()
        self._insist(producer.commit_transaction, _ANSWER)
        return self._offset

    def _produce(self, record: Record, **keys: Any) -> None:
        while True:
            try:
                self._producer.produce(
                    record.topic, record.value, record.key, record.partition, headers=[*record.headers], **keys
                )
                return
            except BufferError:
                self.check()
                self._served(self._producer.poll, _PAUSE)

    def _served(self, call: Callable[[float], int], seconds: float) -> int:
        """Make a call that calls back."""
        try:
            return call(seconds)
        except SystemError as error:
            # confluent-kafka raises so where it calls back for a producer that is fenced in the same moment.
            raise FencedError(f"{self.name}: {error.__cause__ or error}; another owner has the partition") from None

    def _delivered(self, error: Any, message: Message) -> None:
        if error is None:
            self._offset = message.offset() or 0

    def _insist(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Repeat a call that the client library goes on with when it is made again."""
        from confluent_kafka import KafkaException

        while True:
            try:
                call(*arguments)
                return
            except KafkaException as error:
                if not error.args[0].retriable() or error.args[0].txn_requires_abort():
                    raise
            self.check()
            self._abandoned.wait(_PAUSE)

    def _judged(self, problem: Any) -> StateError | BrokerError:
        refused = self._refusal(problem)
        if refused.final and not problem.fatal():
            return refused
        return FencedError(f"{self.name}: {problem.str()} ({problem.name()}); another owner has the partition")


def _too_long(records: Sequence[Record]) -> StateError:
    """Return the error of records that a topic does not take."""
    longest = max(records, key=lambda record: len(record.value or b""))
    return StateError(
        f"topic {longest.topic!r} does not take the record {longest.key!r} of {len(longest.value or b''):,} bytes; "
        "raise the topic's max.message.bytes, and message.max.bytes in sink.options"
    )
