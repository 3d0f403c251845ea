"""Predictions that wait for their labels: a bounded ring in each stream's row."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np

from streamrde.arrays import Bools, Floats, Indices, Ints


class Outcome(IntEnum):
    """Fate of a label."""

    JOINED = 0
    """It met its prediction."""
    EXPIRED = 1
    """Its prediction no longer waits: too many came after it."""
    DUPLICATE = 2
    """Its prediction has a label already."""
    UNKNOWN = 3
    """There is no such prediction, or not yet, or no such stream."""
    SKIPPED = 4
    """It has no finite number."""


OUTCOMES = ("joined", "expired", "duplicate", "unknown", "nan")
"""The outcomes as users read them."""

_WINDOW, _END, _DUE, _JOINED, _FIXED = range(5)


class Found(NamedTuple):
    """Predictions that labels were joined to, (n,) each."""

    outcome: Ints
    place: Indices
    """Place in the ring. It is of no use unless the outcome is JOINED."""
    window: Ints
    """Number of the window, or -1."""


class Pending:
    """The columns of the ring, from `start` on.

        counts | issued | entries

    counts: labels by outcome, and predictions that never had one. issued: predictions so far. An entry: window, end,
    time that the prediction is for, 1 once it is joined, and the values that are kept of it.

    Args:
        start: first column.
        capacity: entries.
        kept: values of an entry.
        within: most seconds between a label's time and its prediction's.
    """

    def __init__(self, start: int, *, capacity: int, kept: int, within: float) -> None:
        self.capacity, self._entry, self._within = capacity, _FIXED + kept, within
        self._counts = slice(start, start + len(Outcome) + 1)
        self._issued = self._counts.stop
        self._first = self._issued + 1
        self.stop = self._first + capacity * self._entry
        """The column after the last."""
        self.blank = np.zeros(self.stop - start)
        self.blank[len(Outcome) + 2 :: self._entry] = -1.0

    def add(self, rows: Floats, slots: Indices, window: Ints, end: Floats, due: Floats, kept: Floats) -> None:
        """Let predictions of distinct streams wait, each in the place of its stream's oldest."""
        issued = rows[slots, self._issued].astype(np.intp)
        base = self._first + issued % self.capacity * self._entry
        rows[slots, self._counts.stop - 1] += (rows[slots, base + _WINDOW] >= 0) & (rows[slots, base + _JOINED] == 0)
        for column, values in ((_WINDOW, window), (_END, end), (_DUE, due), (_JOINED, 0.0)):
            rows[slots, base + column] = values
        rows[slots[:, None], base[:, None] + np.arange(_FIXED, self._entry)] = kept
        rows[slots, self._issued] += 1

    def find(self, rows: Floats, slots: Indices, window: Ints | None, t: Floats | None) -> Found:
        """Find the predictions that labels belong to, by window or by time. Of two as near, the later one."""
        count = len(slots)
        windows = self._column(rows, slots, _WINDOW)
        waits = windows >= 0
        if window is not None:
            hit = waits & (windows == window[:, None])
            gone = (window >= 0) & (window < windows.max(axis=1, initial=-1.0))
        else:
            due = self._column(rows, slots, _DUE)
            assert t is not None  # noqa: S101 (one of the two is there)
            distance = np.where(waits, np.abs(due - t[:, None]), np.inf)
            nearest = distance.min(axis=1, keepdims=True, initial=np.inf)
            hit = waits & (distance == nearest) & (nearest <= self._within)
            full = rows[slots, self._issued] > self.capacity
            gone = full & (t < np.where(waits, due, np.inf).min(axis=1, initial=np.inf))
        place = np.where(hit, windows, -1.0).argmax(axis=1).astype(np.intp)
        found = hit.any(axis=1)
        joined = self._column(rows, slots, _JOINED)[np.arange(count), place] > 0
        outcome = np.where(gone, int(Outcome.EXPIRED), int(Outcome.UNKNOWN))
        outcome = np.where(found, np.where(joined, int(Outcome.DUPLICATE), int(Outcome.JOINED)), outcome)
        named = windows[np.arange(count), place].astype(np.int64)
        otherwise = np.full(count, -1, dtype=np.int64) if window is None else window
        return Found(outcome.astype(np.int64), place, np.where(found, named, otherwise))

    def take(self, rows: Floats, slots: Indices, place: Indices) -> tuple[Floats, Floats, Floats]:
        """Mark entries as joined. Return their ends, the times that they are for, and what was kept of them."""
        base = self._first + place * self._entry
        rows[slots, base + _JOINED] = 1.0
        kept = rows[slots[:, None], base[:, None] + np.arange(_FIXED, self._entry)]
        return rows[slots, base + _END], rows[slots, base + _DUE], kept

    def count(self, rows: Floats, slots: Indices, outcome: Ints) -> None:
        """Count labels of distinct streams by outcome."""
        rows[slots, self._counts.start + outcome] += 1

    def counts(self, rows: Floats, slots: Indices) -> Ints:
        """Sum over streams of labels by outcome, and of predictions that expired without one, (6,)."""
        return np.asarray(rows[slots, self._counts].sum(axis=0), dtype=np.int64)

    def forget_counts(self, rows: Floats, slots: Indices) -> None:
        """Reset the counts."""
        rows[slots, self._counts] = 0

    def waiting(self, rows: Floats, slots: Indices) -> Bools:
        """Mark the entries that wait, (n, capacity)."""
        return np.asarray((self._column(rows, slots, _WINDOW) >= 0) & (self._column(rows, slots, _JOINED) == 0))

    def _column(self, rows: Floats, slots: Indices, column: int) -> Floats:
        places = self._first + column + np.arange(self.capacity) * self._entry
        return np.asarray(rows[slots[:, None], places])
