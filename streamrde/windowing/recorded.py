"""Windows of whole recordings: the same, bit for bit, as pushing their samples through a table and flushing it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from streamrde.arrays import Bools, Floats, Indices, Structured
from streamrde.kernels import Loop
from streamrde.kernels.outcome import EPISODE, WINDOW
from streamrde.windowing.compiled import compiled_loop
from streamrde.windowing.loop import ReferenceLoop
from streamrde.windowing.order import Order
from streamrde.windowing.ordering import Ordering, Verdict
from streamrde.windowing.partition import Partition
from streamrde.windowing.policies import Count
from streamrde.windowing.rows import Column, Layout


class Windowed(NamedTuple):
    """Hold the windows of one episode: those of a stream, or of its part after a gap."""

    stream: int
    """Place of the stream in what was handed in."""
    first: Floats
    """Value of the path where the state begins, without time, (C - 1,)."""
    start: Floats
    """(K,), seconds, absolute."""
    end: Floats
    logsigs: Floats
    """(K, B), words basis, unscaled."""
    sampled: Bools
    """True for each window in which a sample lies, (K,)."""


def window_recordings(ts: Sequence[Floats], xs: Sequence[Floats], partition: Partition) -> list[Windowed]:
    """Cut recordings into windows, in their order. The short last ones are included.

    Args:
        ts: times of each recording, (L,), L >= 1, strictly ascending, finite.
        xs: its data channels, (L, channels), without infinities; NaN = not observed.
    """
    layout = Layout(partition)
    loop = compiled_loop(Loop, layout, layout.width, Order()) or ReferenceLoop(layout, Order())
    rows, slots = np.tile(layout.blank, (len(ts), 1)), np.arange(len(ts))
    lengths = [len(t) for t in ts]
    pushed = loop.push(rows, np.repeat(slots, lengths), np.concatenate(ts), np.concatenate(xs), True)
    flushed = loop.flush(rows, slots)
    closed = np.concatenate([pushed.windows, flushed.windows], dtype=WINDOW)
    began = np.concatenate([pushed.episodes, flushed.episodes], dtype=EPISODE)
    logsigs = np.concatenate([pushed.logsigs, flushed.logsigs])
    origins = np.concatenate([pushed.origins, flushed.origins])
    # Windows and their episodes, in order of stream and of time.
    order, states = (np.lexsort((part["episode"], part["slot"])) for part in (closed, began))
    stops = np.cumsum(_counts(closed[order], began[states]))
    t_start, t_end, sampled = closed["t_start"], closed["t_end"], closed["sampled"] > 0
    return [
        Windowed(int(slot), origin, t_start[own], t_end[own], logsigs[own], sampled[own])
        for slot, origin, own in zip(began["slot"][states], origins[states], np.split(order, stops[:-1]), strict=True)
    ]


def _counts(windows: Structured, episodes: Structured) -> Indices:
    """Return the number of windows of each episode. Both are in order of stream and episode."""
    most = int(episodes["episode"].max(initial=0)) + 1
    keys = (rows["slot"] * most + rows["episode"] for rows in (episodes, windows))
    return np.bincount(np.searchsorted(*keys), minlength=len(episodes))


class InOrder(NamedTuple):
    """Hold a recording's samples in order of time."""

    t: Floats
    x: Floats
    row: Indices
    """The row of the recording that each sample's time came from."""
    unused: list[tuple[int, Verdict]]
    """Rows that are no part of it, and why."""


def put_in_order(t: Floats, x: Floats, order: Order) -> InOrder:
    """Return the samples of one recording as a stream with this order takes them.

    Args:
        t, x: (L,), (L, channels), in the order in which they came.
    """
    if len(t) and np.isfinite(t).all() and not np.isinf(x).any() and (np.diff(t) > 0).all():
        return InOrder(t, x, np.arange(len(t)), [])
    layout = Layout(Partition((0.0,) * x.shape[1], 1, Count(1), "hold"))
    ordering, row = Ordering(layout, order), layout.blank.copy()
    waiting: list[Floats] = []
    taken: list[tuple[float, Floats]] = []
    unused: list[tuple[int, Verdict]] = []

    def settle(time: float, sample: Floats) -> None:
        row[Column.ORDERED] = time
        taken.append((time, sample.copy()))

    for i, (time, sample) in enumerate(zip(t.tolist(), x, strict=True)):
        verdict = ordering.add(row, waiting, time, sample, settle)
        if verdict.fault:
            unused.append((i, verdict))
    for entry in waiting:
        settle(float(entry[0]), entry[1 : 1 + x.shape[1]])
    times = np.array([time for time, _ in taken])
    # Of rows at one time, the last to come where the last one counts.
    first, last = np.argsort(t, kind="stable"), order.duplicates == "last"
    place = np.searchsorted(t[first], times, side="right" if last else "left") - last
    return InOrder(times, np.array([sample for _, sample in taken]).reshape(-1, x.shape[1]), first[place], unused)
