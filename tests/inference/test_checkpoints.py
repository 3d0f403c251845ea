"""What a fleet says has changed is all that is needed to bring it back."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from bundles import make_bundle, make_recording
from hypothesis import given
from hypothesis import strategies as st

import streamrde as sr
import streamrde.errors
from streamrde import snapshots
from streamrde.windowing.rows import Column

BUNDLE = make_bundle(interpolation="hold")
NAMES = ["a", "b", "c"]

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.lists(st.sampled_from(NAMES), min_size=1, max_size=5)),
        st.tuples(st.just("advance"), st.floats(0.0, 5.0)),
        st.tuples(st.just("flush"), st.sampled_from(NAMES)),
        st.tuples(st.just("checkpoint"), st.none()),
        st.tuples(st.just("crash"), st.none()),
    ),
    max_size=25,
)


@pytest.mark.slow
@given(STEPS)
def test_saved_changes_bring_the_fleet_back_at_any_checkpoint(steps):
    times, values = make_recording(0, 200)
    fleet, saved, taken = sr.Fleet(BUNDLE, faults="drop"), {}, 0
    for what, value in steps:
        if what == "push":
            rows = slice(taken, taken + len(value))
            fleet.push(value, times[rows], values[rows])
            taken += len(value)
        elif what == "advance":
            fleet.advance(times[taken] + value)
        elif what == "flush":
            fleet.flush([value] if value in fleet else [])
        else:
            changes = fleet.checkpoint()
            assert not changes.snapshots.keys() & set(changes.ended)
            saved |= changes.snapshots
            for name in changes.ended:
                saved.pop(name, None)
            assert saved == fleet.snapshot()
            assert fleet.checkpoint() == ({}, ())
            if what == "crash":
                fleet = sr.Fleet(BUNDLE, faults="drop")
                fleet.restore(saved)
                assert fleet.checkpoint() == ({}, ())


def test_only_streams_that_changed_are_saved():
    fleet = sr.Fleet(BUNDLE)
    fleet.push(["a", "b"], [0.0, 0.0], np.ones((2, 2)))
    assert fleet.checkpoint().snapshots.keys() == {"a", "b"}
    fleet.push(["b"], [0.5], np.ones((1, 2)))
    assert fleet.checkpoint().snapshots.keys() == {"b"}
    fleet.advance(0.9)
    assert fleet.checkpoint().snapshots == {}
    fleet.advance(1.5)
    assert fleet.checkpoint().snapshots.keys() == {"a", "b"}


def test_a_swapped_model_goes_on_from_the_same_state():
    old, new = make_bundle(seed=1), make_bundle(seed=2)
    times, values = make_recording(3, 60)
    fleet = sr.Fleet(old)
    fleet.push(["a"] * 30, times[:30], values[:30])
    before = fleet.snapshot()["a"]
    fleet.swap(new)
    assert fleet.predecessors == {old.fingerprint}
    assert fleet.checkpoint().snapshots.keys() == {"a"}
    assert fleet.counts("a").samples == 30
    fleet.swap(old)
    fleet.swap(new)
    assert fleet.predecessors == {old.fingerprint}
    after = fleet.push(["a"] * 30, times[30:], values[30:])
    # The old model's state, read by the new one.
    other = sr.Fleet(old)
    other.restore({"a": before})
    other.swap(new)
    assert after.equals(other.push(["a"] * 30, times[30:], values[30:]))
    assert not after.equals(fleet_of(old, before).push(["a"] * 30, times[30:], values[30:]))


def test_a_snapshot_of_before_rows_said_how_many_columns_they_have_still_loads():
    class Header(msgspec.Struct, tag="stream", tag_field="kind"):
        stream: str
        model: str

    for order in (sr.Order(), sr.Order(lateness=2.0)):
        fleet = sr.Fleet(BUNDLE, order=order, faults="drop")
        t, x = make_recording(3, 30)
        fleet.push(["a"] * 20, t[:20], x[:20])
        values = fleet._table.read_snapshot(fleet.snapshot()["a"])[1]
        # They had two columns, one per data channel, behind the state and its three counts that are no more.
        place = fleet._table.states.after_counts
        values = np.insert(values, place, [0.25, 0.5])
        old = snapshots.pack(Header("a", BUNDLE.fingerprint), np.delete(values, np.s_[21 : len(Column)]))
        again = sr.Fleet(BUNDLE, order=order, faults="drop")
        again.restore({"a": old})
        assert again.snapshot() == fleet.snapshot()
        assert again.push(["a"] * 10, t[20:], x[20:]).equals(fleet.push(["a"] * 10, t[20:], x[20:]))


def fleet_of(bundle, snapshot):
    fleet = sr.Fleet(bundle)
    fleet.restore({"a": snapshot})
    return fleet


def test_a_model_of_another_shape_is_refused_and_the_old_one_stays():
    fleet = sr.Fleet(make_bundle(seed=1))
    fleet.push(["a"], [0.0], np.ones((1, 2)))
    before = fleet.snapshot()
    with pytest.raises(sr.errors.BundleError, match="hidden was 8 and is 16; outputs was 3 and is 4; labels was"):
        fleet.swap(make_bundle(hidden=16, outputs=4, labels=()))
    assert fleet.snapshot() == before
    assert fleet.predecessors == frozenset()
