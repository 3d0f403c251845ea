"""Hidden states over long streams: range, resets, running means, heads, and what is emitted."""

from __future__ import annotations

import numpy as np
import pytest
from bundles import make_bundle, make_recording

import streamrde as sr
from streamrde.errors import ParameterError


def grown(bundle, factor, part="field.2"):
    """The model with some of its tensors multiplied."""
    changed = {name: tensor * factor for name, tensor in bundle.tensors.items() if name.startswith(part)}
    return sr.Bundle(bundle.header, bundle.tensors | changed)


def states_of(predictor):
    table = predictor._table
    return table.rows[0, table.states._z]


def test_a_state_that_leaves_its_range_is_flagged_and_counted():
    bundle = grown(make_bundle(hidden_range=True), 30.0)
    t, x = make_recording(1, 60)
    predictor = sr.Predictor(bundle)
    flags = []
    for time, sample in zip(t, x, strict=True):
        for prediction in predictor.push(time, sample):
            # [-3, 3] and half of its width more on either side
            outside = bool((np.abs(states_of(predictor)) > 6).any())
            assert (prediction.flag == "out_of_range") == outside
            flags.append(prediction.flag)
    assert predictor.state_counts.out_of_range == flags.count("out_of_range") > 3
    assert predictor.state_counts.not_finite == 0


def test_without_a_range_only_a_state_that_is_not_finite_is_flagged():
    bundle = grown(make_bundle(solver="euler"), 1e38)
    t, x = make_recording(1, 40)
    with np.errstate(all="ignore"):
        predictions = sr.Predictor(bundle, on_range="keep").push_many(t, x)
    assert {p.flag for p in predictions[3:]} == {"not_finite"}


@pytest.mark.parametrize("windows", [sr.Every(1.0), sr.Count(4)], ids=str)
@pytest.mark.parametrize("interpolation", ["linear", "hold"])
def test_a_reset_state_begins_anew_where_the_next_window_does(interpolation, windows):
    """However the samples are cut into calls; and what follows is what a fresh stream from there would give."""
    bundle = grown(make_bundle(hidden_range=True, interpolation=interpolation, windows=windows, dtype="float64"), 5.0)
    t, x = make_recording(2, 80)
    whole = sr.Predictor(bundle, on_range="reset")
    together = whole.push_many(t, x)
    pieces = sr.Predictor(bundle, on_range="reset")
    apart = [p for time, sample in zip(t, x, strict=True) for p in pieces.push(time, sample)]
    assert [p.value.tobytes() for p in together] == [p.value.tobytes() for p in apart]
    assert whole.snapshot() == pieces.snapshot()
    assert whole.state_counts.out_of_range == sum(p.flag is not None for p in together) > 3

    watched = sr.Predictor(bundle, on_range="reset")
    for time, sample in zip(t, x, strict=True):
        for prediction in watched.push(time, sample):
            if prediction.flag:
                base = np.array([np.interp(prediction.t_end, t, x[:, i]) for i in range(2)])
                if interpolation == "hold":
                    base = x[
                        np.searchsorted(t, prediction.t_end, side="right" if windows == sr.Count(4) else "left") - 1
                    ]
                start = watched._table.states.stepper.initial(np.insert(base, 0, 0.0)[None])[0]
                np.testing.assert_allclose(states_of(watched), start, rtol=0, atol=1e-12)


def test_a_state_that_is_not_finite_does_not_stay_so_where_it_is_reset():
    bundle = make_bundle()
    predictor, t = sr.Predictor(bundle, on_range="reset"), np.arange(0.0, 8.0, 0.5)
    table = predictor._table
    predictor.push_many(t[:6], np.ones((6, 2)))
    table.rows[0, table.states._z] = np.nan
    flags = [p.flag for p in predictor.push_many(t[6:], np.ones((10, 2)))]
    assert flags == ["not_finite"] + [None] * (len(flags) - 1)
    assert predictor.state_counts.not_finite == 1


def test_a_fleets_flags_are_its_predictors():
    bundle = grown(make_bundle(hidden_range=True), 30.0)
    fleet, expected = sr.Fleet(bundle, on_range="reset", step_error=True), []
    for i in range(3):
        t, x = make_recording(i, 50)
        rows = fleet.push([str(i)] * 50, t, x).to_pylist()
        alone = sr.Predictor(bundle, on_range="reset", step_error=True).push_many(t, x)
        assert [(r["flag"], r["step_error"]) for r in rows] == [(p.flag, p.step_error) for p in alone]
        expected += [p.flag for p in alone]
    assert fleet.state_counts().out_of_range == expected.count("out_of_range") > 0


def test_step_errors_are_given_on_request_and_counted_above_the_tolerance():
    bundle = make_bundle(tolerance=1e-3, solver="euler")
    t, x = make_recording(3, 60)
    plain, asked = sr.Predictor(bundle), sr.Predictor(bundle, step_error=True)
    a, b = plain.push_many(t, x), asked.push_many(t, x)
    assert [p.value.tobytes() for p in a] == [p.value.tobytes() for p in b]
    assert {p.step_error for p in a} == {None}
    assert asked.state_counts.inexact == sum(p.step_error > 1e-3 for p in b) > 0
    auto = sr.Predictor(make_bundle(tolerance=1e-3, solver="euler", substeps="auto"))
    estimates = [p.step_error for p in auto.push_many(t, x)]
    assert auto.state_counts.inexact == sum(e > 1e-3 for e in estimates) < asked.state_counts.inexact


def test_decay_bounds_what_would_grow_without_end():
    """Windows that all push the same way: the state settles where decay balances them."""
    ends = {}
    for decay in (False, True):
        bundle = grown(make_bundle(decay=decay, dtype="float64"), 0.0, part="field.2.weight")
        predictor = sr.Predictor(bundle)
        t = np.arange(4000.0)
        predictor.push_many(t, np.outer(t, [1.0, -1.0]) % 7)
        ends[decay] = np.abs(states_of(predictor)).max()
    assert ends[True] < 50 < ends[False]


