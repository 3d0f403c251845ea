"""The demo's table: each stream with its prediction and its truth."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from streamrde.connectors.samples import Samples
from streamrde.runtime.metrics import Durations

EXERCISES = {
    "PEN": "pendulum",
    "ABD": "abduction",
    "FEL": "forward elevation",
    "IR": "internal rotation",
    "ER": "external rotation",
    "TRAP": "trapezius ext.",
    "ROW": "upright row",
}


@dataclass
class _Stream:
    label: str = ""
    confidence: float = 0.0
    windows: int = 0
    reached: float = 0.0
    sent: list[tuple[float, float]] = field(default_factory=list)
    """(time of a message's last sample, when it was sent)"""


class Board:
    """Follow what was sent and what was predicted.

    Args:
        truth: the label of each stream.
    """

    def __init__(self, truth: Mapping[str, str]) -> None:
        self.truth = dict(truth)
        self.samples = 0
        self.predictions = 0
        self.latency = Durations()
        """From sending the sample that closed a window to receiving its prediction."""
        self.ended = False
        """Set when the streams have ended: windows flushed after that have no latency."""
        self._streams = {name: _Stream() for name in sorted(truth)}
        self._began = time.perf_counter()

    def sent(self, samples: Samples) -> None:
        """Count samples that are about to be published."""
        now = time.perf_counter()
        self.samples += len(samples.t)
        for name, t in dict(zip(samples.streams.to_pylist(), samples.t.tolist(), strict=True)).items():
            self._streams[name].sent.append((t, now))

    def predicted(self, row: Mapping[str, Any]) -> None:
        """Take in a prediction that came back."""
        stream = self._streams[row["stream"]]
        stream.label, stream.confidence = row["label"] or "", max(row["value"])
        stream.windows, stream.reached = row["window"] + 1, row["t_end"]
        self.predictions += 1
        place = bisect_left(stream.sent, (row["t_end"],))
        if place < len(stream.sent) and not self.ended:
            self.latency.add([time.perf_counter() - stream.sent[place][1]])

    @property
    def right(self) -> int:
        """Number of streams whose latest prediction is true."""
        return sum(stream.label == self.truth[name] for name, stream in self._streams.items())

    @property
    def rate(self) -> float:
        """Samples sent per second so far."""
        return self.samples / max(time.perf_counter() - self._began, 1e-9)

    def table(self, rows: int | None = None) -> Table:
        """Return a table of the streams, at most `rows` of them."""
        table = Table(
            title="shoulder exercises, live over MQTT", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True
        )
        table.title_justify = table.caption_justify = "left"
        for name in ("stream", "prediction", "confidence", "truth", "windows", "time"):
            is_number = name in ("confidence", "windows", "time")
            table.add_column(name, justify="right" if is_number else "left", no_wrap=True)
        names = list(self._streams)
        for name in names[:rows]:
            stream, truth = self._streams[name], self.truth[name]
            style = "dim" if not stream.label else "green" if stream.label == truth else "red"
            table.add_row(
                name,
                Text(EXERCISES.get(stream.label, stream.label or "..."), style=style),
                f"{stream.confidence:.0%}" if stream.label else "",
                EXERCISES.get(truth, truth),
                str(stream.windows),
                f"{stream.reached:.1f} s",
            )
        if rows is not None and rows < len(names):
            table.add_row(f"... {len(names) - rows} more")
        right = f"{self.right} of {len(names)} right"
        table.caption = "" if self.ended else f"{right}   {self.rate:,.0f} samples/s   {self.predictions} predictions"
        return table
