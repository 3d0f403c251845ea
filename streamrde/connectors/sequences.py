"""Count the messages that were lost, by the sequence numbers in payloads."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

# Senders whose last number is remembered, and streams whose losses are; names are free to invent for whoever publishes.
_MOST = 100_000
# A number so little below the last one is a message that came again; further below, the sender began to count again.
# Larger than what brokers keep in flight (mosquitto: 20), smaller than the smallest counter that wraps (8 bits).
_REPEATED = 100


class Loss(NamedTuple):
    """Describe the numbers that are missing between two messages."""

    missed: int
    before: int
    """The last number before the gap."""
    after: int
    """The first one behind it."""
    first: bool
    """The stream's first loss."""


class Sequences:
    """Follow the numbers of many senders, in constant memory.

    A sender counts up by one for each message, or each sample of one; samples of one message may also share its number.
    A number above the next one expected is a loss. One a little below the last came again, and one far below it begins
    the count again, as after a restart or where the counter wraps: what was lost just then is not known.
    """

    def __init__(self) -> None:
        self.missed: OrderedDict[str, int] = OrderedDict()
        """Numbers that are missing, by stream."""
        self._last: OrderedDict[bytes, float] = OrderedDict()

    def observe(self, sender: bytes, stream: str, numbers: ArrayLike) -> Loss | None:
        """Follow the numbers of a message, and return the loss before or inside the message, or None.

        Args:
            sender: whose count it is.
            stream: where losses are counted.
            numbers: (n,), in the order of the samples; NaN where a sample has none.
        """
        last, lost, gap = self._last.pop(sender, math.nan), 0, (0, 0)
        for number in np.asarray(numbers, dtype=np.float64).tolist():
            missing = number - last - 1
            if missing >= 1:
                lost += int(missing)
                gap = int(last), int(number)
            # A comparison with NaN is false: after a sample without a number the next one is the first.
            if not -_REPEATED <= missing < -1:
                last = number
        self._last[sender] = last
        if len(self._last) > _MOST:
            self._last.popitem(last=False)
        if not lost:
            return None
        first = stream not in self.missed
        self.missed[stream] = self.missed.pop(stream, 0) + lost
        if len(self.missed) > _MOST:
            self.missed.popitem(last=False)
        return Loss(lost, *gap, first)

    def skip(self, sender: bytes) -> None:
        """Count a message that came and whose number could not be read: it is not lost."""
        if sender in self._last:
            self._last[sender] += 1
