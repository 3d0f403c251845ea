"""Print the summary of a scoring job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamrde.cli.pipeline import print_troubles

if TYPE_CHECKING:
    from streamrde.scoring.status import Summary


def print_summary(summary: Summary) -> None:
    """Print what a job did, for people."""
    rate = summary.rows / max(summary.seconds, 1e-9)
    streams = (
        f"{summary.streams - summary.silent:,} of {summary.streams:,} streams"
        if summary.silent
        else (f"{summary.streams:,} streams")
    )
    print(
        f"wrote {summary.out}: {streams}, {summary.rows:,} rows, "
        f"{summary.predictions:,} predictions, "
        f"{summary.seconds:.2f} s ({rate:,.0f} rows/s)"
    )
    if summary.silent:
        names = ", ".join(f"'{name}'" for name in summary.silent_examples)
        more = ", ..." if summary.silent > len(summary.silent_examples) else ""
        why = (
            "their windows are still open, in the state store"
            if summary.states
            else "they have fewer than two usable samples"
        )
        print(f"{summary.silent:,} streams without a window, hence without a prediction ({names}{more}): {why}")
    faults = {name: count for name, count in summary.counts._asdict().items() if name != "samples" and count}
    if faults:
        print("skipped: " + ", ".join(f"{count:,} {name}" for name, count in faults.items()))
    print_troubles(summary.troubles, summary.implausible, summary.said)
    for reason, count in summary.dropped.items():
        print(f"skipped: {count:,} row{'s' if count > 1 else ''}: {reason}")
    flags = {name.replace("_", " "): getattr(summary.state_counts, name) for name in ("out_of_range", "not_finite")}
    if any(flags.values()):
        print("states: " + ", ".join(f"{count:,} windows {name}" for name, count in flags.items() if count))
    if cuts := summary.state_counts.cuts:
        print(f"cut: {cuts:,} silences were longer than the model bridges; the streams begin anew after them")
    if summary.novelty:
        novel, drifts = summary.state_counts.novel, summary.state_counts.drifts
        print(f"novelty: {novel:,} windows with p below 1 %, {drifts:,} alarms of drift")
    if summary.sorted:
        print(f"sorted: rows of {summary.sorted} of {summary.parts} parts were not in order of time")
    for name, count in summary.restarts.items():
        print(
            f"split: stream {name} begins again {count} time{'s' if count > 1 else ''}: {name}#2{' ...' * (count > 1)}"
        )
    if summary.resumed:
        print(f"resumed: {summary.resumed} of {summary.parts} parts were done")
    if summary.states:
        print(f"states: {summary.states:,} streams left where they stand")
    for reason in summary.skipped.values():
        print(f"left out: {reason}")
    if summary.unmeasured:
        print(f"not measured: {summary.unmeasured}")
    if summary.evaluation is not None:
        if summary.horizon:
            print(
                f"truth: the model predicts {summary.horizon:g} s ahead; each window is compared with what is known so "
                "much later"
            )
        from rich.console import Console

        from streamrde.cli.evaluation import alarms, outcome, tables
        from streamrde.tables import print_whole

        for table in tables(summary.evaluation):
            print_whole(Console(), table)
        print(f"done: {outcome(summary.evaluation)}")
        for alarm in alarms(summary.evaluation):
            print(f"warning: {alarm}")
