"""Recordings of signals that are sampled evenly, each at a rate of its own, as medical formats hold them.

A recording is a sequence of blocks of one length. A row is an instant at which one signal at least has a sample, so
that nothing is resampled: where a signal has none, it was not observed.
"""

from __future__ import annotations

import datetime
import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from streamrde.arrays import Floats, Ints
from streamrde.connectors.files.formats import Format, Query
from streamrde.connectors.files.places import AnyPath

TIME = "t"
"""Column with the seconds since the recording's start."""
CLOCK = "time"
"""Column with the date and time, where the recording has them."""
# Blocks between two rows at which reading may begin: enough rows for a part of a job.
_START_ROWS = 1 << 18


class Mark(NamedTuple):
    """Annotation of a recording."""

    onset: float
    """Seconds since the recording's start."""
    duration: float | None
    """Seconds; None: it is about an instant."""
    text: str


class Signal(NamedTuple):
    """Describe a signal."""

    name: str
    unit: str
    samples: int
    """Samples in a block."""


class Sampled(Protocol):
    """An open recording."""

    signals: Sequence[Signal]
    blocks: int
    duration: float
    """Length of a block, seconds."""
    start: datetime.datetime | None
    """Date and time of its start, in the zone of who recorded it."""
    marks_in: Sequence[str]
    """Columns of annotations."""

    def onsets(self, first: int, count: int) -> Floats:
        """Return the time at which each block begins, seconds since the start."""

    def samples(self, first: int, count: int, signals: Sequence[int]) -> list[Floats]:
        """Return the samples of signals, in physical units, in a range of blocks."""

    def marks(self, column: str) -> list[Mark]:
        """Return the annotations of a column, in order of onset."""


class SampledFormat(Format):
    """Read recordings block by block, with the signals that a query asks for. Memory holds a batch of blocks."""

    is_sparse = True

    @abstractmethod
    def recording(self, path: AnyPath, *, data: bool) -> AbstractContextManager[Sampled]:
        """Open a recording.

        Args:
            data: samples and annotations will be read; else what its header tells is enough.
        """

    def schema(self, path: AnyPath) -> pa.Schema:
        """Return time, annotations and signals. A signal's field has its unit in its metadata."""
        with self.recording(path, data=False) as own:
            fields = [pa.field(TIME, pa.float64(), metadata={"unit": "s"})]
            if own.start is not None:
                fields.append(pa.field(CLOCK, pa.timestamp("ns")))
            fields += [pa.field(name, pa.string()) for name in own.marks_in]
            fields += [
                pa.field(name, pa.float64(), metadata={"unit": signal.unit})
                for name, signal in zip(_names(own), own.signals, strict=True)
            ]
        return pa.schema(fields)

    def rows(self, path: AnyPath) -> int:
        """See Format."""
        with self.recording(path, data=False) as own:
            return own.blocks * Grid(own).rows

    def starts(self, path: AnyPath) -> Ints:
        """See Format."""
        with self.recording(path, data=False) as own:
            rows = Grid(own).rows
            every = max(1, _START_ROWS // rows) * rows
            return np.arange(0, max(1, own.blocks * rows), every, dtype=np.int64)

    def batches(self, path: AnyPath, query: Query) -> Iterator[tuple[int, pa.RecordBatch]]:
        """See Format."""
        with self.recording(path, data=True) as own:
            grid, names = Grid(own), _names(own)
            wanted = {column: names.index(column) for column in query.columns if column in names}
            marks = {column: own.marks(column) for column in query.columns if column in own.marks_in}
            step = max(1, query.batch_rows // grid.rows)
            first = query.start // grid.rows
            before = grid.times(own.onsets(first - 1, 1), own.duration)[-1] if first else -math.inf
            for block in range(first, own.blocks, step):
                count = min(step, own.blocks - block)
                t = grid.times(own.onsets(block, count), own.duration)
                samples = own.samples(block, count, list(wanted.values()))
                columns: dict[str, pa.Array] = {
                    name: pa.array(grid.spread(values, own.signals[place].samples))
                    for (name, place), values in zip(wanted.items(), samples, strict=True)
                }
                columns |= {name: _texts(t, before, found) for name, found in marks.items()}
                if TIME in query.columns:
                    columns.setdefault(TIME, pa.array(t))
                if CLOCK in query.columns and own.start is not None:
                    columns.setdefault(CLOCK, _clock(own.start, t))
                before = t[-1]
                arrays = [columns[name] for name in query.columns]
                yield block * grid.rows, pa.RecordBatch.from_arrays(arrays, names=list(query.columns))


class Grid:
    """Rows of a block: the union of the times of its signals."""

    def __init__(self, recording: Sampled) -> None:
        counts = sorted({signal.samples for signal in recording.signals if signal.samples > 0}) or [1]
        whole = math.lcm(*counts)
        places = {count: np.arange(count, dtype=np.int64) * (whole // count) for count in counts}
        at = np.unique(np.concatenate(list(places.values())))
        self.rows = len(at)
        self._at = at / whole
        self._places = {count: np.searchsorted(at, own) for count, own in places.items()}

    def times(self, onsets: Floats, duration: float) -> Floats:
        """Return the times of the rows of blocks, seconds."""
        times: Floats = (onsets[:, None] + self._at * duration).ravel()
        return times

    def spread(self, values: Floats, count: int) -> Floats:
        """Return a column with a signal's samples in their rows, NaN elsewhere."""
        samples = values.reshape(-1, count)
        column = np.full((len(samples), self.rows), np.nan)
        column[:, self._places[count]] = samples
        return column.ravel()


def _names(recording: Sampled) -> list[str]:
    """Return the signals' names, each once: the second EEG is EEG#2."""
    seen: Counter[str] = Counter()
    names = []
    for signal in recording.signals:
        seen[signal.name] += 1
        names.append(signal.name if seen[signal.name] == 1 else f"{signal.name}#{seen[signal.name]}")
    return names


def _texts(t: Floats, before: float, marks: Sequence[Mark]) -> pa.Array:
    """Return the annotation of each row.

    Of several that hold, it is the last that began. One about an instant is the next row's.
    """
    texts = np.full(len(t), None, dtype=object)
    for mark in marks:
        if mark.onset > t[-1]:
            break
        first = int(np.searchsorted(t, mark.onset))
        if mark.duration:
            texts[first : int(np.searchsorted(t, mark.onset + mark.duration))] = mark.text
        elif first or mark.onset > before:
            texts[first] = mark.text
    return pa.array(texts, pa.string())


def _clock(start: datetime.datetime, t: Floats) -> pa.Array:
    return pa.array(np.datetime64(start, "ns") + np.round(t * 1e9).astype("timedelta64[ns]"))
