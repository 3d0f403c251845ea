"""The report at the end of a run from the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from streamrde.cli.printing import print_json, said_labels

if TYPE_CHECKING:
    from streamrde.inference.troubles import Kind
    from streamrde.runtime.metrics import Metrics

# Streams of which the end of a run says what was wrong with them.
_SHOWN = 5


def _line(metrics: Metrics) -> str:
    faults = metrics.malformed + metrics.dropped + metrics.quarantined + sum(metrics.counts) - metrics.counts.samples
    return (
        f"{metrics.streams:,} streams, {metrics.rows:,} rows ({metrics.rows / metrics.seconds:,.0f}/s), "
        f"{metrics.predictions:,} predictions" + (f", {faults:,} skipped" if faults else "")
    )


def report(metrics: Metrics, json: bool, what: str) -> None:
    """Print a run's counters, for people or for scripts."""
    summary = metrics.summary()
    if json:
        print_json({**summary, "latest_troubles": metrics.latest_troubles})
        return
    skipped = {
        name: summary[name]
        for name in ("late", "duplicate", "rejected", "malformed", "dropped", "quarantined", "missed")
        if summary[name]
    }
    print(f"{what}: {_line(metrics)}, {metrics.seconds:.2f} s")
    if skipped:
        print("skipped: " + ", ".join(f"{count:,} {name}" for name, count in skipped.items()))
    if metrics.labels is not None:
        print(f"labels: {said_labels(metrics.labels)}")
    print_troubles(metrics.troubles, metrics.implausible, [_words(trouble) for trouble in metrics.latest_troubles])
    if "latency_p50_ms" in summary:
        print(
            "from arrival to confirmed prediction: "
            f"p50 {summary['latency_p50_ms']} ms, p99 {summary['latency_p99_ms']} ms"
        )


def print_troubles(
    troubles: Mapping[str, int] | Mapping[Kind, int], implausible: Mapping[str, int], words: Sequence[str]
) -> None:
    """Print how many streams went wrong, and of the latest in what way."""
    if not any(troubles.values()):
        return
    about = {"unseen": "channels never seen", "gone": "channels gone", "far": "channels far outside of training"}
    found = {kind: count for kind, count in troubles.items() if count and kind != "implausible"}
    counts = [f"{count:,} {about.get(kind, kind)}" for kind, count in found.items()]
    values = [f"{count:,} of {channel}" for channel, count in implausible.items() if count]
    if values:
        counts.append(f"implausible values: {', '.join(values)}")
    print("streams that went wrong: " + "; ".join(counts))
    for line in words[:_SHOWN]:
        print(f"  {line}")
    if len(words) > _SHOWN:
        print(f"  and {len(words) - _SHOWN} more")


def _words(trouble: Mapping[str, Any]) -> str:
    return f"{trouble['stream']}: {trouble['reason']}" + (" (over)" if trouble["over"] else "")
