"""Counters of a run, and what is set aside and why, for the page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from streamrde.runtime.pipeline import Pipeline
from streamrde.runtime.recent import Recent, Refused
from streamrde.runtime.service import Served

_MOST_ASIDE = 100
_MOST_LETTERS = 20
_LONGEST_REASON = 300
_COUNTS = (
    "rows", "predictions", "streams", "malformed", "dropped", "quarantined", "missed", "unused", "provisional",
    "not_finite", "novel", "drifts", "out_of_range", "cuts", "batches", "unsaved", "checkpoints", "checkpoint_bytes",
    "last_checkpoint", "last_batch", "store_full", "lag", "swaps", "swaps_refused", "seconds",
)  # fmt: skip


def status(run: Served, recent: Recent) -> dict[str, Any]:
    """Return the counters, the obstacles, the latest troubles, and what is set aside and could not be read."""
    shown = run.status()
    metrics = run.metrics
    rows = shown.pop("rows")
    letters = [*recent.refused]
    return {
        **{name: getattr(metrics, name) for name in _COUNTS},
        **{f"rows_{name}": count for name, count in rows.items()},
        **shown,
        "waiting": run.waiting,
        "latency_p50": metrics.latency.quantile(0.5),
        "latency_p99": metrics.latency.quantile(0.99),
        "push_p50": metrics.push_time.quantile(0.5),
        "checkpoint_p99": metrics.checkpoint_time.quantile(0.99),
        "connections": {name: one.connected for name, one in run.connections.items()},
        "model": run.fingerprints[0][:12],
        "labels": None if metrics.labels is None else metrics.labels.status(),
        "aside": aside(run.pipelines, letters),
        "letters": [_letter(letter) for letter in reversed(letters[-_MOST_LETTERS:])],
        "now": time.time(),
    }


def aside(pipelines: Sequence[Pipeline], letters: Sequence[Refused]) -> list[dict[str, Any]]:
    """Return what is set aside now, with the seconds that are left and the reason, where it is still known."""
    found: list[dict[str, Any]] = []
    for one in pipelines:
        if one.source.quarantine is None:
            continue
        # What is set aside is counted as a letter, too, but that is not the reason for it.
        reasons = {letter.topic: letter.reason for letter in letters if "quarantine" not in letter.reason}
        reasons |= {trouble.stream: trouble.reason for trouble in reversed(one.fleet.troubles(200))}
        now = time.monotonic()
        for name, until in [*one.source.quarantine.names.items()][-_MOST_ASIDE:]:
            text = name if isinstance(name, str) else name.decode("utf-8", "replace")
            if until > now:
                reason = reasons.get(text, "")[:_LONGEST_REASON]
                found.append({"name": text, "seconds": round(until - now), "reason": reason})
    return found[-_MOST_ASIDE:]


def _letter(letter: Refused) -> dict[str, Any]:
    return {
        "topic": letter.topic,
        "reason": letter.reason[:_LONGEST_REASON],
        "bytes": letter.size,
        "received": letter.received,
    }
