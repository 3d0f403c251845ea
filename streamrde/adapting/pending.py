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
    """There is no such prediction, or no such stream."""
    SKIPPED = 4
    """It has no finite number."""
    HELD = 5
    """It came before its prediction and waits for it."""


OUTCOMES = ("joined", "expired", "duplicate", "unknown", "nan", "held")
"""The outcomes as users read them."""

_COUNTED = 5
"""Outcomes that are final, and counted."""
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

        counts | issued | window | end | due | joined | kept

    counts: labels by outcome, and predictions that never had one. issued: predictions so far. The others have one entry
    for each prediction that waits: its window, end, the time that it is for, 1 once it is joined, and the values that
    are kept of it.

    Args:
        start: first column.
        capacity: entries.
        kept: values of an entry.
        within: most seconds between a label's time and its prediction's.
    """

    def __init__(self, start: int, *, capacity: int, kept: int, within: float) -> None:
        self.capacity, self._kept, self._within = capacity, kept, within
        self._counts = slice(start, start + _COUNTED + 1)
        self._issued = self._counts.stop
        self._first = self._issued + 1
        self._values = self._first + _FIXED * capacity
        self.stop = self._values + capacity * kept
        """The column after the last."""
        self.blank = np.zeros(self.stop - start)
        window = self._first - start
        self.blank[window : window + capacity] = -1.0

    def add(self, rows: Floats, slots: Indices, window: Ints, end: Floats, due: Floats, kept: Floats) -> None:
        """Let predictions of distinct streams wait, each in the place of its stream's oldest."""
        place = rows[slots, self._issued].astype(np.intp) % self.capacity
        base = self._first + place
        waits = rows[slots, base + _WINDOW * self.capacity] >= 0
        rows[slots, self._counts.stop - 1] += waits & (rows[slots, base + _JOINED * self.capacity] == 0)
        for column, values in ((_WINDOW, window), (_END, end), (_DUE, due), (_JOINED, 0.0)):
            rows[slots, base + column * self.capacity] = values
        rows[slots[:, None], self._kept_at(place)] = kept
        rows[slots, self._issued] += 1

    def find(self, rows: Floats, slots: Indices, window: Ints | None, t: Floats | None) -> Found:
        """Find the predictions that labels belong to, by window or by time. Of two as near, the later one.

        A label whose prediction may yet come is HELD, which the caller sees to.
        """
        count = len(slots)
        windows = self._column(rows, slots, _WINDOW)
        waits = windows >= 0
        if window is not None:
            hit = waits & (windows == window[:, None])
            newest = windows.max(axis=1, initial=-1.0)
            gone, ahead = (window >= 0) & (window < newest), window > newest
        else:
            due = self._column(rows, slots, _DUE)
            assert t is not None  # noqa: S101 (one of the two is there)
            distance = np.where(waits, np.abs(due - t[:, None]), np.inf)
            nearest = distance.min(axis=1, keepdims=True, initial=np.inf)
            hit = waits & (distance == nearest) & (nearest <= self._within)
            full = rows[slots, self._issued] > self.capacity
            gone = full & (t < np.where(waits, due, np.inf).min(axis=1, initial=np.inf))
            ahead = t > np.where(waits, due, -np.inf).max(axis=1, initial=-np.inf)
        place = np.where(hit, windows, -1.0).argmax(axis=1).astype(np.intp)
        found = hit.any(axis=1)
        joined = rows[slots, self._first + _JOINED * self.capacity + place] > 0
        outcome = np.where(gone, int(Outcome.EXPIRED), np.where(ahead, int(Outcome.HELD), int(Outcome.UNKNOWN)))
        outcome = np.where(found, np.where(joined, int(Outcome.DUPLICATE), int(Outcome.JOINED)), outcome)
        named = windows[np.arange(count), place].astype(np.int64)
        otherwise = np.full(count, -1, dtype=np.int64) if window is None else window
        return Found(outcome.astype(np.int64), place, np.where(found, named, otherwise))

    def is_ahead(self, rows: Floats, slots: Indices, window: Ints | None, t: Floats | None) -> Bools:
        """Mark labels whose predictions have not been made yet, by window or by time. Slots may repeat."""
        windows = self._column(rows, slots, _WINDOW)
        if window is not None:
            return np.asarray(window > windows.max(axis=1, initial=-1.0))
        assert t is not None  # noqa: S101 (one of the two is there)
        due = np.where(windows >= 0, self._column(rows, slots, _DUE), -np.inf)
        return np.asarray(t > due.max(axis=1, initial=-np.inf) + self._within)

    def take(self, rows: Floats, slots: Indices, place: Indices) -> tuple[Floats, Floats, Floats]:
        """Mark entries as joined. Return their ends, the times that they are for, and what was kept of them."""
        base = self._first + place
        rows[slots, base + _JOINED * self.capacity] = 1.0
        kept = rows[slots[:, None], self._kept_at(place)]
        return rows[slots, base + _END * self.capacity], rows[slots, base + _DUE * self.capacity], kept

    def count(self, rows: Floats, slots: Indices, outcome: Ints) -> None:
        """Count labels of distinct streams by outcome. Those that are held have none yet."""
        final = outcome != Outcome.HELD
        rows[slots[final], self._counts.start + outcome[final]] += 1

    def counts(self, rows: Floats, slots: Indices) -> Ints:
        """Sum over streams of labels by outcome, and of predictions that expired without one, (6,)."""
        return np.asarray(rows[slots, self._counts].sum(axis=0), dtype=np.int64)

    def waiting(self, rows: Floats, slots: Indices) -> Bools:
        """Mark the entries that wait, (n, capacity)."""
        return np.asarray((self._column(rows, slots, _WINDOW) >= 0) & (self._column(rows, slots, _JOINED) == 0))

    def _column(self, rows: Floats, slots: Indices, column: int) -> Floats:
        first = self._first + column * self.capacity
        return np.asarray(rows[slots, first : first + self.capacity])

    def _kept_at(self, place: Indices) -> Indices:
        """Return the columns of what is kept of entries, (n, kept)."""
        return np.asarray(self._values + place[:, None] * self._kept + np.arange(self._kept))
