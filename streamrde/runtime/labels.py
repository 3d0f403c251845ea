"""Labels of a run: in columns beside the samples, or from a source of their own."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator
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
        """Take a batch of a source of labels. `settle` learns what can be learned."""
        self._held.append(_Held(batch, batch.samples, time.monotonic()))

    @property
    def waiting(self) -> int:
        """Labels that wait for their predictions."""
        return sum(len(held.rows.t) for held in self._held)

    async def settle(self, checkpoints: Checkpointer) -> None:
        """Learn the labels whose predictions are there, and finish the batches without any other."""
        for batch in self.settled():
            await checkpoints.finish_batch(batch)

    async def look_after(self, ending: asyncio.Event, checkpoints: Checkpointer) -> None:
        """Settle labels that wait where no sample comes, until the run ends."""
        while not ending.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(ending.wait(), _SETTLE_EVERY)
            if self._held:
                async with checkpoints.barrier:
                    await self.settle(checkpoints)

    def settled(self) -> list[Batch]:
        """Learn the labels whose predictions are there, or do not come. Return the batches that are done, in order."""
        beyond, now = self.waiting - _MOST_ROWS, time.monotonic()
        for held in self._held:
            if not len(held.rows.t):
                continue
            waits = self._waits(held.rows)
            if now - held.since >= self._wait or beyond > 0:
                waits[:] = False
            beyond -= len(held.rows.t)
            if waits.all():
                continue
            self.learn(_take(held.rows, np.flatnonzero(~waits), held.rows.x))
            held.rows = _take(held.rows, np.flatnonzero(waits), held.rows.x)
        done = []
        while self._held and not len(self._held[0].rows.t):
            done.append(self._held.popleft().batch)
        self.tally.waiting = self.waiting
        return done

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
