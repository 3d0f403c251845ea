"""Cutting samples at window edges: from the rows of many streams to straight pieces of path, window by window.

Pure functions on arrays. Nothing here knows algebra, clocks or queues: time comes in as an argument, pieces go out.
The arithmetic of a piece depends only on the two samples around it and on its edge, so however a stream is cut into
calls its pieces have the same bits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamrde.arrays import Bools, Floats, Indices, Ints
from streamrde.windowing.edges import edge, edge_time, locate
from streamrde.windowing.policies import Count, Every, Interpolation


class Position(NamedTuple):
    """Where streams stand in time, one entry per stream. Seconds; *rebased* means since the stream's first sample."""

    started: Bools
    """False until the first sample."""
    t0: Floats
    """Time of the first sample."""
    last: Floats
    """Time of the last sample."""
    cursor: Floats
    """Rebased time up to which the path is built: the last sample, or a later edge that `advance` closed."""
    window: Ints
    """Number of the open window, from 0."""
    filled: Ints
    """Increments (Count) or pieces (Every) in the open window; 0 = nothing to flush."""
    start: Floats
    """Time at which the open window begins."""
    x: Floats
    """Last value of each channel, or its fill value before it was observed, (streams, channels)."""


class Runs(NamedTuple):
    """Pieces of path, run by run. A run is what one stream adds to one window; runs are in order of stream, window."""

    increments: Floats
    """(pieces, channels of the path)"""
    starts: Indices
    """First piece of each run, (runs,); the others are per run too."""
    lengths: Indices
    stream: Indices
    window: Ints
    closes: Bools
    """Whether the window closes; at most the last run of each stream stays open."""
    t_start: Floats
    t_end: Floats
    """Meaningless where the window stays open."""
    row: Indices
    """The row of the samples handed in that added the run's last piece."""


class _Spans(NamedTuple):
    """Stretches between two neighbouring samples of a stream, before they are cut at edges."""

    stream: Indices
    row: Indices
    u: tuple[Floats, Floats]
    x: tuple[Floats, Floats]
    window: Ints
    crossed: Ints
    """Edges strictly after the stretch's begin, up to and including its end."""
    moves: Ints
    """Pieces in which time passes."""
    jumps: bool
    """Whether each ends in a piece in which the value jumps and time stands still."""


def cut(
    position: Position,
    stream: Indices,
    t: Floats,
    x: Floats,
    *,
    windows: Every | Count,
    interpolation: Interpolation,
    time_channel: bool = True,
    clocks: int = 0,
) -> tuple[Runs, Position, Floats]:
    """Cut the path through new samples into runs of pieces.

    linear: the path is straight between samples; a piece that crosses edges is divided there. hold: first time moves
    at the old value, divided at edges, then the value jumps; windows are half-open, so a jump exactly on an edge is in
    the window that starts there. A time within rounding of an edge is the edge (see `edge_tolerance`).

    Args:
        position: of the streams 0 to S - 1.
        stream: (rows,), ascending; each of the S streams has at least one row.
        t: times, (rows,), strictly ascending within a stream and after its position.
        x: samples, (rows, channels); NaN takes the channel's last value, or the position's fill value.
        time_channel: put time since the stream's first sample before the channels of x.
        clocks: the last columns of x that are times since an observation: 1 where there is one, else 0.
    Returns:
        the runs, the streams' new position, and the first values of streams that just started, (S, channels).
    """
    streams = len(position.t0)
    first_row = np.searchsorted(stream, np.arange(streams))
    fresh = ~position.started
    t0 = np.where(fresh, t[first_row], position.t0)

    # Nodes: every stream's rows, preceded by one node for where it stood before.
    head = first_row + np.arange(streams)
    node = np.arange(len(t)) + stream + 1
    values = np.empty((len(t) + streams, x.shape[1]))
    values[head], values[node] = position.x, x
    _hold_missing(values, head)
    u = np.empty(len(values))
    u[head] = np.where(fresh, 0.0, position.cursor)
    u[node] = t - t0[stream]

    paired = np.ones(len(t), dtype=bool)
    paired[first_row[fresh]] = False
    row = np.flatnonzero(paired)
    b = node[row]
    a = b - 1
    of = stream[row]
    last = np.append(head[1:], len(values)) - 1
    if isinstance(windows, Every):
        number = np.empty(len(values), dtype=np.int64)
        number[head] = position.window
        number[node], u[node], on_edge = locate(windows, t0[stream], t, u[node])
        crossed = number[b] - number[a]
        moves = crossed + 1 - (on_edge[row] & (crossed > 0))
        window, new_window = number[a], number[last]
    else:
        added = np.bincount(of, minlength=streams)
        rank = np.arange(len(row)) - (np.cumsum(added) - added)[of]
        window = position.window[of] + (position.filled[of] + rank) // windows.n
        new_window = position.window + (position.filled + added) // windows.n
        crossed, moves = np.zeros(len(row), np.int64), np.ones(len(row), np.int64)

    before, after = values[a], values[b]
    if clocks:
        zero = _latest(values[:, -clocks:] > 0, u, head)
        values[:, -clocks:] = u[:, None] - zero
        before, after = values[a], values[b]
        if interpolation == "hold":  # it has grown by the time the value jumps
            before[:, -clocks:] = u[b][:, None] - zero[a]
    spans = _Spans(of, row, (u[a], u[b]), (before, after), window, crossed, moves, interpolation == "hold")
    start = np.where(fresh, t0, position.start)
    runs = _runs(spans, windows, t, t0, start, new_window, time_channel=time_channel, clocks=clocks)
    if isinstance(windows, Every):
        filled = _open_pieces(runs, position.filled, position.window, new_window)
    else:
        filled = (position.filled + added) % windows.n
    moved = Position(
        started=np.ones(streams, dtype=bool),
        t0=t0,
        last=t[np.append(first_row[1:], len(t)) - 1],
        cursor=u[last],
        window=new_window,
        filled=filled,
        start=_open_start(runs, start),
        x=values[last],
    )
    return runs, moved, values[head + 1]


