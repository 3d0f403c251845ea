"""Labels of a fleet's predictions: joined by window or time, late, out of order, twice, never."""

from __future__ import annotations

import copy
import pickle

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from bundles import make_bundle, make_recording
from hypothesis import given
from hypothesis import strategies as st

import streamrde as sr
from streamrde.adapting.baselines import METHODS
from streamrde.adapting.settings import Adapt, Learned
from streamrde.errors import ParameterError, ShapeError, SnapshotError
from streamrde.inference.header import Head

REGRESSION = {"task": "regression", "labels": ("u", "v"), "outputs": 2, "windows": sr.Every(1.0)}


def regression(**changes):
    return make_bundle(**REGRESSION | {"interpolation": "hold"} | changes)


def pushed(fleet, stream="s", length=40, seed=0):
    t, x = make_recording(seed, length)
    return fleet.push([stream] * length, t, x)


def outcomes(batch):
    return batch["outcome"].to_pylist()


def test_labels_are_joined_by_window_and_by_time():
    by_window, by_time = (sr.Fleet(regression(horizon=6.0), adapt="frozen") for _ in range(2))
    predicted = pushed(by_window)
    pushed(by_time)
    windows, t_end = predicted["window"].to_numpy(), predicted["t_end"].to_numpy()
    labels = np.random.default_rng(0).normal(size=(len(windows), 2))
    one = by_window.label(["s"] * len(windows), labels, window=windows)
    two = by_time.label(["s"] * len(windows), labels, t=t_end + 6.0)
    assert set(outcomes(one)) == {"joined"}
    assert one.equals(two)
    assert one["window"].to_pylist() == windows.tolist()
    assert one["served"].to_pylist() == predicted["value"].cast(pa.list_(pa.float64(), 2)).to_pylist()
    assert one["frozen"].equals(one["served"])
    assert by_window.snapshot() == by_time.snapshot()


def test_a_label_goes_to_the_nearest_prediction_within_reach():
    fleet = sr.Fleet(regression(), adapt="online")
    t_end = pushed(fleet)["t_end"].to_numpy()
    near = fleet.label(["s"] * 3, np.zeros((3, 2)), t=t_end[[0, 1, 2]] + [0.4, -0.4, 0.0])
    assert near["window"].to_pylist() == [0, 1, 2]
    far = sr.Fleet(regression(), adapt=Adapt(within=0.1))
    pushed(far)
    assert outcomes(far.label(["s"] * 2, np.zeros((2, 2)), t=[t_end[0] + 0.4, t_end[1]])) == ["unknown", "joined"]


def test_every_label_has_its_outcome_and_is_counted():
    fleet = sr.Fleet(regression(), adapt=Adapt(pending=4))
    newest = int(pushed(fleet)["window"].to_numpy()[-1])
    streams = ["s"] * 6 + ["nobody"]
    values = np.array([[1.0, 2], [3, 4], [np.nan, np.nan], [1, 2], [1, 2], [1, np.nan], [1, 2]])
    window = [newest, newest, newest - 1, 0, newest + 1, newest - 2, 0]
    batch = fleet.label(streams, values, window=window)
    assert outcomes(batch) == ["joined", "duplicate", "nan", "expired", "held", "joined", "unknown"]
    found = fleet.adaptation()
    assert found[:5] == (2, 1, 1, 1, 1)
    assert found.held == 1
    assert found.never == newest + 1 - 4
    assert found.waiting == 2
    # What was skipped waits for its label still.
    assert outcomes(fleet.label(["s"], [[1.0, 2.0]], window=[newest - 1])) == ["joined"]
    assert batch["label"].to_pylist()[1] is None
    assert batch["label"].to_pylist()[0] == [1.0, 2.0]


@st.composite
def shared_histories(draw):
    """Samples and labels of three streams, in an order of their own."""
    return draw(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(0, 6)), min_size=5, max_size=25))


