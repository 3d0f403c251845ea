"""A fleet's work in slices: a bounded number of windows at a time, so that others have their turn in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pyarrow as pa

from streamrde.arrays import Indices
from streamrde.inference.predictor import check_windows
from streamrde.times import as_time
from streamrde.windowing.rows import Column

if TYPE_CHECKING:
    from streamrde.inference.fleet import Fleet

Work: TypeAlias = Callable[[Indices, int, int], pa.RecordBatch]
"""Function of slots, and of how many windows all and each may close. Slots in the table's `owing` have more."""
# Windows that a stream may close in its turn at least: with fewer, turns cost more than windows.
_SHARE = 16


class Slices:
    """Does what a Fleet does to many streams, slice by slice. Between two slices anything may happen to the fleet.

    A slice closes at most `windows` windows, and the last ones of streams that end. The streams take turns, and the
    predictions are the same. Samples that a stream holds for lateness are taken in one go, as they came.

    Args:
        fleet: the streams.
        windows: at least 1.
    """

    def __init__(self, fleet: Fleet, windows: int) -> None:
        self._fleet = fleet
        self._windows = check_windows(windows)

    def advance(self, t: float) -> Iterator[pa.RecordBatch]:
        """Advance all streams, as `Fleet.advance`."""
        return self._of(self._fleet.streams, partial(self._fleet._advance, as_time(t)))

    def evict(self, *, idle: float, now: float | None = None) -> Iterator[pa.RecordBatch]:
        """Evict streams, as `Fleet.evict`."""
        fleet, time = self._fleet, self._fleet.event_time if now is None else as_time(now)

        def end(slots: Indices, windows: int, share: int) -> pa.RecordBatch:
            # Some may have come back since.
            return fleet._end(slots[np.isin(slots, fleet._idle(idle, time))], windows, share, keep=True)

        return self._of(fleet._names(fleet._idle(idle, time)), end)

    def flush(self, streams: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Flush streams, all of them without an argument, as `Fleet.flush`."""
        return self._of(
            self._fleet.streams if streams is None else list(streams), partial(self._fleet._end, keep=False)
        )

    def owed(self) -> Iterator[pa.RecordBatch]:
        """Close the windows that streams owe since a `Fleet.push` with a bound, until none does."""
        while names := list(self._fleet._owing):
            # Few at a time, the first ones first: with more than these some would come away empty.
            yield from self._of(names[: max(1, self._windows // _SHARE)], self._go_on, again=False)

    @property
    def held(self) -> int:
        """Number of samples that wait until their streams have closed all due windows."""
        fleet = self._fleet
        slots = fleet._table.names.live(list(fleet._owing))
        return int(fleet._table.rows[slots, Column.PENDING].sum())

    def _go_on(self, slots: Indices, windows: int, share: int) -> pa.RecordBatch:
        fleet = self._fleet
        closed = fleet._table.go_on(slots, windows, share)
        for name in fleet._names(slots):
            fleet._owing.pop(name, None)
        fleet._owing |= dict.fromkeys(fleet._names(fleet._table.owing))
        fleet._table.changed[slots] = True
        return fleet._batch(closed)

    def _of(self, names: list[str], work: Work, *, again: bool = True) -> Iterator[pa.RecordBatch]:
        fleet = self._fleet
        while names:
            some, names = names[: self._windows], names[self._windows :]
            slots = fleet._table.names.live(some)
            batch = work(slots, self._windows, max(_SHARE, self._windows // max(1, len(slots))))
            if again:
                names += fleet._names(fleet._table.owing)
            yield batch
