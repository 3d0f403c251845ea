"""A partition's log: offsets, sequences of idempotent producers, transactions and what readers may see of them.

References: KIP-98 (idempotence, transactions, last stable offset, aborted transactions in Fetch), KIP-360 (a producer
that the log does not know may begin anywhere), KIP-890 (only partitions of the open transaction take its records; that
is checked in transactions.py).
"""

from __future__ import annotations

import asyncio
import bisect
import time
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from kafka_server import batches
from kafka_server.batches import Header
from kafka_server.codes import Code, Refused

_SEQUENCES = 1 << 31
_REMEMBERED = 5  # batches per producer whose repetition is recognised; as many may be on their way at once


class Stored(NamedTuple):
    """A batch in the log."""

    base: int
    last: int
    head: Header
    data: bytes


class Aborted(NamedTuple):
    """A transaction that was aborted: the offsets of its first record and of its marker."""

    producer: int
    first: int
    last: int


@dataclass
class Producer:
    """A producer, as this partition saw it."""

    epoch: int
    last_sequence: int = -1
    recent: deque[tuple[int, int, int]] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))


class PartitionLog:
    """One partition."""

    def __init__(self) -> None:
        self.start = 0
        self.end = 0
        self.stored: list[Stored] = []
        self.aborted: list[Aborted] = []
        self.producers: dict[int, Producer] = {}
        self.open: dict[int, int] = {}  # producer: offset of the first record of its open transaction
        self.waiting: set[asyncio.Event] = set()

    @property
    def stable(self) -> int:
        """The last stable offset: every transaction before it has ended (KIP-98)."""
        return max(min(self.open.values(), default=self.end), self.start)

    def bound(self, committed: bool) -> int:
        """Return the offset that a reader of this isolation cannot pass."""
        return self.stable if committed else self.end

    def append(self, data: bytes, head: Header) -> int:
        """Store a producer's batch, and return its base offset. A repeated batch keeps the one that it had (KIP-98)."""
        if head.producer >= 0:
            repeated = self._check(head)
            if repeated is not None:
                return repeated
        elif head.transactional:
            raise Refused(Code.INVALID_RECORD, "a transactional batch without a producer's id")
        base = self.end
        if head.producer >= 0:
            producer = self.producers.setdefault(head.producer, Producer(head.epoch))
            if producer.epoch != head.epoch:
                producer.epoch = head.epoch
                producer.recent.clear()
            producer.last_sequence = head.last_sequence
            producer.recent.append((head.sequence, head.last_sequence, base))
        if head.transactional:
            self.open.setdefault(head.producer, base)
        self._store(Stored(base, base + head.last_delta, head, batches.placed(data, base)))
        return base

    def _check(self, head: Header) -> int | None:
        """Check epoch and sequence; return the base offset of the batch that this one repeats."""
        if head.sequence < 0:
            raise Refused(Code.INVALID_RECORD, "an idempotent batch without a sequence")
        known = self.producers.get(head.producer)
        if known is None:
            return None  # KIP-360: its records may have been deleted
        if head.epoch == known.epoch:
            for first, last, base in known.recent:
                if (first, last) == (head.sequence, head.last_sequence):
                    return base
        if head.epoch < known.epoch:
            raise Refused(Code.INVALID_PRODUCER_EPOCH, f"epoch {head.epoch} after {known.epoch}")
        if not head.transactional and head.producer in self.open:
            raise Refused(Code.INVALID_TXN_STATE, "a batch outside of the transaction that is open")
        if head.epoch > known.epoch:
            if head.sequence != 0:
                raise Refused(Code.OUT_OF_ORDER_SEQUENCE_NUMBER, f"a new epoch begins at {head.sequence}")
        elif head.sequence != (known.last_sequence + 1) % _SEQUENCES:
            raise Refused(Code.OUT_OF_ORDER_SEQUENCE_NUMBER, f"{head.sequence} after {known.last_sequence}")
        return None

    def finish(self, producer: int, epoch: int, commit: bool) -> None:
        """Append the marker that ends a transaction. Its epoch fences the producer's older ones from now on."""
        known = self.producers.setdefault(producer, Producer(epoch))
        if epoch < known.epoch:
            raise Refused(Code.INVALID_PRODUCER_EPOCH, f"marker of epoch {epoch} after {known.epoch}")
        if epoch > known.epoch:
            known.epoch, known.last_sequence = epoch, -1
            known.recent.clear()
        base = self.end
        first = self.open.pop(producer, None)
        if first is not None and not commit:
            bisect.insort(self.aborted, Aborted(producer, first, base), key=lambda one: one.first)
        kind = batches.COMMIT if commit else batches.ABORT
        head, data = batches.marker(base, producer, epoch, kind, int(time.time() * 1000))
        self._store(Stored(base, base, head, data))

    def _store(self, one: Stored) -> None:
        self.stored.append(one)
        self.end = one.last + 1
        self.wake()

    def wake(self) -> None:
        """Let the readers who wait look again."""
        for event in self.waiting:
            event.set()

    def at(self, offset: int) -> int:
        """Return the index of the first batch that ends at or after an offset."""
        return bisect.bisect_left(self.stored, offset, key=lambda one: one.last)

    def read(self, offset: int, most: int, committed: bool, *, one_at_least: bool) -> tuple[list[bytes], int]:
        """Return batches from an offset on, and the offset after them. The first may be larger than `most` if asked.

        Raises:
            Refused: the offset is outside of the log.
        """
        if not self.start <= offset <= self.end:
            raise Refused(Code.OFFSET_OUT_OF_RANGE, f"{offset} is not in {self.start} to {self.end}")
        bound, found, size, after = self.bound(committed), [], 0, offset
        for index in range(self.at(offset), len(self.stored)):
            one = self.stored[index]
            if one.base >= bound or (size + len(one.data) > most and (found or not one_at_least)):
                break
            found.append(one.data)
            size += len(one.data)
            after = one.last + 1
        return found, after

    def aborted_between(self, offset: int, after: int) -> list[Aborted]:
        """Return the aborted transactions with records in a range, by their first offsets (KIP-98, Fetch)."""
        return [one for one in self.aborted if one.last >= offset and one.first < after]

    def find_time(self, timestamp: int, committed: bool) -> tuple[int, int]:
        """Return time and offset of the first record at or after a time, or (-1, -1) (KIP-79)."""
        bound = self.bound(committed)
        for one in self.stored:
            if one.base >= bound:
                break
            if one.head.max_time >= timestamp and one.last >= self.start:
                for record in batches.records(one.data):
                    if record.time >= timestamp and self.start <= record.offset < bound:
                        return record.time, record.offset
        return -1, -1

    def delete_before(self, offset: int) -> int:
        """Delete what lies before an offset, -1 for all, and return where the log starts (KIP-107)."""
        offset = self.end if offset == -1 else offset
        if not 0 <= offset <= self.end:
            raise Refused(Code.OFFSET_OUT_OF_RANGE, f"{offset} is beyond {self.end}")
        self.start = max(self.start, offset)
        del self.stored[: self.at(self.start)]
        self.aborted = [one for one in self.aborted if one.last >= self.start]
        self.wake()
        return self.start
