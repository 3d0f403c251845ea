"""Labels that came before their predictions: a short, bounded list in each stream's row."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamrde.arrays import Bools, Floats, Indices, Ints

_WINDOW, _TIME, _FIXED = range(3)


class Early(NamedTuple):
    """Labels of distinct streams, in the same place of their lists."""

    slots: Indices
    labels: Floats
    """(n, outputs)"""
    window: Ints
    """(n,), -1 of labels that name a time."""
    t: Floats
    """(n,), NaN of labels that name a window."""


class Held:
    """The columns of the list, from `start` on.

        number | entries

    number: labels that are held, in the first entries, the oldest first. An entry: the window or the time that the
    label names, NaN for the other, and its values.

    Args:
        start: first column.
        capacity: entries.
        outputs: values of a label.
    """

    def __init__(self, start: int, *, capacity: int, outputs: int) -> None:
        self.capacity, self._width = capacity, _FIXED + outputs
        self._number, self._first = start, start + 1
        self.stop = self._first + capacity * self._width
        """The column after the last."""
        self.blank = np.zeros(self.stop - start)
        self.blank[1:] = np.nan

    def number(self, rows: Floats, slots: Indices) -> Ints:
        """Return how many labels streams hold, (n,)."""
        return np.asarray(rows[slots, self._number], dtype=np.int64)

    def repeated(self, rows: Floats, slots: Indices, window: Ints | None, t: Floats | None) -> Bools:
        """Mark the streams that hold a label of this window or time already."""
        column, names = (_TIME, t) if window is None else (_WINDOW, window.astype(np.float64))
        assert names is not None  # noqa: S101 (one of the two is there)
        return np.asarray((self._entries(rows, slots)[:, :, column] == names[:, None]).any(axis=1))

    def add(self, rows: Floats, slots: Indices, labels: Floats, window: Ints | None, t: Floats | None) -> Bools:
        """Hold a label of each of distinct streams. Return which streams gave up their oldest one for it, (n,)."""
        entries, number = self._entries(rows, slots), self.number(rows, slots)
        full = number == self.capacity
        entries[full, :-1] = entries[full, 1:]
        place = np.where(full, number - 1, number)
        every = np.arange(len(slots))
        entries[every, place, _WINDOW] = np.nan if window is None else window
        entries[every, place, _TIME] = np.nan if t is None else t
        entries[every, place, _FIXED:] = labels
        rows[slots, self._first : self.stop] = entries.reshape(len(slots), self.capacity * self._width)
        rows[slots, self._number] = place + 1
        return np.asarray(full)

    def at(self, rows: Floats, slots: Indices, place: int) -> Early:
        """Return the labels in one place of the lists, of the streams that hold so many."""
        slots = slots[self.number(rows, slots) > place]
        own = self._entries(rows, slots)[:, place]
        window = np.where(np.isnan(own[:, _WINDOW]), -1, own[:, _WINDOW]).astype(np.int64)
        return Early(slots, own[:, _FIXED:], window, own[:, _TIME])

    def drop(self, rows: Floats, slots: Indices, gone: Bools) -> None:
        """Take labels from the lists of streams, (n, capacity), and close up the others."""
        entries, number = self._entries(rows, slots), self.number(rows, slots)
        kept = (np.arange(self.capacity) < number[:, None]) & ~gone
        order = np.argsort(~kept, axis=1, kind="stable")
        entries = np.take_along_axis(np.where(kept[:, :, None], entries, np.nan), order[:, :, None], axis=1)
        rows[slots, self._first : self.stop] = entries.reshape(len(slots), self.capacity * self._width)
        rows[slots, self._number] = kept.sum(axis=1)

    def _entries(self, rows: Floats, slots: Indices) -> Floats:
        own = rows[slots, self._first : self.stop]
        return np.asarray(own.reshape(len(slots), self.capacity, self._width))
