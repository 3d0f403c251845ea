"""The transaction coordinator: who holds a transactional id, what is in its transaction, how that ends.

References: KIP-98 (states, epochs, markers), KIP-360 (a producer bumps its own epoch), KIP-447 (offsets that are sent
with a generation, see offsets.py), KIP-588 (codes of a fenced producer by the request's version), KIP-890 part 1 (a
record or an offset is taken only into a transaction that its partition was added to).
"""

from __future__ import annotations

import enum
import itertools
import time
from dataclasses import dataclass, field
from typing import Any

from kafka_server.batches import Header
from kafka_server.codes import Code, Refused
from kafka_server.groups import Groups
from kafka_server.topics import Topics

_LAST_EPOCH = 32_766  # the greatest that a producer is given; one more is kept for fencing it


class State(enum.Enum):
    """States of KIP-98; the two prepared ones last until all markers are written."""

    EMPTY = "Empty"
    ONGOING = "Ongoing"
    PREPARE_COMMIT = "PrepareCommit"
    PREPARE_ABORT = "PrepareAbort"
    COMPLETE_COMMIT = "CompleteCommit"
    COMPLETE_ABORT = "CompleteAbort"


_ENDING = (State.PREPARE_COMMIT, State.PREPARE_ABORT)


@dataclass
class Transaction:
    """A transactional id."""

    name: str
    producer: int
    epoch: int = -1
    last_producer: int = -1
    last_epoch: int = -1
    timeout: float = 60.0
    state: State = State.EMPTY
    partitions: set[tuple[str, int]] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)
    began: float = 0.0


