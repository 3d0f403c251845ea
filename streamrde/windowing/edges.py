"""Where window edges lie in time, and when a time is one: the arithmetic that every way of cutting shares."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from streamrde.arrays import Bools, Floats, Ints

if TYPE_CHECKING:
    from streamrde.windowing.policies import Every

Times: TypeAlias = Floats | np.float64
Numbers: TypeAlias = Ints | np.int64


def edge_tolerance(length: float, t0: Times, t: Times) -> Floats:
    """How far from an edge a time still is the edge, in seconds.

    Times are float64 and so carry a rounding error of their own: 2e-7 s at unix times. 0.3 / 0.1 must be 3, or
    t = [0, .1, .2, .3] would have four windows of 0.1 (it has, in torchcde 0.2.5).

    Args:
        length: duration of a window, 0 where windows have none.
    """
    return 1e-9 * length + 4 * np.finfo(np.float64).eps * np.maximum(np.abs(t0), np.abs(t))


def edge_time(windows: Every, t0: Times, k: Numbers) -> Floats:
    """Time of edge k, the end of window k - 1, for streams that began at t0."""
    if windows.align == "first":
        return np.asarray(t0 + k * windows.seconds)
    first = np.round((t0 + _anchor(windows, t0)) / windows.seconds)
    return np.asarray((first + k) * windows.seconds)


def edge(windows: Every, t0: Times, k: Numbers) -> Floats:
    """Time of edge k since t0."""
    return np.asarray(_anchor(windows, t0) + k * windows.seconds)


def locate(windows: Every, t0: Times, t: Times, u: Times) -> tuple[Ints, Floats, Bools]:
    """Number of the window a time t = t0 + u falls in, u snapped to an edge it is near to, whether it was."""
    anchor = _anchor(windows, t0)
    where = (u - anchor) / windows.seconds
    nearest = np.round(where)
    at = anchor + nearest * windows.seconds
    near = np.abs(u - at) <= edge_tolerance(windows.seconds, t0, t)
    return np.where(near, nearest, np.floor(where)).astype(np.int64), np.where(near, at, u), near


def _anchor(windows: Every, t0: Times) -> Floats:
    """Time of edge 0 since t0: the latest edge that is not after the first sample."""
    if windows.align == "first":
        return np.zeros_like(t0)
    into = np.mod(t0, windows.seconds)
    tolerance = edge_tolerance(windows.seconds, t0, t0)
    return np.where((windows.seconds - into <= tolerance) | (into <= tolerance), 0.0, -into)
