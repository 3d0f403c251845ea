"""From complete samples in order to straight pieces of path, window by window, one stream's row at a time.

The reference of the compiled walk in kernels/walk.cpp, and what runs the policies that are not built in. A piece
depends only on the samples around it and on its edge, so its bits do not depend on how a stream is cut into calls.
"""

from __future__ import annotations

import math

import numpy as np

from streamrde.arrays import Floats
from streamrde.kernels import fold, signature_channels
from streamrde.signature.paths import log_coordinates
from streamrde.windowing import pulses, resonators
from streamrde.windowing.aggregation import add_window
from streamrde.windowing.partition import Partition
from streamrde.windowing.policies import OpenWindow
from streamrde.windowing.rows import Column, Layout
from streamrde.windowing.summaries import Sum
from streamrde.windowing.summaries import add_sample as add_to_sums
from streamrde.windowing.summaries import read as read_summaries
from streamrde.windowing.tokens import LEVELS, SUMMARIES
from streamrde.windowing.tolerance import edge_tolerance

_FIRST, _ONE = np.array([0]), np.array([1])


def starts_segment(row: Floats, previous: float, t: float, partition: Partition) -> bool:
    """Return True where a sample at time t begins a segment, the one before it having come at time `previous`."""
    return bool(row[Column.PAUSED]) or bool(t - previous > partition.longest_gap)


def keeps_episode(row: Floats, partition: Partition) -> bool:
    """Return True where the segment that a sample begins keeps the state and the last values."""
    return partition.resumes if row[Column.PAUSED] else partition.carry