def test_the_running_mean_of_the_states_is_read_out():
    bundle = make_bundle(pooling="mean", dtype="float64", task="regression", labels=())
    plain = sr.Bundle(
        sr.Header(**{f: getattr(bundle.header, f) for f in bundle.header.__struct_fields__} | {"pooling": "state"}),
        bundle.tensors,
    )
    t, x = make_recording(5, 60)
    means, states, values = sr.Predictor(bundle), sr.Predictor(plain), []
    for time, sample in zip(t, x, strict=True):
        for prediction in states.push(time, sample):
            values.append(prediction.value)
        got = means.push(time, sample)
        if got:
            # The readout is linear: the mean of outputs is the output of the mean.
            np.testing.assert_allclose(got[-1].value, np.mean(values, axis=0), rtol=0, atol=1e-12)
    restored = sr.Predictor.restore(bundle, means.snapshot())
    assert restored.flush()[0].value.tobytes() == means.flush()[0].value.tobytes()


@pytest.mark.parametrize("pooling", ["state", "mean"])
def test_a_model_that_speaks_last_says_at_the_end_what_it_would_have_said(pooling):
    every, last = (make_bundle(pooling=pooling, emit=emit) for emit in ("every", "last"))
    for length in (1, 2, 30):
        t, x = make_recording(6, length, t0=5.0)
        for cut in (1.0, 0.0):  # a stream that ends inside a window, and one that ends on an edge
            t = t if cut else 5.0 + np.arange(length, dtype=float)
            expected, predictor = sr.Predictor(every), sr.Predictor(last)
            told = expected.push_many(t, x) + expected.flush()
            assert predictor.push_many(t, x) == []
            if told:
                assert predictor.peek().value.tobytes() == told[-1].value.tobytes()
            got = predictor.flush()
            assert [(p.window, p.t_start, p.t_end, p.value.tobytes()) for p in got] == [
                (p.window, 5.0, t[-1], p.value.tobytes()) for p in told[-1:]
            ]
        fleet = sr.Fleet(last)
        fleet.push(["a"] * length, t, x)
        assert [row["window"] for row in fleet.flush().to_pylist()] == [p.window for p in got]


def test_heads_are_told_apart():
    heads = (
        sr.Head(name="state", outputs=3, task="classification", labels=("idle", "run", "fault")),
        sr.Head(name="load", outputs=2, units=("kW", "kW")),
    )
    bundle = make_bundle(outputs=5, heads=heads, labels=(), task="regression", dtype="float64")
    t, x = make_recording(7, 30)
    predictions = sr.Predictor(bundle).push_many(t, x)
    rows = sr.Fleet(bundle).push(["s"] * 30, t, x)
    stepper = sr.Predictor(bundle)._table.states.stepper
    for prediction, row in zip(predictions, rows.to_pylist(), strict=True):
        state, load = prediction.heads["state"], prediction.heads["load"]
        assert state.value.sum() == pytest.approx(1.0)
        assert state.label == heads[0].labels[int(state.value.argmax())] == row["label_state"]
        assert load.label is None
        assert np.concatenate([state.value, load.value]).tobytes() == prediction.value.tobytes()
        assert row["value"] == prediction.value.tolist()
        assert prediction.label is None
    z = np.ones((1, 8))
    value = z @ bundle.tensors["readout.weight"].T + bundle.tensors["readout.bias"]
    expected = value * bundle.tensors["output.scale"] + bundle.tensors["output.shift"]
    np.testing.assert_allclose(stepper.output(z)[0, 3:], expected[0, 3:], rtol=1e-12)
    assert "label" not in rows.schema.names


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"heads": (sr.Head(name="a", outputs=2),)}, "heads have 2 outputs and outputs=3"),
        ({"heads": (sr.Head(name="a", outputs=1), sr.Head(name="a", outputs=2))}, "a name of its own"),
        ({"heads": (sr.Head(name="a", outputs=3, labels=("x",)),)}, "head 'a': labels has 1 entries"),
        ({"field": sr.Linear(block=3)}, "does not divide hidden=8"),
        ({"field": sr.Linear(), "substeps": 2}, "stepped exactly"),
        ({"field": sr.LogNCDE()}, "up to depth 2"),
    ],
    ids=lambda v: str(v)[:30],
)
def test_a_header_whose_parts_do_not_fit_is_refused(changes, match):
    with pytest.raises(sr.errors.StreamRDEError, match=match):
        make_bundle(**changes)


def test_options_that_do_not_exist_are_refused():
    with pytest.raises(ParameterError, match="'keep' or 'reset'"):
        sr.Fleet(make_bundle(), on_range="ignore")
    with pytest.raises(ParameterError, match="at least 1"):
        sr.Fleet(make_bundle(), threads=0)


def test_a_prediction_just_closed_is_what_peek_at_its_end_gave():
    predictor = sr.Predictor(make_bundle(interpolation="hold", first_stage="previous"))
    t, x = make_recording(8, 40)
    for time, sample in zip(t, x, strict=True):
        end = np.floor(time) + 1.0
        predictor.push(time, sample)
        peeked = predictor.peek(end)
        before = predictor.snapshot()
        committed = predictor.advance(end)[-1]
        assert (peeked.window, peeked.t_start, peeked.t_end) == (committed.window, committed.t_start, committed.t_end)
        assert peeked.value.tobytes() == committed.value.tobytes()
        assert peeked.provisional
        assert not committed.provisional
        predictor = sr.Predictor.restore(predictor._table.bundle, before)
