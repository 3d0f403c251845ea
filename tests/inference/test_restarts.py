"""A stream whose clock begins again, or one of whose stamps was ahead, goes on in a new segment."""

from __future__ import annotations

import numpy as np
import pytest
from bundles import make_bundle, make_recording

import streamrde as sr
from streamrde.inference.table import Counts

BUNDLE = make_bundle()


def rebooted(t, ahead=0.0):
    """Times of a counter of uptime that begins again at 0 after half of them."""
    half = len(t) // 2
    return np.concatenate([t[:half] + ahead, t[half:] - t[half]])


def test_a_fleet_told_to_restart_a_stream_takes_whatever_time_comes_next():
    t, x = make_recording(1, 40)
    times = rebooted(t)
    fleet = sr.Fleet(BUNDLE, faults="drop")
    first = fleet.push(["a"] * 20, times[:20], x[:20])
    closed = fleet.restart(["a"])
    assert fleet.evict(idle=0.0, now=1e9).num_rows == 0, "it waits for its next sample"
    second = fleet.push(["a"] * 20, times[20:], x[20:])
    assert fleet.counts() == Counts(samples=40)
    windows = [w for batch in (first, closed, second, fleet.flush()) for w in batch["window"].to_pylist()]
    assert windows == list(range(len(windows))), "numbers go on, so that (stream, window) stays unique"
    assert second["t_start"].to_pylist()[0] == 0.0


def test_a_restarted_stream_survives_its_snapshot():
    t, x = make_recording(1, 40)
    fleet, other = sr.Fleet(BUNDLE, faults="drop"), sr.Fleet(BUNDLE, faults="drop")
    fleet.push(["a"] * 20, t[:20], x[:20])
    fleet.restart(["a"])
    assert "a" in fleet.checkpoint().snapshots
    other.restore(fleet.snapshot())
    again = t[20:] - t[20]
    assert other.push(["a"] * 20, again, x[20:]).equals(fleet.push(["a"] * 20, again, x[20:]))


@pytest.mark.parametrize("gap", [None, "reset", "carry"])
def test_a_restart_is_as_a_return_after_an_end_to_the_models_state(gap):
    """State and last values go on where the model has them go on."""
    bundle = make_bundle(gap=None if gap is None else sr.Gap(seconds=5.0, state=gap))
    t, x = make_recording(2, 20)
    restarted, archived = sr.Fleet(bundle), sr.Fleet(bundle, archive={})
    for fleet in (restarted, archived):
        fleet.push(["a"] * 20, t, x)
    restarted.restart(["a"])
    archived.evict(idle=0.0, now=t[-1] + 1.0)
    later = t + t[-1] + 1.0
    assert restarted.push(["a"] * 20, later, x).equals(archived.push(["a"] * 20, later, x))