def _hold_missing(values: Floats, head: Indices) -> None:
    """Replace NaN by the channel's last value, in place. Rows `head` begin a stream and have no NaN."""
    missing = np.isnan(values)
    if not missing.any():
        return
    observed = np.where(missing, 0, np.arange(len(values))[:, None])
    observed[head] = head[:, None]
    np.maximum.accumulate(observed, axis=0, out=observed)
    values[:] = np.take_along_axis(values, observed, axis=0)


def _latest(observed: Bools, u: Floats, head: Indices) -> Floats:
    """Time of each channel's latest observation at every node, or of the stream's begin, (nodes, channels)."""
    place = np.where(observed, np.arange(len(u))[:, None], 0)
    place[head] = head[:, None]
    np.maximum.accumulate(place, axis=0, out=place)
    return np.asarray(u[place])


def _runs(
    spans: _Spans,
    windows: Every | Count,
    t: Floats,
    t0: Floats,
    start: Floats,
    new_window: Ints,
    *,
    time_channel: bool,
    clocks: int,
) -> Runs:
    """Divide the spans at their edges and gather the pieces into runs."""
    per_span = spans.moves + spans.jumps
    span = np.repeat(np.arange(len(per_span)), per_span)
    j = np.arange(len(span)) - np.repeat(np.cumsum(per_span) - per_span, per_span)
    moves = spans.moves[span]
    (u_a, u_b), (x_a, x_b) = spans.u, spans.x
    begin, end = u_a[span], u_b[span]
    number = spans.window[span]
    if isinstance(windows, Every):
        number = number + np.minimum(j, spans.crossed[span])
        later, earlier = np.flatnonzero((j > 0) & (j < moves)), np.flatnonzero(j < moves - 1)
        begin[later] = edge(windows, t0[spans.stream[span[later]]], number[later])
        end[earlier] = edge(windows, t0[spans.stream[span[earlier]]], number[earlier] + 1)
    channels = x_a.shape[1]
    increments = np.zeros((len(span), channels + time_channel))
    data = increments[:, int(time_channel) :]
    if spans.jumps:
        jump = np.flatnonzero(j == moves)
        begin[jump] = end[jump]
        data[jump] = (x_b - x_a)[span[jump]]
        if clocks:
            move = j < moves
            data[move, -clocks:] = (end - begin)[move, None]
    else:
        data[:] = _straight(spans, span, j, begin, end)
    if time_channel:
        increments[:, 0] = end - begin

    of = spans.stream[span]
    change = np.ones(len(span), dtype=bool)
    change[1:] = (of[1:] != of[:-1]) | (number[1:] != number[:-1])
    starts = np.flatnonzero(change)
    stops = np.append(starts[1:], len(span))[: len(starts)]
    stream, window = of[starts], number[starts]
    row = spans.row[span[stops - 1]]
    t_end = edge_time(windows, t0[stream], window + 1) if isinstance(windows, Every) else t[row]
    # A window begins where the stream's window before it ended.
    t_start = np.empty(len(starts))
    t_start[1:] = t_end[:-1]
    leads = np.ones(len(starts), dtype=bool)
    leads[1:] = stream[1:] != stream[:-1]
    t_start[leads] = start[stream[leads]]
    return Runs(increments, starts, stops - starts, stream, window, window < new_window[stream], t_start, t_end, row)


def _straight(spans: _Spans, span: Indices, j: Indices, begin: Floats, end: Floats) -> Floats:
    """Increments of the data channels along straight spans."""
    (u_a, u_b), (x_a, x_b) = spans.u, spans.x
    inside = np.flatnonzero(j < spans.moves[span] - 1)
    of = span[inside]
    fraction = ((end[inside] - u_a[of]) / (u_b[of] - u_a[of]))[:, None]
    at_edge = x_a[of] + fraction * (x_b[of] - x_a[of])
    left, right = x_a[span], x_b[span]
    right[inside] = at_edge
    left[inside + 1] = at_edge  # a piece that ends at an edge inside a span is followed by another of the same span
    return right - left


def _open_pieces(runs: Runs, filled: Ints, window: Ints, new_window: Ints) -> Ints:
    """Pieces in each stream's open window."""
    count = np.where(window == new_window, filled, 0)
    still_open = ~runs.closes
    count[runs.stream[still_open]] += runs.lengths[still_open]
    return count


def _open_start(runs: Runs, start: Floats) -> Floats:
    """Time at which each stream's open window begins."""
    start = start.copy()
    # In order of window, so the last assignment to a stream is that of its latest run.
    start[runs.stream] = np.where(runs.closes, runs.t_end, runs.t_start)
    return start


def start_position(fills: Floats) -> Position:
    """Position of streams that have no sample yet; `fills` (streams, channels) stand for what is not yet observed."""
    streams = len(fills)
    zeros, none = np.zeros(streams), np.zeros(streams, dtype=np.int64)
    return Position(np.zeros(streams, dtype=bool), zeros, zeros, zeros, none, none, zeros, fills)
