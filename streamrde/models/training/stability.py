"""Decide which steps to skip, and when a training has diverged."""

from __future__ import annotations

import math
import statistics

import msgspec

# Number of gradients in the median that others are compared with, and the least number of them.
_RECENT, _FIRST = 100, 20
# With this many steps without a finite gradient, the weights themselves are at fault.
_MOST_IN_A_ROW = 10
ENOUGH = 200
"""Streams whose mean loss is judged where epochs draw some of all: chance then moves it by a tenth or two, and not by
the half or the double that count as divergence."""


class Steps(msgspec.Struct, kw_only=True):
    """Judge steps by the lengths of their gradients."""

    norms: list[float] = msgspec.field(default_factory=list)
    """Lengths of the last finite gradients."""
    in_a_row: int = 0
    """Steps since the last finite gradient."""

    def takes(self, loss: float, norm: float, *, spike: float) -> bool:
        """Return True if a step with this loss and length of the gradient is to be taken.

        It is not if either is not finite, or if `spike` is > 0 and the gradient is more than `spike` times as long as
        the median of the last hundred. Refused gradients count in that median too, so that steps are soon taken again
        if all gradients have become longer.
        """
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self.in_a_row += 1
            return False
        self.in_a_row = 0
        far = spike > 0 and len(self.norms) >= _FIRST and norm > spike * statistics.median(self.norms)
        self.norms = [*self.norms[1 - _RECENT :], norm]
        return not far

    @property
    def lost(self) -> bool:
        """True if there has been no finite gradient for long."""
        return self.in_a_row >= _MOST_IN_A_ROW


class Losses(msgspec.Struct, kw_only=True):
    """Judge epochs by their mean loss."""

    first: float = math.inf
    lowest: float = math.inf
    recent: list[tuple[float, int]] = msgspec.field(default_factory=list)
    """Losses of the last epochs that are judged together, and how many streams each had."""

    def diverged(self, loss: float, *, streams: int = 1, enough: int = 1) -> bool:
        """Return True if an epoch's loss shows that the training has diverged.

        It has if the loss is not finite, or more than twice that of the first epoch, or if it had fallen below half of
        that and more than half of the fall is undone. An epoch of fewer streams than `enough` is judged together with
        the ones before it, as soon as they have as many: other streams alone may have other losses.
        """
        if not math.isfinite(loss):
            self.recent = []
            return True
        self.recent = [*self.recent, (loss, streams)]
        seen = sum(count for _, count in self.recent)
        while seen - self.recent[0][1] >= enough:
            seen -= self.recent.pop(0)[1]
        if seen < enough:
            return False
        loss = sum(own * count for own, count in self.recent) / seen
        if not math.isfinite(self.first):
            self.first = self.lowest = loss
            return False
        # Losses are never negative. A first loss of 0 cannot fall.
        undone = self.lowest < self.first / 2 and loss > (self.first + self.lowest) / 2
        if undone or loss > 2 * self.first:
            self.recent = []
            return True
        self.lowest = min(self.lowest, loss)
        return False
