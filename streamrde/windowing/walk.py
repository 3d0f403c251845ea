"""From complete samples in order to straight pieces of path, window by window, one stream's row at a time.

The reference of the compiled walk in kernels/loop.cpp, and what runs the policies that are not built in. `cutting` does
the same for whole recordings by array operations. A piece depends only on the samples around it and on its edge, so
however a stream is cut into calls its pieces have the same bits.
"""

from __future__ import annotations

import math

import numpy as np

from streamrde.arrays import Floats
from streamrde.errors import ParameterError
from streamrde.windowing.edges import edge, edge_time, edge_tolerance, locate
from streamrde.windowing.folding import Folding
from streamrde.windowing.policies import Count, Every, OpenWindow, window_length
from streamrde.windowing.rows import Column, Layout
from streamrde.windowing.settling import breaks, goes_on


class Budget:
    """The windows that a call may still close because time passes: its own, then those of a store that others share."""

    def __init__(self, own: float = math.inf, shared: float = 0) -> None:
        self.own, self.shared = own, shared

    def take(self) -> bool:
        """Take one window and return True, or return False if none is left."""
        if self.own > 0:
            self.own -= 1
        elif self.shared > 0:
            self.shared -= 1
        else:
            return False
        return True


class Walk:
    """Build paths and note which windows close, which states begin and which streams are cut."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._partition = layout.partition
        self._length = window_length(layout.partition.windows)
        self.folding = Folding(layout)
        self.windows: list[tuple[float, ...]] = []
        """Rows of dtype `WINDOW`. The lists below have the other fields of `Outcome`."""
        self.values: list[Floats] = []
        self.episodes: list[tuple[int, ...]] = []
        self.origins: list[Floats] = []
        self.cuts: list[tuple[int, float]] = []
        self.owing: list[int] = []
        """Streams whose way to a sample ended with the budget."""
        self.budget = Budget()
        self.cause = 0
        """Row of the samples handed in that is the reason for what happens."""

    def take(self, row: Floats, slot: int, entry: Floats) -> bool:
        """Extend a stream's path by a complete sample, or begin it.

        Return False if the budget ends before the sample.
        """
        partition, channels = self._partition, self._partition.channels
        t, data, observed = float(entry[0]), entry[1 : 1 + channels], entry[1 + channels :]
        if not row[Column.STARTED]:
            self._begin(row, slot, t, data, observed, anew=True)
            return True
        reached = True
        if not breaks(row, row[Column.LAST], t, partition):
            reached = self._extend(row, slot, t, data, observed)
        else:
            if partition.holds and not row[Column.PAUSED]:
                reached = self.pass_time(row, slot, row[Column.LAST] + partition.holds)
            if reached:
                self.end(row, slot)
                if not row[Column.PAUSED]:
                    row[Column.CUTS] += 1
                    self.cuts.append((slot, t - float(row[Column.LAST])))
                self._begin(row, slot, t, data, observed, anew=not goes_on(row, partition))
        if not reached:
            self.owing.append(slot)
        return reached

    def pass_time(self, row: Floats, slot: int, t: float) -> bool:
        """Close the windows whose edges time t has reached although no sample came (hold only).

        Path is built up to the last edge and no further, so the pieces do not depend on how often time is told. False
        where the budget ends before that.
        """
        if not self._partition.hold or not row[Column.STARTED] or row[Column.PAUSED]:
            return True
        if t - row[Column.LAST] > self._partition.longest_gap:
            t = row[Column.LAST] + self._partition.holds
        edges, _, _ = self._edges(row, t, t - row[Column.T0])
        for at in edges:
            if not self.budget.take():
                return False
            self._move(row, slot, at)
            self._close(row, slot, self._edge_time(row, at), row[self._layout.x])
        return True

    def end(self, row: Floats, slot: int) -> None:
        """Close the open window at the last sample; one in which nothing happened is none."""
        if row[Column.FILLED]:
            self._close(row, slot, row[Column.LAST], row[self._layout.x])

    def _begin(self, row: Floats, slot: int, t: float, data: Floats, observed: Floats, *, anew: bool) -> None:
        partition, x = self._partition, row[self._layout.x]
        channels, place = partition.channels, partition.channels
        x[:channels] = data
        if partition.missing.counts:
            counts = x[place : place + channels]
            counts[:] = observed if anew else counts + observed
            place += channels
        if partition.missing.elapsed:
            x[place:] = 0.0
        row[Column.STARTED] = 1
        row[Column.PAUSED] = 0
        row[[Column.T0, Column.LAST, Column.START]] = t
        row[[Column.CURSOR, Column.FILLED, Column.TAKEN]] = 0
        row[Column.FIRST] = row[Column.WINDOW]
        if anew:
            row[Column.BEGUN] = row[Column.WINDOW]
            row[Column.BEGINS] += 1
            self.episodes.append((slot, int(row[Column.BEGINS]), self.cause))
            self.origins.append(self._values(x, 0.0))

    def _extend(self, row: Floats, slot: int, t: float, data: Floats, observed: Floats) -> bool:
        partition, windows, x = self._partition, self._partition.windows, row[self._layout.x]
        edges, u, on_edge = self._edges(row, t, t - row[Column.T0])
        begins_at = row[Column.CURSOR]
        after = x.copy()
        after[: partition.channels] = data
        place = partition.channels
        if partition.missing.counts:
            after[place : place + partition.channels] += observed
            place += partition.channels
        if partition.missing.elapsed:
            after[place:][observed > 0] = u
        moves = len(edges) + (not on_edge)
        if partition.hold:
            for j in range(moves):
                if j < len(edges) and not self.budget.take():
                    return False
                self._move(row, slot, edges[j] if j < len(edges) else u)
                if j < len(edges):
                    self._close(row, slot, self._edge_time(row, edges[j]), x)
            self._fold(row, slot, np.append(0.0, self._values(after, u) - self._values(x, u)))
        else:
            a, b = self._values(x, begins_at), self._values(after, u)
            reached, left = begins_at, a
            if row[Column.WALKED] > 0:
                reached = row[Column.WALKED]
                left = a + (reached - begins_at) / (u - begins_at) * (b - a)
            for j in range(moves):
                if j < len(edges) and not self.budget.take():
                    row[Column.WALKED] = reached
                    return False
                to = u if j == moves - 1 else edges[j]
                right = b if j == moves - 1 else a + (to - begins_at) / (u - begins_at) * (b - a)
                self._fold(row, slot, np.append(to - reached, right - left))
                reached, left = to, right
                if j < len(edges):
                    if j == moves - 1:
                        row[Column.TAKEN] += 1
                    at_end = on_edge and j == moves - 1
                    self._close(row, slot, self._edge_time(row, edges[j]), right, sampled=at_end or self._sampled(row))
            row[Column.WALKED] = 0
        row[Column.LAST] = t
        row[Column.CURSOR] = u
        x[:] = after
        if isinstance(windows, Count):
            row[Column.FILLED] += 1
            if row[Column.FILLED] == windows.n:
                self._close(row, slot, t, x, sampled=True)
        elif not isinstance(windows, Every):
            row[Column.TAKEN] += bool(partition.hold or not on_edge)
            if row[Column.FILLED] and windows.closes(self._open(row)):
                self._close(row, slot, t, x, sampled=True)
        return True

    def _edges(self, row: Floats, t: float, u: float) -> tuple[list[float], float, bool]:
        """Edges that close up to time t = T0 + u, since T0; u snapped to an edge; whether the last edge is u itself."""
        windows, t0 = self._partition.windows, row[Column.T0]
        if isinstance(windows, Count):
            return [], u, False
        if isinstance(windows, Every):
            reached, snapped, near = locate(windows, t0, np.float64(t), np.float64(u))
            index = int(row[Column.WINDOW] - row[Column.FIRST])
            edges = [float(edge(windows, t0, np.int64(k))) for k in range(index + 1, int(reached) + 1)]
            return edges, float(snapped), bool(near and edges)
        edges = []
        window = self._open(row)
        tolerance = float(edge_tolerance(self._length, t0, np.float64(t)))
        while (at := float(windows.edge(window))) - u <= tolerance:
            if not at > window.start:
                raise ParameterError(f"{windows}: edge() gave {at} for the window that begins at {window.start}")
            edges.append(at)
            if abs(u - at) <= tolerance:
                return edges, at, True
            start = float((t0 + at) - t0)  # as it is where the window is the open one
            window = window._replace(number=window.number + 1, start=start, now=at, samples=0)
        if at < math.inf and abs(u - window.start) <= tolerance:
            u = window.start
        return edges, u, False

    def _edge_time(self, row: Floats, at: float) -> float:
        windows = self._partition.windows
        if isinstance(windows, Every):
            return float(edge_time(windows, row[Column.T0], np.int64(row[Column.WINDOW] - row[Column.FIRST] + 1)))
        return float(row[Column.T0] + at)

    def _open(self, row: Floats) -> OpenWindow:
        partition = self._partition
        return OpenWindow(
            number=int(row[Column.WINDOW] - row[Column.FIRST]),
            t0=float(row[Column.T0]),
            start=float(row[Column.START] - row[Column.T0]),
            now=float(row[Column.CURSOR]),
            samples=int(row[Column.TAKEN]),
            x=self._values(row[self._layout.x], row[Column.CURSOR]),
            channels=partition.path_channels,
            depth=partition.depth,
            logsig=lambda: self.folding.logsig(row),
        )

    def _values(self, x: Floats, u: float) -> Floats:
        """The path's channels without time at time u since T0: what is kept of `elapsed` is when it was 0."""
        values = x.copy()
        if self._partition.missing.elapsed:
            values[-self._partition.channels :] = u - values[-self._partition.channels :]
        return values

    def _move(self, row: Floats, slot: int, to: float) -> None:
        """Time passes and the values hold."""
        increment = np.zeros(1 + len(row[self._layout.x]))
        increment[0] = to - row[Column.CURSOR]
        if self._partition.missing.elapsed:
            increment[-self._partition.channels :] = increment[0]
        self._fold(row, slot, increment)
        row[Column.CURSOR] = to

    def _fold(self, row: Floats, slot: int, increment: Floats) -> None:
        """Append a piece, time first."""
        self.folding.append(row, slot, increment if self._partition.time else increment[1:])
        if not isinstance(self._partition.windows, Count):
            row[Column.FILLED] += 1

    def _sampled(self, row: Floats) -> bool:
        """Return whether a sample that is on the path lies in the open window.

        A window ends with a sample on its edge where the path is linear, and begins with it under hold.
        """
        if isinstance(self._partition.windows, Count):
            return True
        start = row[Column.START]
        tolerance = float(edge_tolerance(self._length, row[Column.T0], start))
        return bool(row[Column.LAST] > start + (-tolerance if self._partition.hold else tolerance))

    def _close(self, row: Floats, slot: int, end: float, values: Floats, *, sampled: bool | None = None) -> None:
        """Close the open window, which ends where the path has these values."""
        if sampled is None:
            sampled = self._sampled(row)
        self.folding.close(row, slot)
        window, episode = int(row[Column.WINDOW]), int(row[Column.BEGINS])
        step = window - int(row[Column.BEGUN])
        start = float(row[Column.START])
        self.windows.append((slot, window, episode, step, start, float(end), self.cause, sampled))
        self.values.append(values[: self._partition.channels].copy())
        row[Column.WINDOW] += 1
        row[[Column.FILLED, Column.TAKEN]] = 0
        row[Column.START] = end
