"""Measure how often samples come, and choose lengths of windows that suit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from streamrde.arrays import Floats

# Samples of a window that say more about it than its ends do, where streams are long enough.
_SAMPLES = 32
_LEAST_SAMPLES = 4
# Windows of a stream, so that there is something to learn from one to the next.
_WINDOWS = 10
# Silences of so many intervals are gaps rather than jitter.
_GAP = 20.0
_SHORTEST = 1e-9  # seconds between two samples
_LATEST = 1e12  # seconds that no time reaches


class Rate(NamedTuple):
    """Describe the times of samples, in seconds."""

    streams: int
    rows: int
    interval: float
    """Median time between two samples of a stream, 0 if it is not known."""
    steady: bool
    """True if nine of ten intervals are within a tenth of the median."""
    duration: float
    """Median time from a stream's first sample to its last."""
    gaps: int
    longest: float
    """Longest silence."""

    @property
    def text(self) -> str:
        """Describe the rate for a comment."""
        if not self.interval:
            return "The time between samples is not known."
        hertz = 1 / self.interval
        rate = f"{hertz:.4g} samples a second" if hertz >= 1.5 else f"a sample every {spoken(self.interval)}"
        steady = "steady" if self.steady else "irregular"
        text = f"Rate: {rate}, {steady}; a stream lasts {spoken(self.duration)} (median)."
        if self.gaps:
            silences = (
                f"{self.gaps:,} silence{'s' if self.gaps > 1 else ''} of more than {spoken(_GAP * self.interval)}"
            )
            text += f" It has {silences}, the longest {spoken(self.longest)}."
        return text

    @property
    def window(self) -> float:
        """Return a length of windows in seconds that suits the rate. It is 1 if the rate is not known."""
        if not self.interval:
            return 1.0
        wanted = _SAMPLES * self.interval
        if self.duration:
            wanted = min(wanted, max(self.duration / _WINDOWS, _LEAST_SAMPLES * self.interval))
        return nice(max(wanted, self.interval))

    @property
    def gap(self) -> float:
        """Return the length of a silence that is a gap, or 0 if there is none."""
        return nice(_GAP * self.interval) if self.gaps else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {**self._asdict(), "window": self.window}


def measure(times: Sequence[Floats]) -> Rate:
    """Measure the times of streams, each (rows,) in the order of the rows."""
    known = [t[np.abs(t) < _LATEST] for t in times]
    # A few times that are wrong do not count.
    lengths = [float(np.subtract(*np.quantile(t, (0.99, 0.01)))) for t in known if len(t)]
    steps = [step[step > 0] for step in map(np.diff, known)]
    joined = np.concatenate(steps) if steps else np.empty(0)
    rows = sum(map(len, times))
    joined = joined[joined > _SHORTEST]
    if not len(joined):
        return Rate(len(times), rows, 0.0, True, 0.0, 0, 0.0)
    interval = float(np.median(joined))
    near = np.abs(joined - interval) <= 0.1 * interval
    return Rate(
        len(times), rows, interval, bool(near.mean() >= 0.9), float(np.median(lengths)),
        int((joined > _GAP * interval).sum()), float(joined.max()),
    )  # fmt: skip


def nice(seconds: float) -> float:
    """Round to 1, 2 or 5 times a power of ten, or to a plain number of minutes, hours or days.

    >>> nice(0.64), nice(1280.0), nice(100_000.0)
    (0.5, 1200.0, 86400.0)
    """
    if seconds < 60:
        power = 10.0 ** math.floor(math.log10(seconds))
        steps = [power * step for step in (1, 2, 5, 10)]
    else:
        steps = [60.0 * step for step in (1, 2, 5, 10, 20, 30)] + [3600.0 * step for step in (1, 2, 4, 6, 12)]
        steps += [86400.0 * step for step in (1, 2, 7, 14, 30, 90, 365)]
    best = min(steps, key=lambda step: abs(math.log(step / seconds)))
    return float(f"{best:.6g}")


def spoken(seconds: float) -> str:
    """Write a time with a unit that suits.

    >>> spoken(0.02), spoken(90.0), spoken(7200.0)
    ('20 ms', '90 s', '2 h')
    """
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    if seconds >= 1 or seconds == 0:
        return f"{seconds:.3g} s"
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} us"