class Budget:
    """Count the windows that a call may still close because time passes: its own, then those that others share."""

    def __init__(self, own: float = math.inf, shared: float = 0) -> None:
        self.own, self.shared = own, shared

    def spend(self) -> bool:
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
        self._windows = layout.partition.windows
        self._counter = Column.FILLED if self._windows.by_count else Column.WINDOW_SAMPLES
        """Counts the samples of the open window."""
        token, channels = layout.partition.token, layout.partition.path_channels
        joined = {part.windows: part for part in layout.parts}
        depths = token.depths(layout.partition.depth)
        self._scales = [
            (joined.get(scale.windows) if scale.windows > 1 else None, signature_channels(channels, depth))
            for scale, depth in zip(token.scales, depths, strict=True)
        ]
        """Part that each scale's product stands in, None for the window itself, and the size of its signature."""
        self.signatures: list[list[Floats]] = [[] for _ in layout.partition.token.scales]
        """Signatures that end with the closed windows, of each scale."""
        self.ends: list[Floats] = []
        self.summaries: list[Floats] = []
        self.waves: list[tuple[Floats, Floats]] = []
        self.pulses: list[Floats] = []
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

    def add_sample(self, row: Floats, slot: int, entry: Floats) -> bool:
        """Extend a stream's path by a complete sample, or begin it.

        Return False if the budget ends before the sample.
        """
        partition, channels = self._partition, self._partition.channels
        t, data, observed = float(entry[0]), entry[1 : 1 + channels], entry[1 + channels :]
        if not row[Column.STARTED]:
            self._begin_segment(row, slot, t, data, observed, new_episode=True)
            return True
        reached = True
        if not starts_segment(row, row[Column.LAST], t, partition):
            reached = self._extend(row, slot, t, data, observed)
        else:
            if partition.holds and not row[Column.PAUSED]:
                reached = self.pass_time(row, slot, row[Column.LAST] + partition.holds)
            if reached:
                self.end_segment(row, slot)
                if not row[Column.PAUSED]:
                    row[Column.CUTS] += 1
                    self.cuts.append((slot, t - float(row[Column.LAST])))
                self._begin_segment(row, slot, t, data, observed, new_episode=not keeps_episode(row, partition))
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
        u, most = float(t - row[Column.T0]), self.budget.own + self.budget.shared + 1
        edges, _, _ = self._windows.find_edges(self._open_window(row), float(t), u, most)
        for at in edges:
            if not self.budget.spend():
                return False
            self._move_time(row, slot, at)
            self._close_window(row, slot, self._edge_time(row, at), self._values(row[self._layout.x], at))
        return True

    def end_segment(self, row: Floats, slot: int) -> None:
        """Close the open window at the last sample. A window without any change is dropped."""
        if row[Column.FILLED]:
            values = self._values(row[self._layout.x], row[Column.CURSOR])
            self._close_window(row, slot, row[Column.LAST], values)

    def _begin_segment(
        self, row: Floats, slot: int, t: float, data: Floats, observed: Floats, *, new_episode: bool
    ) -> None:
        partition, x = self._partition, row[self._layout.x]
        channels, place = partition.channels, partition.channels
        x[:channels] = data
        if partition.missing.counts:
            counts = x[place : place + channels]
            counts[:] = observed if new_episode else counts + observed
            place += channels
        if partition.missing.elapsed:
            x[place:] = 0.0
        row[Column.STARTED] = 1
        row[Column.PAUSED] = 0
        row[[Column.T0, Column.LAST, Column.START]] = t
        row[[Column.CURSOR, Column.FILLED, Column.WINDOW_SAMPLES]] = 0
        row[Column.SEGMENT_WINDOW] = row[Column.WINDOW]
        if new_episode:
            row[Column.EPISODE_WINDOW] = row[Column.WINDOW]
            row[Column.EPISODE] += 1
            self.episodes.append((slot, int(row[Column.EPISODE]), self.cause))
            self.origins.append(self._values(x, 0.0))
            row[self._layout.sums.start : self._layout.pulses.stop] = 0.0
        self._summarise(row, t, data, observed)

    def _extend(self, row: Floats, slot: int, t: float, data: Floats, observed: Floats) -> bool:
        partition, x = self._partition, row[self._layout.x]
        edges, u, on_edge = self._windows.find_edges(self._open_window(row), t, float(t - row[Column.T0]))
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
                if j < len(edges) and not self.budget.spend():
                    return False
                self._move_time(row, slot, edges[j] if j < len(edges) else u)
                if j < len(edges):
                    self._close_window(row, slot, self._edge_time(row, edges[j]), self._values(x, edges[j]))
            self._fold(row, slot, np.append(0.0, self._values(after, u) - self._values(x, u)))
        else:
            a, b = self._values(x, begins_at), self._values(after, u)
            reached, left = begins_at, a
            if row[Column.WALKED] > 0:
                reached = row[Column.WALKED]
                left = a + (reached - begins_at) / (u - begins_at) * (b - a)
            for j in range(moves):
                if j < len(edges) and not self.budget.spend():
                    row[Column.WALKED] = reached
                    return False
                to = u if j == moves - 1 else edges[j]
                right = b if j == moves - 1 else a + (to - begins_at) / (u - begins_at) * (b - a)
                self._fold(row, slot, np.append(to - reached, right - left))
                reached, left = to, right
                if on_edge and j == moves - 1:  # the sample belongs to the window that ends with it
                    self._summarise(row, t, data, observed)
                if j < len(edges):
                    sampled = (on_edge and j == moves - 1) or self._has_sample(row)
                    self._close_window(row, slot, self._edge_time(row, edges[j]), right, sampled=sampled)
            row[Column.WALKED] = 0
        if partition.hold or not on_edge:
            self._summarise(row, t, data, observed)
        row[Column.LAST] = t
        row[Column.CURSOR] = u
        x[:] = after
        row[self._counter] += bool(partition.hold or not on_edge)
        if row[Column.FILLED] and self._windows.closes(self._open_window(row)):
            self._close_window(row, slot, t, self._values(x, u), sampled=True)
        return True

    def _edge_time(self, row: Floats, at: float) -> float:
        return self._windows.edge_time(self._open_window(row), at)

    def _open_window(self, row: Floats) -> OpenWindow:
        partition = self._partition
        return OpenWindow(
            number=int(row[Column.WINDOW] - row[Column.SEGMENT_WINDOW]),
            t0=float(row[Column.T0]),
            start=float(row[Column.START] - row[Column.T0]),
            now=float(row[Column.CURSOR]),
            samples=int(row[self._counter]),
            x=self._values(row[self._layout.x], row[Column.CURSOR]),
            channels=partition.path_channels,
            depth=partition.depth,
            logsig=lambda: self._log([row[self._layout.signature]])[0],
        )

    def logsigs(self) -> Floats:
        """Return the tokens of the closed windows, (closed, T)."""
        token, channels = self._partition.token, self._partition.path_channels
        columns = []
        depths = token.depths(self._partition.depth)
        for signatures, (_, size), depth in zip(self.signatures, self._scales, depths, strict=True):
            columns.append(log_coordinates(np.array(signatures).reshape(-1, size), channels, depth))
        closed = len(self.windows)
        if token.ends:
            columns.append(np.array(self.ends).reshape(closed, channels - self._partition.time))
        if token.summaries:
            columns.append(np.array(self.summaries).reshape(closed, self._partition.channels * len(SUMMARIES)))
        if token.bands is not None:
            columns.append(np.array(self.waves).reshape(closed, 2 * self._partition.channels * token.bands.count))
        if token.pulses is not None:
            columns.append(np.array(self.pulses).reshape(closed, LEVELS))
        return np.concatenate(columns, axis=1) if len(columns) > 1 else columns[0]

    def _summarise(self, row: Floats, t: float, data: Floats, observed: Floats) -> None:
        """Take a sample into its channels' summaries, resonators and activities, if the token has them."""
        token = self._partition.token
        if token.summaries:
            add_to_sums(row[self._layout.sums].reshape(-1, len(Sum)), t, data, observed > 0)
        if (bands := token.bands) is not None:
            waves = self._by_channel(row[self._layout.waves])
            resonators.add_sample(
                waves, lambda own, dt, dx: resonators.advance(own, bands, dt, dx), t, data, observed > 0
            )
        if (counted := token.pulses) is not None:
            own_pulses = self._by_channel(row[self._layout.pulses])
            resonators.add_sample(
                own_pulses, lambda own, dt, dx: pulses.advance(own, counted, dt, dx), t, data, observed > 0
            )

    def _by_channel(self, columns: Floats) -> Floats:
        return columns.reshape(self._partition.channels, -1)

    def _note_token(self, row: Floats, signature: Floats, end: float, values: Floats) -> None:
        """Note the parts of the token of a window that ends where the path has these values."""
        layout, token = self._layout, self._partition.token
        number = int(row[Column.WINDOW] - row[Column.SEGMENT_WINDOW])
        rings = row[layout.rings]
        add_window(rings, layout.parts, signature, number, self._partition.path_channels)
        for (part, size), signatures in zip(self._scales, self.signatures, strict=True):
            own = signature if part is None else part.product(rings, number)
            signatures.append(own[:size].copy())
        if token.ends:
            self.ends.append(values.copy())
        if token.summaries:
            self.summaries.append(read_summaries(row[layout.sums].reshape(-1, len(Sum)), end))
        if token.bands is not None:
            self.waves.append(resonators.read(self._by_channel(row[layout.waves]), token.bands))
        if token.pulses is not None:
            self.pulses.append(pulses.read(self._by_channel(row[layout.pulses])))

    def _log(self, signatures: list[Floats]) -> Floats:
        size = self._layout.signature.stop - self._layout.signature.start
        channels, depth = self._partition.path_channels, self._partition.depth
        return log_coordinates(np.array(signatures).reshape(-1, size), channels, depth)

    def _values(self, x: Floats, u: float) -> Floats:
        """Return the path's channels without time at time u since T0. `elapsed` holds the times of the last zeros."""
        values = x.copy()
        if self._partition.missing.elapsed:
            values[-self._partition.channels :] = u - values[-self._partition.channels :]
        return values

    def _move_time(self, row: Floats, slot: int, to: float) -> None:
        """Time passes and the values hold."""
        increment = np.zeros(1 + len(row[self._layout.x]))
        increment[0] = to - row[Column.CURSOR]
        if self._partition.missing.elapsed:
            increment[-self._partition.channels :] = increment[0]
        self._fold(row, slot, increment)
        row[Column.CURSOR] = to

    def _fold(self, row: Floats, slot: int, increment: Floats) -> None:
        """Append a piece, time first."""
        piece = increment if self._partition.time else increment[1:]
        fold(row[None, self._layout.signature], piece[None], _FIRST, _ONE, self._partition.depth)
        if not self._windows.by_count:
            row[Column.FILLED] += 1

    def _has_sample(self, row: Floats) -> bool:
        """Return whether a sample that is on the path lies in the open window.

        A window ends with a sample on its edge where the path is linear, and begins with it under hold.
        """
        if self._windows.by_count:
            return True
        start = row[Column.START]
        tolerance = edge_tolerance(self._windows.length, row[Column.T0], start)
        return bool(row[Column.LAST] > start + (-tolerance if self._partition.hold else tolerance))

    def _close_window(self, row: Floats, slot: int, end: float, values: Floats, *, sampled: bool | None = None) -> None:
        """Close the open window, which ends where the path has these values."""
        if sampled is None:
            sampled = self._has_sample(row)
        signature = row[self._layout.signature]
        self._note_token(row, signature, float(end), values)
        signature[:] = 0.0  # every window's accumulator starts afresh
        window, episode = int(row[Column.WINDOW]), int(row[Column.EPISODE])
        step = window - int(row[Column.EPISODE_WINDOW])
        start = float(row[Column.START])
        self.windows.append((slot, window, episode, step, start, float(end), self.cause, sampled))
        self.values.append(values[: self._partition.channels].copy())
        row[Column.WINDOW] += 1
        row[[Column.FILLED, Column.WINDOW_SAMPLES]] = 0
        row[Column.START] = end
