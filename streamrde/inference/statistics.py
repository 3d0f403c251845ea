"""Statistics of the training streams: their rate, times, silences and values, stored with the model.

Serving compares live streams with them: a unit of time that cannot be right, a silence longer than any of training, a
value far outside of its channel's range. They change no prediction of the model.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from streamrde.arrays import Floats, Indices
from streamrde.windowing.partition import BRIDGE, MAX_WINDOWS, Partition
from streamrde.windowing.policies import Windows
from streamrde.windowing.recorded import window_recordings
from streamrde.windowing.tokens import Token

_STREAMS = 200
"""Streams whose windows are counted. If there are more, evenly spaced ones are counted: quantiles need no more."""
_QUANTILES = (0.01, 0.5, 0.99)
_USUAL = 0.999
"""Share of the silences that a model bridges: a wrong time among a thousand must not make it bridge years."""


class StreamStatistics(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Describe the streams of training. Times are in seconds, values in the units of the channels."""

    samples_per_window: tuple[float, float, float]
    """Samples in a window that has any: the quantiles 0.01, 0.5 and 0.99."""
    interval: float
    """Median time between two samples of a stream. It is 0 if no stream has two."""
    longest_silence: float
    """Longest time between two samples of a stream."""
    first: float
    """Earliest time of a sample."""
    last: float
    """Latest time of a sample."""
    low: tuple[float, ...]
    """Smallest value of each data channel. If the channel was never observed, it is the fill value."""
    high: tuple[float, ...]
    """Largest value of each data channel."""
    longest_missing: tuple[int, ...] = ()
    """Longest run of a stream's samples without the channel, between its first and its last. Empty if not known."""
    unseen: tuple[float, ...] = ()
    """Share of the streams in which the channel was never observed. Empty if not known."""


def bridge_of(ts: Sequence[Floats], windows: Windows) -> int:
    """Return how many windows a model of these recordings fills a silence with at most, where it has no gap.

    Twice as many as the silences of training last, but for the longest one in a thousand, which are no longer usual;
    `BRIDGE` at least, `MAX_WINDOWS` at most.

    Args:
        ts: times of each recording, (L,), ascending, seconds.
    """
    length, intervals = windows.length, np.concatenate([np.zeros(1), *(np.diff(t) for t in ts)])
    if not length:
        return BRIDGE
    usual = float(np.quantile(intervals, _USUAL, method="lower"))
    return int(min(max(np.ceil(2 * usual / length), BRIDGE), MAX_WINDOWS))


def stream_statistics(ts: Sequence[Floats], xs: Sequence[Floats], partition: Partition) -> StreamStatistics:
    """Compute the statistics of recordings.

    Args:
        ts: times of each recording, (L,), L >= 1, strictly ascending, seconds.
        xs: its data channels, (L, channels); NaN = not observed.
        partition: how the model makes windows of samples.
    """
    some = slice(None, None, -(-len(ts) // _STREAMS))
    if not partition.windows.needs_logsig:
        partition = partition._replace(depth=1)  # the windows do not depend on it
    partition = partition._replace(token=Token())
    windowed = window_recordings(ts[some], xs[some], partition)
    counts = np.concatenate([np.zeros(0), *(_samples(ts[some][w.stream], w.start, w.end) for w in windowed)])
    counts = counts[counts > 0] if counts.any() else np.ones(1)
    intervals = np.concatenate([np.diff(t) for t in ts])
    observed = np.array([np.isfinite(x).any(axis=0) for x in xs])
    low = np.min([np.min(x, axis=0, initial=np.inf, where=np.isfinite(x)) for x in xs], axis=0)
    high = np.max([np.max(x, axis=0, initial=-np.inf, where=np.isfinite(x)) for x in xs], axis=0)
    seen = observed.any(axis=0)
    return StreamStatistics(
        samples_per_window=tuple(np.quantile(counts, _QUANTILES).tolist()),
        interval=float(np.median(intervals)) if len(intervals) else 0.0,
        longest_silence=float(intervals.max(initial=0.0)),
        first=float(min(t[0] for t in ts)),
        last=float(max(t[-1] for t in ts)),
        low=tuple(np.where(seen, low, partition.fills).tolist()),
        high=tuple(np.where(seen, high, partition.fills).tolist()),
        longest_missing=tuple(np.max([_longest_missing(x) for x in xs], axis=0).tolist()),
        unseen=tuple((1.0 - observed.mean(axis=0)).tolist()),
    )


def _longest_missing(x: Floats) -> Indices:
    """Return the longest run of rows in which a channel was not observed between two observations, (channels,)."""
    longest = np.zeros(x.shape[1], np.intp)
    for channel in np.flatnonzero(np.isnan(x).any(axis=0)):
        between = np.diff(np.flatnonzero(~np.isnan(x[:, channel])))
        longest[channel] = between.max(initial=1) - 1
    return longest


def _samples(t: Floats, start: Floats, end: Floats) -> Indices:
    """Count the samples in each window (start, end]."""
    return np.asarray(np.searchsorted(t, end, side="right") - np.searchsorted(t, start, side="right"))
