"""From samples in order to complete ones: every value that linear interpolation has to wait for, and gaps.

The reference of the compiled twin in kernels/settling.cpp: the same decisions and the same arithmetic, row by row.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from streamrde.arrays import Floats
from streamrde.windowing.rows import Column, Layout
from streamrde.windowing.walk import keeps_episode, starts_segment

Emit = Callable[[Floats], bool]
"""Function of a complete sample (time, data, observed flags), (entry,). It returns False if the sample has to wait."""


class Settling:
    """Complete the samples of streams. Rows, and samples that wait for an observation, are arguments."""

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
        cut = not first and starts_segment(row, ordered, t, partition)
        if cut:
            self.complete(row, pending, emit, all_of_them=True)
        behind = bool(pending)
        row[Column.ORDERED] = t
        entry = np.zeros(layout.entry)
        entry[0] = t
        data = entry[1 : 1 + channels]
        data[:] = x
        observed = ~np.isnan(x)
        if partition.flags:
            entry[1 + channels :] = observed
        missing = np.flatnonzero(~observed)
        seen = row[layout.seen]
        last = pending[-1][1 : 1 + channels] if behind else row[layout.x]
        if cut and not keeps_episode(row, partition):
            seen[:] = 0
            data[missing] = np.array(partition.fills)[missing]
        elif first or cut or partition.hold:
            data[missing] = last[missing]
        else:
            unseen = missing[seen[missing] == 0]
            data[unseen] = last[unseen]
        if not partition.hold:
            seen[observed] = 1
        if behind or np.isnan(data).any():
            pending.append(entry)
            if not (partition.hold or cut):
                for channel in np.flatnonzero(observed):
                    self._fill_back(row, pending, int(channel))
            self.complete(row, pending, emit)
        elif not emit(entry):
            pending.append(entry)

    def _fill_back(self, row: Floats, pending: list[Floats], channel: int) -> None:
        """Interpolate a channel back to its last observation, after the last pending sample has observed it."""
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
        self._resolve(row, pending, all_of_them)
        while pending and not np.isnan(pending[0][1 : 1 + self._partition.channels]).any():
            if not emit(pending[0]):
                return
            pending.pop(0)

    def _resolve(self, row: Floats, pending: list[Floats], all_of_them: bool) -> None:
        """Find the values of samples that have waited for long enough: their channels have stood still."""
        missing, channels = self._partition.missing, self._partition.channels
        for k, entry in enumerate(pending):
            data = entry[1 : 1 + channels]
            unknown = np.isnan(data)
            if unknown.any():
                waited = row[Column.ORDERED] - entry[0]
                if not (all_of_them or len(pending) - k > missing.wait_samples or waited > self._wait_seconds):
                    return
                before = pending[k - 1][1 : 1 + channels] if k else row[self._layout.x][:channels]
                data[unknown] = before[unknown]
