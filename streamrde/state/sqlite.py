"""A state store in one SQLite file.

    store      key, value                 identity: JSON; and the number of the outbox's last entry
    streams    id, name
    snapshots  id, window, saved, data    last confirmed window, or NULL; seconds since 1970; NULL: the stream ended
    positions  name, data
    outbox     number, data

A write-ahead log makes a commit one append and one sync; readers see the last commit. A killed process or a power cut
leaves the last commit whole. `PRAGMA user_version` is the schema's version, `application_id` says whose file it is.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import msgspec

from streamrde.errors import StateError, StateFullError
from streamrde.state.records import Head, Record
from streamrde.state.store import Checkpoint, check_identity

VERSION = 1
_APPLICATION = 0x53524445  # b"SRDE"
# Snapshots are some kB; a larger page makes their leaves wide and a bulk commit a third faster than 4096 (measured).
_PAGE = 8192
# SQLite's limit on variables in a statement is 999 in older builds.
_VARIABLES = 900

_SCHEMA = """
CREATE TABLE store (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE streams (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE snapshots (id INTEGER PRIMARY KEY, window INTEGER, saved REAL NOT NULL, data BLOB);
CREATE TABLE positions (name TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE outbox (number INTEGER PRIMARY KEY, data BLOB NOT NULL);
"""

_SAVE = """
INSERT INTO snapshots VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE
SET window = coalesce(excluded.window, window), saved = excluded.saved, data = excluded.data
"""


class SqliteStore:
    """Keep everything in one SQLite file, with its write-ahead log beside it while open.

    Args:
        path: the file. Its folder is created. Two runs cannot share it.
        sync: "full" survives a power cut. "normal" survives a killed process, but a power cut may lose the last
            commits, although their input has been acknowledged.
        max_bytes: limit on the file's size. None: no limit but the disk.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, sync: Literal["full", "normal"] = "full", max_bytes: int | None = None
    ) -> None:
        self.path = Path(path)
        self._sync = sync
        self._max_bytes = max_bytes
        self._database: sqlite3.Connection | None = None
        self._lock = threading.RLock()
        self._ids: dict[str, int] = {}

    def open(self, identity: Mapping[str, str]) -> None:
        """See `StateStore.open`."""
        with self._lock, self._mapped("cannot be opened"):
            self._database = database = self._connect()
            try:
                self._prepare(database, identity)
            except BaseException:
                self.close()
                raise

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)

    @staticmethod
    def identity_of(path: str | os.PathLike[str]) -> dict[str, str] | None:
        """Return the identity of a store's run, or None if the file is missing or not a streamrde store."""
        if not Path(path).exists():
            return None
        with contextlib.suppress(sqlite3.Error, msgspec.DecodeError, TypeError):
            address = f"{Path(path).absolute().as_uri()}?mode=ro"
            with contextlib.closing(sqlite3.connect(address, timeout=0, uri=True)) as database:
                (text,) = database.execute("SELECT value FROM store WHERE key = 'identity'").fetchone()
            return msgspec.json.decode(text, type=dict[str, str])
        return None

    @property
    def name(self) -> str:
        """The file, for people."""
        return str(self.path)

    def close(self) -> None:
        """See `StateStore.close`."""
        with self._lock:
            if self._database is not None:
                with contextlib.suppress(sqlite3.Error):
                    self._database.close()
                self._database = None
                self._ids = {}

    def __len__(self) -> int:
        return int(self._rows("SELECT count(*) FROM snapshots WHERE data IS NOT NULL")[0][0])

    def read(self, streams: Collection[str]) -> dict[str, bytes]:
        """See `StateStore.read`."""
        found: dict[str, bytes] = {}
        with self._lock, self._mapped("cannot be read"):
            for name, key in self._find(streams).items():
                query = "SELECT data FROM snapshots WHERE id = ? AND data IS NOT NULL"
                if (row := self._open.execute(query, (key,)).fetchone()) is not None:
                    self._ids[name] = key
                    found[name] = row[0]
        return found

    def scan(self, *, rows: int = 1000) -> Iterator[dict[str, bytes]]:
        """See `StateStore.scan`."""
        with self._lock, self._mapped("cannot be read"):
            cursor = self._open.execute(
                "SELECT name, id, data FROM snapshots JOIN streams USING (id) WHERE data IS NOT NULL ORDER BY id"
            )
            while found := list(islice(cursor, rows)):
                self._ids |= {name: key for name, key, _ in found}
                yield {name: data for name, _, data in found}

    def head(self) -> Head:
        """Return what the store has that is about no single stream."""
        identity = self._rows("SELECT value FROM store WHERE key = 'identity'")[0][0]
        (held,) = self._rows("SELECT count(*) FROM outbox")[0]
        return Head(msgspec.json.decode(identity, type=dict[str, str]), self.positions(), held=held)

    def records(self, *, rows: int = 1000) -> Iterator[Record]:
        """Yield what the store has of every stream, running or ended. It must not change meanwhile."""
        model = self.head().identity.get("model", "")
        with self._lock, self._mapped("cannot be read"):
            cursor = self._open.execute(
                "SELECT name, data, window, saved FROM snapshots JOIN streams USING (id) ORDER BY id"
            )
            while found := cursor.fetchmany(rows):
                for name, data, window, saved in found:
                    yield Record(name, data, window, saved, model)

    def fill(self, records: Iterable[Record], positions: Mapping[str, bytes]) -> int:
        """Write the contents of another store, in one transaction, and return the number of streams."""
        with self._lock, self._mapped("cannot be written"):
            database, number = self._open, 0
            with database:
                database.execute("BEGIN IMMEDIATE")
                database.executemany("INSERT OR REPLACE INTO positions VALUES (?, ?)", positions.items())
                for record in records:
                    number += 1
                    database.execute("INSERT INTO streams VALUES (?, ?)", (number, record.name))
                    row = (number, record.window, record.saved, record.data)
                    database.execute("INSERT INTO snapshots VALUES (?, ?, ?, ?)", row)
        return number

    def last_window(self, stream: str) -> int | None:
        """See `StateStore.last_window`."""
        rows = self._rows("SELECT window FROM streams JOIN snapshots USING (id) WHERE name = ?", stream)
        return rows[0][0] if rows else None

    def positions(self) -> dict[str, bytes]:
        """See `StateStore.positions`."""
        return dict(self._rows("SELECT name, data FROM positions"))

    def outbox(self) -> dict[int, bytes]:
        """See `StateStore.outbox`."""
        return dict(self._rows("SELECT number, data FROM outbox ORDER BY number"))

    def commit(self, checkpoint: Checkpoint) -> None:
        """See `StateStore.commit`."""
        with self._lock, self._mapped("cannot be written"):
            database = self._open
            try:
                database.execute("BEGIN IMMEDIATE")
                self._write(database, checkpoint)
                database.execute("COMMIT")
            except BaseException:
                self._ids = {}  # keys given out in a transaction that is undone
                if database.in_transaction:
                    database.execute("ROLLBACK")
                raise
            for name in checkpoint.ended:
                self._ids.pop(name, None)

    def prune(self, before: float) -> int:
        """See `StateStore.prune`."""
        with self._lock, self._mapped("cannot be written"):
            database = self._open
            with database:
                database.execute("BEGIN IMMEDIATE")
                database.execute(
                    "DELETE FROM streams WHERE id IN (SELECT id FROM snapshots WHERE saved < ?)", (before,)
                )
                gone = database.execute("DELETE FROM snapshots WHERE saved < ?", (before,)).rowcount
            self._ids = {}
        return gone

    def delete(self, streams: Collection[str]) -> None:
        """Delete streams, running or ended, in one transaction."""
        names = [(name,) for name in streams]
        with self._lock, self._mapped("cannot be written"), self._open as database:
            database.execute("BEGIN IMMEDIATE")
            database.executemany("DELETE FROM snapshots WHERE id = (SELECT id FROM streams WHERE name = ?)", names)
            database.executemany("DELETE FROM streams WHERE name = ?", names)
            self._ids = {}

    def compact(self) -> None:
        """See `StateStore.compact`."""
        with self._lock, self._mapped("cannot be compacted"):
            self._open.execute("VACUUM")
            self._open.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _write(self, database: sqlite3.Connection, checkpoint: Checkpoint) -> None:
        saved, windows, ids = checkpoint.saved, checkpoint.windows, self._ids
        added = [name for name in {**checkpoint.snapshots, **dict.fromkeys(checkpoint.ended)} if name not in ids]
        database.executemany(
            "INSERT INTO streams (name) VALUES (?) ON CONFLICT (name) DO NOTHING", [(name,) for name in added]
        )
        ids |= self._find(added)
        # In order of the key the B-tree's leaves are written one after the other.
        rows: list[tuple[int, int | None, float, bytes | None]] = sorted(
            (ids[name], windows.get(name), saved, data) for name, data in checkpoint.snapshots.items()
        )
        rows += sorted((ids[name], windows.get(name), saved, None) for name in checkpoint.ended)
        database.executemany(_SAVE, rows)
        database.executemany("INSERT OR REPLACE INTO positions VALUES (?, ?)", checkpoint.positions.items())
        if checkpoint.outbox:
            number = int(self._rows("SELECT value FROM store WHERE key = 'outbox'")[0][0])
            entries = enumerate(checkpoint.outbox, number + 1)
            database.executemany("INSERT INTO outbox VALUES (?, ?)", entries)
            database.execute("UPDATE store SET value = ? WHERE key = 'outbox'", (str(number + len(checkpoint.outbox)),))
        if checkpoint.sent:
            database.execute("DELETE FROM outbox WHERE number <= ?", (checkpoint.sent,))
        if checkpoint.identity is not None:
            self._set_identity(database, checkpoint.identity)

    def _find(self, streams: Collection[str]) -> dict[str, int]:
        """Return the keys of those streams that the file has."""
        names, found = list(streams), dict[str, int]()
        for i in range(0, len(names), _VARIABLES):
            part = names[i : i + _VARIABLES]
            marks = ",".join("?" * len(part))
            found |= dict(self._open.execute(f"SELECT name, id FROM streams WHERE name IN ({marks})", part))  # noqa: S608
        return found

    def _prepare(self, database: sqlite3.Connection, identity: Mapping[str, str]) -> None:
        # A hostile file may have views and triggers that call functions; none of ours does.
        database.execute("PRAGMA trusted_schema = OFF")
        database.execute("PRAGMA cell_size_check = ON")
        database.execute(f"PRAGMA page_size = {_PAGE}")
        # Held until closed: two services on one store would overwrite each other's streams.
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(f"PRAGMA synchronous = {self._sync}")
        database.execute("BEGIN EXCLUSIVE")
        try:
            self._check(database, identity)
            database.execute("COMMIT")
        except BaseException:
            database.execute("ROLLBACK")
            raise
        if self._max_bytes is not None:
            page = database.execute("PRAGMA page_size").fetchone()[0]
            database.execute(f"PRAGMA max_page_count = {max(1, self._max_bytes // page)}")

    def _check(self, database: sqlite3.Connection, identity: Mapping[str, str]) -> None:
        whose = database.execute("PRAGMA application_id").fetchone()[0]
        version = database.execute("PRAGMA user_version").fetchone()[0]
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_schema")}
        if not tables and not whose:
            for statement in _SCHEMA.strip().split("\n"):
                database.execute(statement)
            database.execute(f"PRAGMA application_id = {_APPLICATION}")
            database.execute(f"PRAGMA user_version = {VERSION}")
            database.execute("INSERT INTO store VALUES ('outbox', '0')")
            self._set_identity(database, identity)
            return
        if whose != _APPLICATION:
            raise StateError(f"{self.path} is an SQLite file of another program; give the state a file of its own")
        if version != VERSION:
            raise StateError(
                f"state store {self.path} has version {version}, and this streamrde reads {VERSION}: "
                "run the streamrde that wrote it, or begin with a new file"
            )
        damage = database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if damage != "ok":
            raise StateError(
                f"state store {self.path} is damaged ({damage}): put a copy back, or begin with a new file"
            )
        row = database.execute("SELECT value FROM store WHERE key = 'identity'").fetchone()
        stored = msgspec.json.decode(row[0] if row else "{}", type=dict[str, str])
        check_identity(str(self.path), stored, identity)

    def _set_identity(self, database: sqlite3.Connection, identity: Mapping[str, str]) -> None:
        text = msgspec.json.encode(dict(identity), order="sorted").decode()
        database.execute("INSERT OR REPLACE INTO store VALUES ('identity', ?)", (text,))

    @property
    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            raise StateError(f"state store {self.path} is not open: call open() first")
        return self._database

    def _rows(self, query: str, *values: object) -> list[Any]:
        with self._lock, self._mapped("cannot be read"):
            return self._open.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _mapped(self, what: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, msgspec.DecodeError) as error:
            code = getattr(error, "sqlite_errorname", "")
            if code in ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE"):
                raise StateFullError(
                    f"state store {self.path} {what}: the disk or its quota is full; make room, the input waits"
                ) from None
            remedy = {
                "SQLITE_BUSY": "another run has it open; stop that, or give this one a file of its own",
                "SQLITE_NOTADB": "it is not a state store; give the state a file of its own",
                "SQLITE_CORRUPT": "it is damaged; put a copy back, or begin with a new file",
            }.get(code, "check the folder, its rights and the disk")
            raise StateError(f"state store {self.path} {what} ({error}): {remedy}") from None
