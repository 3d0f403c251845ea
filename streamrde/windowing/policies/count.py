"""Windows of equally many samples."""

from __future__ import annotations

from typing import ClassVar

import msgspec
import numpy as np

from streamrde.arrays import Floats
from streamrde.floats import as_size
from streamrde.windowing.policies.policy import OpenWindow, WindowPolicy


class Count(WindowPolicy, frozen=True, tag="count"):
    """Windows of `n` increments each: window k runs from sample k*n to sample (k+1)*n.

    Args:
        n: increments per window, >= 1.
    """

    extent: ClassVar[str] = "n"
    by_count: ClassVar[bool] = True
    needs_logsig: ClassVar[bool] = False

    n: int

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "n", as_size("Count: n", self.n))

    def closes(self, window: OpenWindow) -> bool:
        """Return True at the n-th sample."""
        return window.samples == self.n

    def scaled(self, factor: float) -> Count | None:
        """Return windows of `factor` times as many samples, or None if that is less than one."""
        n = round(self.n * factor)
        return Count(n) if n >= 1 else None

    def explain_too_long(self, seconds: float, samples: int) -> str:
        """Say that a stream of so many samples ends in its first window."""
        if samples > self.n:
            return ""
        return (
            f"windows.n = {self.n:,}, and the longest training stream has {samples:,} samples: no window closes before "
            f"its stream ends; set windows.n = {max(1, samples // 10)}, say"
        )

    def describe(self) -> str:
        """Describe the number of samples."""
        return f"{self.n} samples each"

    def numbers(self, channels: int, depth: int) -> Floats:
        """Return n."""
        return np.array([self.n], dtype=np.float64)
