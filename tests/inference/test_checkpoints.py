"""What a fleet says has changed is all that is needed to bring it back."""

from __future__ import annotations

import numpy as np
from bundles import make_bundle, make_recording
from hypothesis import given
from hypothesis import strategies as st

import streamrde as sr

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
