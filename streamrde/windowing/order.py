"""Order in time within each stream."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamrde.windowing.cutting import Position, edge_tolerance
from streamrde.windowing.policies import Windows


class Disorder(NamedTuple):
    """Rows that cannot be used because their time is not after what came before."""

    late: NDArray[np.bool_]
    """Before a sample of the stream, or before a window edge that time has already passed, (rows,)."""
    duplicate: NDArray[np.bool_]
    """At the very time of the stream's latest sample, (rows,)."""
    bound: NDArray[np.float64]
    """The time each row had to be after, (rows,); -inf where there is none."""


def find_disorder(
    position: Position, stream: NDArray[np.intp], t: NDArray[np.float64], windows: Windows
) -> Disorder | None:
    """The rows that are out of order, or None where all are in order.

    Args:
        position: of the streams 0 to S - 1.
        stream: (rows,), ascending; each of the S streams has at least one row.
        t: times, (rows,), in order of arrival within a stream.
    """
    first = np.searchsorted(stream, np.arange(len(position.t0)))
    before = np.where(position.started, position.last, -np.inf)
    reached = position.t0 + position.cursor
    edge = np.where(position.started, reached - edge_tolerance(windows, position.t0, reached), -np.inf)[stream]
    bound = np.empty_like(t)
    bound[1:] = t[:-1]
    bound[first] = before
    if (t > bound).all() and (t >= edge).all():
        return None
    # A row must be after the latest one before it: a running maximum, stream by stream.
    for s in np.unique(stream[t <= bound]):
        rows = slice(first[s], first[s + 1] if s + 1 < len(first) else len(t))
        bound[rows] = np.maximum.accumulate(np.append(before[s], t[rows]))[:-1]
    duplicate = t == bound
    return Disorder(~duplicate & ((t < bound) | (t < edge)), duplicate, np.maximum(bound, edge))
