"""Labels of a run: in columns beside the samples, or from a source of their own."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from streamrde.arrays import Bools, Floats, Indices
from streamrde.connectors.ends import Batch
from streamrde.connectors.samples import Samples
from streamrde.inference.fleet import Fleet
from streamrde.inference.labels import class_numbers
from streamrde.runtime.checkpoints import Checkpointer
from streamrde.runtime.recent import Recent
from streamrde.runtime.tally import LabelTally

# Seconds between two looks at labels that wait for their predictions.
_SETTLE_EVERY = 0.5
_MOST_ROWS = 100_000
"""Labels that wait for their predictions. Of more, the oldest are given to the fleet as they are."""


class Turn(NamedTuple):
    """Rows that can be taken together: no stream has a sample in them that comes before one of its labels."""

    labels: Samples | None
    """Rows with labels as x, at most one of each stream, to be learned first. None: there is none."""
    samples: Samples
    """Rows with the model's channels."""


@dataclass
class _Held:
    """A batch of labels, and those of its rows that wait."""

    batch: Batch
    rows: Samples
    since: float
    number: int
    waits: Bools
    """Marks the rows that still wait."""


class LateLabels:
    """Give labels to the fleet.

    Labels in columns beside the channels: a stream learns a row's label before it takes the row's sample and after the
    samples of the rows before. So its predictions do not depend on how rows are cut into batches. A row with a label
    and without any channel is no sample.

    Labels from a source of their own: a label that comes before its prediction waits for it, in memory. Its batch is
    done when all its rows are learned, and so is acknowledged with a checkpoint that has them. After a crash the others
    come again.

    Args:
        fleet: it adapts.
        beside: the rows of samples have labels in the columns after the model's channels.
        windowed: one more column has the number of the label's window. NaN: the label is for its row's time.
        wait: seconds for which a label from a source of its own waits for its prediction.
        recent: keeps the latest labels for the page.
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        beside: bool = True,
        windowed: bool = False,
        wait: float = 60.0,
        recent: Recent | None = None,
    ) -> None:
        self.tally = LabelTally(fleet.header)
        self.recent = recent
        self._fleet = fleet
        self._beside = beside
        self._windowed = windowed
        self._wait = wait
        self._held: deque[_Held] = deque()
        self._by_stream: dict[str, list[tuple[_Held, int]]] = {}
        self._taken = 0
        self._waiting = 0

    def turns(self, samples: Samples) -> Iterator[Turn]:
        """Yield rows of samples in turns. There is at least one."""
        channels = len(self._fleet.channels)
        x, labels = samples.x[:, :channels], samples.x[:, channels:]
        labelled = np.asarray(~np.isnan(labels[:, : -1 if self._windowed else None]).all(axis=1))
        if not (self._beside and labelled.any()):
            yield Turn(None, samples._replace(x=np.ascontiguousarray(x)))
            return
        sampled = ~(labelled & np.isnan(x).all(axis=1))
        together = self._fleet.learns_together
        # Where streams share what they learn, no row is taken before an earlier one of any stream.
        turn = np.cumsum(labelled & np.append(False, sampled[:-1])) if together else _turns(samples, labelled)
        for number in range(int(turn.max()) + 1):
            own = turn == number
            given, rows = np.flatnonzero(own & labelled), np.flatnonzero(own & sampled)
            first = None if not len(given) else _take(samples, given, labels)
            yield Turn(first, _take(samples, rows, x))

    def learn(self, rows: Samples) -> None:
        """Let streams learn from labels, (rows, columns), in their order."""
        for part, t, window in self._joins(rows):
            found = learn(self._fleet, part, t, window)
            self.tally.add(found)
            if self.recent is not None:
                self.recent.learned(found, self._fleet.header)

    def take(self, batch: Batch) -> None:
        """Take a batch of a source of labels, and learn those whose predictions are there."""
        rows = batch.samples
        waits = self._waits(rows)
        if not waits.all():
            self.learn(_take(rows, np.flatnonzero(~waits), rows.x))
            rows = _take(rows, np.flatnonzero(waits), rows.x)
        held = _Held(batch, rows, time.monotonic(), self._taken, np.ones(len(rows.t), np.bool_))
        self._held.append(held)
        self._taken += 1
        self._waiting += len(rows.t)
        for row, stream in enumerate(rows.streams.to_pylist()):
            self._by_stream.setdefault(stream, []).append((held, row))

    @property
    def waiting(self) -> int:
        """Labels that wait for their predictions."""
        return self._waiting

    async def settle(self, checkpoints: Checkpointer, streams: Collection[str] | None = ()) -> None:
        """Learn the labels of streams whose predictions are there now, and finish the batches without any other."""
        for batch in self.settled(streams):
            await checkpoints.finish_batch(batch)

    async def look_after(self, ending: asyncio.Event, checkpoints: Checkpointer) -> None:
        """Settle labels that wait where no sample comes, until the run ends."""
        while not ending.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(ending.wait(), _SETTLE_EVERY)
            if self._held:
                async with checkpoints.barrier:
                    await self.settle(checkpoints, None)

    def settled(self, streams: Collection[str] | None = None) -> list[Batch]:
        """Learn the labels whose predictions are there, or do not come. Return the batches that are done, in order.

        Args:
            streams: those that have new predictions. Labels of others are not looked at, however many wait. None: all.
        """
        beyond, now = self._waiting - _MOST_ROWS, time.monotonic()
        if streams is None or beyond > 0:
            for held in self._held:
                rows = np.flatnonzero(held.waits)
                given_up = now - held.since >= self._wait or beyond > 0
                beyond -= len(rows)
                self._learn_ready(held, rows, given_up=given_up)
        elif self._waiting:
            for held, rows in self._of(streams):
                self._learn_ready(held, rows)
        done = []
        while self._held and not self._held[0].waits.any():
            done.append(self._held.popleft().batch)
        self.tally.waiting = self._waiting
        return done

    def _of(self, streams: Collection[str]) -> list[tuple[_Held, Indices]]:
        """Return the rows of streams that wait, by batch, both in their order."""
        found: dict[int, tuple[_Held, list[int]]] = {}
        for stream in streams:
            for held, row in self._by_stream.get(stream, ()):
                found.setdefault(held.number, (held, []))[1].append(row)
        return [(held, np.sort(np.array(rows))) for _, (held, rows) in sorted(found.items())]

    def _learn_ready(self, held: _Held, rows: Indices, *, given_up: bool = False) -> None:
        """Learn those of a batch's waiting rows whose predictions are there. Given up, they are learned all."""
        if not given_up and len(rows):
            rows = rows[~self._waits(_take(held.rows, rows, held.rows.x))]
        if not len(rows):
            return
        ready = _take(held.rows, rows, held.rows.x)
        self.learn(ready)
        held.waits[rows] = False
        self._waiting -= len(rows)
        for stream in set(ready.streams.to_pylist()):
            if left := [(one, row) for one, row in self._by_stream[stream] if one.waits[row]]:
                self._by_stream[stream] = left
            else:
                del self._by_stream[stream]

    def _waits(self, rows: Samples) -> Bools:
        parts = [self._fleet.awaits(part.streams, t=t, window=window) for part, t, window in self._joins(rows)]
        return np.concatenate([np.empty(0, np.bool_), *parts])

    def _joins(self, rows: Samples) -> Iterator[tuple[Samples, Floats | None, Indices | None]]:
        """Yield the rows in order, in parts that are joined by time or by window. These come as they are asked for."""
        if not self._windowed:
            if len(rows.t):
                yield rows, rows.t, None
            return
        windows, labels = rows.x[:, -1], rows.x[:, :-1]
        by_time = np.isnan(windows)
        # A number that no window can have is that of none.
        numbers = np.where((windows >= 0) & (windows < 2**53) & (windows % 1 == 0), windows, -1.0)
        cuts = np.flatnonzero(np.diff(by_time)) + 1
        for part in np.split(np.arange(len(rows.t)), cuts):
            if len(part):
                own = _take(rows, part, labels)
                yield (own, own.t, None) if by_time[part[0]] else (own, None, numbers[part].astype(np.int64))