@given(shared_histories(), st.integers(0, 2**32), st.booleans())
def test_a_shared_correction_depends_on_the_order_of_labels_alone(events, seed, classes):
    bundle = make_bundle(windows=sr.Every(1.0)) if classes else regression()
    adapt, rng = Adapt(serve="online", share=True, pending=6), np.random.default_rng(seed)
    fleets = [sr.Fleet(bundle, adapt=adapt) for _ in range(2)]
    samples = {name: make_recording(at, 200) for at, name in enumerate("abc")}
    used, waiting = dict.fromkeys("abc", 0), []
    label = (lambda number: "xyz"[number % 3]) if classes else (lambda number: [number, -number])

    def learn_at_once():
        if waiting:
            names, values, windows = zip(*waiting, strict=True)
            fleets[0].label(list(names), list(values), window=list(windows))
            waiting.clear()

    for name, is_label, number in events:
        if is_label and used[name]:
            # One fleet takes neighbouring labels in one call, the other one by one.
            waiting.append((name, label(number), number))
            fleets[1].label([name], [label(number)], window=[number])
            continue
        learn_at_once()
        t, x = (part[used[name] : used[name] + 3] for part in samples[name])
        used[name] += 3
        one, two = (fleet.push([name] * 3, t, x) for fleet in fleets)
        assert one.equals(two)
        if rng.random() < 0.3:
            kept, fleets[1] = fleets[1].snapshot(), sr.Fleet(bundle, adapt=adapt)
            fleets[1].restore(dict(reversed(kept.items())))
    learn_at_once()
    assert fleets[0].snapshot() == fleets[1].snapshot()


def test_streams_without_labels_gain_from_a_shared_correction():
    plain = regression()
    still = {"readout.weight": np.zeros_like(plain.tensors["readout.weight"])}
    bundle, adapt = sr.Bundle(plain.header, {**plain.tensors, **still}), Adapt(serve="online", share=True)
    fleet = sr.Fleet(bundle, adapt=adapt)
    closed = pushed(fleet, "old", 200)
    fleet.label(["old"] * 30, np.full((30, 2), 5.0), window=closed["window"].to_numpy()[-30:])
    fresh = np.array(pushed(fleet, "new")["value"].to_pylist())
    assert np.abs(fresh - 5.0).max() < 1.0
    assert outcomes(fleet.label(["new"], [[1.0, 2.0]], window=[10_000])) == ["unknown"]
    own = sr.Fleet(bundle, adapt="online")
    pushed(own, "old", 200)
    assert np.abs(np.array(pushed(own, "new")["value"].to_pylist()) - 5.0).min() > 1.0
    # It stays when streams end, and over swaps, copies and checkpoints.
    fleet.checkpoint()
    fleet.flush()
    fleet.label(["gone"], [[1.0, 2.0]], window=[0])
    assert [name for name in fleet.checkpoint().snapshots if not name.startswith("\0")] == []
    fleet.swap(sr.Bundle(bundle.header, {**bundle.tensors, "readout.bias": bundle.tensors["readout.bias"] * 1.0}))
    twin, empty = copy.deepcopy(fleet), sr.Fleet(bundle, adapt=adapt)
    empty.restore(fleet.snapshot())
    for later in (fleet, twin, empty):
        assert np.array(pushed(later, "later")["value"].to_pylist()).tobytes() == fresh.tobytes()
    fleet.flush()
    with pytest.raises(SnapshotError, match="shared readout was taken with other settings"):
        sr.Fleet(bundle, adapt=Adapt(share=True, pending=3)).restore(fleet.snapshot())
    with pytest.raises(ParameterError, match="a Predictor has one stream"):
        sr.Predictor(bundle, adapt=adapt)


