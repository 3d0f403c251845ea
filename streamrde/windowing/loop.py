"""The way of rows through a table of streams: order, missing values, window edges, the windows that close.

`ReferenceLoop` is the specification of the compiled loop in kernels/loop.cpp, what runs where no compiler built it, and
what runs the window policies that are not built in.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamrde.windowing.order import Order
from streamrde.windowing.ordering import Fault, Ordering, Settle
from streamrde.windowing.rows import Column, Layout
from streamrde.windowing.settling import Settling
from streamrde.windowing.walk import Walk

Floats = NDArray[np.float64]
Slots = NDArray[np.intp]


class Taken(NamedTuple):
    """What came of rows, of time that passed, or of streams that ended; windows in the order in which they closed."""

    began: Slots
    """Streams whose state begins, (begun,)."""
    begins: NDArray[np.int64]
    """How often it has begun by then, (begun,)."""
    first: Floats
    """Value of the path's channels without time there, (begun, C - 1)."""
    slot: Slots
    """Streams of the closed windows, (windows,); the others are per window too."""
    window: NDArray[np.int64]
    """Number of the window in its stream."""
    since: NDArray[np.int64]
    """Number of the window since its state began."""
    of: NDArray[np.int64]
    """`begins` of the state that it belongs to."""
    start: Floats
    end: Floats
    logsigs: Floats
    """(windows, B), words basis."""
    row: Slots
    """Row that closed it; the place in `slots` where time or the end did."""
    unused: Slots
    """Rows that were not used, (unused,), and those with which a stream's time began again."""
    fault: NDArray[np.int64]
    """Why, a `Fault` each, (unused,)."""


class Refusal(NamedTuple):
    """The first row that cannot be used; nothing was changed."""

    fault: int
    row: int
    column: int
    bound: float


class Held:
    """Samples that a stream holds, each one (time, data, observed flags), in order of time."""

    __slots__ = ("pending", "waiting")

    def __init__(self) -> None:
        self.pending: list[Floats] = []
        """In turn, waiting for a channel's next observation."""
        self.waiting: list[Floats] = []
        """Not yet in turn."""


