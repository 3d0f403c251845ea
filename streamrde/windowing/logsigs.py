"""From runs of pieces to log-signatures of windows: of live streams, and of whole recorded paths."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamrde.errors import OrderError, SampleError, ShapeError
from streamrde.floats import as_floats
from streamrde.kernels import fold, signature_channels
from streamrde.signature.paths import log_coordinates
from streamrde.signature.words import check_size, logsignature_channels
from streamrde.windowing.cutting import Position, Runs, cut
from streamrde.windowing.order import find_disorder
from streamrde.windowing.policies import Interpolation, Windows, check_interpolation

Floats = NDArray[np.float64]


def accumulate(runs: Runs, open_signatures: Floats, depth: int) -> Floats:
    """Fold runs into signatures, and take the log-signatures of the windows that close.

    Args:
        runs: of the streams 0 to S - 1.
        open_signatures: signatures of the streams' open windows, (S, C + ... + C^depth); replaced in place by those of
            the windows that are open afterwards.
    Returns:
        log-signatures of the closed windows in the order of `runs`, (closed, B), words basis.
    """
    channels = runs.increments.shape[1]
    if not len(runs.stream):
        return np.zeros((0, logsignature_channels(channels, depth)))
    signatures = np.zeros((len(runs.stream), open_signatures.shape[1]))
    leads = np.ones(len(runs.stream), dtype=bool)
    leads[1:] = runs.stream[1:] != runs.stream[:-1]
    # A stream's first run continues its open window; every other window's accumulator starts afresh.
    signatures[leads] = open_signatures[runs.stream[leads]]
    fold(signatures, runs.increments, runs.starts, runs.lengths, depth)
    logsigs = log_coordinates(signatures[runs.closes], channels, depth)
    open_signatures[runs.stream[runs.closes]] = 0.0
    open_signatures[runs.stream[~runs.closes]] = signatures[~runs.closes]
    return logsigs


def logsig_windows(
    t: ArrayLike,
    x: ArrayLike,
    depth: int,
    windows: Windows,
    interpolation: Interpolation = "linear",
    *,
    fill: ArrayLike | None = None,
) -> tuple[Floats, Floats]:
    """Log-signatures of the windows of one recorded path.

    The same windows and the same bits as pushing the samples through a Predictor and flushing it: the short last
    window is included, and with hold a jump exactly on the last edge makes a last window of zero length.

    Args:
        t: times in seconds, (L,), strictly ascending, finite. Any origin: unix times lose nothing.
        x: the path, (L, C), used as it is: put time in as channel 0 if you want it. Where channel 0 moves with `t` it
            is taken to be time, which under hold moves before the other channels jump.
        depth: truncation depth, >= 1.
        windows: `Every` or `Count`.
        interpolation: ``"linear"`` or ``"hold"``; NaN (channel not observed) is allowed with hold and keeps the last
            value.
        fill: value of each channel before it is first observed, (C,); needed where the first sample has NaN.
    Returns:
        edges (K+1,), the times between which the windows lie, and log-signatures (K, B) in the words basis, float64.
    Raises:
        ShapeError: t and x do not belong together.
        SampleError: a value or time is infinite, NaN with linear, or NaN in the first sample without `fill`.
        OrderError: a time is not after the one before.
    Reference: Morrill et al. 2021, section 3.1; torchcde.logsig_windows, whose rows are the cumulative sum of these.
    """
    check_interpolation(interpolation)
    times, path = as_floats("t", t), as_floats("x", x)
    if times.ndim != 1 or path.ndim != 2 or len(times) != len(path) or not len(times) or not path.shape[1]:
        raise ShapeError(f"t has shape {times.shape} and x {path.shape}: give t (L,) and x (L, C) with L >= 1, C >= 1")
    check_size(path.shape[1], depth)
    fills = np.full(path.shape[1], np.nan) if fill is None else as_floats("fill", fill)
    if fills.shape != (path.shape[1],):
        raise ShapeError(f"fill has shape {fills.shape}: give one value per channel, ({path.shape[1]},)")
    stream = np.zeros(len(times), dtype=np.intp)
    bad = unusable(np.ones(1, dtype=bool), stream, times, path, interpolation)
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise SampleError(explain_unusable(row, column, times, path), row=row)
    unfilled = np.isnan(path[0]) & np.isnan(fills)
    if unfilled.any():
        channel = int(np.flatnonzero(unfilled)[0])
        raise SampleError(f"x[0, {channel}] is NaN and nothing came before it: give fill, one value per channel")

    elapsed = times - times[0]
    # Half a part in 1e9 of the span: what float32 or unix times lose, and less than any real difference.
    is_time = bool(np.allclose(path[:, 0] - path[0, 0], elapsed, rtol=0.0, atol=1e-9 * max(elapsed[-1], 1e-300)))
    data = path[:, 1:] if is_time else path
    position = start_position(fills[None, 1:] if is_time else fills[None])
    disorder = find_disorder(position, stream, times, windows)
    if disorder is not None:
        row = int(np.flatnonzero(disorder.late | disorder.duplicate)[0])
        raise OrderError(
            f"t[{row}] = {times[row]} is not after t[{row - 1}] = {times[row - 1]}: sort by time and drop repeats",
            row=row, t=float(times[row]), last=float(disorder.bound[row]),
        )  # fmt: skip
    runs, moved, _ = cut(
        position, stream, times, data, windows=windows, interpolation=interpolation, time_channel=is_time
    )
    channels = path.shape[1]
    open_signature = np.zeros((1, signature_channels(channels, depth)))
    logsigs = accumulate(runs, open_signature, depth)
    edges = np.append(times[:1], runs.t_end[runs.closes])
    if moved.filled[0]:
        logsigs = np.concatenate([logsigs, log_coordinates(open_signature, channels, depth)])
        edges = np.append(edges, times[-1])
    return edges, logsigs


def start_position(fills: Floats) -> Position:
    """Position of streams that have no sample yet; `fills` (streams, channels) stand for what is not yet observed."""
    streams = len(fills)
    zeros, none = np.zeros(streams), np.zeros(streams, dtype=np.int64)
    return Position(np.zeros(streams, dtype=bool), zeros, zeros, zeros, none, none, zeros, fills)


def unusable(
    fresh: NDArray[np.bool_], stream: NDArray[np.intp], t: Floats, x: Floats, interpolation: Interpolation
) -> NDArray[np.bool_]:
    """The values that no path can pass through, (rows, 1 + channels), time being column 0.

    Times and values must not be infinite. NaN, not observed, is for hold; a stream's first usable sample may have it
    under linear too, where the fill value stands in.

    Args:
        fresh: whether a stream has no sample yet, for the streams 0 to S - 1.
        stream, t, x: (rows,), (rows,), (rows, channels).
    """
    bad = np.empty((len(t), x.shape[1] + 1), dtype=bool)
    bad[:, 0] = ~np.isfinite(t)
    bad[:, 1:] = np.isinf(x)
    if interpolation == "linear":
        usable = np.flatnonzero(~bad.any(axis=1))
        streams, at = np.unique(stream[usable], return_index=True)
        follows = np.ones(len(t), dtype=bool)
        follows[usable[at[fresh[streams]]]] = False
        bad[:, 1:] |= np.isnan(x) & follows[:, None]
    return bad


def explain_unusable(row: int, column: int, t: Floats, x: Floats) -> str:
    """What is wrong with a value that `unusable` found."""
    if column == 0:
        return f"row {row}: its time is {t[row]}; a time must be finite, in seconds"
    value = x[row, column - 1]
    remedy = "a missing value needs interpolation='hold'" if np.isnan(value) else "mend or drop the sample"
    return f"row {row}, channel {column - 1}: its value is {value}; {remedy}"
