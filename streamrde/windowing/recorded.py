"""Windows of whole recordings: the same, bit for bit, as pushing their samples through a table and flushing it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from streamrde.arrays import Bools, Floats, Indices, Structured
from streamrde.kernels import Loop, fold, signature_channels
from streamrde.kernels.outcome import Outcome
from streamrde.signature.paths import log_coordinates
from streamrde.signature.words import logsignature_channels
from streamrde.windowing.compiled import compiled_loop
from streamrde.windowing.cutting import Runs, cut, start_position
from streamrde.windowing.edges import edge_time, edge_tolerance, locate
from streamrde.windowing.loop import ReferenceLoop
from streamrde.windowing.order import Order
from streamrde.windowing.ordering import Ordering, Verdict
from streamrde.windowing.policies import Count, Every
from streamrde.windowing.rows import Column, Layout, Partition
from streamrde.windowing.settling import Settling, breaks

Logarithm = Callable[[Runs, int], Floats]
"""Log-signatures of runs, each taken alone, to a depth: (runs, B)."""


class Windowed(NamedTuple):
    """The windows that one state of the model goes through: those of a stream, or of its part after a gap."""

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


def window_recordings(
    ts: Sequence[Floats], xs: Sequence[Floats], partition: Partition, *, logarithm: Logarithm | None = None
) -> list[Windowed]:
    """Windows of recordings, in their order; the short last ones are included.

    Args:
        ts: times of each recording, (L,), L >= 1, strictly ascending, finite.
        xs: its data channels, (L, channels), without infinities; NaN = not observed.
        logarithm: what computes the log-signatures where windows close by time or count alone; None: the kernels.
    """
    if isinstance(partition.windows, Every | Count) and (logarithm or Loop is None or not partition.time):
        return _by_arrays(ts, xs, partition, partition.windows, logarithm or fold_runs)
    return _by_loop(ts, xs, partition)


class InOrder(NamedTuple):
    """A recording's samples in order of time."""

    t: Floats
    x: Floats
    row: Indices
    """The row of the recording that each sample's time came from."""
    unused: list[tuple[int, Verdict]]
    """Rows that are no part of it, and why."""


