"""A state store in one partition of a changelog, whose checkpoints are transactions."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import islice
from typing import Any, Literal

import msgspec

from streamrde.cluster.changelog import POSITION, Entry, identity_entry, identity_of, positions_of
from streamrde.cluster.copies import LocalCopy
from streamrde.cluster.inlet import Position
from streamrde.cluster.member import Task
from streamrde.cluster.restoring import Reading, Restored
from streamrde.cluster.transactions import Record, Transactions
from streamrde.connectors.kafka.positions import beginning
from streamrde.errors import StateError
from streamrde.runtime.checkpoints import MODELS, SOURCE
from streamrde.state import Checkpoint
from streamrde.state.store import check_identity

logger = logging.getLogger(__name__)
# Seconds to wait for a call of the client library that is under way. Each has a limit below that.
_CLOSING = 15.0


class KafkaStore:
    """Keep the state of one partition's streams in a changelog, with the position in the input.

    A commit is one transaction: the predictions and dead letters that are staged, the changed states, and the group's
    position. Opening the store shuts out every other owner of the partition before anything is read, so that what is
    read is the last that was committed, and nothing can be committed after it by somebody else.

    Args:
        task: the input's partition.
        changelog: topic of the states. The partition has the same number.
        transactions: the partition's producer, not yet opened.
        reading: returns a reader of partitions.
        outgoing: returns what else belongs into the transaction that is being made.
        partitions: returns the number of partitions of the input.
        deliver: where a group without any position begins.
        replaced: fingerprints of models whose state this run's model may go on with.
        copy: local copy of the state. None: the whole state is read from the changelog every time.
    """

    def __init__(
        self,
        task: Task,
        changelog: str,
        *,
        transactions: Transactions,
        reading: Callable[[], Reading],
        outgoing: Callable[[], list[Record]] = list,
        partitions: Callable[[], int] = lambda: 1,
        deliver: Literal["all", "new"] = "all",
        replaced: Collection[str] = (),
        copy: LocalCopy | None = None,
    ) -> None:
        self.task = task
        self.changelog = changelog
        self.restored = Restored()
        self.lost = 0
        """Messages that were deleted before the group had read them."""
        self.position = 0
        """Offset of the input's next message, as of the last commit."""
        self.size = 0
        """Bytes of the snapshots."""
        self.transactions = transactions
        self._reading = reading
        self._outgoing = outgoing
        self._partitions = partitions
        self._deliver = deliver
        self._replaced = {*replaced}
        self._copy = copy
        self._lock = threading.RLock()
        self._identity: dict[str, str] = {}
        self._own: dict[str, bytes] = {}
        self._stored: dict[str, str] | None = None
        self._unsaid: list[Entry] = []
        self._renewed = False
        # What is known of a stream that has a record: last window, when it was saved, bytes of the snapshot.
        self._streams: dict[str, tuple[int | None, float, int]] = {}
        self._snapshots: dict[str, bytes] = {}
        self._dead: set[str] = set()

    def open(self, identity: Mapping[str, str]) -> None:
        """Take the partition over and read its state. See `StateStore.open`."""
        with self._lock:
            self.transactions.open()
            reading = self._reading()
            try:
                self._read(reading)
                self._check(identity)
                self._place(reading)
            finally:
                reading.close()

    def close(self) -> None:
        """See `StateStore.close`. It waits for what is under way, which `Transactions.abandon` ends."""
        if not self._lock.acquire(timeout=_CLOSING):
            logger.error("%s: the client library does not return from a transaction; it is left alone", self.task)
            return
        try:
            self.transactions.close()
            if self._copy is not None:
                self._copy.close()
        finally:
            self._lock.release()
        self._snapshots = {}

    def __len__(self) -> int:
        return sum(size > 0 for _, _, size in self._streams.values())

    def read(self, streams: Collection[str]) -> dict[str, bytes]:
        """See `StateStore.read`. It has what was restored and not yet scanned."""
        return {name: self._snapshots[name] for name in streams if name in self._snapshots}

    def scan(self, *, rows: int = 1000) -> Iterator[dict[str, bytes]]:
        """See `StateStore.scan`. The snapshots are handed over, and not kept."""
        while names := [*islice(self._snapshots, rows)]:
            yield {name: self._snapshots.pop(name) for name in names}

    def last_window(self, stream: str) -> int | None:
        """See `StateStore.last_window`."""
        return self._streams[stream][0] if stream in self._streams else None

    def positions(self) -> dict[str, bytes]:
        """See `StateStore.positions`."""
        return dict(self._own)

    def outbox(self) -> dict[int, bytes]:
        """See `StateStore.outbox`. Nothing waits: predictions appear with the state."""
        return {}

    def commit(self, checkpoint: Checkpoint) -> None:
        """Commit a checkpoint with all that belongs to it in one transaction.

        Raises:
            FencedError: another owner has the partition; or it is not known if the transaction was committed.
            BrokerError: the broker refuses for good.
            AbandonedError: the partition was given up.
        """
        with self._lock:
            self._commit(checkpoint)

    def _commit(self, checkpoint: Checkpoint) -> None:
        if (place := checkpoint.positions.get(SOURCE)) is not None:
            self.position = Position.decode(place).offset
        positions = {**checkpoint.positions}
        if checkpoint.identity is not None:
            self._identity = dict(checkpoint.identity)
        told: dict[str, Any] = {
            "offset": self.position,
            "model": self._identity.get("model", ""),
            "saved": checkpoint.saved,
        }
        entries = [*self._changes(checkpoint, told), *self._unsaid]
        if checkpoint.identity is not None or self._renewed:
            entries.append(identity_entry(self._identity, **told))
            positions = {MODELS: self._own.get(MODELS, b"[]")} | positions
        self._send(entries, positions, told)
        self._renewed = False
        for entry in entries:
            self._note(entry)
        self._unsaid, self._dead = [], set()

    def prune(self, before: float) -> int:
        """Forget streams last saved before a time. Their tombstones are written with the next checkpoint."""
        gone = [name for name, (_, saved, _) in self._streams.items() if saved < before]
        for name in gone:
            self._note(Entry(name, None))
            self._snapshots.pop(name, None)
        self._dead |= {*gone}
        return len(gone)

    def compact(self) -> None:
        """See `StateStore.compact`. The broker compacts the topic by itself."""

    def _changes(self, checkpoint: Checkpoint, told: dict[str, Any]) -> Iterator[Entry]:
        # Streams that came back since they were pruned, or ended now, have a new record.
        alive = {*checkpoint.snapshots, *checkpoint.ended}
        yield from (Entry(name, None) for name in self._dead if name not in alive)
        for name, data in checkpoint.snapshots.items():
            yield Entry(name, data, window=checkpoint.windows.get(name, self.last_window(name)), **told)
        for name in checkpoint.ended:
            yield Entry(name, b"", window=checkpoint.windows.get(name, self.last_window(name)), **told)

    def _send(self, entries: list[Entry], positions: dict[str, bytes], told: dict[str, Any]) -> None:
        """Commit entries and positions, then bring the local copy up to date."""
        from confluent_kafka import TopicPartition

        position = Position(self.position, secrets.token_hex(8))
        positions[SOURCE] = position.encode()
        kept = {name: data for name, data in positions.items() if name != SOURCE and data}
        own = [Entry(f"{POSITION}{name}", data, "m", **told) for name, data in kept.items()]
        # The position is the last record: its offset says how far a copy is.
        own.append(Entry(f"{POSITION}{SOURCE}", positions[SOURCE], "m", **told))
        records = [Record(self.changelog, one.data, one.key, self.task.number, one.headers) for one in [*entries, *own]]
        offset = self.transactions.commit([*self._outgoing(), *records], TopicPartition(*self.task, self.position))
        self._own |= positions
        if self._copy is not None:
            self._copy.save([*entries, *own], offset)

    def _note(self, entry: Entry) -> None:
        """Remember what a record says of a stream."""
        if entry.kind != "s":
            return
        _, _, size = self._streams.pop(entry.name, (None, 0.0, 0))
        self.size -= size
        if entry.data is not None:
            self._streams[entry.name] = (entry.window, entry.saved, len(entry.data))
            self.size += len(entry.data)

    def _read(self, reading: Reading) -> None:
        """Read the state of the partition's streams."""
        own: dict[str, Entry] = {}
        copy = self._copy
        if copy is not None and (end := copy.open()) is not None and self._replay(reading, end, copy, own):
            self.restored.copied = True
        else:
            self._streams, self._snapshots, self.size = {}, {}, 0
            own.clear()
            if copy is not None:
                copy.clear()
                copy.open()
            self._replay(reading, 0, copy, own)
        self._own = positions_of(own.values())
        self._stored = identity_of(own.values())

    def _replay(self, reading: Reading, begin: int, copy: LocalCopy | None, own: dict[str, Entry]) -> bool:
        """Take the copy's entries, then the changelog's from an offset on. Return False if they do not fit together."""
        latest = copy.latest() if begin and copy is not None else None
        new, end = list[Entry](), -1
        for offset, entry in reading.entries(self.changelog, self.task.number, begin, self.restored):
            if latest is not None:
                if (offset, entry.data) != (begin, latest) or copy is None:
                    return False
                latest = None
                for one in copy.entries():
                    self._take(one, own)
            self._take(entry, own)
            if copy is not None:
                new.append(entry)
            if entry.name == f"{POSITION}{SOURCE}":
                end = offset
        if latest is not None:
            return False
        # A changelog may end with records of `streamrde state`. Then it has no position that tells a copy.
        if copy is not None and end >= 0:
            copy.save(new, end)
        return True

    def _take(self, entry: Entry, own: dict[str, Entry]) -> None:
        """Take an entry of the changelog."""
        if entry.kind == "m":
            own[entry.name] = entry
        elif entry.data:
            self._snapshots[entry.name] = entry.data
        else:
            self._snapshots.pop(entry.name, None)
        self._note(entry)

    def _check(self, identity: Mapping[str, str]) -> None:
        """Check that the state belongs to this run, or to one whose model this run's replaces."""
        self._identity = dict(identity)
        model = identity.get("model", "")
        if self._stored is None:
            self._unsaid.append(identity_entry(identity, model=model))
            return
        before = self._stored.get("model", "")
        stored = self._stored
        if before != model and before in self._replaced:
            known = msgspec.json.decode(self._own.get(MODELS, b"[]"), type=list[str])
            self._own[MODELS] = msgspec.json.encode(sorted({*known, before} - {model}))
            self._renewed = True
            stored = {**stored, "model": model}
        try:
            check_identity(f"{self.changelog} (partition {self.task.number})", stored, identity)
        except StateError as error:
            if stored.get("model") == model:
                raise
            raise StateError(
                f"{error}; if the model was replaced, give this worker the new file and SIGHUP, or name "
                "the file of the model before in state.replaces"
            ) from None

    def _place(self, reading: Reading) -> None:
        """Find where the input goes on. A group that is new to the partition gets its position at once."""
        saved = Position.decode(self._own[SOURCE]).offset if SOURCE in self._own else None
        committed = reading.committed(*self.task)
        low, high = reading.ends(*self.task)
        place = saved if committed is None else committed
        known = place is None and self._deliver == "new" and reading.known(self.task.topic, self._partitions())
        position, self.lost = beginning(place, low, high, deliver=self._deliver, known=known)
        if committed is None and saved is None:
            logger.info("%s: begins at %d", self.task, position)
        elif saved is None:
            logger.warning(
                "%s: the group has a position, %d, and the changelog %s has no state: its streams begin anew",
                self.task, committed, self.changelog,
            )  # fmt: skip
        elif committed is None:
            logger.warning("%s: the group has no position any more; the changelog has it: %d", self.task, saved)
        elif committed != saved:
            logger.warning(
                "%s: the group's position was set to %d by somebody else, and the state is that of %d; what comes "
                "twice is dropped as late or repeated",
                self.task, committed, saved,
            )  # fmt: skip
        if self.lost:
            logger.error(
                "%s: %d messages were deleted before they were read, and are lost; keep messages longer",
                self.task, self.lost,
            )  # fmt: skip
        self.position = position
        if committed != position or saved != position or self._unsaid or self._renewed:
            self.commit(Checkpoint(saved=time.time()))
