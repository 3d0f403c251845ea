"""The state of a live stream: one row of float64, in which every column has its place.

    started ... pending | samples ... merged | x | seen | signature | rings | sums | waves | pulses

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
from streamrde.windowing.aggregation import make_parts
from streamrde.windowing.partition import Partition
from streamrde.windowing.pulses import width as pulse_width
from streamrde.windowing.resonators import width as wave_width
from streamrde.windowing.summaries import Sum


class Column(IntEnum):
    """First columns of a stream's row. All are seconds. Times are absolute, except `CURSOR`.

    A segment is a stretch of a stream between two gaps. An episode is the life of one model state: it begins with the
    stream, or with a segment for which the state is reset.
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
    """Pieces of path in the open window, or samples if the policy closes by count. 0 if there is nothing to flush."""
    START = 6
    """Time at which the open window begins."""
    SEGMENT_WINDOW = 7
    """Number of the segment's first window."""
    EPISODE_WINDOW = 8
    """Number of the episode's first window."""
    EPISODE = 9
    """Number of the episode, from 1."""
    WINDOW_SAMPLES = 10
    """Samples in the open window, unless `FILLED` counts them."""
    ORDERED = 11
    """Time of the latest sample in turn. -inf before the first."""
    TOP = 12
    """Latest time of any sample. -inf before the first."""
    PAUSED = 13
    """1 if the next sample begins a segment, whatever its time."""
    HELD = 14
    """Number of samples held beside the row: first the pending ones, then those whose turn has not come."""
    PENDING = 15
    """Held samples in turn, which wait for a channel's next observation or for the windows before them."""
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
        rings: latest products of the windows before, see windowing/aggregation.py. They count from the segment's first
            window on, as the path is cut there.
        sums: of each channel's observations in this episode, see windowing/summaries.py.
        waves: resonators of each channel, see windowing/resonators.py.
        pulses: activities of each channel, see windowing/pulses.py.
        width: columns of a row.
    """

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        channels = partition.path_channels
        self.x = slice(_FIXED, _FIXED + channels - partition.time)
        self.seen = slice(self.x.stop, self.x.stop + partition.channels)
        self.signature = slice(self.seen.stop, self.seen.stop + signature_channels(channels, partition.depth))
        self.parts = make_parts(partition.token.scales, partition.token.depths(partition.depth), channels)
        held = self.parts[-1].place + self.parts[-1].slots * self.parts[-1].size if self.parts else 0
        self.rings = slice(self.signature.stop, self.signature.stop + held)
        summed = partition.channels * len(Sum) if partition.token.summaries else 0
        self.sums = slice(self.rings.stop, self.rings.stop + summed)
        bands, pulses = partition.token.bands, partition.token.pulses
        self.waves = slice(self.sums.stop, self.sums.stop + (partition.channels * wave_width(bands) if bands else 0))
        own = partition.channels * pulse_width(pulses) if pulses else 0
        self.pulses = slice(self.waves.stop, self.waves.stop + own)
        self.width = self.pulses.stop

    @cached_property
    def blank(self) -> Floats:
        """Return the row of a stream that has no sample yet, (width,)."""
        row = np.zeros(self.width)
        row[[Column.ORDERED, Column.TOP]] = -np.inf
        row[_FIXED : _FIXED + self.partition.channels] = self.partition.fills
        return row

    @property
    def entry(self) -> int:
        """Return the size of a held sample: time, data, and flags of observed channels if the path has these."""
        return 1 + self.partition.channels * (1 + self.partition.flags)
