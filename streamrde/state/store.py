"""The contract of a state store."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from streamrde.errors import StateError


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Everything that one transaction saves.

    Attributes:
        snapshots: of the streams that changed since the checkpoint before, by name.
        windows: last window of each stream whose prediction the sink has confirmed.
        ended: streams to forget: their last window is kept, their snapshot is not.
        positions: positions of sources and sinks, by their names.
        outbox: record batches that the sink holds and has not yet put into a file, as bytes.
        sent: entries of the outbox up to and including this number are in a file now.
        identity: the store's new identity, after a model was swapped. None keeps the old one.
        saved: time of the checkpoint, seconds since 1970.
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
        """Bytes of state in the checkpoint."""
        return sum(map(len, self.snapshots.values())) + sum(map(len, self.outbox))


class StateStore(Protocol):
    """Keep snapshots of streams, positions of sources and sinks, and the last window of every stream.

    Only one writer at a time. `commit` may be called from another thread.
    """

    def open(self, identity: Mapping[str, str]) -> None:
        """Open the store, and check that it is whole and belongs to this run. A new store then belongs to it.

        Args:
            identity: the model's fingerprint and the settings that the snapshots depend on.
        Raises:
            StateError: damaged, of another version, in use, or written by a run with another identity.
        """

    def close(self) -> None:
        """Close the store's files. Committed checkpoints stay."""

    def __len__(self) -> int:
        """Return the number of streams that have a snapshot."""

    def read(self, streams: Collection[str]) -> dict[str, bytes]:
        """Return the snapshots of these streams. Unknown streams are left out."""

    def scan(self, *, rows: int = 1000) -> Iterator[dict[str, bytes]]:
        """Yield all snapshots, at most `rows` at a time. The store must not change meanwhile."""

    def last_window(self, stream: str) -> int | None:
        """Return the last window of a stream, running or ended, whose prediction was confirmed, or None."""

    def positions(self) -> dict[str, bytes]:
        """Return the positions of sources and sinks at the last checkpoint."""

    def outbox(self) -> dict[int, bytes]:
        """Return what the sink held at the last checkpoint, by ascending number."""

    def commit(self, checkpoint: Checkpoint) -> None:
        """Save a checkpoint durably before returning.

        Raises:
            StateFullError: no room. The checkpoint before stays.
            StateError: the store cannot be written.
        """

    def prune(self, before: float) -> int:
        """Delete streams, running or ended, last saved before `before` (seconds since 1970). Return their number."""

    def compact(self) -> None:
        """Return the room of deleted streams to the disk."""


def check_identity(path: str, stored: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Raise StateError with every difference between a store's identity and a run's."""
    different = [
        f"{key} was {stored.get(key, 'not set')!r} and is {wanted.get(key, 'not set')!r}"
        for key in sorted(stored.keys() | wanted.keys())
        if stored.get(key) != wanted.get(key)
    ]
    if different:
        going_on = ""
        if stored.get("model") != wanted.get("model"):
            going_on = ", or name the former model's file in state.replaces"
        raise StateError(
            f"state store {path} belongs to another run: {'; '.join(different)}. "
            f"Set it back, or give this run a store of its own{going_on}"
        )
