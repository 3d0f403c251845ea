"""Stores that keep the live state of streams, in one transaction per checkpoint."""

from streamrde.state.memory import MemoryStore
from streamrde.state.sqlite import SqliteStore
from streamrde.state.store import Checkpoint, StateStore

__all__ = ["Checkpoint", "MemoryStore", "SqliteStore", "StateStore"]
