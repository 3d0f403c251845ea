"""A group's committed offsets, and those that an open transaction has sent.

Reference: KIP-98 (offsets of a transaction become visible by its commit), KIP-447 (UNSTABLE_OFFSET_COMMIT while they
are pending, for the one who asks for stable offsets).
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

from kafka_server.codes import Code

Where = tuple[str, int]


class Committed(NamedTuple):
    """A committed offset; `order` is its place among all commits of the group."""

    offset: int
    leader_epoch: int
    metadata: str | None
    order: int


class Offsets:
    """The offsets of one group."""

    def __init__(self) -> None:
        self.committed: dict[Where, Committed] = {}
        self.pending: dict[int, dict[Where, Committed]] = {}  # by producer
        self._order = itertools.count()

    def commit(self, where: Where, part: Any, *, producer: int | None = None) -> None:
        """Store an offset, or keep it for the end of a producer's transaction."""
        epoch = getattr(part, "committed_leader_epoch", -1)
        one = Committed(part.committed_offset, epoch, part.committed_metadata, next(self._order))
        (self.committed if producer is None else self.pending.setdefault(producer, {}))[where] = one

    def finish(self, producer: int, commit: bool) -> None:
        """Make a transaction's offsets the committed ones, or drop them. A commit made after they were sent stays."""
        for where, one in self.pending.pop(producer, {}).items():
            known = self.committed.get(where)
            if commit and (known is None or known.order < one.order):
                self.committed[where] = one

    def fetch(self, where: Where, stable: bool) -> dict[str, Any]:
        """Answer for one partition of OffsetFetch; -1 where nothing is committed."""
        name = {"index": where[1]}
        if stable and any(where in sent for sent in self.pending.values()):
            return name | _fetched(-1, -1, "", Code.UNSTABLE_OFFSET_COMMIT)
        one = self.committed.get(where)
        if one is None:
            return name | _fetched(-1, -1, "", Code.NONE)
        return name | _fetched(one.offset, one.leader_epoch, one.metadata, Code.NONE)

    def known(self) -> list[Where]:
        """Return the partitions that have an offset, or may get one."""
        return sorted({*self.committed, *(where for sent in self.pending.values() for where in sent)})

    def forget(self, where: Where) -> None:
        """Delete an offset."""
        self.committed.pop(where, None)
        for sent in self.pending.values():
            sent.pop(where, None)


def _fetched(offset: int, leader_epoch: int, metadata: str | None, code: Code) -> dict[str, Any]:
    return {
        "committed_offset": offset,
        "committed_leader_epoch": leader_epoch,
        "metadata": metadata,
        "error_code": code,
    }
