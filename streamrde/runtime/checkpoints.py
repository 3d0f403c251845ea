"""Checkpoints: the sink has confirmed, state and positions are saved together, then input is acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamrde.connectors.ends import Batch, Sink, Source
from streamrde.errors import ParameterError, StateFullError
from streamrde.inference.fleet import Fleet
from streamrde.inference.fleet_snapshots import SHARED
from streamrde.runtime.archive import StoreArchive
from streamrde.runtime.metrics import Metrics
from streamrde.state import Checkpoint, StateStore

logger = logging.getLogger(__name__)
# Pauses between two attempts to write to a full disk, in seconds: someone may be making room.
_FULL_PAUSE = 0.5
_FULL_PAUSE_MOST = 10.0
_PRUNE_EVERY = 3600.0

# Rows of a stream that a broker may send again after a restart of the process, because they were not acknowledged: of
# fewer late ones nothing is said. Where late samples would begin a stream's time again, more caution is due.
_REPEATS = 100
_REPEATS_BEFORE_RESTART = 1000

MODELS = "models before"
"""Position in the store: fingerprints of the models that were swapped for the one that the store belongs to."""
SHARED_READOUT = "shared readout"
"""Position in the store: what all streams learned together, if they share a correction."""
SOURCE = "source"
"""Position in the store: where the input goes on, if the store keeps it."""


@dataclass(frozen=True)
class CheckpointPolicy:
    """Rules for checkpoints: after a number of seconds or of messages, whichever comes first.

    Args:
        seconds: longest time from the first unsaved message to its checkpoint.
        messages: number of messages between checkpoints. A broker with a limit on messages in flight stops sending at
            the limit. At half of the limit it never has to. mosquitto's default is 20 (max_inflight_messages).
        ttl: delete streams that were not saved for this many seconds from the store, at the start and every hour.
            None: never.
    """

    seconds: float = 1.0
    messages: int = 10
    ttl: float | None = None

    def __post_init__(self) -> None:
        if not self.seconds > 0 or self.messages < 1:
            raise ParameterError(f"checkpoint: seconds={self.seconds}, messages={self.messages}: both must be above 0")


class Checkpointer:
    """Save the changes since the last checkpoint, then acknowledge their input.

    `barrier` is held while a batch is worked on, so that a checkpoint never sees half of one. Writing goes on in a
    thread beside the next batches. A full disk is tried again for ever; meanwhile `room` holds the intake back.

    Args:
        store: opened; None: batches are acknowledged as soon as their predictions are confirmed.
        policy: when checkpoints are made.
    """

    def __init__(
        self,
        source: Source[Any],
        fleet: Fleet,
        sink: Sink,
        store: StateStore | None,
        policy: CheckpointPolicy,
        metrics: Metrics,
    ) -> None:
        self.barrier = asyncio.Lock()
        self._source = source
        self._fleet = fleet
        self._sink = sink.staging
        self._store = store
        self._archive = fleet.archive if isinstance(fleet.archive, StoreArchive) else None
        self._policy = policy
        self._metrics = metrics
        self._repeats = _REPEATS_BEFORE_RESTART if fleet.restart_after else _REPEATS
        self._batches: list[Batch] = []
        self._messages = 0
        self._windows: dict[str, int] = {}
        self._identity: dict[str, str] | None = None
        self._position = b""
        self._committing = asyncio.Lock()
        self._due = asyncio.Event()
        self._stopping = False
        self._next_prune = 0.0
        self.patience: float | None = None
        """Seconds to wait for room on a full disk; None: for ever."""
        self._room = asyncio.Event()
        self._room.set()

    async def restore(self, *, lazily: bool) -> None:
        """Bring streams and sink back to the last checkpoint. `lazily`: restore each stream when it is needed."""
        if self._store is None:
            return
        if self._sink is not None:
            self._position = self._store.positions().get("sink", b"")
            self._sink.resume(self._position, self._store.outbox())
        if models := self._store.positions().get(MODELS):
            self._fleet.accept(msgspec.json.decode(models, type=list[str]))
        if readout := self._store.positions().get(SHARED_READOUT):
            self._fleet.restore({SHARED: readout})
        self._prune()
        if not lazily:
            for part in self._store.scan():
                self._fleet.restore(part, repeats=self._repeats)
                await asyncio.sleep(0)

    def fetch(self, streams: Collection[str]) -> None:
        """Restore the streams that are in the store and not live."""
        if self._store is None:
            return
        # What ended since the last checkpoint the store has in an older state; the fleet finds it in its archive.
        unsaved = self._archive.unsaved if self._archive is not None else ()
        if absent := [name for name in streams if name not in self._fleet and name not in unsaved]:
            self._fleet.restore(self._store.read(absent), repeats=self._repeats)

    async def finish_batch(self, batch: Batch, predictions: pa.RecordBatch | None = None) -> None:
        """Note that a batch is done, and that its predictions are confirmed or held by a staging sink."""
        if predictions is not None:
            self.confirmed(predictions)
        if self._store is None:
            await self._source.acknowledge(batch)
            return
        self._batches.append(batch)
        self._messages += batch.messages
        self._metrics.unsaved = self._messages
        if self._messages >= self._policy.messages:
            self._due.set()
        if self._messages >= 2 * self._policy.messages:
            self._room.clear()

    def confirmed(self, predictions: pa.RecordBatch) -> None:
        """Remember the last window of every stream."""
        if self._store is not None and predictions.num_rows:
            last = pa.table([predictions["stream"], predictions["window"]], names=["stream", "window"])
            last = last.group_by("stream").aggregate([("window", "max")])
            self._windows |= dict(zip(last["stream"].to_pylist(), last["window_max"].to_pylist(), strict=True))

    async def room(self) -> None:
        """Wait while more is unsaved than two checkpoints may hold, unless stopped."""
        if not self._stopping:
            await self._room.wait()

    def renew(self, identity: dict[str, str]) -> None:
        """Let the store belong to this identity from the next checkpoint on."""
        self._identity = identity

    async def run(self) -> None:
        """Make checkpoints when they are due, until `stop`."""
        while not self._stopping:
            # asyncio.wait_for of Python 3.11 swallows a cancellation that comes together with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._policy.seconds):
                    await self._due.wait()
            self._due.clear()
            await self.save()
            if time.monotonic() >= self._next_prune:
                await asyncio.to_thread(self._prune)

    def stop(self) -> None:
        """Let `run` end after a last checkpoint."""
        self._stopping = True
        self._due.set()
        self._room.set()

    async def save(self) -> None:
        """Make a checkpoint now.

        Raises:
            StateError: the store cannot be written; the input stays unacknowledged.
        """
        if self._store is None:
            return
        async with self._committing:
            async with self.barrier:
                batches, self._batches = self._batches, []
                self._messages = 0
                checkpoint = self._collect(batches)
            if checkpoint is not None:
                began = time.perf_counter()
                await self._write(self._store, checkpoint)
                self._metrics.checkpoint_time.add(time.perf_counter() - began)
                self._metrics.checkpoints += 1
                if self._archive is not None:
                    self._archive.saved(checkpoint.snapshots)
                self._metrics.checkpoint_bytes += checkpoint.size
                self._metrics.last_checkpoint = time.time()
                if self._sink is not None:
                    self._sink.staged()
            for batch in batches:
                await self._source.acknowledge(batch)
            self._metrics.unsaved = self._messages
            self._room.set()

    def _prune(self) -> None:
        self._next_prune = time.monotonic() + _PRUNE_EVERY
        if self._store is not None and self._policy.ttl is not None:
            self._store.prune(time.time() - self._policy.ttl)

    def _collect(self, batches: Sequence[Batch]) -> Checkpoint | None:
        changes = self._fleet.checkpoint()
        windows, self._windows = self._windows, {}
        identity, self._identity = self._identity, None
        position, outbox, sent = (b"", [], 0) if self._sink is None else self._sink.stage()
        moved, self._position = position != self._position, position
        place = self._source.position_after(batches[-1]) if batches else b""
        readout = changes.snapshots.pop(SHARED, b"")
        if not (changes.snapshots or changes.ended or moved or place or identity or readout):
            return None
        positions = {} if self._sink is None else {"sink": position}
        if place:
            positions[SOURCE] = place
        if readout:
            positions[SHARED_READOUT] = readout
        if identity is not None:
            positions[MODELS] = msgspec.json.encode(sorted(self._fleet.predecessors))
        return Checkpoint(
            snapshots=changes.snapshots,
            windows=windows,
            ended=changes.ended,
            positions=positions,
            outbox=outbox,
            sent=sent,
            identity=identity,
            saved=time.time(),
        )

    async def _write(self, store: StateStore, checkpoint: Checkpoint) -> None:
        pause, began = _FULL_PAUSE, time.monotonic()
        while True:
            try:
                await asyncio.to_thread(store.commit, checkpoint)
            except StateFullError as error:
                self._metrics.store_full = True
                if self.patience is not None and time.monotonic() - began >= self.patience:
                    raise
                logger.error("%s; trying again in %.1f s", error, pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _FULL_PAUSE_MOST)
            else:
                self._metrics.store_full = False
                return


def streams_of(streams: pa.Array) -> list[str]:
    """Return the distinct names in a column of streams."""
    names: list[str] = pc.unique(streams).to_pylist()
    return names


def not_finite(predictions: pa.RecordBatch) -> list[str]:
    """Return the streams with a prediction that is not a number."""
    values = predictions["value"].flatten().to_numpy(zero_copy_only=False)
    if np.isfinite(values).all():
        return []
    bad = ~np.isfinite(values.reshape(predictions.num_rows, -1)).all(axis=1)
    return streams_of(predictions["stream"].filter(pa.array(bad)))