@pytest.mark.parametrize("by", ["window", "t"])
def test_a_label_that_comes_early_is_learned_with_its_prediction(by):
    early, late = (sr.Fleet(regression(), adapt="best") for _ in range(2))
    t, x = make_recording(0, 40)
    half = np.searchsorted(t, 5.5)
    for fleet in (early, late):
        newest = int(fleet.push(["s"] * half, t[:half], x[:half])["window"].to_numpy()[-1])
    named = [newest + 2] if by == "window" else [t[0] + newest + 3.2]
    label = [[7.0, 8.0]]
    assert outcomes(early.label(["s"], label, **{by: named})) == ["held"]
    assert outcomes(early.label(["s"], label, **{by: named})) == ["duplicate"]
    assert (early.adaptation().held, early.adaptation().joined) == (1, 0)
    # However rows are cut: the windows before see nothing of it, and the one after it does.
    for at in range(half, 40):
        one, two = (fleet.push(["s"], t[at : at + 1], x[at : at + 1]) for fleet in (early, late))
        assert one.equals(two)
        if newest + 2 in two["window"].to_pylist():
            assert outcomes(late.label(["s"], label, window=[newest + 2])) == ["joined"]
    assert (early.adaptation().held, early.adaptation().joined) == (0, 1)
    assert early.adaptation().errors == late.adaptation().errors


def test_early_labels_are_bounded_and_never_lost_unseen():
    fleet = sr.Fleet(regression(), adapt=Adapt(early=3))
    t, x = make_recording(0, 40)
    fleet.push(["s"], t[:1], x[:1])
    ahead = [1, 1000, 2, 2, 3, 1001]
    batch = fleet.label(["s"] * 6, np.ones((6, 2)), window=ahead)
    assert outcomes(batch) == ["held", "held", "held", "duplicate", "held", "held"]
    assert fleet.label(["s"], [[np.nan, np.inf]], window=[4])["outcome"].to_pylist() == ["nan"]
    assert fleet.adaptation().unknown == 2  # 1 and 1000 gave up their places
    restored = sr.Fleet(regression(), adapt=Adapt(early=3))
    restored.restore(fleet.snapshot())
    for own in (fleet, restored):
        own.push(["s"] * 39, t[1:], x[1:])
    assert restored.snapshot() == fleet.snapshot()
    found = fleet.adaptation()
    assert (found.joined, found.unknown, found.duplicate, found.skipped, found.held) == (2, 2, 1, 1, 1)
    none = sr.Fleet(regression(), adapt=Adapt(early=0))
    none.push(["s"], t[:1], x[:1])
    assert outcomes(none.label(["s"], [[1.0, 2.0]], window=[3])) == ["unknown"]


def test_early_labels_whose_predictions_never_come_are_given_up():
    fleet = sr.Fleet(regression(), adapt=Adapt(within=0.01))
    pushed(fleet, length=20)
    newest = fleet.event_time
    assert outcomes(fleet.label(["s"], [[1.0, 2.0]], t=[newest + 3.3])) == ["held"]
    t, x = make_recording(0, 40)
    fleet.push(["s"] * 20, t[20:], x[20:])
    assert (fleet.adaptation().held, fleet.adaptation().unknown) == (0, 1)


def test_duplicates_and_strangers_change_nothing_but_counts():
    fleet = sr.Fleet(regression(), adapt="online")
    pushed(fleet)
    fleet.label(["s"] * 3, np.ones((3, 2)), window=[1, 2, 3])
    before = fleet.peek()["value"].to_pylist()
    fleet.label(["s"] * 4, np.full((4, 2), 7.0), window=[1, 2, 3, 999])
    assert fleet.peek()["value"].to_pylist() == before
    assert fleet.adaptation().joined == 3


def test_frozen_predictions_are_those_without_labels():
    plain, frozen = sr.Fleet(regression()), sr.Fleet(regression(), adapt="frozen")
    for fleet in (plain, frozen):
        pushed(fleet, length=20)
    frozen.label(["s"] * 3, np.full((3, 2), 9.0), window=[0, 1, 2])
    t, x = make_recording(0, 40)
    a, b = (fleet.push(["s"] * 20, t[20:], x[20:]) for fleet in (plain, frozen))
    assert a.equals(b)


