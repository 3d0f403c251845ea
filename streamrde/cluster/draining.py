"""Decide when a worker has read its partitions to the ends that they had."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

from streamrde.cluster.member import Member, Task
from streamrde.cluster.partition import Partition

# Seconds without a message, after which a partition counts as read. The last offsets may be no messages.
_IDLE = 10.0


class _Seen(NamedTuple):
    """Hold what was seen of a partition, and when it last changed."""

    position: int
    rows: int
    since: float


class Draining:
    """Watch the partitions of a worker that is to end when they are read.

    What comes after the first look is not waited for: producers may go on.
    """

    def __init__(self) -> None:
        self._ends: dict[Task, int] = {}
        self._seen: dict[Task, _Seen] = {}
        self._empty = time.monotonic()

    def done(self, partitions: Mapping[Task, Partition], member: Member) -> bool:
        """Return True if all that was there is committed, or the group gives this worker nothing to read."""
        if not partitions:
            return time.monotonic() - self._empty > _IDLE
        self._empty = time.monotonic()
        read = [self._is_read(one, member) for one in partitions.values()]
        return all(read)

    def _is_read(self, one: Partition, member: Member) -> bool:
        if one.phase != "running" or one.store is None or one.pipeline is None:
            self._seen.pop(one.task, None)
            return False
        position, rows, now = one.store.position, one.pipeline.metrics.rows, time.monotonic()
        seen = self._seen.setdefault(one.task, _Seen(position, rows, now))
        if seen[:2] != (position, rows):
            self._seen[one.task] = seen = _Seen(position, rows, now)
        if one.task not in self._ends and (lag := member.lag(one.task, position)) is not None:
            self._ends[one.task] = position + lag
        at_end = one.task in self._ends and position >= self._ends[one.task]
        return at_end or (now - seen.since > _IDLE and not one.pipeline.metrics.unsaved)
