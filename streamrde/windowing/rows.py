"""The state of a live stream: one row of float64, in which every column has its place.

    started ... ripe | samples ... merged | x | seen | signature

A row is all there is (but for held samples, where lateness or linear interpolation asks for some): it is what the
compiled loop and its reference work on, and the bytes of it are the stream's snapshot.
"""

from __future__ import annotations

from enum import IntEnum
from functools import cached_property

import numpy as np

from streamrde.arrays import Floats
from streamrde.kernels import signature_channels
from streamrde.kernels.layout import check_numbers
from streamrde.windowing.partition import Partition


class Column(IntEnum):
    """First columns of a stream's row. All are seconds. Times are absolute, except `CURSOR`.

    A segment is what lies between two gaps; the first one begins with the stream.
    """

    STARTED = 0
    """1 once there was a sample, else 0."""
    T0 = 1
    """Time of the segment's first sample."""
    LAST = 2
    """Time of the last sample on the path."""
    CURSOR = 3
    """Time since T0 up to which the path is built: the last sample, or a later edge."""
    WINDOW = 4
    """Number of the open window, from 0 in the stream."""
    FILLED = 5
    """Increments (Count) or pieces of path (else) in the open window; 0 = nothing to flush."""
    START = 6
    """Time at which the open window begins."""
    SEGMENT_WINDOW = 7
    """Number of the segment's first window."""
    EPISODE_WINDOW = 8
    """Number of the window that was open when the model's state was last begun."""
    EPISODE = 9
    """How often it was begun."""
    WINDOW_SAMPLES = 10
    """Samples in the open window, for policies that close by sample and are not Count."""
    ORDERED = 11
    """Time of the latest sample whose turn has come; -inf before the first."""
    TOP = 12
    """Latest time that a sample had; -inf before the first."""
    PAUSED = 13
    """1 where the next sample begins a segment, whatever its time."""
    HELD = 14
    """Samples held beside the row: first those in turn, which wait for a channel's next observation or for the windows
    before them, then those not in turn."""
    PENDING = 15
    """Number of held samples that are in turn."""
    SAMPLES = 16
    LATE = 17
    DUPLICATE = 18
    REJECTED = 19
    MERGED = 20
    REFUSED = 21
    """Rows in a row that were not used, up to the latest."""
    CUTS = 22
    """Silences after which the path was cut."""
    WALKED = 23
    """Time since T0 of the last edge on the way to the first held sample, if walked in part so far (linear). Else 0."""


check_numbers("Column", Column.__members__)

COUNTS = slice(Column.SAMPLES, Column.MERGED + 1)
_FIXED = len(Column)


class Layout:
    """Places in a row.

    Attributes:
        x: value of the path's channels without time, (C - 1,): data, counts, times since T0 of the last observations.
        seen: 1 where a data channel was observed in this segment, (channels,); linear interpolation only.
        signature: of the open window, (C + ... + C^depth,).
        width: columns of a row.
    """

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        channels = partition.path_channels
        self.x = slice(_FIXED, _FIXED + channels - partition.time)
        self.seen = slice(self.x.stop, self.x.stop + partition.channels)
        self.signature = slice(self.seen.stop, self.seen.stop + signature_channels(channels, partition.depth))
        self.width = self.signature.stop

    @cached_property
    def blank(self) -> Floats:
        """The row of a stream that has no sample yet, (width,)."""
        row = np.zeros(self.width)
        row[[Column.ORDERED, Column.TOP]] = -np.inf
        row[_FIXED : _FIXED + self.partition.channels] = self.partition.fills
        return row

    @property
    def entry(self) -> int:
        """Numbers of a held sample: its time, its data, and which channels were observed where the path tells."""
        return 1 + self.partition.channels * (1 + self.partition.flags)
