"""A state store in memory, for tests and for runs that need only the order of checkpoints."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import islice

from streamrde.state.store import Checkpoint, check_identity


class MemoryStore:
    """Keep everything in dictionaries. A later run in the same process may open the store again."""

    def __init__(self) -> None:
        self._identity: dict[str, str] | None = None
        self._snapshots: dict[str, bytes] = {}
        self._windows: dict[str, int] = {}
        self._saved: dict[str, float] = {}
        self._positions: dict[str, bytes] = {}
        self._outbox: dict[int, bytes] = {}
        self._numbers = 0

    def open(self, identity: Mapping[str, str]) -> None:
        """See `StateStore.open`."""
        if self._identity is not None:
            check_identity("in memory", self._identity, identity)
        self._identity = dict(identity)

    def close(self) -> None:
        """Do nothing, since no file is open."""

    def __len__(self) -> int:
        return len(self._snapshots)

    def read(self, streams: Collection[str]) -> dict[str, bytes]:
        """See `StateStore.read`."""
        return {name: self._snapshots[name] for name in streams if name in self._snapshots}

    def scan(self, *, rows: int = 1000) -> Iterator[dict[str, bytes]]:
        """See `StateStore.scan`."""
        items = iter(list(self._snapshots.items()))
        while portion := dict(islice(items, rows)):
            yield portion

    def last_window(self, stream: str) -> int | None:
        """See `StateStore.last_window`."""
        return self._windows.get(stream)

    def positions(self) -> dict[str, bytes]:
        """See `StateStore.positions`."""
        return dict(self._positions)

    def outbox(self) -> dict[int, bytes]:
        """See `StateStore.outbox`."""
        return dict(self._outbox)

    def commit(self, checkpoint: Checkpoint) -> None:
        """See `StateStore.commit`."""
        self._snapshots |= {name: bytes(data) for name, data in checkpoint.snapshots.items()}
        self._windows |= checkpoint.windows
        self._saved |= dict.fromkeys([*checkpoint.snapshots, *checkpoint.ended], checkpoint.saved)
        for name in checkpoint.ended:
            self._snapshots.pop(name, None)
        self._positions |= checkpoint.positions
        self._outbox = {number: data for number, data in self._outbox.items() if number > checkpoint.sent}
        for data in checkpoint.outbox:
            self._numbers += 1
            if self._numbers > checkpoint.sent:
                self._outbox[self._numbers] = data
        if checkpoint.identity is not None:
            self._identity = dict(checkpoint.identity)

    def prune(self, before: float) -> int:
        """See `StateStore.prune`."""
        old = [name for name, saved in self._saved.items() if saved < before]
        for name in old:
            del self._saved[name]
            self._snapshots.pop(name, None)
            self._windows.pop(name, None)
        return len(old)

    def compact(self) -> None:
        """Do nothing, since memory is freed at once."""
