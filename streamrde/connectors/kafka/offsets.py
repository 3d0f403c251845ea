"""Positions in partitions: how far every message is acknowledged."""

from __future__ import annotations

from collections import deque
from typing import TypeAlias

Partition: TypeAlias = tuple[str, int]
Handle: TypeAlias = tuple[str, int, int]
"""Topic, partition and offset of a message."""


class Offsets:
    """Positions of a group in its partitions.

    A position is committed as one number, so that it may pass a message only when all before it are acknowledged.
    """

    def __init__(self) -> None:
        self._open: dict[Partition, deque[int]] = {}
        self._done: dict[Partition, set[int]] = {}
        self._moved: dict[Partition, int] = {}

    def take(self, topic: str, partition: int, offset: int) -> None:
        """Note a message that has come. Those of a partition come in their order."""
        self._open.setdefault((topic, partition), deque()).append(offset)

    def acknowledge(self, handle: Handle) -> None:
        """Note that a message is acknowledged."""
        topic, number, offset = handle
        partition = topic, number
        done = self._done.setdefault(partition, set())
        done.add(offset)
        waiting = self._open.get(partition, deque())
        while waiting and waiting[0] in done:
            first = waiting.popleft()
            done.remove(first)
            self._moved[partition] = first + 1

    def moved(self) -> dict[Partition, int]:
        """Return the positions that have moved since the last call: the offset of the next message of each."""
        moved, self._moved = self._moved, {}
        return moved
