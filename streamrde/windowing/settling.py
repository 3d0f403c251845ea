"""From samples in order to complete ones: every value that linear interpolation has to wait for, and gaps.

The reference of the compiled twin in kernels/intake.cpp: the same decisions and the same arithmetic, row by row.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from streamrde.windowing.rows import Column, Layout

Floats = NDArray[np.float64]
Emit = Callable[[Floats, bool], None]
"""Takes a complete sample (time, data, observed flags), (entry,), and whether it begins a segment."""


class Settling:
    """Completes the samples of streams; their rows, and the samples that wait for an observation, are handed in."""

    def __init__(self, layout: Layout) -> None:
        self._partition = layout.partition
        self._layout = layout
        wait = layout.partition.missing.wait_seconds
        self._wait_seconds = math.inf if wait is None else wait

    def settle(self, row: Floats, pending: list[Floats], t: float, x: Floats, emit: Emit) -> None:
        """Take a sample whose turn has come: find its values, and pass on what is complete."""
        partition, layout, channels = self._partition, self._layout, len(x)
        ordered = row[Column.ORDERED]
        first = not row[Column.STARTED] and ordered == -math.inf
        paused = bool(row[Column.PAUSED])
        breaks = not first and (paused or bool(t - ordered > partition.longest_gap))
        if breaks:
            self.complete(row, pending, emit, all_of_them=True)
        row[Column.ORDERED] = t
        entry = np.zeros(layout.entry)
        entry[0] = t
        data = entry[1 : 1 + channels]
        data[:] = x
        observed = ~np.isnan(x)
        if partition.flags:
            entry[1 + channels :] = observed
        missing = np.flatnonzero(~observed)
        last, seen = row[layout.x], row[layout.seen]
        if breaks and not (partition.resumes if paused else partition.carry):
            seen[:] = 0
            data[missing] = np.array(partition.fills)[missing]
        elif first or breaks or partition.hold:
            data[missing] = last[missing]
        else:
            unseen = missing[seen[missing] == 0]
            data[unseen] = last[unseen]
        if not partition.hold:
            seen[observed] = 1
            if pending or np.isnan(data).any():
                pending.append(entry)
                for channel in np.flatnonzero(observed):
                    self._fill_back(row, pending, int(channel))
                self.complete(row, pending, emit)
                return
        emit(entry, breaks)

    def _fill_back(self, row: Floats, pending: list[Floats], channel: int) -> None:
        """The last pending sample has observed a channel: the samples before it lie on the straight line to it."""
        column = 1 + channel
        place = len(pending) - 1
        while place and math.isnan(pending[place - 1][column]):
            place -= 1
        if place:
            t_a, v_a = pending[place - 1][0], pending[place - 1][column]
        else:
            t_a, v_a = row[Column.LAST], row[self._layout.x][channel]
        t_b, v_b = pending[-1][0], pending[-1][column]
        for entry in pending[place:-1]:
            entry[column] = v_a + (entry[0] - t_a) / (t_b - t_a) * (v_b - v_a)

    def complete(self, row: Floats, pending: list[Floats], emit: Emit, *, all_of_them: bool = False) -> None:
        """Pass on the pending samples that are complete, or have waited for long enough."""
        missing, channels = self._partition.missing, self._partition.channels
        while pending:
            data = pending[0][1 : 1 + channels]
            unknown = np.isnan(data)
            if unknown.any():
                waited = row[Column.ORDERED] - pending[0][0]
                if not (all_of_them or len(pending) > missing.wait_samples or waited > self._wait_seconds):
                    return
                # The channel is taken to have stood still since the last sample on the path.
                data[unknown] = row[self._layout.x][:channels][unknown]
            emit(pending.pop(0), False)
