"""What a job tells while it runs and when it is done."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from streamrde.inference.table import Counts


class Status(NamedTuple):
    """How far a job is."""

    stage: str
    """"scanning", "scoring" or "writing"."""
    done: int
    """Files that were looked at, or samples scored."""
    total: int
    parts: int = 0
    parts_total: int = 0


@dataclass(frozen=True)
class Summary:
    """What a job did.

    Attributes:
        out: the output.
        files, streams, parts: how many there were.
        rows: samples taken, those of an earlier, stopped run of the job too.
        predictions: rows of the output.
        counts: what became of the samples.
        seconds: of this run.
        resumed: parts that an earlier run had done.
        sorted: parts whose rows were not in order of time and were sorted on disk.
        skipped: files that could not be used, and why.
        phases: seconds in reading, in the fleet and in writing, summed over workers; they overlap.
        states: streams whose state was left behind.
        evaluation: measures of the task, where there was truth.
    """

    out: str
    files: int
    streams: int
    parts: int
    rows: int
    predictions: int
    counts: Counts
    seconds: float
    resumed: int = 0
    sorted: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    phases: dict[str, float] = field(default_factory=dict)
    states: int = 0
    evaluation: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """As plain numbers, for JSON."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("counts", "phases")}
        return {
            **values,
            **self.counts._asdict(),
            "seconds": round(self.seconds, 3),
            "rows_per_second": round(self.rows / max(self.seconds, 1e-9)),
            "phases": {name: round(seconds, 3) for name, seconds in self.phases.items()},
        }