class ReferenceLoop:
    """Carries rows of samples through rows of state."""

    def __init__(self, layout: Layout, order: Order, restart_after: int = 0) -> None:
        self._layout = layout
        self._ordering = Ordering(layout, order)
        self._restart_after = restart_after
        self._settling = Settling(layout)
        self._held: dict[int, Held] = {}

    def push(self, rows: Floats, slots: Slots, t: Floats, x: Floats, drop: bool, threads: int = 1) -> Taken | Refusal:
        """Take samples in order of arrival.

        Args:
            rows: the table, (slots, width) or wider; changed in place.
            slots, t, x: (n,), (n,), (n, channels).
            drop: count and skip rows that cannot be used; else the first is returned and nothing changes.
            threads: how many the compiled twin may split the streams over; the results are the same.
        """
        walk = Walk(self._layout)
        before = None if drop else self._save(rows, slots)
        unused: list[tuple[int, int]] = []
        forgiven = self._ordering.order.duplicates != "error"
        for i, (slot, time) in enumerate(zip(slots.tolist(), t.tolist(), strict=True)):
            walk.cause = i
            row, held = rows[slot], self._held.setdefault(slot, Held())
            fault, column, bound = self._ordering.take(row, held.waiting, time, x[i], self._onto(walk, row, slot, held))
            self._count(row, held)
            if not fault:
                row[Column.REFUSED] = 0
            else:
                if before is not None and not (fault == Fault.DUPLICATE and forgiven):
                    self._put_back(rows, before)
                    return Refusal(int(fault), i, column, bound)
                row[Column.REFUSED] += 1
                if 0 < self._restart_after <= row[Column.REFUSED] and fault == Fault.LATE:
                    self._restart(walk, row, slot, held)
                    self._ordering.take(row, held.waiting, time, x[i], self._onto(walk, row, slot, held))
                    self._count(row, held)
                    row[Column.REFUSED], fault = 0, Fault.RESTARTED
                else:
                    row[fault.column] += 1
                unused.append((i, int(fault)))
        return self._taken(walk, unused)

    def advance(self, rows: Floats, slots: Slots, t: Floats) -> Taken:
        """Tell streams that time t, (n,), has come: pass on what lateness no longer holds, close what ends by then."""
        walk, order = Walk(self._layout), self._ordering.order
        for i, (slot, time) in enumerate(zip(slots.tolist(), t.tolist(), strict=True)):
            walk.cause = i
            row, held = rows[slot], self._held.setdefault(slot, Held())
            if row[Column.TOP] == -np.inf or row[Column.PAUSED]:
                continue
            settle = self._onto(walk, row, slot, held)
            self._ordering.release(row, held.waiting, self._layout.partition.channels, settle, time)
            self._count(row, held)
            if not order.lateness_samples:
                walk.pass_time(row, slot, max(row[Column.TOP], time) - order.lateness)
        return self._taken(walk)

    def flush(self, rows: Floats, slots: Slots) -> Taken:
        """The streams ended: pass on what is held, close the last windows. What comes after that begins a segment."""
        walk = Walk(self._layout)
        for i, slot in enumerate(slots.tolist()):
            walk.cause = i
            self._end(walk, rows[slot], slot, self._held.setdefault(slot, Held()))
        return self._taken(walk)

    def _end(self, walk: Walk, row: Floats, slot: int, held: Held) -> None:
        settle = self._onto(walk, row, slot, held)
        while held.waiting:
            entry = held.waiting.pop(0)
            settle(float(entry[0]), entry[1 : 1 + self._layout.partition.channels])
        self._settling.complete(row, held.pending, partial(walk.take, row, slot), all_of_them=True)
        self._count(row, held)
        if row[Column.STARTED] and not row[Column.PAUSED]:
            walk.end(row, slot)
            row[Column.PAUSED] = 1

    def _restart(self, walk: Walk, row: Floats, slot: int, held: Held) -> None:
        """End the stream's segment and forget the times it has reached."""
        self._end(walk, row, slot, held)
        row[Column.PAUSED] = 1
        row[[Column.ORDERED, Column.TOP]] = -np.inf

    def pass_time(self, rows: Floats, slots: Slots, t: Floats) -> Taken:
        """Close what ends by time t, (n,), whatever lateness says; held samples stay where they are."""
        walk = Walk(self._layout)
        for walk.cause, (slot, time) in enumerate(zip(slots.tolist(), t.tolist(), strict=True)):
            walk.pass_time(rows[slot], slot, time)
        return self._taken(walk)

    def close(self, rows: Floats, slots: Slots) -> Taken:
        """Close the open windows where their paths end; held samples stay where they are."""
        walk = Walk(self._layout)
        for walk.cause, slot in enumerate(slots.tolist()):
            walk.end(rows[slot], slot)
        return self._taken(walk)

    def held(self, slot: int) -> Floats:
        """The samples that a stream holds, (n, entry), as `hold` takes them."""
        held = self._held.get(slot, Held())
        return np.array([*held.pending, *held.waiting]).reshape(-1, self._layout.entry)

    def hold(self, slot: int, entries: Floats, ripe: int) -> None:
        """Let a stream hold these samples, the first `ripe` of them in turn, instead of its own."""
        held = self._held[slot] = Held()
        held.pending, held.waiting = list(entries[:ripe].copy()), list(entries[ripe:].copy())

    def _onto(self, walk: Walk, row: Floats, slot: int, held: Held) -> Settle:
        """What settles a stream's samples and extends its path by them."""
        emit = partial(walk.take, row, slot)
        return lambda t, x: self._settling.settle(row, held.pending, t, x, emit)

    def _count(self, row: Floats, held: Held) -> None:
        row[Column.RIPE] = len(held.pending)
        row[Column.HELD] = len(held.pending) + len(held.waiting)

    def _save(self, rows: Floats, slots: Slots) -> list[tuple[int, Floats, Floats]]:
        return [(slot, rows[slot].copy(), self.held(slot)) for slot in np.unique(slots).tolist()]

    def _put_back(self, rows: Floats, saved: list[tuple[int, Floats, Floats]]) -> None:
        for slot, row, entries in saved:
            rows[slot] = row
            self.hold(slot, entries, int(row[Column.RIPE]))

    def _taken(self, walk: Walk, unused: list[tuple[int, int]] | None = None) -> Taken:
        partition = self._layout.partition
        slot, window, since, begins, start, end, row = zip(*walk.closed, strict=True) if walk.closed else ((),) * 7
        began, begin, first = zip(*walk.began, strict=True) if walk.began else ((),) * 3
        rows, faults = zip(*unused, strict=True) if unused else ((), ())
        return Taken(
            np.array(began, np.intp),
            np.array(begin, np.int64),
            np.array(first, np.float64).reshape(-1, partition.path_channels - partition.time),
            np.array(slot, np.intp),
            np.array(window, np.int64),
            np.array(since, np.int64),
            np.array(begins, np.int64),
            np.array(start, np.float64),
            np.array(end, np.float64),
            walk.folding.finish(),
            np.array(row, np.intp),
            np.array(rows, np.intp),
            np.array(faults, np.int64),
        )