class Transactions:
    """All transactional ids."""

    def __init__(self, topics: Topics, groups: Groups) -> None:
        self.longest = 900.0
        self.hold_markers = False  # as if the brokers of the partitions did not answer the coordinator
        self.by_name: dict[str, Transaction] = {}
        self._topics = topics
        self._groups = groups
        self._producers = itertools.count(1000)
        self._held: list[tuple[Transaction, bool]] = []

    def init_producer_id(self, request: Any, context: Any) -> dict[str, Any]:
        """InitProducerId: a new producer, or the next epoch of a transactional id.

        An open transaction of the predecessor is aborted under an epoch of its own first. The new producer is told to
        ask again (CONCURRENT_TRANSACTIONS), and gets the epoch after that one.
        """
        expected = (getattr(request, "producer_id", -1), getattr(request, "producer_epoch", -1))
        try:
            producer, epoch = self._init(request.transactional_id, request.transaction_timeout_ms / 1000, expected)
        except Refused as error:
            code = _fenced_code(error.code, context.version < 4)
            return {"throttle_time_ms": 0, "error_code": code, "producer_id": -1, "producer_epoch": -1}
        return {"throttle_time_ms": 0, "error_code": 0, "producer_id": producer, "producer_epoch": epoch}

    def _init(self, name: str | None, timeout: float, expected: tuple[int, int]) -> tuple[int, int]:
        if name is None:
            return next(self._producers), 0
        if not name:
            raise Refused(Code.INVALID_REQUEST, "an empty transactional id")
        if not 0 < timeout <= self.longest:
            raise Refused(Code.INVALID_TRANSACTION_TIMEOUT, f"{timeout} s")
        one = self.by_name.setdefault(name, Transaction(name, -1))
        if one.producer < 0:
            one.producer = next(self._producers)
        asked = expected[0] >= 0
        valid = (
            not asked
            or one.epoch == -1
            or expected[0] == one.producer
            or (expected[0] == one.last_producer and expected[1] >= _LAST_EPOCH)
        )
        if not valid:
            raise Refused(Code.PRODUCER_FENCED, f"producer {expected[0]} is not {one.producer}")
        if one.state in _ENDING:
            raise Refused(Code.CONCURRENT_TRANSACTIONS, one.state.value)
        if one.state is State.ONGOING:
            self._fence(one)
            raise Refused(Code.CONCURRENT_TRANSACTIONS, "the predecessor's transaction is being aborted")
        self._next_epoch(one, expected[1] if asked else None)
        one.timeout, one.state, one.partitions, one.groups = timeout, State.EMPTY, set(), set()
        return one.producer, one.epoch

    def _next_epoch(self, one: Transaction, expected: int | None) -> None:
        """Bump the epoch, or give a new producer id where epochs are used up."""
        if one.epoch >= _LAST_EPOCH and expected in (None, one.epoch):
            one.last_producer, one.last_epoch = one.producer, one.epoch if expected is not None else -1
            one.producer, one.epoch = next(self._producers), 0
        elif expected is None:
            one.epoch, one.last_epoch = one.epoch + 1, -1
        elif one.epoch == -1 or expected == one.epoch:
            one.epoch, one.last_epoch = one.epoch + 1, one.epoch
        elif expected != one.last_epoch:
            raise Refused(Code.PRODUCER_FENCED, f"epoch {expected} where {one.epoch} is the current")
        # else: the bump was done before, and its answer was lost

    def _current(self, request: Any) -> Transaction:
        """Return the transaction of the request's id, if the request comes from its current producer."""
        if not request.transactional_id:
            raise Refused(Code.INVALID_REQUEST, "an empty transactional id")
        one = self.by_name.get(request.transactional_id)
        if one is None or one.producer != request.producer_id:
            raise Refused(Code.INVALID_PRODUCER_ID_MAPPING, f"producer {request.producer_id}")
        if one.epoch != request.producer_epoch:
            raise Refused(Code.PRODUCER_FENCED, f"epoch {request.producer_epoch} where {one.epoch} is the current")
        return one

    def _join(self, request: Any, partitions: set[tuple[str, int]], groups: set[str]) -> None:
        one = self._current(request)
        if one.state in _ENDING:
            raise Refused(Code.CONCURRENT_TRANSACTIONS, one.state.value)
        if one.state is not State.ONGOING:
            one.state, one.began, one.partitions, one.groups = State.ONGOING, time.monotonic(), set(), set()
        one.partitions |= partitions
        one.groups |= groups

    def add_partitions_to_txn(self, request: Any, context: Any) -> dict[str, Any]:
        """AddPartitionsToTxn: all of them, or none if one does not exist."""
        asked = [(topic.name, partition) for topic in request.topics for partition in topic.partitions]
        unknown = set()
        for name, partition in asked:
            try:
                self._topics.log(name, partition)
            except Refused:
                unknown.add((name, partition))
        code = Code.NONE
        try:
            if not unknown:
                self._join(request, set(asked), set())
        except Refused as error:
            code = _fenced_code(error.code, context.version < 2)

        def answer(where: tuple[str, int]) -> int:
            if unknown:
                return Code.UNKNOWN_TOPIC_OR_PARTITION if where in unknown else Code.OPERATION_NOT_ATTEMPTED
            return code

        return {
            "throttle_time_ms": 0,
            "topics": [
                {
                    "name": topic.name,
                    "partitions": [
                        {"index": each, "error_code": answer((topic.name, each))} for each in topic.partitions
                    ],
                }
                for topic in request.topics
            ],
        }

    def add_offsets_to_txn(self, request: Any, context: Any) -> dict[str, Any]:
        """AddOffsetsToTxn: a group's offsets are part of the transaction from now on."""
        try:
            self._join(request, set(), {request.group_id})
        except Refused as error:
            return {"throttle_time_ms": 0, "error_code": _fenced_code(error.code, context.version < 2)}
        return {"throttle_time_ms": 0, "error_code": 0}

    def end_txn(self, request: Any, context: Any) -> dict[str, Any]:
        """EndTxn: commit or abort. Doing the same again is answered as the first time was."""
        try:
            self._end(self._current(request), commit=request.committed)
        except Refused as error:
            return {"throttle_time_ms": 0, "error_code": _fenced_code(error.code, context.version < 2)}
        return {"throttle_time_ms": 0, "error_code": 0}

    def _end(self, one: Transaction, *, commit: bool) -> None:
        prepared = State.PREPARE_COMMIT if commit else State.PREPARE_ABORT
        complete = State.COMPLETE_COMMIT if commit else State.COMPLETE_ABORT
        if one.state is complete:
            return
        if one.state is prepared:
            raise Refused(Code.CONCURRENT_TRANSACTIONS, one.state.value)
        if one.state is not State.ONGOING:
            raise Refused(Code.INVALID_TXN_STATE, f"{one.state.value} cannot become {prepared.value}")
        one.state = prepared
        if self.hold_markers:
            self._held.append((one, commit))
        else:
            self._finish(one, commit)

    def release_markers(self) -> None:
        """Write the markers that were held."""
        self.hold_markers = False
        while self._held:
            self._finish(*self._held.pop(0))

    def _finish(self, one: Transaction, commit: bool) -> None:
        """Write the markers."""
        for name, partition in sorted(one.partitions):
            topic = self._topics.by_name.get(name)  # it may have been deleted since
            if topic is not None and partition < len(topic.partitions):
                self._topics.log(name, partition).finish(one.producer, one.epoch, commit)
        for group in sorted(one.groups):
            self._groups.finish(group, one.producer, commit)
        one.state = State.COMPLETE_COMMIT if commit else State.COMPLETE_ABORT
        one.partitions, one.groups = set(), set()

    def _fence(self, one: Transaction) -> None:
        """Abort the open transaction under the next epoch, so that its producer can do nothing any more."""
        one.epoch, one.last_epoch = one.epoch + 1, -1
        self._end(one, commit=False)

    def expire(self, now: float, *, names: list[str] | None = None) -> list[str]:
        """Abort transactions that are open for longer than their transaction.timeout.ms, or those of `names`."""
        late = [
            one
            for one in self.by_name.values()
            if one.state is State.ONGOING and (now > one.began + one.timeout if names is None else one.name in names)
        ]
        for one in late:
            self._fence(one)
        return [one.name for one in late]

    def check_batch(self, transactional_id: str | None, where: tuple[str, int], head: Header) -> None:
        """Refuse a transactional batch to a partition that its transaction does not have (KIP-890)."""
        self._check(transactional_id, head.producer, head.epoch, lambda one: where in one.partitions)

    def check_offsets(self, request: Any) -> None:
        """Refuse a TxnOffsetCommit of a group that the transaction does not have (KIP-890)."""
        self._check(
            request.transactional_id,
            request.producer_id,
            request.producer_epoch,
            lambda one: request.group_id in one.groups,
        )

    def _check(self, name: str | None, producer: int, epoch: int, has: Any) -> None:
        one = self.by_name.get(name or "")
        if one is None or one.producer != producer:
            raise Refused(Code.INVALID_PRODUCER_ID_MAPPING, f"producer {producer}")
        if one.epoch != epoch:
            raise Refused(Code.INVALID_PRODUCER_EPOCH, f"epoch {epoch} where {one.epoch} is the current")
        if one.state is not State.ONGOING or not has(one):
            raise Refused(Code.INVALID_TXN_STATE, f"not added to the transaction, which is {one.state.value}")

    def shown(self) -> list[dict[str, Any]]:
        """Return all transactional ids for a test."""
        return [
            vars(one) | {"state": one.state.value, "partitions": sorted(one.partitions), "groups": sorted(one.groups)}
            for one in self.by_name.values()
        ]


def _fenced_code(code: Code, old: bool) -> Code:
    """Return the code that a request of this version may get: only newer ones know PRODUCER_FENCED (KIP-588)."""
    return Code.INVALID_PRODUCER_EPOCH if old and code is Code.PRODUCER_FENCED else code
