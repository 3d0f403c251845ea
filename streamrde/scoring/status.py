"""Describe the progress and the result of a job."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from streamrde.inference.states import StateCounts
from streamrde.inference.table import Counts


class Status(NamedTuple):
    """Progress of a job."""

    stage: str
    """"scanning", "scoring" or "writing"."""
    done: int
    """Files that were looked at, or samples scored."""
    total: int
    parts: int = 0
    parts_total: int = 0


@dataclass(frozen=True)
class Summary:
    """Result of a job.

    Attributes:
        out: the output.
        files, streams, parts: how many there were.
        rows: samples taken, those of an earlier, stopped run of the job too.
        predictions: rows of the output.
        counts: what became of the samples.
        state_counts: windows after which the state called for a look, novel windows and alarms of drift.
        seconds: of this run.
        resumed: parts that an earlier run had done.
        sorted: parts whose rows were not in order of time and were sorted on disk.
        skipped: files that could not be used, and why.
        dropped: rows that could not be read and were left out, with ``faults = "drop"``, by the reason.
        restarts: streams that begin again and were split, and how often each does.
        phases: seconds in reading, in the fleet and in writing, summed over workers; they overlap.
        states: streams whose state was left behind.
        evaluation: measures of the task, where there was truth.
        novelty: whether novelty was asked for.
        horizon: seconds by which the model's targets, and the truth they are measured by, lie ahead of their windows.
        unmeasured: why there are no measures although truth was named.
        silent: streams without a prediction, and the names of some, `silent_examples`.
        troubles: streams that went wrong, by kind; see `Fleet.trouble_counts`.
        implausible: values that were not plausible, by channel.
        said: some of the streams that went wrong: file, stream, reason and remedy.
    """

    out: str
    files: int
    streams: int
    parts: int
    rows: int
    predictions: int
    counts: Counts
    state_counts: StateCounts
    seconds: float
    resumed: int = 0
    sorted: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)
    phases: dict[str, float] = field(default_factory=dict)
    states: int = 0
    evaluation: dict[str, Any] | None = None
    novelty: bool = False
    horizon: float = 0.0
    unmeasured: str = ""
    silent: int = 0
    silent_examples: tuple[str, ...] = ()
    troubles: dict[str, int] = field(default_factory=dict)
    implausible: dict[str, int] = field(default_factory=dict)
    said: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as plain numbers, for JSON."""
        apart = ("counts", "state_counts", "phases", "novelty", "horizon")
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in apart}
        windows = self.state_counts._asdict()
        if not self.novelty:
            del windows["novel"], windows["drifts"]
        return {
            **values,
            **self.counts._asdict(),
            **windows,
            "seconds": round(self.seconds, 3),
            "rows_per_second": round(self.rows / max(self.seconds, 1e-9)),
            "phases": {name: round(seconds, 3) for name, seconds in self.phases.items()},
        }