def learn(fleet: Fleet, rows: Samples, t: Floats | None, window: Indices | None) -> pa.RecordBatch:
    """Give the fleet the labels of rows, (n, columns). Numbers that are no class count as labels without a number."""
    header, values, begin = fleet.header, {}, 0
    for head in header.parts:
        width = 1 if head.classes else head.outputs
        own = rows.x[:, begin : begin + width]
        begin += width
        values[head.name] = _places(class_numbers(head.classes), own[:, 0]) if head.classes else own
    return fleet.label(rows.streams, values if header.heads else values[""], t=t, window=window)


def _places(numbers: dict[float, int], values: Floats) -> Floats:
    """Return the classes' places, NaN for what is none."""
    return np.array([numbers.get(value, np.nan) for value in values.tolist()])


def _take(samples: Samples, rows: Indices, x: np.ndarray) -> Samples:
    return Samples(samples.streams.take(pa.array(rows)), samples.t[rows], np.ascontiguousarray(x[rows]))


def _turns(samples: Samples, labelled: np.ndarray) -> Indices:
    """Return for each row the number of its stream's labels up to it, its own included."""
    codes, names = samples.by_code()
    # Two codes may have the same name.
    streams = np.asarray(names.dictionary_encode().indices)[codes]
    order = np.argsort(streams, kind="stable")
    total = labelled[order].cumsum()
    leads = np.flatnonzero(np.diff(streams[order], prepend=-1))
    before = np.repeat(total[leads] - labelled[order][leads], np.diff(np.append(leads, len(order))))
    turn = np.empty(len(order), dtype=np.intp)
    turn[order] = total - before
    return turn
