"""From rows as they come to samples in their turn.

The reference of the compiled twin in kernels/ordering.cpp: the same decisions, row by row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from streamrde.arrays import Floats
from streamrde.kernels.layout import check_numbers
from streamrde.windowing.order import Order
from streamrde.windowing.rows import Column, Layout
from streamrde.windowing.tolerance import edge_tolerance

Settle = Callable[[float, Floats], None]
"""Takes a sample (t, x) whose turn has come."""


class Fault(IntEnum):
    """Name the reason why a row is not used."""

    NONE = 0
    REJECTED = 1
    """A time or value that no path can pass through."""
    LATE = 2
    """Before a sample that was taken, or before a window edge that was closed."""
    DUPLICATE = 3
    """At the time of another sample."""
    RESTARTED = 4
    """Used all the same: so many came late in a row that the stream's time began again with it."""

    @property
    def column(self) -> Column:
        """Return the column of a row that counts it."""
        return (Column.SAMPLES, Column.REJECTED, Column.LATE, Column.DUPLICATE)[self]


check_numbers("Fault", Fault.__members__)


class Verdict(NamedTuple):
    """Say what is wrong with a row."""

    fault: Fault = Fault.NONE
    column: int = 0
    """REJECTED: 0 is the time, then the channels."""
    bound: float = 0.0
    """LATE, DUPLICATE: the time that the row had to be after."""


class Ordering:
    """Put the samples of streams into order. Rows and waiting samples are arguments.

    What waits is a list of samples (time, data, room for flags), each (entry,), in order of time.
    """

    def __init__(self, layout: Layout, order: Order) -> None:
        self.order = order
        self._entry = layout.entry
        self._length = layout.partition.windows.length

    def judge(self, row: Floats, t: float, x: Floats) -> Verdict:
        """Judge a sample (t, x) of the row's stream."""
        if not math.isfinite(t):
            return Verdict(Fault.REJECTED)
        infinite = np.isinf(x)
        if infinite.any():
            return Verdict(Fault.REJECTED, int(infinite.argmax()) + 1)
        ordered, edge = row[Column.ORDERED], -math.inf
        if row[Column.STARTED] and ordered > -math.inf:
            reached = row[Column.T0] + row[Column.CURSOR]
            edge = reached - edge_tolerance(self._length, row[Column.T0], reached)
        bound = float(max(ordered, edge))
        if t == ordered:
            return Verdict(Fault.DUPLICATE, bound=bound)
        return Verdict(Fault.LATE, bound=bound) if t < ordered or t < edge else Verdict()

    def add(self, row: Floats, waiting: list[Floats], t: float, x: Floats, settle: Settle) -> Verdict:
        """Count a sample, let it wait or settle it, and settle those whose turn has come."""
        verdict = self.judge(row, t, x)
        if verdict.fault:
            return verdict
        if not (self.order.holds or waiting):
            row[Column.SAMPLES] += 1
            row[Column.TOP] = max(row[Column.TOP], t)
            settle(t, x)
            return verdict
        place = len(waiting)
        while place and waiting[place - 1][0] > t:
            place -= 1
        if place and waiting[place - 1][0] == t:
            return self._repeat(row, waiting[place - 1], x)
        entry = np.zeros(self._entry)
        entry[0] = t
        entry[1 : 1 + len(x)] = x
        waiting.insert(place, entry)
        row[Column.SAMPLES] += 1
        row[Column.TOP] = max(row[Column.TOP], t)
        self.release(row, waiting, len(x), settle)
        return verdict

    def release(
        self, row: Floats, waiting: list[Floats], channels: int, settle: Settle, now: float = -math.inf
    ) -> None:
        """Settle the samples that are due at time `now`."""
        order = self.order
        watermark = max(row[Column.TOP], now) - order.lateness
        while waiting:
            if order.lateness_samples:
                ready = len(waiting) > order.lateness_samples
            else:
                t = waiting[0][0]
                ready = t < watermark or (t == watermark and not order.strict)
            if not (ready or len(waiting) > order.max_held):
                return
            entry = waiting.pop(0)
            settle(float(entry[0]), entry[1 : 1 + channels])

    def _repeat(self, row: Floats, entry: Floats, x: Floats) -> Verdict:
        """Handle a sample at the time of a waiting one."""
        order, data = self.order, entry[1 : 1 + len(x)]
        new = ~np.isnan(x)
        conflict = not order.merge or bool((new & ~np.isnan(data)).any())
        if conflict and order.duplicates == "error":
            return Verdict(Fault.DUPLICATE, bound=float(entry[0]))
        if order.merge:
            chosen = new if order.duplicates == "last" else new & np.isnan(data)
            data[chosen] = x[chosen]
        elif order.duplicates == "last":
            data[:] = x
        if not conflict:
            row[Column.MERGED] += 1
            return Verdict()
        return Verdict(Fault.DUPLICATE, bound=float(entry[0]))
