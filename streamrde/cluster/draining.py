"""Decide when a worker has read its partitions to the ends that they had."""

from __future__ import annotations

import time
from collections.abc import Mapping

from streamrde.cluster.counting import Counting
from streamrde.cluster.member import Member, Task
from streamrde.cluster.partition import Partition

# Seconds after which a worker to which the group gives nothing ends.
_EMPTY = 10.0


class Draining:
    """Watch the partitions of a worker that is to end when they are read.

    What comes after the first look is not waited for: producers may go on. The last offsets of a partition may be no
    messages, but the marks of transactions. Then the broker's word for its end counts.

    Args:
        counting: what was fetched.
    """

    def __init__(self, counting: Counting) -> None:
        self._counting = counting
        self._ends: dict[Task, int] = {}
        self._had = time.monotonic()

    def done(self, partitions: Mapping[Task, Partition], member: Member) -> bool:
        """Return True if all that was there is committed, or the group gives this worker nothing to read."""
        if not partitions:
            return time.monotonic() - self._had > _EMPTY
        self._had = time.monotonic()
        read = [self._is_read(one, member) for one in partitions.values()]
        return all(read)

    def _is_read(self, one: Partition, member: Member) -> bool:
        task, store = one.task, one.store
        if one.phase != "running" or store is None:
            return False
        if task not in self._ends and (lag := member.lag(task, store.position)) is not None:
            self._ends[task] = store.position + lag
        if store.position >= self._ends.get(task, store.position + 1):
            return True
        return member.is_read(task) and store.position >= self._counting.fetched.get(task, 0)