def test_learns_what_the_model_misses():
    plain = regression()
    still = {"readout.weight": np.zeros_like(plain.tensors["readout.weight"])}
    bundle, errors = sr.Bundle(plain.header, {**plain.tensors, **still}), {}
    for serve in ("frozen", "online", "last", "best"):
        fleet, rng = sr.Fleet(bundle, adapt=serve), np.random.default_rng(3)
        t, x = make_recording(0, 400)
        total = []
        for at in range(0, 400, 10):
            batch = fleet.push(["s"] * 10, t[at : at + 10], x[at : at + 10])
            if len(batch):
                joined = fleet.label(
                    ["s"] * len(batch), rng.normal(5.0, 0.1, size=(len(batch), 2)), window=batch["window"].to_numpy()
                )
                truth = np.array(joined["label"].to_pylist())
                total.append(np.square(np.array(joined["served"].to_pylist()) - truth).mean())
        errors[serve] = np.sqrt(np.mean(total[5:]))
        assert np.isfinite(fleet.adaptation().errors["online"]).all()
    assert errors["online"] < 0.5 * errors["frozen"]
    assert errors["best"] < 1.3 * min(errors.values())
    assert set(fleet.adaptation().served) < {"online", "last", "mean", "blend"}


@st.composite
def histories(draw):
    """Samples and labels of two streams in a random order, cut and restored at random places."""
    events, windows = [], {"a": 0, "b": 0}
    for _ in range(draw(st.integers(5, 25))):
        stream = draw(st.sampled_from(["a", "b"]))
        if draw(st.booleans()):
            events.append(("push", stream, draw(st.integers(1, 6))))
            windows[stream] += 1
        else:
            events.append(("label", stream, draw(st.integers(0, 8)), draw(st.floats(-5, 5))))
    return events, draw(st.integers(0, 2**32))


@given(histories(), st.sampled_from(["online", "best"]), st.sampled_from(["outputs", "state"]))
def test_restores_anywhere_and_batch_mates_change_no_bit(history, serve, inputs):
    events, seed = history
    rng, adapt = np.random.default_rng(seed), Adapt(serve=serve, inputs=inputs, pending=6)
    bundle = regression(hidden_range=True)
    fleet = sr.Fleet(bundle, adapt=adapt)
    alone = {name: sr.Predictor(bundle, stream=name, adapt=adapt) for name in "ab"}
    samples = {name: make_recording(at, 200) for at, name in enumerate("ab")}
    used = {"a": 0, "b": 0}
    for event in events:
        name = event[1]
        if event[0] == "push":
            t, x = (part[used[name] : used[name] + event[2]] for part in samples[name])
            used[name] += event[2]
            values = np.array(fleet.push([name] * len(t), t, x)["value"].to_pylist())
            own = np.array([p.value for p in alone[name].push_many(t, x)], dtype=float)
            assert values.reshape(-1, 2).tobytes() == own.reshape(-1, 2).tobytes()
        elif used[name]:
            label = [event[3], -event[3]]
            row = fleet.label([name], [label], window=[event[2]]).to_pylist()[0]
            assert alone[name].label(label, window=event[2]) == row
        if rng.random() < 0.3:
            kept = fleet.snapshot()
            fleet = sr.Fleet(bundle, adapt=adapt)
            fleet.restore(kept)
        if rng.random() < 0.3:
            alone[name] = sr.Predictor.restore(bundle, alone[name].snapshot(), adapt=adapt)
    live = [name for name in "ab" if used[name]]
    assert fleet.snapshot(live) == {name: alone[name].snapshot() for name in live}


def test_rows_of_one_call_are_taken_in_order():
    one, two = (sr.Fleet(regression(), adapt="online") for _ in range(2))
    for fleet in (one, two):
        pushed(fleet, "a")
        pushed(fleet, "b", seed=1)
    streams, window = ["a", "b", "a", "b", "a"], [0, 0, 2, 1, 1]
    values = np.random.default_rng(0).normal(size=(5, 2))
    one.label(streams, values, window=window)
    for stream, value, number in zip(streams, values, window, strict=True):
        two.label([stream], [value], window=[number])
    assert one.snapshot() == two.snapshot()


def test_peek_commits_nothing_and_serves_what_is_learned():
    fleet = sr.Fleet(regression(), adapt="last")
    pushed(fleet)
    fleet.label(["s"], [[7.0, 8.0]], window=[3])
    before = fleet.snapshot()
    assert fleet.peek()["value"].to_pylist() == [[7.0, 8.0]]
    assert fleet.peek(t=100.0)["value"].to_pylist() == [[7.0, 8.0]]
    assert fleet.snapshot() == before


