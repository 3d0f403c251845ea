"""A bounded number of windows at a time: the same predictions as in one go, and nothing waits for all of them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from bundles import make_bundle

import streamrde as sr

BOUND = 32


def far_ahead(count, silence, *, streams=1):
    """Rows of streams that have samples, are silent for so long, and come back, in order of time."""
    t = np.concatenate([np.arange(count) * 0.25, silence + np.arange(count) * 0.25])
    x = np.random.default_rng(1).normal(size=(len(t), 2)).cumsum(axis=0) * 0.1
    names = [f"s{i}" for i in range(streams)] * len(t)
    return pa.array(names), np.repeat(t, streams), np.repeat(x, streams, axis=0)


def rows(batches):
    return sorted((r for batch in batches for r in batch.to_pylist()), key=lambda r: (r["stream"], r["window"]))


@pytest.mark.slow
@pytest.mark.parametrize("interpolation", ["linear", "hold"])
@pytest.mark.parametrize("streams", [1, 40])
def test_windows_that_are_owed_are_those_of_one_call(interpolation, streams):
    bundle = make_bundle(interpolation=interpolation)
    names, t, x = far_ahead(8, 700.0, streams=streams)
    whole, sliced = sr.Fleet(bundle), sr.Fleet(bundle)
    expected = [whole.push(names, t, x), whole.flush()]
    got = [sliced.push(names, t, x, windows=BOUND)]
    assert got[0].num_rows <= BOUND + 4 * len(t)
    assert sliced.owing == streams
    assert sliced.slices(windows=BOUND).held >= streams
    for batch in sliced.slices(windows=BOUND).owed():
        assert batch.num_rows <= BOUND
        got.append(batch)
    assert sliced.owing == sliced.slices(windows=BOUND).held == 0
    got += sliced.slices(windows=BOUND).flush()
    assert rows(got) == rows(expected)
    assert len(sliced) == 0


def test_streams_that_owe_take_turns_and_others_are_served_meanwhile():
    bundle = make_bundle()
    fleet = sr.Fleet(bundle)
    names, t, x = far_ahead(4, 900.0, streams=5)
    fleet.push(names, t, x, windows=BOUND)
    work = fleet.slices(windows=5 * BOUND).owed()
    closed = [next(work)["stream"].to_pylist() for _ in range(3)]
    assert all(set(streams) == {f"s{i}" for i in range(5)} for streams in closed)
    other = fleet.push(["other"] * 9, np.arange(9.0), np.zeros((9, 2)), windows=BOUND)
    assert set(other["stream"].to_pylist()) == {"other"}
    assert fleet.owing == 5


def test_a_stream_that_owes_is_saved_with_its_samples_and_goes_on_from_there():
    bundle = make_bundle()
    names, t, x = far_ahead(6, 400.0)
    whole, first, second = sr.Fleet(bundle), sr.Fleet(bundle), sr.Fleet(bundle)
    expected = [whole.push(names, t, x), whole.flush()]
    got = [first.push(names, t, x, windows=BOUND), next(first.slices(windows=BOUND).owed())]
    second.restore(first.checkpoint().snapshots)
    assert second.owing == 1
    got += second.slices(windows=BOUND).owed()
    assert rows([*got, second.flush()]) == rows(expected)


@pytest.mark.parametrize("what", ["push", "flush", "advance"])
def test_whatever_is_next_called_on_a_stream_first_closes_what_it_owes(what):
    bundle = make_bundle(interpolation="hold")
    names, t, x = far_ahead(6, 400.0)
    whole, sliced = sr.Fleet(bundle), sr.Fleet(bundle)
    expected, got = [whole.push(names, t, x)], [sliced.push(names, t, x, windows=BOUND)]
    for fleet, batches in ((whole, expected), (sliced, got)):
        if what == "push":
            batches.append(fleet.push(["s0"], [402.0], np.ones((1, 2))))
        elif what == "advance":
            batches.append(fleet.advance(405.0))
        batches.append(fleet.flush())
    assert rows(got) == rows(expected)
    assert sliced.owing == 0


@pytest.mark.parametrize("what", ["advance", "evict"])
def test_time_that_passes_for_many_streams_is_worked_off_in_slices(what):
    bundle = make_bundle(interpolation="hold")
    names, t, x = far_ahead(1, 1.0, streams=100)
    whole, sliced = sr.Fleet(bundle), sr.Fleet(bundle)
    for fleet in (whole, sliced):
        fleet.push(names, t, x)
    if what == "advance":
        expected, got = [whole.advance(60.0)], list(sliced.slices(windows=BOUND).advance(60.0))
    else:
        expected, got = [whole.evict(idle=5.0, now=60.0)], list(sliced.slices(windows=BOUND).evict(idle=5.0, now=60.0))
        assert len(sliced) == 0
    assert len(got) > 3
    assert all(batch.num_rows <= 2 * BOUND for batch in got)
    assert rows(got) == rows(expected)
    assert sliced.snapshot() == whole.snapshot()


def test_a_stream_that_ends_between_two_slices_is_left_out():
    bundle = make_bundle(interpolation="hold")
    names, t, x = far_ahead(1, 1.0, streams=100)
    fleet = sr.Fleet(bundle)
    fleet.push(names, t, x)
    work = fleet.slices(windows=BOUND).advance(60.0)
    next(work)
    fleet.flush(["s99"])
    assert "s99" not in {r["stream"] for batch in work for r in batch.to_pylist()}


@pytest.mark.parametrize("windows", [0, -1])
def test_a_bound_that_lets_nothing_close_is_refused(windows):
    fleet = sr.Fleet(make_bundle())
    with pytest.raises(ValueError, match="closes at least 1"):
        fleet.push(["a"], [0.0], np.zeros((1, 2)), windows=windows)
    with pytest.raises(ValueError, match="closes at least 1"):
        fleet.slices(windows=windows)
