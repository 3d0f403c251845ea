"""A state store in memory, for tests and for runs that need only the order of checkpoints."""

from __future__ import annotations

import sqlite3

from streamrde.state.sqlite import SqliteStore


class MemoryStore(SqliteStore):
    """Keep everything in memory. A later run in the same process may open the store again."""

    def __init__(self) -> None:
        super().__init__("in memory")
        self._kept = b""

    def close(self) -> None:
        """Close the database, and keep its content for the next `open`."""
        with self._lock:
            if self._database is not None:
                self._database.execute("PRAGMA wal_checkpoint")  # serialize() leaves the write-ahead log out
                self._kept = self._database.serialize()
            super().close()

    def _connect(self) -> sqlite3.Connection:
        self.close()
        database = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        if self._kept:
            database.deserialize(self._kept)
        return database
