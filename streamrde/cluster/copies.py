"""Local copies of partitions' states, so that a worker that gets a partition back reads only what came meanwhile."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from streamrde.cluster.changelog import IDENTITY, POSITION, Entry
from streamrde.cluster.member import Task
from streamrde.errors import StateError
from streamrde.runtime.checkpoints import SOURCE
from streamrde.state import Checkpoint, SqliteStore

logger = logging.getLogger(__name__)
# Position in the copy: offset of the changelog's record that it ends with.
_END = "changelog"


class LocalCopy:
    """A copy of a partition of a changelog in an SQLite file, brought up to date after each transaction.

    It is never ahead of the changelog. It is good only while the changelog still has the record of the position that
    the copy ends with, token and all: then nothing that the copy has was compacted away unseen, and the topic is the
    same. Whatever cannot be used is deleted, and read from the changelog again.

    Args:
        folder: of all copies.
        changelog: topic of the states.
        task: the input's partition.
        cluster: address of the cluster.
    """

    def __init__(self, folder: Path, changelog: str, task: Task, *, cluster: str) -> None:
        self.path = folder / f"{changelog}-{task.number}.db"
        self._identity = {"cluster": cluster, "changelog": changelog, "partition": f"{task.number}"}
        self._store: SqliteStore | None = None

    def open(self) -> int | None:
        """Open the copy, or begin a new one. Return the offset of the record that it ends with, None for a new one."""
        self._store = SqliteStore(self.path, sync="normal")
        for _ in range(2):
            try:
                self._store.open(self._identity)
                found = self._store.positions()
                return int(found[_END]) if _END in found else None
            except StateError as error:
                logger.info("the copy %s is not used: %s", self.path, error)
                self.clear()
        self._give_up("it cannot be written")
        return None

    def close(self) -> None:
        """Close the file."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def clear(self) -> None:
        """Delete what is there, and begin a new copy."""
        if self._store is None:
            return
        self._store.close()
        # Another process that still has them open goes on with files that nobody else sees.
        with contextlib.suppress(OSError):
            for end in ("", "-wal", "-shm"):
                Path(f"{self.path}{end}").unlink(missing_ok=True)

    def entries(self) -> Iterable[Entry]:
        """Yield all that the copy has, as the changelog's records had it."""
        if self._store is None:
            return
        for name, data in self._store.positions().items():
            if name != _END:
                yield Entry(IDENTITY if name == IDENTITY else f"{POSITION}{name}", data, "m")
        for record in self._store.records():
            yield Entry(record.name, record.data or b"", window=record.window, saved=record.saved)

    def save(self, entries: Sequence[Entry], end: int) -> None:
        """Take entries of the changelog in their order, up to the one at offset `end`."""
        if self._store is None:
            return
        positions = {
            one.name.removeprefix(POSITION): one.data for one in entries if one.kind == "m" and one.data is not None
        }
        try:
            # What was saved together is written together.
            for saved, group in itertools.groupby((one for one in entries if one.kind == "s"), lambda one: one.saved):
                self._write(self._store, saved, {one.name: one for one in group})
            self._store.commit(Checkpoint(positions=positions | {_END: f"{end}".encode()}))
        except StateError as error:
            self._give_up(f"{error}")

    @staticmethod
    def _write(store: SqliteStore, saved: float, entries: Mapping[str, Entry]) -> None:
        if gone := [name for name, one in entries.items() if one.data is None]:
            store.delete(gone)
        store.commit(
            Checkpoint(
                snapshots={name: one.data for name, one in entries.items() if one.data},
                ended=[name for name, one in entries.items() if one.data == b""],
                windows={name: one.window for name, one in entries.items() if one.window is not None},
                saved=saved,
            )
        )

    def latest(self) -> bytes | None:
        """Return the position that the copy ends with."""
        return None if self._store is None else self._store.positions().get(SOURCE)

    def _give_up(self, reason: str) -> None:
        logger.warning("no copy is kept at %s: %s", self.path, reason)
        self.clear()
        self.close()
