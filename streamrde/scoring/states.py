"""Open the state stores that a job starts from and leaves its states in: a live run's, or one like it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from streamrde.connectors.files.places import is_url, shown
from streamrde.errors import ConfigError
from streamrde.state import Checkpoint, SqliteStore, StateStore


@contextmanager
def open_store(
    path: str, model: str, *, identity: Mapping[str, str] | None = None, must_exist: bool = False
) -> Iterator[StateStore]:
    """Open a state store of this model.

    Args:
        model: the model's fingerprint.
        identity: what the store belongs to besides the model; None: whatever an existing store says.
        must_exist: do not make a new one.
    Raises:
        ConfigError: it does not exist, and must.
        StateError: it is damaged, in use, or of another model.
    """
    if is_url(path):
        raise ConfigError(f"{shown(path)}: a state store is an SQLite file on this machine; copy it here")
    if must_exist and not Path(path).exists():
        raise ConfigError(f"{path}: there is no such state store; give one that a run or a job has left, or none")
    store = SqliteStore(path)
    own = (SqliteStore.identity_of(path) or {}) if identity is None else identity
    store.open({**own, "model": model})
    try:
        yield store
    finally:
        store.close()


def save_snapshots(store: StateStore, snapshots: Iterable[Mapping[str, bytes]]) -> int:
    """Save snapshots, in place of earlier ones of the same streams. Return their number."""
    count = 0
    for some in snapshots:
        store.commit(Checkpoint(snapshots=some, saved=time.time()))
        count += len(some)
    return count
