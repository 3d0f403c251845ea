"""Streams that go wrong are noticed once, with reason and remedy, however their rows are cut into calls."""

from __future__ import annotations

import numpy as np
import pytest
from bundles import make_bundle, make_recording, make_statistics
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

import streamrde as sr
from streamrde import kernels
from streamrde.inference.plausibility import SENTINELS
from streamrde.inference.table import Counts
from streamrde.inference.troubles import Trouble, Vigilance, when
from streamrde.kernels import reference

BUNDLE = make_bundle()
T, X = make_recording(0, 200)


def first_of(said):
    """Takes what is said, but for what was said before."""
    return lambda trouble: None if trouble.again else said.append(trouble)


def pushed(times, x, size, bundle=BUNDLE, **options):
    """A fleet after rows of one stream, and what it said."""
    said: list[Trouble] = []
    fleet = sr.Fleet(bundle, faults="drop", on_trouble=first_of(said), **options)
    for i in range(0, len(times), size):
        fleet.push(["a"] * len(times[i : i + size]), times[i : i + size], x[i : i + size])
    return fleet, said


sizes = pytest.mark.parametrize("size", [1, 7, 200])

CLOCKS = {
    "a counter of uptime begins again at 0": np.concatenate([T[:100] + 900.0, T[:100]]),
    "a counter that had just begun": np.concatenate([T[:100], T[:100]]),
    "1970, then the right time, then 1970 after a reboot": np.concatenate([T[:30], 1.7e9 + T[:80], T[:90]]),
    "a counter of ms wraps at 2^32": np.concatenate([2**32 / 1e3 - T[100] + T[:100], T[:100]]),
    "NTP sets the clock back by a minute": np.concatenate([1.7e9 + T[:100], 1.7e9 + T[100:] - 60.0]),
}


def without_cuts(said, name):
    """Troubles without the cut of a silence from 1970 until today, which is said too."""
    cuts = [t for t in said if t.kind == "cut"]
    assert len(cuts) == name.startswith("1970")
    return [t for t in said if t.kind != "cut"]


@pytest.mark.slow
@sizes
@pytest.mark.parametrize("name", CLOCKS)
def test_a_clock_that_goes_back_is_said_once_and_stands_in_the_status(name, size):
    fleet, said = pushed(CLOCKS[name], X[: len(CLOCKS[name])], size)
    said = without_cuts(said, name)
    assert [t.kind for t in said] == ["restart"], said
    assert "went back" in str(said[0])
    assert "late = 'restart'" in str(said[0])
    assert fleet.trouble_counts["restart"] == 1
    assert [(t.stream, t.kind, t.over) for t in without_cuts(fleet.troubles(), name)] == [("a", "restart", False)]


@sizes
@pytest.mark.parametrize("name", CLOCKS)
def test_a_clock_that_goes_back_begins_a_segment_where_that_is_asked_for(name, size):
    times = CLOCKS[name]
    fleet, said = pushed(times, X[: len(times)], size, restart_after=10)
    said = without_cuts(said, name)
    assert [t.kind for t in said] == ["restart"]
    assert "its time begins again at" in str(said[0])
    assert fleet.counts() == Counts(samples=len(times) - 9, late=9)
    assert [t.over for t in without_cuts(fleet.troubles(), name)] == [True]


@sizes
def test_a_restart_each_hour_is_said_once_and_counted_each_time(size):
    times = np.concatenate([T[:50]] * 4)
    fleet, said = pushed(times, X, size, restart_after=10)
    assert len(said) == 1
    assert fleet.trouble_counts["restart"] == 3
    assert fleet.counts() == Counts(samples=200 - 27, late=27)


@pytest.mark.slow
@given(st.lists(st.integers(0, 200), max_size=6))
def test_where_a_restarted_stream_is_cut_into_calls_changes_nothing(cuts):
    times = np.concatenate([T[:60] + 50.0, T[:70], T[:70] + 3.0])
    whole, _ = pushed(times, X, 200, restart_after=5)
    fleet = sr.Fleet(BUNDLE, faults="drop", restart_after=5)
    for part in np.split(np.arange(200), sorted(cuts)):
        fleet.push(["a"] * len(part), times[part], X[part])
    assert fleet.snapshot() == whole.snapshot()
    predictor = sr.Predictor(BUNDLE, stream="a", faults="drop", restart_after=5)
    for t, x in zip(times.tolist(), X.tolist(), strict=True):
        predictor.push(t, x)
    assert predictor.snapshot() == whole.snapshot()["a"]


