"""Look out for keys in partitions where they should not be."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection

from streamrde.cluster.member import Task
from streamrde.cluster.partitioners import REMEDY, Placement

logger = logging.getLogger(__name__)
# Keys of a topic, before it is said that some lie where another partitioner puts them.
_ENOUGH = 50
# Streams in two partitions that are named in the log.
_NAMED = 5


class Lookout:
    """Watch where the keys of messages lie. Each key costs once, and the rest is one look-up.

    Two sorts of producers are warned of once per topic. A stream in two partitions has two states, each of which sees a
    part of its samples: an error. It is seen if this worker has both.
    """

    def __init__(self) -> None:
        self._topics: dict[str, Placement] = {}
        self._tasks: dict[Task, Placement] = {}
        self._where: dict[str, dict[bytes, int]] = {}
        self._twice: dict[Task, set[bytes]] = {}
        self._warned: set[str] = set()
        # Keys come in the thread of the group's member, and partitions go in the loop's.
        self._lock = threading.Lock()

    def see(self, task: Task, keys: Collection[bytes], count: int) -> None:
        """Note keys that have come.

        Args:
            keys: topic and key of the messages, with a slash between them.
            count: partitions of the topic.
        """
        if count < 2:
            return
        where, number = self._where.setdefault(task.topic, {}), task.number
        if new := [key for key in keys if where.get(key) != number]:
            with self._lock:
                self._note(task, new, count)

    def _note(self, task: Task, new: Collection[bytes], count: int) -> None:
        where, number = self._where.setdefault(task.topic, {}), task.number
        twice = self._twice.setdefault(task, set())
        topic = self._topics.setdefault(task.topic, Placement(count))
        own = self._tasks.setdefault(task, Placement(count))
        for one in new:
            key = one.partition(b"/")[2]
            if key in twice:
                continue
            if one in where:
                twice.add(key)
                self._tell_twice(task, where[one], key)
                continue
            where[one] = number
            topic.see(key, number)
            own.see(key, number)
        if task.topic not in self._warned and topic.keys >= _ENOUGH and topic.strays:
            self._warned.add(task.topic)
            logger.warning("topic %r: %s", task.topic, topic.text())

    def strays(self, task: Task) -> int:
        """Return the number of streams that another partitioner than the topic's puts into a partition."""
        if (own := self._tasks.get(task)) is None or (name := self._topics[task.topic].partitioner) is None:
            return 0
        return own.keys - own.fits[name]

    def twice(self, task: Task) -> int:
        """Return the number of streams in a partition that were seen in another one before."""
        return len(self._twice.get(task, ()))

    def forget(self, task: Task) -> None:
        """Forget a partition that is no longer here."""
        with self._lock:
            where = self._where.get(task.topic, {})
            self._where[task.topic] = {key: number for key, number in where.items() if number != task.number}
            self._tasks.pop(task, None)
            self._twice.pop(task, None)

    def _tell_twice(self, task: Task, other: int, key: bytes) -> None:
        if sum(map(len, self._twice.values())) <= _NAMED:
            logger.error(
                "stream %r comes in partition %d of topic %r and in partition %d: %s",
                key.decode("utf-8", "replace"), task.number, task.topic, other, REMEDY,
            )  # fmt: skip
