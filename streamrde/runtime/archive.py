"""The state of streams that silence ended, for when they return: kept where the state of the live ones is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping

from streamrde.state import StateStore


class StoreArchive(MutableMapping[str, bytes]):
    """Keep snapshots of ended streams: in memory until a checkpoint has saved them, then in the state store alone.

    Memory holds what ended since the last checkpoint.

    Args:
        store: opened before a stream is looked up.
    """

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._unsaved: dict[str, bytes] = {}

    @property
    def unsaved(self) -> Mapping[str, bytes]:
        """Streams that the store does not have yet, or only in an older state."""
        return self._unsaved

    def saved(self, snapshots: Mapping[str, bytes]) -> None:
        """Note that a checkpoint with these snapshots is in the store."""
        for name, data in snapshots.items():
            if self._unsaved.get(name) is data:
                del self._unsaved[name]

    def __getitem__(self, stream: str) -> bytes:
        if stream in self._unsaved:
            return self._unsaved[stream]
        return self._store.read([stream])[stream]

    def __setitem__(self, stream: str, snapshot: bytes) -> None:
        self._unsaved[stream] = snapshot

    def __delitem__(self, stream: str) -> None:
        self._unsaved.pop(stream, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._unsaved)

    def __len__(self) -> int:
        return len(self._unsaved)
