"""When a step is not taken, and when a training has diverged."""

from __future__ import annotations

import math
import statistics

import msgspec

# Gradients whose median is the yardstick, and how many are seen before there is one.
_RECENT, _FIRST = 100, 20
# So many steps without a finite gradient: the weights themselves are at fault.
_MOST_IN_A_ROW = 10


class Steps(msgspec.Struct, kw_only=True):
    """Judges steps by the lengths of their gradients."""

    norms: list[float] = msgspec.field(default_factory=list)
    """Of the last finite gradients."""
    in_a_row: int = 0
    """Steps since the last finite gradient."""

    def takes(self, loss: float, norm: float, *, spike: float) -> bool:
        """Whether a step with this loss and length of the gradient is taken.

        It is not where either is not finite, or where, `spike` being > 0, the gradient is more than `spike` times as
        long as the median of the last hundred. Refused gradients count in that median too: where all have become
        longer, they are soon taken again.
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
        """Whether no gradient has been finite for long."""
        return self.in_a_row >= _MOST_IN_A_ROW


class Losses(msgspec.Struct, kw_only=True):
    """Judges epochs by their mean loss."""

    first: float = math.inf
    lowest: float = math.inf

    def diverged(self, loss: float) -> bool:
        """Whether an epoch's loss tells that the training has left its way.

        It is not finite, or twice what it was in the first epoch; or the loss had fallen to less than half of that, and
        now more than half of the fall is undone.
        """
        if not math.isfinite(loss):
            return True
        if not math.isfinite(self.first):
            self.first = self.lowest = loss
            return False
        # Losses may be negative nowhere; an epoch that starts at 0 has nothing to lose.
        undone = self.lowest < self.first / 2 and loss > (self.first + self.lowest) / 2
        if undone or loss > 2 * self.first:
            return True
        self.lowest = min(self.lowest, loss)
        return False
