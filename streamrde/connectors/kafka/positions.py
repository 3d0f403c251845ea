"""Positions in partitions: what has come from each, and how far it is acknowledged."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Literal, NamedTuple, TypeAlias

Partition: TypeAlias = tuple[str, int]


class Beginning(NamedTuple):
    """First offset to read of a partition."""

    offset: int
    lost: int = 0
    """Messages that were deleted before the group had read them."""


def beginning(
    committed: int | None, first: int, end: int, *, deliver: Literal["all", "new"] = "all", known: bool = False
) -> Beginning:
    """Return where the reading of a partition begins.

    Args:
        committed: the group's position, None if it has none.
        first, end: the partition's first offset, and the one after its last.
        deliver: where a new group begins.
        known: the group has positions in other partitions of the topic. One that is added has new messages only.

    >>> beginning(None, 5, 9), beginning(None, 5, 9, deliver="new"), beginning(3, 5, 9)
    (Beginning(offset=5, lost=0), Beginning(offset=9, lost=0), Beginning(offset=5, lost=2))
    """
    if committed is None:
        return Beginning(end if deliver == "new" and not known else first)
    return Beginning(max(committed, first), max(0, first - committed))


class Span:
    """Messages of one partition that are acknowledged together."""

    __slots__ = ("count", "done", "end", "partition")

    def __init__(self, partition: Partition, end: int, count: int) -> None:
        self.partition = partition
        self.end = end
        """Offset after the last."""
        self.count = count
        self.done = False


class Positions:
    """Positions of a group in its partitions, over all connections.

    A position is committed as one number, so that it may pass a message only when all before it are acknowledged.
    """

    def __init__(self) -> None:
        self.unacknowledged = 0
        """Messages that were delivered and are not acknowledged."""
        self._taken: dict[Partition, int] = {}
        self._open: dict[Partition, deque[Span]] = {}
        self._done: dict[Partition, int] = {}
        self._asked: dict[Partition, int] = {}

    def taken(self, partition: Partition) -> int | None:
        """Return the offset after the last message that has come, None if none has."""
        return self._taken.get(partition)

    def done(self, partition: Partition) -> int | None:
        """Return the offset up to which all is acknowledged, None if nothing is."""
        return self._done.get(partition)

    def begin(self, partition: Partition, offset: int) -> None:
        """Note where a partition begins, which the group knows."""
        self._taken[partition] = self._done[partition] = self._asked[partition] = offset

    def take(self, partition: Partition, end: int) -> None:
        """Note that messages up to an offset have come."""
        self._taken[partition] = end

    def open(self, partition: Partition, end: int, count: int) -> Span:
        """Note messages that are delivered. Those of a partition are in their order."""
        span = Span(partition, end, count)
        self._open.setdefault(partition, deque()).append(span)
        self.unacknowledged += count
        return span

    def acknowledge(self, spans: Iterable[Span]) -> None:
        """Note that messages are acknowledged."""
        for span in spans:
            if span.done:
                continue
            span.done = True
            self.unacknowledged -= span.count
            waiting = self._open.get(span.partition, deque())
            while waiting and waiting[0].done:
                self._done[span.partition] = waiting.popleft().end

    def moved(self) -> dict[Partition, int]:
        """Return the positions that have moved since the last call: the offset of the next message of each."""
        moved = {partition: end for partition, end in self._done.items() if self._asked.get(partition) != end}
        self._asked |= moved
        return moved

    def ask_again(self) -> None:
        """Note that answers may be missing: `moved` returns all positions once more."""
        self._asked.clear()
