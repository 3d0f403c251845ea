"""A pipeline run from the command line: its progress, its end, its report."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from streamrde.cli.printing import print_json

if TYPE_CHECKING:
    from streamrde.runtime.metrics import Metrics


def carry(source: Any, fleet: Any, sink: Any, *, flush: bool, live: bool) -> Metrics:
    """Run a pipeline with a progress line.

    The first Ctrl-C or SIGTERM ends a live one in order. One over recorded files it breaks off: predictions of a part
    of the files must not pass for those of the whole.
    """
    from rich.console import Console

    from streamrde.runtime.pipeline import run as run_pipeline

    console = Console(stderr=True)

    async def go(show: Any) -> Metrics:
        loop = asyncio.get_running_loop()
        for name in (signal.SIGINT, signal.SIGTERM) if live else ():
            with suppress(NotImplementedError):  # Windows has no signal handlers in event loops
                loop.add_signal_handler(name, _stop_once, loop, source)
        return await run_pipeline(source, fleet, sink, flush=flush, on_start=lambda: show("connected"), on_batch=show)

    if not console.is_terminal:
        return asyncio.run(go(lambda _: None))
    with console.status("starting") as status:
        return asyncio.run(go(lambda now: status.update(now if isinstance(now, str) else _line(now))))


def _stop_once(loop: asyncio.AbstractEventLoop, source: Any) -> None:
    """End after what has arrived; a second signal ends at once."""
    source.stop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.remove_signal_handler(name)


def _line(metrics: Metrics) -> str:
    faults = metrics.malformed + metrics.dropped + sum(metrics.counts) - metrics.counts.samples
    return (
        f"{metrics.streams:,} streams, {metrics.rows:,} rows ({metrics.rows / metrics.seconds:,.0f}/s), "
        f"{metrics.predictions:,} predictions" + (f", {faults:,} skipped" if faults else "")
    )


def report(metrics: Metrics, json: bool, what: str) -> None:
    """Print a run's counters, for people or for scripts."""
    summary = metrics.summary()
    if json:
        print_json(summary)
        return
    skipped = {
        name: summary[name] for name in ("late", "duplicate", "rejected", "malformed", "dropped") if summary[name]
    }
    print(f"{what}: {_line(metrics)}, {metrics.seconds:.2f} s")
    if skipped:
        print("skipped: " + ", ".join(f"{count:,} {name}" for name, count in skipped.items()))
    if "latency_p50_ms" in summary:
        print(
            "from arrival to confirmed prediction: "
            f"p50 {summary['latency_p50_ms']} ms, p99 {summary['latency_p99_ms']} ms"
        )