def test_copies_and_pickles_go_on_alike():
    fleet = sr.Fleet(regression(), adapt="best")
    pushed(fleet)
    fleet.label(["s", "gone"], np.ones((2, 2)), window=[1, 1])
    for twin in (copy.copy(fleet), copy.deepcopy(fleet), pickle.loads(pickle.dumps(fleet))):
        assert twin.snapshot() == fleet.snapshot()
        assert twin.adaptation() == fleet.adaptation()


def test_labels_count_as_changes_for_checkpoints():
    fleet = sr.Fleet(regression(), adapt="best")
    pushed(fleet)
    fleet.checkpoint()
    fleet.label(["s"], [[1.0, 2.0]], window=[0])
    assert list(fleet.checkpoint().snapshots) == ["s"]


def test_snapshots_from_before_labels_go_on_with_them_and_without():
    plain = sr.Fleet(regression())
    pushed(plain)
    learning = sr.Fleet(regression(), adapt="best")
    learning.restore(plain.snapshot())
    assert outcomes(learning.label(["s"], [[1.0, 2.0]], window=[-1])) == ["unknown"]
    back = sr.Fleet(regression())
    back.restore(learning.snapshot())
    assert back.snapshot() == plain.snapshot()
    other = sr.Fleet(regression(), adapt=Adapt(pending=5))
    with pytest.raises(SnapshotError, match="keep adapt and the model's horizon as they were"):
        other.restore(learning.snapshot())


def test_a_swapped_model_keeps_what_streams_learned():
    fleet = sr.Fleet(regression(), adapt="last")
    pushed(fleet)
    fleet.label(["s"], [[7.0, 8.0]], window=[3])
    fleet.swap(regression(seed=1))
    assert fleet.peek()["value"].to_pylist() == [[7.0, 8.0]]
    assert outcomes(fleet.label(["s"], [[7.0, 8.0]], window=[3])) == ["duplicate"]


def test_classes_by_name_and_number():
    fleets = [sr.Fleet(make_bundle(windows=sr.Every(1.0)), adapt="online") for _ in range(3)]
    for fleet in fleets:
        pushed(fleet)
    names = fleets[0].label(["s"] * 3, ["z", None, "x"], window=[0, 1, 2])
    assert outcomes(names) == ["joined", "nan", "joined"]
    assert names["label"].to_pylist() == [[0, 0, 1], None, [1, 0, 0]]
    fleets[1].label(["s"] * 3, np.array([2, np.nan, 0]), window=[0, 1, 2])
    fleets[2].label(["s"] * 3, pa.array(["z", None, "x"]).dictionary_encode(), window=[0, 1, 2])
    assert fleets[0].snapshot() == fleets[1].snapshot() == fleets[2].snapshot()
    value = fleets[0].peek()["value"].to_pylist()[0]
    assert abs(sum(value) - 1) < 1e-6
    with pytest.raises(ParameterError, match="values\\[0\\]='w': the classes are 'x', 'y', 'z'"):
        fleets[0].label(["s"], ["w"], window=[0])