@pytest.mark.slow
@sizes
@pytest.mark.parametrize("ahead", [12 * 3600.0, 86400.0, 10 * 365.25 * 86400.0])
def test_one_stamp_in_the_future_is_named_as_what_makes_all_others_late(ahead, size):
    """Cut off by a gap, as a silence of that length is, the stamp is a segment of its own."""
    bundle = make_bundle(gap=sr.Gap(seconds=60.0))
    times = 1.7e9 + T
    times[100] += ahead
    fleet, said = pushed(times, X, size, bundle)
    assert [t.kind for t in said] == ["late"]
    assert "one was stamped" in str(said[0])
    assert "s ahead" in str(said[0])
    assert fleet.counts() == Counts(samples=101, late=99)
    again, _ = pushed(times, X, size, bundle, restart_after=10)
    assert again.counts() == Counts(samples=191, late=9)


def test_streams_that_are_late_because_time_was_told_too_far_say_so():
    fleet = sr.Fleet(make_bundle(interpolation="hold"), faults="drop", on_trouble=first_of(said := []))
    fleet.push(["a"] * 100, T[:100], X[:100])
    fleet.advance(T[99] + 500.0)
    fleet.push(["a"] * 100, T[100:], X[100:])
    assert [t.kind for t in said] == ["late"]
    assert "time passed" in str(said[0])
    assert "silence.ahead" in str(said[0])


def test_a_clock_that_stands_still_is_stuck():
    times = T.copy()
    times[50:] = times[50]
    _, said = pushed(times, X, 10)
    assert [t.kind for t in said] == ["stuck"]


def test_samples_that_are_all_rejected_are_said_with_what_is_wrong_with_them():
    x = X.copy()
    x[50:, 1] = np.inf
    _, said = pushed(T, x, 10)
    assert [(t.kind, "channel 'b' is inf" in t.reason) for t in said] == [("rejected", True)]


def test_a_few_late_samples_are_no_trouble_and_trouble_that_ends_is_over():
    times = T.copy()
    times[50:58] -= 30.0
    fleet, said = pushed(times, X, 200)
    assert said == []
    times[50:70] = T[30:50]
    fleet, said = pushed(times, X, 200)
    assert [t.kind for t in said] == ["restart"]
    assert [t.over for t in fleet.troubles()] == [True], "later samples were taken again"
    assert pushed(times, X, 200, vigilance=Vigilance(late_rows=50))[1] == []


@sizes
def test_a_channel_that_never_comes_is_said_once_and_over_when_it_comes(size):
    x = X.copy()
    x[:150, 1] = np.nan
    fleet, said = pushed(T[:100], x[:100], size)
    assert [(t.kind, t.channel) for t in said] == [("unseen", "b")]
    assert "did not come in any of its" in str(said[0])
    assert [t.over for t in fleet.troubles()] == [False]
    fleet.push(["a"] * 100, T[100:], x[100:])
    assert [t.over for t in fleet.troubles()] == [True]
    assert len(said) == 1


def test_a_channel_that_no_longer_comes_is_gone():
    x = X.copy()
    x[60:, 0] = np.nan
    _, said = pushed(T, x, 20)
    assert [(t.kind, t.channel) for t in said] == [("gone", "a")]
    x[1:60:2, 0] = np.nan  # every other sample has it
    assert [t.kind for t in pushed(T, x, 20)[1]] == ["gone"]


def test_a_slow_channel_is_no_trouble_where_training_had_it_as_slow():
    x = X.copy()
    x[:, 1] = np.nan
    x[40::50, 1] = 1.0
    assert [t.kind for t in pushed(T, x, 20)[1]] == ["unseen"]
    known = make_statistics()
    for changes in ({"longest_missing": (0, 49)}, {"longest_missing": (0, 0), "unseen": (0.0, 0.25)}):
        assert pushed(T, x, 20, make_bundle(statistics=replace(known, **changes)))[1] == []


def test_a_stream_that_ends_early_says_which_channels_it_never_had():
    x = X[:8].copy()
    x[:, 0] = np.nan
    fleet, said = pushed(T[:8], x, 8)
    assert said == []
    fleet.flush()
    assert [(t.stream, t.kind, t.channel) for t in said] == [("a", "unseen", "a")]
    assert [t.stream for t in fleet.troubles()] == ["a"]


def test_messages_without_any_channel_say_nothing_about_one():
    x = np.full((50, 2), np.nan)
    assert pushed(T[:50], x, 10)[1] == []


