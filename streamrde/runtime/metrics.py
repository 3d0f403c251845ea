"""What a run has done so far, in constant memory."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from streamrde.inference.table import Counts

# Buckets 4 % wide from a microsecond to a day: 643 of them.
_RATIO = 1.04
_SMALLEST = 1e-6
_BUCKETS = math.ceil(math.log(86400 / _SMALLEST) / math.log(_RATIO)) + 1


class Durations:
    """A histogram of durations whose buckets are 4 % wide, so that a quantile is right to 4 %."""

    def __init__(self) -> None:
        self._buckets = np.zeros(_BUCKETS, dtype=np.int64)

    def __len__(self) -> int:
        return int(self._buckets.sum())

    def add(self, seconds: ArrayLike) -> None:
        """Count durations, (n,)."""
        scaled = np.log(np.maximum(np.asarray(seconds, dtype=np.float64), _SMALLEST) / _SMALLEST) / math.log(_RATIO)
        places = np.minimum(scaled.astype(np.int64), _BUCKETS - 1)
        self._buckets += np.bincount(places, minlength=_BUCKETS)

    def quantile(self, q: float) -> float:
        """Seconds that a share q of the durations does not exceed; NaN while there is none."""
        if not len(self):
            return math.nan
        place = int(np.searchsorted(self._buckets.cumsum(), q * len(self), side="left"))
        return float(_SMALLEST * _RATIO ** (place + 1))


@dataclass
class Metrics:
    """Counters of one run; `rows` are what the source delivered, `counts` what became of them."""

    rows: int = 0
    predictions: int = 0
    streams: int = 0
    counts: Counts = field(default_factory=Counts)
    malformed: int = 0
    """Messages that could not be read."""
    dropped: int = 0
    """Messages that a full queue pushed out (QoS 0)."""
    latency: Durations = field(default_factory=Durations)
    """From the arrival of a sample to the confirmation of the predictions of its micro-batch; live sources only."""
    began: float = field(default_factory=time.perf_counter)
    ended: float | None = None

    @property
    def seconds(self) -> float:
        """How long the run has lasted."""
        return (self.ended or time.perf_counter()) - self.began

    def summary(self) -> dict[str, float | int]:
        """The counters as plain numbers, for people and for JSON."""
        summary: dict[str, float | int] = {
            "streams": self.streams,
            "rows": self.rows,
            **self.counts._asdict(),
            "malformed": self.malformed,
            "dropped": self.dropped,
            "predictions": self.predictions,
            "seconds": round(self.seconds, 3),
            "rows_per_second": round(self.rows / max(self.seconds, 1e-9)),
        }
        if len(self.latency):
            for name, q in (("latency_p50_ms", 0.5), ("latency_p99_ms", 0.99)):
                summary[name] = round(self.latency.quantile(q) * 1e3, 2)
        return summary