def test_heads_are_labelled_by_name():
    heads = (
        Head(name="kind", outputs=3, task="classification", labels=("x", "y", "z")),
        Head(name="size", outputs=1),
        Head(name="bad", outputs=1, task="classification", labels=("no", "yes")),
    )
    bundle = make_bundle(heads=heads, outputs=5, labels=(), task="regression", windows=sr.Every(1.0))
    fleet = sr.Fleet(bundle, adapt="best")
    pushed(fleet)
    batch = fleet.label(["s"] * 2, {"size": [4.0, 5.0], "bad": ["yes", None]}, window=[0, 1])
    assert outcomes(batch) == ["joined", "joined"]
    np.testing.assert_equal(batch["label"].to_pylist()[0], [np.nan] * 3 + [4.0, 1.0])
    with pytest.raises(ShapeError, match="give a dict by head"):
        fleet.label(["s"], [1.0], window=[0])
    with pytest.raises(ParameterError, match=r"values has \['colour'\]"):
        fleet.label(["s"], {"colour": [1.0]}, window=[0])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"streams": ["s"], "values": [[1, 2]]}, ParameterError, "give t, .* or window"),
        ({"streams": ["s"], "values": [[1, 2]], "t": [1.0], "window": [1]}, ParameterError, "give t, .* or window"),
        ({"streams": ["s"], "values": [[1, 2, 3]], "window": [1]}, ShapeError, r"\(1, 2\)"),
        ({"streams": ["s", "r"], "values": [[1, 2]], "window": [1, 1]}, ShapeError, r"\(2, 2\)"),
        ({"streams": ["s"], "values": [[1, 2]], "window": [1, 2]}, ShapeError, "window has shape"),
        ({"streams": ["s"], "values": [[1, 2]], "window": [1.5]}, ParameterError, "whole numbers"),
    ],
)
def test_labels_that_cannot_be_say_so(arguments, error, message):
    fleet = sr.Fleet(regression(), adapt="best")
    pushed(fleet)
    before = fleet.snapshot()
    with pytest.raises(error, match=message):
        fleet.label(**arguments)
    assert fleet.snapshot() == before


def test_fleets_that_do_not_adapt_refuse_labels():
    for learner in (sr.Fleet(regression()), sr.Predictor(regression())):
        with pytest.raises(ParameterError, match="make the Fleet or Predictor with adapt='best'"):
            learner.label(*((["s"], [[1, 2]]) if isinstance(learner, sr.Fleet) else ([1, 2],)), window=0)
    with pytest.raises(ParameterError, match="adapt='often'"):
        sr.Fleet(regression(), adapt="often")
    with pytest.raises(ParameterError, match="predicts only when a stream ends"):
        sr.Fleet(regression(emit="last"), adapt="best")


def test_wild_labels_leave_finite_states():
    fleet = sr.Fleet(regression(), adapt="best")
    pushed(fleet)
    values = [[1e300, -1e300], [np.inf, 1.0], [-np.inf, np.inf], [0.0, 0.0]]
    assert outcomes(fleet.label(["s"] * 4, values, window=[0, 1, 2, 3])) == ["joined", "joined", "nan", "joined"]
    pushed_on = fleet.advance(60.0)
    assert np.isfinite(np.array(pushed_on["value"].to_pylist())).all()
    assert all(np.isfinite(errors).all() for errors in fleet.adaptation().errors.values())


def test_what_training_found_out_is_stored_and_checked(tmp_path):
    learned = Learned(
        streams=9, labels=900, shift=(1.0, 2.0), scale=(3.0, 4.0), noise=(0.2, 0.3), prior=(0.1, 0.1), memory=600.0,
        blend=(0.4, 0.6), shrink=(2.0, 2.0), errors=((1.0, 1.0), (0.2, 0.2), (0.3, 0.3), (0.4, 0.4), (0.3, 0.3)),
        errors_before=((1.0, 0.5), (1.0, 0.5), (0.9, 1.0), (0.8, 1.0), (0.8, 1.0)),
    )  # fmt: skip
    plain = regression()
    bundle = sr.Bundle(msgspec.structs.replace(plain.header, learned=learned), plain.tensors)
    assert bundle.fingerprint == plain.fingerprint
    bundle.save(tmp_path / "m.srde")
    plain.save(tmp_path / "p.srde")
    assert sr.load(tmp_path / "m.srde").header.learned == learned
    assert sr.load(tmp_path / "p.srde").header.learned is None
    fleet = sr.Fleet(bundle, adapt="best")
    pushed(fleet)
    # Before any label the method that was best on other streams is served.
    assert fleet.adaptation().served == {"mean": 1}
    assert set(METHODS) == set(fleet.adaptation().errors)
    with pytest.raises(sr.errors.BundleError, match=r"learned\.noise has 1 entries"):
        sr.Bundle(msgspec.structs.replace(plain.header, learned=Learned(noise=(1.0,))), plain.tensors)
