"""What a state store promises, whichever it is."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from streamrde.errors import StateError


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What one transaction saves: all of it or nothing.

    Attributes:
        snapshots: of the streams that changed since the checkpoint before, by name.
        windows: last window of each stream whose prediction the sink has confirmed, where there was one.
        ended: streams to forget: their last window is kept, their snapshot is not.
        positions: where sources and sinks stand, by the name of the end.
        outbox: record batches that the sink holds and has not yet put into a file, as bytes.
        sent: entries of the outbox up to and with this number are in a file now.
        identity: replaces what the store belongs to; None: as it is. A model that was swapped needs it.
        saved: when this was, seconds since 1970.
    """

    snapshots: Mapping[str, bytes] = field(default_factory=dict)
    windows: Mapping[str, int] = field(default_factory=dict)
    ended: Collection[str] = ()
    positions: Mapping[str, bytes] = field(default_factory=dict)
    outbox: Sequence[bytes] = ()
    sent: int = 0
    identity: Mapping[str, str] | None = None
    saved: float = 0.0

    @property
    def size(self) -> int:
        """Bytes of state in it."""
        return sum(map(len, self.snapshots.values())) + sum(map(len, self.outbox))


class StateStore(Protocol):
    """Snapshots of streams, positions of sources and sinks, and the last window of every stream.

    One writer at a time; `commit` may be called from another thread than the rest.
    """

    def open(self, identity: Mapping[str, str]) -> None:
        """Open, and check that the store is whole and belongs to this run; a new one then belongs to it.

        Args:
            identity: what the snapshots depend on: the model's fingerprint and the settings that shape a stream.
        Raises:
            StateError: damaged, of another version, in use, or written by a run with another identity; the message
                spells out what differs.
        """

    def close(self) -> None:
        """Let go of files; what was committed stays."""

    def __len__(self) -> int:
        """Number of streams that have a snapshot."""

    def read(self, streams: Collection[str]) -> dict[str, bytes]:
        """Snapshots of these streams; those that the store does not know are left out."""

    def scan(self, *, rows: int = 1000) -> Iterator[dict[str, bytes]]:
        """All snapshots, in portions of at most `rows`; the store must not change meanwhile."""

    def last_window(self, stream: str) -> int | None:
        """The last window of a stream, also of an ended one, whose prediction was confirmed; None: none was."""

    def positions(self) -> dict[str, bytes]:
        """Where sources and sinks stood at the last checkpoint."""

    def outbox(self) -> dict[int, bytes]:
        """What the sink held at the last checkpoint, by number, in order."""

    def commit(self, checkpoint: Checkpoint) -> None:
        """Save a checkpoint, durably, before returning.

        Raises:
            StateFullError: no room; nothing of the checkpoint is saved, and the one before stays.
            StateError: the store cannot be written.
        """

    def prune(self, before: float) -> int:
        """Forget streams, ended ones too, not saved since `before`, seconds since 1970; returns how many."""

    def compact(self) -> None:
        """Give back the room that forgotten streams took."""


def check_identity(path: str, stored: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Raise StateError with every difference between a store's identity and a run's."""
    different = [
        f"{key} was {stored.get(key, 'not set')!r} and is {wanted.get(key, 'not set')!r}"
        for key in sorted(stored.keys() | wanted.keys())
        if stored.get(key) != wanted.get(key)
    ]
    if different:
        raise StateError(
            f"state store {path} belongs to another run: {'; '.join(different)}. "
            "Set it back, or give this run a store of its own"
        )