def put_in_order(t: Floats, x: Floats, order: Order) -> InOrder:
    """The samples of one recording as a stream of that order takes them.

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
        verdict = ordering.take(row, waiting, time, sample, settle)
        if verdict.fault:
            unused.append((i, verdict))
    for entry in waiting:
        settle(float(entry[0]), entry[1 : 1 + x.shape[1]])
    times = np.array([time for time, _ in taken])
    # Of rows at one time, the last to come where the last one counts.
    first, last = np.argsort(t, kind="stable"), order.duplicates == "last"
    place = np.searchsorted(t[first], times, side="right" if last else "left") - last
    return InOrder(times, np.array([sample for _, sample in taken]).reshape(-1, x.shape[1]), first[place], unused)


def fold_runs(runs: Runs, depth: int) -> Floats:
    """Log-signatures of runs by the kernels."""
    channels = runs.increments.shape[1]
    signatures = np.zeros((len(runs.stream), signature_channels(channels, depth)))
    fold(signatures, runs.increments, runs.starts, runs.lengths, depth)
    return log_coordinates(signatures, channels, depth)


def _by_loop(ts: Sequence[Floats], xs: Sequence[Floats], partition: Partition) -> list[Windowed]:
    layout = Layout(partition)
    loop = compiled_loop(Loop, layout, layout.width, Order()) or ReferenceLoop(layout, Order())
    rows, slots = np.tile(layout.blank, (len(ts), 1)), np.arange(len(ts))
    lengths = [len(t) for t in ts]
    pushed = loop.push(rows, np.repeat(slots, lengths), np.concatenate(ts), np.concatenate(xs), True)
    outcome = Outcome(*(np.concatenate(pair) for pair in zip(pushed, loop.flush(rows, slots), strict=True)))
    # Windows and the states that they belong to, in order of stream and of time.
    closed, began = outcome.windows, outcome.episodes
    order, states = (np.lexsort((part["episode"], part["slot"])) for part in (closed, began))
    stops = np.cumsum(_counts(closed[order], began[states]))
    t_start, t_end, sampled = closed["t_start"], closed["t_end"], closed["sampled"] > 0
    return [
        Windowed(int(slot), origin, t_start[own], t_end[own], outcome.logsigs[own], sampled[own])
        for slot, origin, own in zip(
            began["slot"][states], outcome.origins[states], np.split(order, stops[:-1]), strict=True
        )
    ]


def _counts(windows: Structured, episodes: Structured) -> Indices:
    """Return the number of windows of each episode. Both are in order of stream and episode."""
    most = int(episodes["episode"].max(initial=0)) + 1
    keys = (rows["slot"] * most + rows["episode"] for rows in (episodes, windows))
    return np.bincount(np.searchsorted(*keys), minlength=len(episodes))


class _Segment(NamedTuple):
    stream: int
    t: Floats
    x: Floats
    """Data, counts, and 1 where `elapsed` falls to 0."""
    anew: bool
    held: bool = False
    """Whether its last row is no sample but the last edge that is reached before it ends."""


def _by_arrays(
    ts: Sequence[Floats], xs: Sequence[Floats], partition: Partition, windows: Every | Count, logarithm: Logarithm
) -> list[Windowed]:
    segments = [part for i, (t, x) in enumerate(zip(ts, xs, strict=True)) for part in _segments(i, t, x, partition)]
    index = np.repeat(np.arange(len(segments)), [len(part.t) for part in segments])
    clocks = partition.channels if partition.missing.elapsed else 0
    fills = np.zeros(partition.path_channels - partition.time)
    fills[: partition.channels] = partition.fills
    runs, moved, first = cut(
        start_position(np.tile(fills, (len(segments), 1))),
        index,
        np.concatenate([part.t for part in segments]),
        np.concatenate([part.x for part in segments]),
        windows=windows,
        interpolation=partition.interpolation,
        time_channel=partition.time,
        clocks=clocks,
    )
    # A segment's last window is short and still open, if anything is in it.
    kept = runs.closes | (moved.filled[runs.stream] > 0)
    logsigs = (
        logarithm(runs, partition.depth)
        if len(runs.stream)
        else np.zeros((0, logsignature_channels(partition.path_channels, partition.depth)))
    )
    end = np.where(runs.closes, runs.t_end, moved.last[runs.stream])
    windowed: list[Windowed] = []
    bounds = np.searchsorted(runs.stream, np.arange(len(segments) + 1))
    for i, part in enumerate(segments):
        own = np.arange(bounds[i], bounds[i + 1])
        own = own[(runs.closes if part.held else kept)[own]]
        sampled = _sampled(part, runs.t_start[own], end[own], runs.closes[own], partition)
        here = Windowed(part.stream, first[i], runs.t_start[own], end[own], logsigs[own], sampled)
        if part.anew:
            windowed.append(here)
        else:
            before = windowed[-1]
            joined = (np.concatenate(pair) for pair in zip(before[2:], here[2:], strict=True))
            windowed[-1] = Windowed(before.stream, before.first, *joined)
    return windowed


def _sampled(part: _Segment, start: Floats, end: Floats, closes: Bools, partition: Partition) -> Bools:
    """Which windows of a segment a sample lies in, as Walk says it."""
    if not isinstance(partition.windows, Every) or not len(start):
        return np.ones(len(start), dtype=bool)
    t = part.t[: len(part.t) - part.held]
    low, high = (edge_tolerance(partition.windows.seconds, part.t[0], times) for times in (start, end))
    if not partition.hold:
        return np.searchsorted(t, start + low, "right") < np.searchsorted(t, end + high, "right")
    stops = np.where(closes, np.searchsorted(t, end - high), len(t))
    return np.searchsorted(t, start - low) < stops


def _segments(stream: int, t: Floats, x: Floats, partition: Partition) -> list[_Segment]:
    """A recording's segments, with every value that linear interpolation needs."""
    gaps = len(t) > 1 and bool((np.diff(t) > partition.longest_gap).any())
    observed = ~np.isnan(x)
    if not gaps and (partition.hold or observed[1:].all()):
        return [_Segment(stream, t, _extended(x, observed, partition, None), True)]
    layout = Layout(partition)
    settling, row = Settling(layout), layout.blank.copy()
    pending: list[Floats] = []
    taken: list[Floats] = []
    begins: list[int] = []

    def emit(entry: Floats) -> bool:
        if not taken or breaks(row, row[Column.LAST], entry[0], partition):
            begins.append(len(taken))
        row[layout.x][: partition.channels] = entry[1 : 1 + partition.channels]
        row[Column.LAST] = entry[0]
        taken.append(entry.copy())
        return True

    for time, sample in zip(t.tolist(), x, strict=True):
        settling.settle(row, pending, time, sample, emit)
    settling.complete(row, pending, emit, all_of_them=True)
    entries = np.array(taken)
    segments: list[_Segment] = []
    for begin, stop in zip(begins, [*begins[1:], len(entries)], strict=True):
        anew = not segments or not partition.carry
        part = entries[begin:stop]
        data = part[:, 1 : 1 + partition.channels]
        flags = part[:, 1 + partition.channels :] > 0
        counts = None if anew else segments[-1].x[-1, partition.channels : 2 * partition.channels]
        segment = _Segment(stream, part[:, 0], _extended(data, flags, partition, counts), anew)
        segments.append(_hold_on(segment, partition) if stop < len(entries) else segment)
    return segments


def _hold_on(segment: _Segment, partition: Partition) -> _Segment:
    """Let the last value hold where a gap follows, up to the last edge that it reaches."""
    windows = partition.windows
    if not (partition.hold and partition.holds and isinstance(windows, Every)):
        return segment
    t0, last = segment.t[0], segment.t[-1]
    until = last + partition.holds
    inside, _, _ = locate(windows, t0, last, last - t0)
    reached, _, _ = locate(windows, t0, until, until - t0)
    if reached <= inside:
        return segment
    after = segment.x[-1].copy()
    if partition.missing.elapsed:
        after[-partition.channels :] = 0.0
    edge = edge_time(windows, t0, np.int64(reached))
    return segment._replace(t=np.append(segment.t, edge), x=np.vstack([segment.x, after]), held=True)


def _extended(x: Floats, observed: Bools, partition: Partition, counts: Floats | None) -> Floats:
    parts: list[Floats] = [x]
    if partition.missing.counts:
        parts.append(np.cumsum(observed, axis=0, dtype=np.float64) + (0.0 if counts is None else counts))
    if partition.missing.elapsed:
        parts.append(observed.astype(np.float64))
    return np.concatenate(parts, axis=1)
