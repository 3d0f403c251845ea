"""The view of a run on a terminal: ten lines that stay in place, eleven with labels, and the log above them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from streamrde.cli.printing import moment, plain, said, said_labels
from streamrde.connectors.codecs.predictions import prediction_of

if TYPE_CHECKING:
    import pyarrow as pa

    from streamrde.runtime.service import Served

# Seconds between two pictures. The rate is that of the last _RATED seconds.
_EVERY = 0.5
_RATED = 5.0
# Most of the time, as a share, that the view takes from the run.
_SHARE = 0.02
_PREDICTIONS = 3
_WARNINGS = 2
# A stream's name is cut beyond so many signs.
_NAME = 24
# Lines of the log that wait for a terminal that stands still.
_LOG = 500
_BARS = "▁▂▃▄▅▆▇█"
_COUNTED = ("late", "duplicate", "rejected", "malformed", "dropped", "quarantined", "missed")


class View:
    """Show a run in ten lines: rate, lag, streams, connections, last predictions and warnings.

    A thread draws, so that a terminal that takes nothing holds up the thread alone. The run only leaves its latest
    predictions and lines of its log here, at most `_PREDICTIONS` and `_LOG` of them.

    Args:
        console: a terminal.
        title: name of the run.
    """

    def __init__(self, console: Console, title: str) -> None:
        self.log = _Log()
        """Takes the log while the view is shown."""
        self._console = console
        self._title = title
        self._lines = [Text(f"streamrde run  {plain(title)}  starting", style="bold")]
        self._predictions: deque[pa.RecordBatch] = deque(maxlen=_PREDICTIONS)
        self._counted: deque[tuple[float, int, int]] = deque(maxlen=60)

    def predicted(self, predictions: pa.RecordBatch) -> None:
        """Take note of the last of some predictions."""
        if rows := predictions.num_rows:
            self._predictions.append(predictions.slice(max(0, rows - _PREDICTIONS)))

    @contextlib.asynccontextmanager
    async def following(self, run: Served) -> AsyncIterator[None]:
        """Show a run while the block lasts. Afterwards the lines are gone, and the log stays."""
        end, drawer = threading.Event(), Live(console=self._console, auto_refresh=False, transient=True)
        thread = threading.Thread(target=self._draw, args=(drawer, end), name="view", daemon=True)
        thread.start()
        looking = asyncio.create_task(self._look(run))
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
            end.set()
            # A terminal that stands still must not keep the run from its end.
            await asyncio.to_thread(thread.join, 2 * _EVERY)

    async def _look(self, run: Served) -> None:
        while True:
            began = time.perf_counter()
            self._lines = self.lines(run)
            await asyncio.sleep(max(_EVERY, (time.perf_counter() - began) / _SHARE))

    def _draw(self, live: Live, end: threading.Event) -> None:
        with live:
            while True:
                ended = end.wait(_EVERY)
                while self.log.written:
                    self._console.print(self.log.written.popleft(), markup=False, highlight=False, soft_wrap=True)
                live.update(Group(*self._lines), refresh=True)
                if ended:
                    return

    def lines(self, run: Served) -> list[Text]:
        """Return the ten lines of a run as it is now. Call it where the run does its work."""
        status = run.status()
        metrics = run.metrics
        now = time.perf_counter()
        self._counted.append((now, metrics.rows, metrics.predictions))
        begin = next(one for one in self._counted if one[0] >= now - _RATED)
        seconds = max(now - begin[0], 1e-9)
        rows, predictions = (round((self._counted[-1][i] - begin[i]) / seconds) for i in (1, 2))
        found = [
            Text.assemble(
                ("streamrde run  ", "bold"),
                (f"{plain(self._title)}  {_duration(metrics.seconds)}", "bold"),
                (f"  model {run.fingerprints[0][:12]}", "dim"),
            ),
            _line("rate", f"{rows:,} rows/s, {predictions:,} predictions/s  ", (self._bars(), "cyan")),
            _line("lag", _lag(run)),
            _line("streams", _streams(run)),
            *([] if metrics.labels is None else [_line("labels", said_labels(metrics.labels))]),
            _line("ends", *_ends(run)),
            *self._last(),
            *self._warnings(status),
        ]
        for line in found:
            line.no_wrap, line.overflow = True, "ellipsis"
        return found

    def _bars(self) -> str:
        """Draw the rows per second of the last pictures, each beside the largest."""
        pairs = zip(self._counted, [*self._counted][1:], strict=False)
        rates = [(after[1] - before[1]) / max(after[0] - before[0], 1e-9) for before, after in pairs][-30:]
        most = max(rates, default=0.0)
        return "".join(_BARS[round(rate / most * (len(_BARS) - 1))] if most else _BARS[0] for rate in rates)

    def _last(self) -> list[Text]:
        rows = [row for batch in self._predictions for row in batch.to_pylist()][-_PREDICTIONS:]
        payloads = [msgspec.to_builtins(prediction_of(row)) for row in reversed(rows)]
        names = [_cut(plain(one["stream"])) for one in payloads]
        width = max(map(len, names), default=0)
        found = [
            _line("" if i else "last", f"{name:{width}}  {moment(one['t_end'])}  ", (said(one), "green"))
            for i, (name, one) in enumerate(zip(names, payloads, strict=True))
        ]
        nothing = [_line("last", ("no prediction yet", "dim"))] if not found else []
        return (found + nothing + [Text() for _ in range(_PREDICTIONS)])[:_PREDICTIONS]

    def _warnings(self, status: Mapping[str, Any]) -> list[Text]:
        """Return what is in the way now, then the streams that go wrong, then the log's last warnings."""
        obstacles = [(plain(text), "red") for text in status["obstacles"]]
        troubles = [
            (plain(f"{one['stream']}: {one['reason']}"), "yellow") for one in status["latest"] if not one["over"]
        ]
        logged = [(plain(text), "yellow") for text in reversed(self.log.warnings)]
        every = dict.fromkeys([*obstacles, *troubles, *logged])
        found = [_line("" if i else "warnings", pair) for i, pair in enumerate([*every][:_WARNINGS])]
        if len(every) > _WARNINGS:
            found[-1] = _line("", f"{len(every) - _WARNINGS + 1} more, above and at /status", style="yellow")
        nothing = [_line("warnings", ("none", "dim"))] if not found else []
        return (found + nothing + [Text() for _ in range(_WARNINGS)])[:_WARNINGS]


