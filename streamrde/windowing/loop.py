"""The way of rows through a table of streams: order, missing values, window edges, the windows that close.

`ReferenceLoop` is the specification of the compiled loop in kernels/loop.cpp, what runs where no compiler built it, and
what runs the window policies that are not built in.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import itemgetter
from typing import Any, Literal

import numpy as np

from streamrde.arrays import Floats, Indices
from streamrde.kernels.outcome import CUT, EPISODE, UNUSED, WINDOW, Outcome, Refusal
from streamrde.windowing.order import Order
from streamrde.windowing.ordering import Fault, Ordering, Settle
from streamrde.windowing.rows import Column, Layout
from streamrde.windowing.settling import Settling
from streamrde.windowing.walk import Walk

WINDOWS_OF_A_ROW = 2
"""In a bounded call, each row of samples may close so many windows as time passes and not draw on what all share."""


class Held:
    """Samples that a stream holds, each one (time, data, observed flags), in order of time."""

    __slots__ = ("pending", "waiting")

    def __init__(self) -> None:
        self.pending: list[Floats] = []
        """In turn, waiting for a channel's next observation, or for the windows before them to close."""
        self.waiting: list[Floats] = []
        """Not yet in turn."""


class ReferenceLoop:
    """Carry rows of samples through rows of state.

    How many windows a call closes because time passes can be bounded: `windows`, negative for no bound. A stream that
    is stopped by it keeps its samples beside its row and stands among `owing`; it goes on with `go_on`, or with
    whatever is next called on it, and its windows are the same to the bit.
    """

    def __init__(self, layout: Layout, order: Order, restart_after: int = 0) -> None:
        self._layout = layout
        self._ordering = Ordering(layout, order)
        self._restart_after = restart_after
        self._settling = Settling(layout)
        self._held: dict[int, Held] = {}

    def push(
        self,
        rows: Floats,
        slots: Indices,
        t: Floats,
        x: Floats,
        drop: bool,
        threads: int = 1,
        windows: int = -1,
    ) -> Outcome:
        """Take samples in order of arrival.

        Args:
            rows: the table, (slots, width) or wider; changed in place.
            slots, t, x: (n,), (n,), (n, channels).
            drop: count and skip rows that cannot be used.
            threads: how many the compiled twin may split the streams over; the results are the same.
            windows: what all rows together may close beyond `WINDOWS_OF_A_ROW` each.
        Raises:
            Refusal: a row cannot be used, and `drop` is False. Nothing has changed.
        """
        walk = Walk(self._layout)
        before = None if drop else self._save(rows, slots)
        unused: list[tuple[int, int]] = []
        forgiven = self._ordering.order.duplicates != "error"
        if windows >= 0:
            walk.budget.shared = windows
        for i, (slot, time) in enumerate(zip(slots.tolist(), t.tolist(), strict=True)):
            walk.cause = i
            if windows >= 0:
                walk.budget.own = WINDOWS_OF_A_ROW
            row, held = rows[slot], self._held.setdefault(slot, Held())
            fault, column, bound = self._ordering.add(row, held.waiting, time, x[i], self._onto(walk, row, slot, held))
            self._count(row, held)
            if not fault:
                row[Column.REFUSED] = 0
            else:
                if before is not None and not (fault == Fault.DUPLICATE and forgiven):
                    self._put_back(rows, before)
                    raise Refusal(int(fault), i, column, bound)
                row[Column.REFUSED] += 1
                if 0 < self._restart_after <= row[Column.REFUSED] and fault == Fault.LATE:
                    self._restart(walk, row, slot, held)
                    self._ordering.add(row, held.waiting, time, x[i], self._onto(walk, row, slot, held))
                    self._count(row, held)
                    row[Column.REFUSED], fault = 0, Fault.RESTARTED
                else:
                    row[fault.column] += 1
                unused.append((i, int(fault)))
        return self._outcome(walk, unused)

    def push_one(self, rows: Floats, slot: int, t: Any, x: Any, drop: bool) -> Literal[False] | Outcome | None:
        """Take one sample if this way is faster, which it never is here.

        Returns:
            None if nothing closed or began, and False if the sample was not taken: `push` takes it.
        """
        return False

    def limit(self, low: Floats, high: Floats) -> None:
        """Set bounds, (channels,), outside of which `push_one` leaves values to `push`."""

    def advance(self, rows: Floats, slots: Indices, t: Floats, windows: int = -1, share: int = -1) -> Outcome:
        """Tell streams that time t, (n,), has come: pass on what lateness no longer holds, close what ends by then.

        Args:
            windows, share: how many all of them may close, and each one. It is to be called again for those that owe.
        """
        order = self._ordering.order

        def work(walk: Walk, row: Floats, slot: int, held: Held) -> bool:
            time = float(t[walk.cause])
            if row[Column.TOP] == -np.inf or row[Column.PAUSED]:
                return True
            settle = self._onto(walk, row, slot, held)
            self._ordering.release(row, held.waiting, self._layout.partition.channels, settle, time)
            self._settling.complete(row, held.pending, partial(walk.add_sample, row, slot))
            if self._layout.partition.hold and held.pending:
                return False
            return bool(order.lateness_samples) or walk.pass_time(
                row, slot, max(row[Column.TOP], time) - order.lateness
            )

        return self._share_out(rows, slots, windows, share, work)

    def flush(self, rows: Floats, slots: Indices, windows: int = -1, share: int = -1) -> Outcome:
        """End streams: pass on held samples and close the last windows. Later samples begin a new segment.

        Args:
            windows, share: as of `advance`; those that owe have not ended.
        """
        return self._share_out(rows, slots, windows, share, self._end)

    def go_on(self, rows: Floats, slots: Indices, windows: int = -1, share: int = -1) -> Outcome:
        """Close windows that streams owe.

        Args:
            windows, share: as of `advance`.
        """

        def work(walk: Walk, row: Floats, slot: int, held: Held) -> bool:
            self._settling.complete(row, held.pending, partial(walk.add_sample, row, slot))
            return True

        return self._share_out(rows, slots, windows, share, work)

    def _share_out(
        self, rows: Floats, slots: Indices, windows: int, share: int, work: Callable[[Walk, Floats, int, Held], bool]
    ) -> Outcome:
        """Call `work` on each stream with its share of the windows. The streams for which it returns False owe some."""
        walk = Walk(self._layout)
        left, most = (np.inf if bound < 0 else bound for bound in (windows, share))
        for walk.cause, slot in enumerate(slots.tolist()):
            row, held = rows[slot], self._held.setdefault(slot, Held())
            own = min(left, most)
            walk.budget.own = own
            if not own or not work(walk, row, slot, held):
                walk.owing.append(slot)
            if own < np.inf:
                left -= own - walk.budget.own
            self._count(row, held)
        return self._outcome(walk)

    def _end(self, walk: Walk, row: Floats, slot: int, held: Held) -> bool:
        """End the stream's segment, or return False if it owes windows before that."""
        settle = self._onto(walk, row, slot, held)
        while held.waiting:
            entry = held.waiting.pop(0)
            settle(float(entry[0]), entry[1 : 1 + self._layout.partition.channels])
        self._settling.complete(row, held.pending, partial(walk.add_sample, row, slot), all_of_them=True)
        self._count(row, held)
        if held.pending:
            return False
        if row[Column.STARTED] and not row[Column.PAUSED]:
            walk.end_segment(row, slot)
            row[Column.PAUSED] = 1
        return True

    def _restart(self, walk: Walk, row: Floats, slot: int, held: Held) -> None:
        """End the stream's segment and forget the times it has reached."""
        own, walk.budget.own = walk.budget.own, np.inf  # what it owes belongs to the segment that ends
        self._end(walk, row, slot, held)
        walk.budget.own = own
        row[Column.PAUSED] = 1
        row[[Column.ORDERED, Column.TOP]] = -np.inf

    def pass_time(self, rows: Floats, slots: Indices, t: Floats) -> Outcome:
        """Close windows that end by time t, (n,), regardless of lateness. Held samples stay."""
        walk = Walk(self._layout)
        for walk.cause, (slot, time) in enumerate(zip(slots.tolist(), t.tolist(), strict=True)):
            walk.pass_time(rows[slot], slot, time)
        return self._outcome(walk)

    def close(self, rows: Floats, slots: Indices) -> Outcome:
        """Close the open windows at the ends of their paths. Held samples stay."""
        walk = Walk(self._layout)
        for walk.cause, slot in enumerate(slots.tolist()):
            walk.end_segment(rows[slot], slot)
        return self._outcome(walk)

    def held(self, slot: int) -> Floats:
        """Return the samples that a stream holds, (n, entry), in the form that `hold` takes."""
        held = self._held.get(slot, Held())
        return np.array([*held.pending, *held.waiting]).reshape(-1, self._layout.entry)

    def hold(self, slot: int, entries: Floats, pending: int) -> None:
        """Let a stream hold these samples, the first `pending` of them in turn, instead of its own."""
        held = self._held[slot] = Held()
        held.pending, held.waiting = list(entries[:pending].copy()), list(entries[pending:].copy())

    def _onto(self, walk: Walk, row: Floats, slot: int, held: Held) -> Settle:
        """Return a function that settles a stream's samples and extends its path by them."""
        emit = partial(walk.add_sample, row, slot)
        return lambda t, x: self._settling.settle(row, held.pending, t, x, emit)

    def _count(self, row: Floats, held: Held) -> None:
        row[Column.PENDING] = len(held.pending)
        row[Column.HELD] = len(held.pending) + len(held.waiting)

    def _save(self, rows: Floats, slots: Indices) -> list[tuple[int, Floats, Floats]]:
        return [(slot, rows[slot].copy(), self.held(slot)) for slot in np.unique(slots).tolist()]

    def _put_back(self, rows: Floats, saved: list[tuple[int, Floats, Floats]]) -> None:
        for slot, row, entries in saved:
            rows[slot] = row
            self.hold(slot, entries, int(row[Column.PENDING]))

    def _outcome(self, walk: Walk, unused: list[tuple[int, int]] | None = None) -> Outcome:
        partition = self._layout.partition
        return Outcome(
            np.array(walk.windows, WINDOW),
            walk.logsigs(),
            np.array(walk.values, np.float64).reshape(len(walk.values), partition.channels),
            np.array(walk.episodes, EPISODE),
            np.array(walk.origins, np.float64).reshape(len(walk.origins), partition.path_channels - partition.time),
            np.array(unused or [], UNUSED),
            np.unique(np.array(walk.owing, np.intp)),
            np.array(sorted(walk.cuts, key=itemgetter(0)), CUT),
        )
