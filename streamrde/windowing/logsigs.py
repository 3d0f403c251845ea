"""Return the log-signatures of the windows of one recorded path."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from streamrde.arrays import Floats
from streamrde.errors import OrderError, ParameterError, SampleError, ShapeError
from streamrde.floats import as_floats, swapped
from streamrde.signature.words import check_room
from streamrde.times import as_times
from streamrde.windowing.missing import Missing
from streamrde.windowing.partition import MAX_WINDOWS, Interpolation, Partition, check_interpolation
from streamrde.windowing.policies import Windows
from streamrde.windowing.recorded import window_recordings
from streamrde.windowing.tokens import Scale, Token, as_scales


def logsig_windows(
    t: ArrayLike,
    x: ArrayLike,
    depth: int,
    windows: Windows,
    interpolation: Interpolation = "linear",
    scales: Sequence[int | tuple[int, int] | Scale] = (1,),
    *,
    fill: ArrayLike | None = None,
    missing: Missing | None = None,
) -> tuple[Floats, Floats]:
    """Return the log-signatures of the windows of one recorded path.

    The windows are the same, bit for bit, as from pushing the samples through a Predictor and flushing it. The short
    last window is included, and with hold a jump exactly on the last edge makes a last window of zero length. A silence
    is always filled with windows, while a model would cut the path after a long one (see `Gap`).

    Args:
        t: times in seconds or as datetime64, (L,), strictly ascending, finite. Any origin: unix times lose nothing.
        x: the path, (L, C), used as it is. Add time as channel 0 if you want it. If channel 0 moves with `t` it counts
            as time, which under hold moves before the other channels jump. It may be rounded to float32. NaN = not
            observed.
        depth: truncation depth, >= 1.
        windows: `Every`, `Count`, `Adaptive`, or a `WindowPolicy` of your own.
        interpolation: ``"linear"`` or ``"hold"``.
        scales: numbers of windows. For each one, a row has the log-signature over so many windows that end with its
            own, or over all there are before that many have passed. Pairs (windows, depth) or `Scale` give a scale a
            depth of its own, at most `depth`.
        fill: value of each channel before its first observation, (C,). Required if the first sample has NaN.
        missing: rules for NaN, and for added channels that mark it, which follow those of x.
    Returns:
        times (K+1,) of the windows' edges, and log-signatures (K, B) in the words basis, float64. B counts those of
        all scales, one after the other.
    Raises:
        ShapeError: t and x do not fit together.
        SampleError: a value or time is infinite, or NaN in the first sample without `fill`.
        OrderError: a time is not after the one before.
    Reference: Morrill et al. 2021, section 3.1; torchcde.logsig_windows, whose rows are the cumulative sum of these.
    """
    check_interpolation(interpolation)
    times, path = as_times("t", t), as_floats("x", x)
    if times.ndim != 1 or path.ndim != 2 or len(times) != len(path) or not len(times) or not path.shape[1]:
        turned = times.ndim == 1 and path.ndim == 2 and path.shape[1] == len(times)
        raise ShapeError(
            f"t has shape {times.shape} and x {path.shape}: give t (L,) and x (L, C) with L >= 1, C >= 1"
            + (f"; {swapped('x', path.shape)}" if turned else "")
        )
    check_room(path.shape[1], depth)
    fills = np.full(path.shape[1], np.nan) if fill is None else as_floats("fill", fill)
    if fills.shape != (path.shape[1],):
        raise ShapeError(f"fill has shape {fills.shape}: give one value per channel, ({path.shape[1]},)")
    _check(times, path, fills)
    is_time = _is_time(times, path[:, 0])
    data = path[:, 1:] if is_time else path
    fills = np.nan_to_num(fills[1:] if is_time else fills)
    partition = Partition(
        tuple(fills.tolist()),
        depth,
        windows,
        interpolation,
        missing or Missing(),
        time=is_time,
        bridge=MAX_WINDOWS,
        token=Token(scales=as_scales(scales)),
    )
    windows.check(partition.path_channels, depth)
    partition.token.check(depth)
    if (jump := np.diff(times, prepend=times[0])).max() > partition.longest_gap:
        raise ParameterError(
            f"t[{jump.argmax()}] comes more than {MAX_WINDOWS} windows after the time before it: make windows longer, "
            "or take the two parts one by one"
        )
    (whole,) = window_recordings([times], [np.ascontiguousarray(data)], partition)
    return np.append(times[:1], whole.end), whole.logsigs


def _is_time(t: Floats, channel: Floats) -> bool:
    """Return whether a channel of the path moves as the times do, up to the rounding of what they are stored in.

    A channel may be time since any origin. It may differ by a part in 1e9 of the span, by the rounding of its own type
    and that of the times as long as this is a small part of the span, or be the very times rounded to its type.
    """
    moved, elapsed = channel - channel[0], t - t[0]
    rounding = sum(2 * _spacing(values) * float(np.abs(values).max()) for values in (t, channel))
    tolerance = max(1e-9 * elapsed[-1], min(rounding, 1e-3 * elapsed[-1]), 1e-300)
    if np.allclose(moved, elapsed, rtol=0.0, atol=tolerance):
        return True
    with np.errstate(over="ignore"):
        rounded = [times.astype(kind) for times in (t, elapsed) for kind in (np.float32, np.float16)]
    return any(np.array_equal(channel, values) for values in rounded)


def _spacing(values: Floats) -> float:
    """Return the relative spacing of the coarsest type of float that holds all the values."""
    for kind in (np.float16, np.float32):
        with np.errstate(over="ignore"):
            if np.array_equal(values.astype(kind), values):
                return float(np.finfo(kind).eps)
    return float(np.finfo(np.float64).eps)


def _check(t: Floats, x: Floats, fills: Floats) -> None:
    """Raise at the first value that no path can pass through."""
    bad = np.concatenate([~np.isfinite(t)[:, None], np.isinf(x)], axis=1)
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise SampleError(explain_unusable(row, column, t, x), row=row)
    unfilled = np.isnan(x[0]) & np.isnan(fills)
    if unfilled.any():
        channel = int(np.flatnonzero(unfilled)[0])
        raise SampleError(f"x[0, {channel}] is NaN and nothing came before it: give fill, one value per channel")
    disorder = np.flatnonzero(np.diff(t) <= 0)
    if len(disorder):
        row = int(disorder[0]) + 1
        raise OrderError(
            f"t[{row}] = {t[row]} is not after t[{row - 1}] = {t[row - 1]}: sort by time and drop repeats",
            row=row, t=float(t[row]), last=float(t[row - 1]),
        )  # fmt: skip


def explain_unusable(row: int, column: int, t: Floats, x: Floats) -> str:
    """Describe the fault of a value that is infinite, or of a time that is not finite. Column 0 is the time."""
    if column == 0:
        return f"row {row}: its time is {t[row]}; a time must be finite, in seconds"
    return f"row {row}, channel {column - 1}: its value is {x[row, column - 1]}; mend or drop the sample"