class _Log(logging.Handler):
    """Keep the log's lines until they are drawn, and its last warnings."""

    def __init__(self) -> None:
        super().__init__()
        self.written: deque[str] = deque(maxlen=_LOG)
        self.warnings: deque[str] = deque(maxlen=_WARNINGS)

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler.emit`."""
        try:
            lines = self.format(record).splitlines()
        except Exception:  # as logging does: a record that cannot be formatted stops nothing
            self.handleError(record)
            return
        self.written.append("\n".join(map(plain, lines)))
        if record.levelno >= logging.WARNING:
            self.warnings.append(record.getMessage())


def _line(name: str, *parts: str | tuple[str, str], style: str = "") -> Text:
    return Text.assemble((f"{name:10}", "dim"), *parts, style=style)


def _cut(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"


def _duration(seconds: float) -> str:
    minutes, second = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{second:02}"


def _lag(run: Served) -> str:
    metrics = run.metrics
    parts = []
    if len(metrics.latency):
        half, most = (1e3 * metrics.latency.quantile(q) for q in (0.5, 0.99))
        parts.append(f"{half:.1f} ms from a sample to its confirmed prediction (99 % within {most:.1f} ms)")
    if run.group is not None:
        lags = [one.lag_messages for one in run.group.partitions.values()]
        parts.append(f"{sum(lags):,} messages behind in {len(lags)} partitions")
    elif (waiting := run.waiting) is not None:
        parts.append(f"{waiting:,} messages waiting")
    return ", ".join(parts) or "nothing measured yet"


def _streams(run: Served) -> str:
    metrics = run.metrics
    counts = {name: getattr(metrics, name, None) or getattr(metrics.counts, name, 0) for name in _COUNTED}
    skipped = [f"{count:,} {name}" for name, count in counts.items() if count]
    wrong = sum(metrics.troubles.values())
    parts = [f"{metrics.streams:,}", f"{metrics.rows:,} rows", f"{metrics.predictions:,} predictions"]
    parts += [f"skipped {', '.join(skipped)}"] if skipped else []
    parts += [f"{wrong:,} went wrong"] if wrong else []
    return ", ".join(parts)


def _ends(run: Served) -> list[str | tuple[str, str]]:
    parts: list[str | tuple[str, str]] = []
    for name, connection in run.connections.items():
        parts += [f"{name} ", ("connected  ", "green") if connection.connected else ("away  ", "red")]
    metrics = run.metrics
    if metrics.store_full:
        parts.append(("the state store's disk is full", "red"))
    elif metrics.checkpoints:
        ago = max(0.0, time.time() - metrics.last_checkpoint)
        parts.append(f"state saved {ago:.0f} s ago, {metrics.unsaved:,} messages since")
    else:
        parts.append("no state saved")
    return parts
