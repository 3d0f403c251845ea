"""Count the work of a run, in constant memory."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from streamrde.connectors.samples import SourceCounts
from streamrde.inference.fleet import Fleet
from streamrde.inference.states import StateCounts
from streamrde.inference.table import Counts
from streamrde.inference.troubles import KINDS, Kind
from streamrde.runtime.tally import LabelTally

# Numbers that add up over the partitions of a worker.
_SUMS = (
    "rows", "predictions", "malformed", "dropped", "quarantined", "missed", "unused", "merged", "provisional",
    "not_finite", "batches", "checkpoints", "checkpoint_bytes",
)  # fmt: skip
# Buckets 4 % wide; from a microsecond to a day these are 643.
_RATIO = 1.04


class Durations:
    """Collect durations or sizes in a histogram with buckets 4 % wide, so that a quantile is right to 4 %.

    Args:
        smallest, largest: values beyond these fall into the first and last bucket.
    """

    def __init__(self, *, smallest: float = 1e-6, largest: float = 86400.0) -> None:
        self._smallest = smallest
        self._buckets = np.zeros(math.ceil(math.log(largest / smallest) / math.log(_RATIO)) + 1, dtype=np.int64)
        self.total = 0.0

    def __len__(self) -> int:
        return int(self._buckets.sum())

    def add(self, seconds: ArrayLike) -> None:
        """Count durations, (n,)."""
        values = np.atleast_1d(np.asarray(seconds, dtype=np.float64))
        self.total += float(values.sum())
        scaled = np.log(np.maximum(values, self._smallest) / self._smallest) / math.log(_RATIO)
        places = np.minimum(scaled.astype(np.int64), len(self._buckets) - 1)
        self._buckets += np.bincount(places, minlength=len(self._buckets))

    def join(self, other: Durations) -> None:
        """Count what another of the same buckets has counted."""
        self._buckets += other._buckets
        self.total += other.total

    def up_to(self, bound: float) -> int:
        """Return the number of durations up to `bound`, to the width of a bucket."""
        place = math.log(max(bound, self._smallest) / self._smallest) / math.log(_RATIO)
        return int(self._buckets[: int(place) + 1].sum())

    def quantile(self, q: float) -> float:
        """Return the seconds that a share q of the durations does not exceed, or NaN without any."""
        if not len(self):
            return math.nan
        place = int(np.searchsorted(self._buckets.cumsum(), q * len(self), side="left"))
        return float(self._smallest * _RATIO ** (place + 1))


@dataclass
class Metrics:
    """Count the work of one run. `rows` counts the source's rows, `counts` splits them by outcome."""

    rows: int = 0
    predictions: int = 0
    streams: int = 0
    counts: Counts = field(default_factory=Counts)
    malformed: int = 0
    """Messages that could not be read."""
    dropped: int = 0
    """Messages that a full queue pushed out (QoS 0)."""
    quarantined: int = 0
    """Messages of topics or streams that are set aside."""
    missed: int = 0
    """Messages, or samples, that never came, by the sequence numbers of those that did."""
    unused: int = 0
    """Values in messages of another kind than those that were asked for."""
    merged: int = 0
    """Streams whose samples came from more than one topic."""
    suspects: int = 0
    """Streams whose rows are rejected now because their times cannot be right."""
    provisional: int = 0
    """Predictions of windows that were still open."""
    states: StateCounts = field(default_factory=StateCounts)
    """Windows after which the hidden state, or the solver's error, called for a look."""
    troubles: dict[Kind, int] = field(default_factory=dict)
    """Streams that went wrong, by kind. If a kind is about one channel, channels of streams are counted."""
    implausible: dict[str, int] = field(default_factory=dict)
    """Values that were not plausible, by channel."""
    latest_troubles: list[dict[str, Any]] = field(default_factory=list)
    """The latest streams that went wrong, at the end of the run. See `TroubleLog.status`."""
    not_finite: int = 0
    """Streams of a slice with predictions that are no numbers, which are published all the same."""
    batches: int = 0
    batch_rows: Durations = field(default_factory=lambda: Durations(smallest=1.0, largest=1e7))
    """Rows of a micro-batch."""
    push_time: Durations = field(default_factory=Durations)
    """Seconds of the fleet's work on a micro-batch: windows, signatures, model steps."""
    sink_time: Durations = field(default_factory=Durations)
    """Seconds from handing predictions to the sink to their confirmation."""
    unsaved: int = 0
    """Messages worked off and not yet saved by a checkpoint."""
    checkpoints: int = 0
    checkpoint_bytes: int = 0
    checkpoint_time: Durations = field(default_factory=Durations)
    last_checkpoint: float = 0.0
    """Seconds since 1970; 0: there was none."""
    store_full: bool = False
    """The last checkpoint did not fit on the disk and is tried again."""
    last_batch: float = 0.0
    """When a batch was last worked off, seconds since 1970; 0: none was."""
    lag: float = 0.0
    """Seconds from the arrival of the last batch's oldest row to the confirmation of its predictions."""
    swaps: int = 0
    """Models taken on without a restart."""
    swaps_refused: int = 0
    labels: LabelTally | None = None
    """Labels, and what was predicted for them. None: the run has none."""
    latency: Durations = field(default_factory=Durations)
    """From the arrival of a sample to the confirmation of the predictions of its micro-batch; live sources only."""
    began: float = field(default_factory=time.perf_counter)
    ended: float | None = None

    def add(self, other: Metrics, *, live: bool = True) -> None:
        """Add the counts of another run.

        Args:
            live: it still runs, so that its present streams and what it has not saved count too.
        """
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.counts += other.counts
        self.states = StateCounts(*(sum(pair) for pair in zip(self.states, other.states, strict=True)))
        for own, more in ((self.troubles, other.troubles), (self.implausible, other.implausible)):
            for kind, count in more.items():
                own[kind] = own.get(kind, 0) + count  # type: ignore[index, call-overload]
        for name in ("batch_rows", "push_time", "sink_time", "checkpoint_time", "latency"):
            getattr(self, name).join(getattr(other, name))
        self.last_checkpoint = max(self.last_checkpoint, other.last_checkpoint)
        self.last_batch = max(self.last_batch, other.last_batch)
        if other.labels is not None:
            self.labels = other.labels if self.labels is None else self.labels.joined(other.labels)
        if live:
            self.streams += other.streams
            self.suspects += other.suspects
            self.unsaved += other.unsaved
            self.lag = max(self.lag, other.lag)
            self.store_full |= other.store_full

    def look(self, fleet: Fleet, source: SourceCounts) -> None:
        """Take over the counts that are sums over streams, or the source's."""
        self.counts, self.states = fleet.counts(), fleet.state_counts()
        self.troubles, self.implausible = fleet.trouble_counts, fleet.implausible
        self.streams = len(fleet)
        self.malformed, self.dropped, self.quarantined = source.malformed, source.dropped, source.quarantined
        self.missed, self.merged, self.unused = source.missed, source.merged, source.unused
        if self.labels is not None:
            self.labels.never, self.labels.drifts = fleet.label_counts()

    @property
    def out_of_range(self) -> int:
        """Windows after which the hidden state was not where it was in training."""
        return self.states.out_of_range

    @property
    def states_not_finite(self) -> int:
        """Windows after which the hidden state was not finite."""
        return self.states.not_finite

    @property
    def cuts(self) -> int:
        """Silences after which a stream was cut."""
        return self.states.cuts

    @property
    def inexact(self) -> int:
        """Windows whose step's estimated error was above the model's tolerance."""
        return self.states.inexact

    @property
    def novel(self) -> int:
        """Windows whose p-value was below 1 %."""
        return self.states.novel

    @property
    def drifts(self) -> int:
        """Alarms of the streams' drift tests."""
        return self.states.drifts

    @property
    def seconds(self) -> float:
        """Duration of the run so far."""
        return (self.ended or time.perf_counter()) - self.began

    def status(self, obstacles: Sequence[str], latest: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return what /status answers of whatever runs.

        Args:
            obstacles: what is in the way now.
            latest: streams that went wrong, the latest first.
        """
        return {
            "ready": not obstacles,
            "obstacles": [*obstacles],
            "streams": self.streams,
            "rows": self.counts._asdict(),
            "troubles": self.troubles,
            "implausible": self.implausible,
            "latest": [*latest],
        } | ({} if self.labels is None else {"labels": self.labels.status()})

    def summary(self) -> dict[str, float | int]:
        """Return the counters as plain numbers, for people and for JSON."""
        summary: dict[str, float | int] = {
            "streams": self.streams,
            "rows": self.rows,
            **self.counts._asdict(),
            "malformed": self.malformed,
            "dropped": self.dropped,
            "quarantined": self.quarantined,
            "missed": self.missed,
            "unused": self.unused,
            "merged_streams": self.merged,
            "suspects": self.suspects,
            "predictions": self.predictions,
            "provisional": self.provisional,
            **{f"states_{name}": count for name, count in self.states._asdict().items() if name != "cuts"},
            "cuts": self.cuts,
            **{f"trouble_{kind}": self.troubles.get(kind, 0) for kind in KINDS},
            "implausible": sum(self.implausible.values()),
            "seconds": round(self.seconds, 3),
            "rows_per_second": round(self.rows / max(self.seconds, 1e-9)),
        }
        if self.labels is not None:
            summary |= self.labels.summary()
        if self.checkpoints:
            summary["checkpoints"] = self.checkpoints
            summary["checkpoint_bytes"] = self.checkpoint_bytes
            summary["checkpoint_p99_ms"] = round(self.checkpoint_time.quantile(0.99) * 1e3, 2)
        if len(self.latency):
            for name, q in (("latency_p50_ms", 0.5), ("latency_p99_ms", 0.99)):
                summary[name] = round(self.latency.quantile(q) * 1e3, 2)
        return summary