def test_a_channel_that_stays_far_outside_of_training_is_said():
    """Hectopascals read as bar: far from training, and not impossible."""
    bundle = make_bundle(statistics=make_statistics(low=(900.0, -3.0), high=(1100.0, 5.0)))
    x = X.copy()
    x[:, 0] = 1.013
    fleet, said = pushed(T, x, 50, bundle)
    assert [(t.kind, t.channel) for t in said] == [("far", "a")]
    assert "(900 to 1100)" in str(said[0])
    assert fleet.implausible == {"a": 0, "b": 0}


def test_a_stream_that_ended_is_forgotten_and_said_again_when_it_goes_wrong_again():
    times = np.concatenate([T[:50], T[:50]])
    fleet, said = pushed(times, X[:100], 10)
    fleet.flush()
    fleet.push(["a"] * 100, times, X[:100])
    assert [t.kind for t in said] == ["restart", "restart"]


def test_another_model_goes_on_with_what_was_said():
    x = X.copy()
    x[:, 1] = np.nan
    said = []
    fleet = sr.Fleet(make_bundle(seed=1), faults="drop", on_trouble=first_of(said))
    for name in ("gone", "a"):
        fleet.push([name] * 100, T[:100], x[:100])
    fleet.flush(["gone"])
    fleet.swap(make_bundle(seed=2))
    fleet.push(["a"] * 100, T[100:], x[100:])
    assert [(t.stream, t.kind) for t in said] == [("gone", "unseen"), ("a", "unseen")]


def test_what_comes_again_after_a_restart_of_the_service_is_no_restart_of_a_clock():
    saved, _ = pushed(T[:100], X[:100], 100)
    said = []
    fleet = sr.Fleet(BUNDLE, faults="drop", restart_after=10, on_trouble=first_of(said))
    fleet.restore(saved.snapshot(), repeats=1000)
    for i in range(50, 200, 5):
        fleet.push(["a"] * 5, T[i : i + 5], X[i : i + 5])
    assert said == []
    assert fleet.counts() == Counts(samples=200, late=49, duplicate=1)


def test_the_words_kept_are_bounded_and_the_counts_are_not():
    names = np.repeat([f"s{i}" for i in range(1200)], 20)
    t = np.tile(np.concatenate([T[:10] + 50.0, T[:10]]), 1200)
    fleet = sr.Fleet(BUNDLE, faults="drop", on_trouble=lambda trouble: None)
    fleet.push(names, t, np.ones((len(t), 2)))
    assert fleet.trouble_counts["restart"] == 1200
    assert len(fleet.troubles(5000)) == 1000
    assert [trouble.stream for trouble in fleet.troubles(2)] == ["s1199", "s1198"]


def test_times_are_said_with_their_date_where_they_have_one():
    assert when(12.5) == "12.5 s"
    assert when(1.7e9) == "1700000000.000 s (2023-11-14 22:13:20 UTC)"


@pytest.mark.skipif(kernels.observe is reference.observe, reason="there are no compiled kernels")
@given(st.integers(0, 2**32), st.integers(1, 4), st.sampled_from([0.0, 0.5, 0.9]))
def test_the_compiled_look_at_samples_is_the_references_twin(seed, channels, missing):
    rng = np.random.default_rng(seed)
    marks = np.zeros((3, 2 + 3 * channels), np.uint32)
    marks[2] = np.iinfo(np.uint32).max - 2
    marks[2, 1] = 0
    twin = marks.copy()
    bounds = np.sort(rng.normal(size=(4, channels)), axis=0)[[0, 3, 1, 2]]
    after = rng.integers(1, 6, size=(3, channels)).astype(np.uint32)
    after[:, 0] = np.iinfo(np.uint32).max
    for _ in range(3):
        x = rng.choice([0.0, 0.5, -0.5, 3.0, -9999.0, np.inf, 1e300], size=(40, channels)) * rng.choice([1.0, 0.1])
        x[rng.random(x.shape) < missing] = np.nan
        slots = rng.integers(0, 3, 40).astype(np.intp)
        ours = kernels.observe(marks, slots, x, bounds, SENTINELS, after)
        theirs = reference.observe(twin, slots, x, bounds, SENTINELS, after)
        assert (ours is None) == (theirs is None)
        if ours is not None and theirs is not None:
            assert ours.tolist() == theirs.tolist()
        assert marks.tolist() == twin.tolist()
