"""Rows as real sensors send them: interleaved, late, repeated, with gaps, infinities and missing values."""

import numpy as np

import streamrde as sr
from streamrde.kernels import Loop
from streamrde.windowing.compiled import compiled_loop
from streamrde.windowing.loop import ReferenceLoop
from streamrde.windowing.order import Order
from streamrde.windowing.partition import Partition
from streamrde.windowing.rows import Column, Layout


class Swing(sr.WindowPolicy, frozen=True, tag="swing"):
    """A user's policy: a window closes when channel 1 of the path has moved so far, or after so many seconds."""

    limit: float
    seconds: float

    @property
    def length(self):
        return self.seconds

    def edge(self, window):
        return window.start + self.seconds

    def closes(self, window):
        return abs(window.logsig()[1]) > self.limit


BUILT_IN = [
    sr.Every(1.0),
    sr.Every(0.7, "epoch"),
    sr.Count(4),
    sr.Adaptive(1.5),
    sr.Adaptive(0.8, min_seconds=0.25, max_seconds=1.0),
]
POLICIES = [*BUILT_IN, Swing(0.5, 2.0)]


def make_partition(windows, interpolation, *, depth=2, channels=2, **rules):
    """A partition of `channels` data channels with fill values."""
    return Partition(tuple(0.25 - 0.5 * i for i in range(channels)), depth, windows, interpolation, **rules)


def make_hostile(seed, length, *, streams=3, channels=2, missing=0.3, shuffled=1.0, faults=0.05, grid=None):
    """Slots, times and samples in order of arrival, with every fault there is."""
    rng = np.random.default_rng(seed)
    slots = rng.integers(0, streams, length)
    t = np.empty(length)
    for slot in range(streams):
        steps = rng.exponential(0.3, (slots == slot).sum())
        steps[rng.random(len(steps)) < faults] += 5.0  # gaps
        t[slots == slot] = 10.0 * slot + steps.cumsum()
    if grid:
        t = np.round(t / grid) * grid  # times that meet
    x = rng.normal(size=(length, channels)).cumsum(axis=0) * 0.3
    x[rng.random(x.shape) < missing] = np.nan
    order = np.argsort(t + 1000.0 * slots * 0 + rng.uniform(0, shuffled, length), kind="stable")
    slots, t, x = slots[order], t[order], x[order]
    repeated = np.flatnonzero(rng.random(length) < faults)
    place = np.minimum(repeated + rng.integers(1, 6, len(repeated)), length)
    slots, t, x = (np.insert(a, place, a[repeated], axis=0) for a in (slots, t, x))
    bad = rng.random(len(t)) < faults
    x[bad, rng.integers(0, channels)] = np.inf
    t[rng.random(len(t)) < faults / 3] = np.nan
    return slots.astype(np.intp), t, x


class Table:
    """Rows and a loop: what a Fleet is made of, without the model."""

    def __init__(self, partition, order=None, *, reference=False, streams=3, restart_after=0):
        self.layout = Layout(partition)
        order = order or Order()
        built = None if reference else compiled_loop(Loop, self.layout, self.layout.width, order, restart_after)
        self.loop = built or ReferenceLoop(self.layout, order, restart_after)
        self.restart_after = restart_after
        self.rows = np.tile(self.layout.blank, (streams, 1))
        self.slots = np.arange(streams)

    def push(self, slots, t, x):
        return self.loop.push(self.rows, slots, t, np.ascontiguousarray(x), True)

    def advance(self, t):
        return self.loop.advance(self.rows, self.slots, np.full(len(self.slots), t))

    def flush(self):
        return self.loop.flush(self.rows, self.slots)

    def state(self):
        return self.rows.tobytes(), [self.loop.held(int(slot)).tobytes() for slot in self.slots]

    def moved(self, partition, order=None):
        """The same streams in another table, from what a snapshot has."""
        reference, again = isinstance(self.loop, ReferenceLoop), self.restart_after
        other = Table(partition, order, reference=reference, streams=len(self.slots), restart_after=again)
        other.rows[:] = self.rows
        for slot in self.slots.tolist():
            other.loop.hold(slot, self.loop.held(slot), int(self.rows[slot, Column.PENDING]))
        return other


def windows_of(outcomes, slot):
    """Windows of one stream, bit for bit."""
    return [
        (window["window"], window["step"], window["t_start"], window["t_end"], logsig.tobytes())
        for outcome in outcomes
        for window, logsig in zip(outcome.windows, outcome.logsigs, strict=True)
        if window["slot"] == slot
    ]


def check_cuts_and_moves(partition):
    """Check that the windows of rows do not depend on their cuts into calls, or on states that move between."""
    slots, t, x = make_hostile(7, 60)
    at_once = Table(partition)
    whole = [at_once.push(slots, t, x), at_once.flush()]
    table, parts = Table(partition), []
    for rows in np.array_split(np.arange(len(t)), 7):
        parts.append(table.push(slots[rows], t[rows], x[rows]))
        table = table.moved(partition)
    parts.append(table.flush())
    assert at_once.state() == table.state()
    for slot in range(3):
        assert windows_of(parts, slot) == windows_of(whole, slot)


def check_reference(partition):
    """Check that the compiled loop and its reference leave the same states and windows."""
    slots, t, x = make_hostile(11, 80)
    tables = [Table(partition), Table(partition, reference=True)]
    closed = [[table.push(slots, t, x), table.flush()] for table in tables]
    assert tables[0].state() == tables[1].state()
    for slot in range(3):
        assert windows_of(closed[0], slot) == windows_of(closed[1], slot)
