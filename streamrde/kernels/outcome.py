"""Define what the loops return: which windows a call closed and which states began, as structured arrays.

The compiled loop has them as C++ structures.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamrde.arrays import Floats, Indices, Structured
from streamrde.kernels.layout import check_fields

WINDOW = np.dtype(
    [
        ("slot", np.intp),  # the stream
        ("window", np.int64),  # number of the window in its stream, from 0
        ("episode", np.int64),  # which of the stream's model states it belongs to, from 1
        ("step", np.int64),  # number of the window in its episode, from 0
        ("t_start", np.float64),  # seconds
        ("t_end", np.float64),
        ("row", np.intp),  # row of samples that closed it, or the place in `slots` of the stream that time closed it in
        ("sampled", np.int64),  # 1 if a sample lies in the window, 0 if the path only passes through it
    ]
)
EPISODE = np.dtype([("slot", np.intp), ("episode", np.int64), ("row", np.intp)])
"""A model state that begins: its stream, its number there (from 1), and the row that began it."""
UNUSED = np.dtype([("row", np.intp), ("fault", np.int64)])
"""A row that was not used, or with which a stream's time began again, and the `Fault`."""
CUT = np.dtype([("slot", np.intp), ("silence", np.float64)])
"""A stream that was cut, and the length of the silence before, seconds."""

for _name, _dtype in (("Window", WINDOW), ("Episode", EPISODE), ("Unused", UNUSED), ("Cut", CUT)):
    check_fields(_name, _dtype)


class Outcome(NamedTuple):
    """Hold the results of one call of a loop. Windows stand in the order in which they closed."""

    windows: Structured
    """Closed windows, (K,), of dtype `WINDOW`."""
    logsigs: Floats
    """Log-signature of each window, words basis, (K, B)."""
    values: Floats
    """Value of the data channels where each window ends, (K, channels)."""
    episodes: Structured
    """Model states that begin, (n,), of dtype `EPISODE`."""
    origins: Floats
    """Value of the path's channels without time where each of them begins, (n, C - 1)."""
    unused: Structured
    """Rows that were not used, of dtype `UNUSED`, in order."""
    owing: Indices
    """Streams that the bound on windows stopped, in order."""
    cuts: Structured
    """Streams that were cut after a silence, of dtype `CUT`, in order of stream."""


class Refusal(Exception):  # noqa: N818 - a loop's answer, never seen outside
    """Name the first row of a push that cannot be used. The push has changed nothing.

    Attributes:
        fault: a `Fault`.
        row: place of the row.
        column: what cannot be used if the row is rejected: 0 for the time, 1 and up for the channels.
        bound: time that the row had to be after, if it is late or a duplicate.
    """

    def __init__(self, fault: int, row: int, column: int, bound: float) -> None:
        super().__init__(fault, row, column, bound)
        self.fault, self.row, self.column, self.bound = fault, row, column, bound
