"""Predictor and Fleet: the same predictions however samples are cut into calls."""

import naive
import numpy as np
import pyarrow as pa
import pytest
from bundles import make_bundle, make_recording
from hypothesis import given
from hypothesis import strategies as st

import streamrde as sr
from streamrde.errors import OrderError, ParameterError, SampleError, ShapeError, SnapshotError
from streamrde.inference.table import Counts
from streamrde.windowing.loop import ReferenceLoop
from streamrde.windowing.order import Order
from streamrde.windowing.rows import Layout

POLICIES = [sr.Every(1.0), sr.Every(0.7, "epoch"), sr.Count(4)]
settings = st.builds(
    lambda windows, interpolation, first_stage, t0: (
        make_bundle(windows=windows, interpolation=interpolation, first_stage=first_stage),
        make_recording(7, 40, missing=0.3 if interpolation == "hold" else 0.0, t0=t0),
    ),
    st.sampled_from(POLICIES),
    st.sampled_from(["linear", "hold"]),
    st.sampled_from(["own", "previous"]),
    st.sampled_from([0.0, 1.7e9]),
)


def rows_of(predictions):
    return [(p.window, p.t_start, p.t_end, p.value.tobytes(), p.label) for p in predictions]


def rows_of_batches(batches, stream):
    dtype = np.float32
    return [
        (r["window"], r["t_start"], r["t_end"], np.array(r["value"], dtype).tobytes(), r["label"])
        for batch in batches
        for r in batch.to_pylist()
        if r["stream"] == stream
    ]


def predict_whole(bundle, t, x):
    predictor = sr.Predictor(bundle)
    return rows_of(predictor.push_many(t, x) + predictor.flush())


@given(settings)
def test_pushing_one_by_one_equals_pushing_at_once(setting):
    bundle, (t, x) = setting
    predictor = sr.Predictor(bundle)
    one_by_one = [p for time, sample in zip(t, x, strict=True) for p in predictor.push(time, sample)]
    assert rows_of(one_by_one + predictor.flush()) == predict_whole(bundle, t, x)


@pytest.mark.slow
@given(settings, st.integers(0, 2**32))
def test_a_fleet_in_random_cuts_with_restores_equals_predictors(setting, seed):
    bundle, (t, x) = setting
    rng = np.random.default_rng(seed)
    recordings = {"s": (t, x), "7": make_recording(8, 30, t0=3.0), "q": make_recording(9, 1)}
    rows = [(name, *row) for name, (times, samples) in recordings.items() for row in zip(times, samples, strict=True)]
    keys = rng.random(len(rows))
    for name in recordings:  # shuffle streams among each other, each in its own order
        own = [i for i, row in enumerate(rows) if row[0] == name]
        keys[own] = np.sort(keys[own])
    rows = [rows[i] for i in np.argsort(keys)]
    fleet, batches = sr.Fleet(bundle), []
    for part in np.split(np.arange(len(rows)), np.sort(rng.integers(0, len(rows), 6))):
        chosen = [rows[i] for i in part]
        x_part = np.array([row[2] for row in chosen]).reshape(-1, 2)
        batches.append(
            fleet.push(pa.array([row[0] for row in chosen], pa.string()), [row[1] for row in chosen], x_part)
        )
        moved = sr.Fleet(bundle)
        moved.restore(fleet.snapshot())
        fleet = moved
    batches.append(fleet.flush())
    for name, (times, samples) in recordings.items():
        assert rows_of_batches(batches, name) == predict_whole(bundle, times, samples)


@pytest.mark.slow
@given(settings, st.integers(1, 39))
def test_restoring_anywhere_is_a_no_op(setting, cut):
    bundle, (t, x) = setting
    predictor = sr.Predictor(bundle, stream="pump-7")
    first = predictor.push_many(t[:cut], x[:cut])
    predictor = sr.Predictor.restore(bundle, predictor.snapshot())
    assert predictor.stream == "pump-7"
    assert rows_of(first + predictor.push_many(t[cut:], x[cut:]) + predictor.flush()) == predict_whole(bundle, t, x)


@pytest.mark.parametrize("interpolation", ["linear", "hold"])
@pytest.mark.parametrize("windows", POLICIES, ids=str)
def test_windows_are_those_of_logsig_windows(windows, interpolation):
    bundle = make_bundle(windows=windows, interpolation=interpolation)
    t, x = make_recording(3, 60, t0=50.0)
    edges, _ = sr.logsig_windows(t, np.column_stack([t - t[0], x]), 3, windows, interpolation)
    rows = predict_whole(bundle, t, x)
    assert [row[0] for row in rows] == list(range(len(edges) - 1))
    np.testing.assert_array_equal([row[1] for row in rows], edges[:-1])
    np.testing.assert_array_equal([row[2] for row in rows], edges[1:])


@pytest.mark.parametrize("first_stage", ["own", "previous"])
@pytest.mark.parametrize("solver", ["euler", "midpoint", "rk4"])
def test_predictions_equal_the_written_out_model(solver, first_stage):
    bundle = make_bundle(dtype="float64", solver=solver, first_stage=first_stage)
    t, x = make_recording(4, 50)
    _, logsigs = sr.logsig_windows(t, np.column_stack([t, x]), 3, sr.Every(1.0))
    g = bundle.tensors
    z0 = g["initial.weight"] @ ((np.append(0.0, x[0]) - g["x0.shift"]) * g["x0.scale"]) + g["initial.bias"]
    weights = [(g[f"field.{i}.weight"], g[f"field.{i}.bias"]) for i in range(3)]
    states = naive.log_ode(z0, weights, logsigs * g["logsig.scale"], solver, first_stage)[1:]
    logits = states @ g["readout.weight"].T + g["readout.bias"]
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    predictor = sr.Predictor(bundle)
    got = predictor.push_many(t, x) + predictor.flush()
    np.testing.assert_allclose([p.value for p in got], expected, rtol=0, atol=1e-10)


def test_a_sample_can_close_no_window_one_or_many():
    predictor = sr.Predictor(make_bundle())
    assert predictor.push(0.0, [1.0, 2.0]) == []
    assert predictor.push(0.4, [1.0, 2.0]) == []
    assert [p.window for p in predictor.push(1.0, [1.0, 2.0])] == [0]
    assert [(p.window, p.t_start, p.t_end) for p in predictor.push(3.5, [0.0, 2.0])] == [(1, 1.0, 2.0), (2, 2.0, 3.0)]
    assert [(p.window, p.t_end) for p in predictor.flush()] == [(3, 3.5)]


def test_time_alone_closes_windows_under_hold_only():
    linear, hold = (sr.Predictor(make_bundle(interpolation=i)) for i in ("linear", "hold"))
    for predictor in (linear, hold):
        predictor.push(10.0, [1.0, 2.0])
        predictor.push(10.5, [3.0, 2.0])
    assert linear.advance(99.0) == []
    assert [p.t_end for p in hold.advance(12.0)] == [11.0, 12.0]
    assert hold.advance(12.0) == []


@pytest.mark.slow
@given(st.integers(0, 2**32), st.lists(st.floats(0, 1), max_size=5))
def test_how_often_time_is_told_changes_nothing(seed, fractions):
    bundle = make_bundle(interpolation="hold", windows=sr.Every(0.5))
    t, x = make_recording(seed, 12)
    predictor, told = sr.Predictor(bundle), []
    for i, (time, sample) in enumerate(zip(t, x, strict=True)):
        told += predictor.push(time, sample)
        if i + 1 < len(t):
            for fraction in sorted(fractions):
                told += predictor.advance(time + fraction * (t[i + 1] - time))
    assert rows_of(told + predictor.flush()) == predict_whole(bundle, t, x)


def test_a_sample_before_an_edge_that_time_has_passed_is_late():
    predictor = sr.Predictor(make_bundle(interpolation="hold"), faults="drop")
    predictor.push(0.0, [1.0, 2.0])
    predictor.advance(3.2)
    assert predictor.push(2.9, [1.0, 1.0]) == []
    assert predictor.counts == Counts(samples=1, late=1)
    predictor.push(3.0, [1.0, 1.0])  # on the edge: the window that starts there takes it
    assert predictor.counts.samples == 2


def test_hold_keeps_the_last_value_and_the_fill_before_it():
    bundle = make_bundle(interpolation="hold")
    t, x = make_recording(11, 30)
    filled = x.copy()
    x[0, 1] = np.nan
    filled[0, 1] = -0.5
    x[5:9, 0] = np.nan
    filled[5:9, 0] = filled[4, 0]
    assert predict_whole(bundle, t, x) == predict_whole(bundle, t, filled)


def test_peek_equals_flush_and_commits_nothing():
    for bundle in (
        make_bundle(),
        make_bundle(interpolation="hold", first_stage="previous"),
        make_bundle(windows=sr.Count(4)),
    ):
        t, x = make_recording(2, 33)
        predictor = sr.Predictor(bundle)
        for time, sample in zip(t, x, strict=True):
            predictor.push(time, sample)
            before = predictor.snapshot()
            peeked = predictor.peek()
            assert predictor.snapshot() == before
            flushed = sr.Predictor.restore(bundle, before).flush()
            if flushed:
                assert rows_of([peeked]) == rows_of(flushed)
            else:
                assert peeked.t_start == peeked.t_end == time


def test_peek_at_the_windows_end_equals_the_committed_prediction():
    predictor = sr.Predictor(make_bundle(interpolation="hold"))
    predictor.push_many([0.0, 0.3, 0.8], np.eye(3, 2))
    peeked = predictor.peek(1.0)
    (committed,) = predictor.advance(1.0)
    assert peeked.value.tobytes() == committed.value.tobytes()


def test_a_fleets_peek_is_its_predictors():
    bundle = make_bundle(interpolation="hold")
    fleet, alone = sr.Fleet(bundle), {}
    for i, name in enumerate("ab"):
        t, x = make_recording(i, 20)
        fleet.push([name] * 20, t, x)
        alone[name] = sr.Predictor(bundle)
        alone[name].push_many(t, x)
    before = fleet.snapshot()
    for row in fleet.peek(t=9.0).to_pylist() + fleet.peek(["b"]).to_pylist():
        peeked = alone[row["stream"]].peek(9.0 if row["t_end"] == 9.0 else None)
        assert (row["window"], row["t_end"], row["value"]) == (peeked.window, peeked.t_end, peeked.value.tolist())
    assert fleet.snapshot() == before
    assert len(sr.Fleet(bundle).peek()) == 0


def test_peek_before_the_first_sample_says_so():
    with pytest.raises(SampleError, match="push one before peek"):
        sr.Predictor(make_bundle()).peek()


@pytest.mark.parametrize("faulty", [0.5, 0.2, 0.9])
def test_time_going_backwards_raises_and_leaves_the_state(faulty):
    predictor = sr.Predictor(make_bundle(), stream="pump-7")
    predictor.push_many([0.0, 0.9], np.ones((2, 2)))
    before = predictor.snapshot()
    with pytest.raises(OrderError, match=r"'pump-7' at .* is not after 0.9 s.*faults='drop'") as caught:
        predictor.push(faulty, [1.0, 2.0])
    assert (caught.value.stream, caught.value.t, caught.value.last) == ("pump-7", faulty, 0.9)
    assert predictor.snapshot() == before


def test_a_fault_in_a_batch_takes_none_of_its_rows():
    fleet = sr.Fleet(make_bundle())
    fleet.push(["a", "a"], [0.0, 0.5], np.ones((2, 2)))
    before = fleet.snapshot()
    with pytest.raises(OrderError, match="row 1: sample of stream 'a'"):
        fleet.push(["b", "a", "b"], [0.0, 0.1, 1.0], np.ones((3, 2)))
    with pytest.raises(SampleError, match="stream 'b': row 2, channel 1: its value is inf"):
        fleet.push(["b", "a", "b"], [0.0, 0.7, 1.0], [[1, 1], [1, 1], [1, np.inf]])
    assert fleet.snapshot() == before
    assert fleet.streams == ["a"]


def test_dropped_rows_are_counted_and_change_nothing_else():
    bundle = make_bundle()
    t, x = make_recording(6, 30)
    clean = predict_whole(bundle, t, x)
    order = np.insert(np.arange(30), [4, 9, 9, 20], [3, 2, 8, 0])  # a repeat, a late one, a repeat, a late one
    dirty_t, dirty_x = t[order], x[order]
    dirty_x = np.insert(dirty_x, 15, [np.inf, 0.0], axis=0)
    dirty_t = np.insert(dirty_t, 15, dirty_t[15] - 1e-4)
    for cuts in ([], [5], range(1, 35)):
        fleet = sr.Fleet(bundle, faults="drop")
        parts = [p for p in np.split(np.arange(35), list(cuts)) if len(p)]
        batches = [fleet.push(["s"] * len(p), dirty_t[p], dirty_x[p]) for p in parts]
        assert fleet.counts("s") == Counts(samples=30, late=2, duplicate=2, rejected=1)
        batches.append(fleet.flush())
        assert rows_of_batches(batches, "s") == clean
        assert fleet.counts() == Counts(samples=30, late=2, duplicate=2, rejected=1)


def on_the_reference(bundle):
    """A fleet that does without the compiled loop."""
    fleet = sr.Fleet(bundle, faults="drop")
    fleet._table.loop = ReferenceLoop(Layout(bundle.header.partition), Order())
    return fleet


@pytest.mark.slow
@given(settings, st.integers(0, 2**32))
def test_the_compiled_loop_gives_the_bits_of_the_reference(setting, seed):
    bundle, (t, x) = setting
    rng = np.random.default_rng(seed)
    order = np.concatenate([np.arange(40), rng.integers(0, 40, 6)])  # with some late ones and repeats
    order = order[np.argsort(np.concatenate([np.arange(40), rng.uniform(0, 40, 6)]), kind="stable")]
    t, x = t[order], x[order].copy()
    x[rng.random(x.shape) < 0.02] = np.inf
    x[rng.random(x.shape) < 0.02] = np.nan
    names = rng.choice(["a", "b"], len(t))
    compiled, reference = sr.Fleet(bundle, faults="drop"), on_the_reference(bundle)
    for part in np.split(np.arange(len(t)), np.sort(rng.integers(0, len(t), 3))):
        for fleet in (compiled, reference):
            if len(part) and fleet.streams:
                fleet.advance(t[part[0]])
        batches = [fleet.push(names[part].astype(object), t[part], x[part]) for fleet in (compiled, reference)]
        assert batches[0].equals(batches[1])
        assert compiled.snapshot() == reference.snapshot()
    assert compiled.counts() == reference.counts()


@pytest.mark.parametrize("interpolation", ["linear", "hold"])
def test_both_loops_refuse_with_the_same_words(interpolation):
    bundle = make_bundle(interpolation=interpolation)
    for t, x in (
        ([0.0, 1.0, 0.5], [[1, 1], [1, 1], [1, 1]]),
        ([0.0, 1.0, 1.0], [[1, 1], [1, 1], [1, 1]]),
        ([0.0, np.nan, 1.0], [[1, 1], [1, 1], [1, 1]]),
        ([0.0, 1.0, 2.0], [[1, 1], [1, -np.inf], [1, 1]]),
    ):
        said = []
        for loop in (sr.Fleet(bundle)._table.loop, ReferenceLoop(Layout(bundle.header.partition), Order())):
            fleet = sr.Fleet(bundle)
            fleet._table.loop = loop
            with pytest.raises(SampleError) as caught:
                fleet.push(["b", "b", "b"], t, x)
            said.append((str(caught.value), vars(caught.value)))
            assert not fleet.streams
        assert said[0] == said[1]


def test_shapes_and_types_that_do_not_fit_are_named():
    bundle = make_bundle()
    predictor, fleet = sr.Predictor(bundle), sr.Fleet(bundle)
    with pytest.raises(ShapeError, match=r"shape \(3,\).*the channels a, b, without time"):
        predictor.push(0.0, [1.0, 2.0, 3.0])
    with pytest.raises(SampleError, match="not a number"):
        predictor.push(0.0, ["high", "low"])
    with pytest.raises(ShapeError, match="one time per row"):
        predictor.push_many([0.0], np.ones((2, 2)))
    with pytest.raises(ShapeError, match="one stream per row"):
        fleet.push(["a"], [0.0, 1.0], np.ones((2, 2)))
    with pytest.raises(ShapeError, match="null"):
        fleet.push(["a", None], [0.0, 1.0], np.ones((2, 2)))
    with pytest.raises(ShapeError, match="one string or integer per row"):
        fleet.push([1.5, 2.5], [0.0, 1.0], np.ones((2, 2)))
    with pytest.raises(ParameterError, match="'error' or 'drop'"):
        sr.Fleet(bundle, faults="ignore")
    with pytest.raises(ParameterError, match="finite"):
        predictor.advance(float("nan"))
    with pytest.raises(ParameterError, match="stream 'zz' is not live"):
        fleet.flush(["zz"])


@pytest.mark.parametrize(
    "streams",
    [
        ["1", "2", "1"],
        [1, 2, 1],
        np.array([1, 2, 1]),
        np.array(["1", "2", "1"]),
        pa.array([1, 2, 1], pa.int16()),
        pa.array(["1", "2", "1"], pa.large_string()),
        pa.array(["1", "2", "1"]).dictionary_encode(),
        pa.chunked_array([["1"], ["2", "1"]]),
    ],
    ids=lambda s: str(getattr(s, "type", getattr(s, "dtype", type(s[0])))),
)
def test_stream_names_come_in_any_type(streams):
    fleet = sr.Fleet(make_bundle())
    batch = fleet.push(streams, [0.0, 5.0, 1.0], np.ones((3, 2)))
    assert batch.schema.equals(fleet.schema, check_metadata=True)
    assert batch.to_pydict()["stream"] == ["1"]
    assert fleet.streams == ["1", "2"]


def test_a_dictionarys_unused_names_begin_no_stream():
    fleet = sr.Fleet(make_bundle())
    names = pa.array(["a", "b", "c", "a"]).dictionary_encode()
    fleet.push(names[2:], [0.0, 0.0], np.ones((2, 2)))
    assert sorted(fleet.streams) == ["a", "c"]


def test_flush_and_evict_free_rows_for_new_streams():
    fleet = sr.Fleet(make_bundle())
    fleet.push(["a", "a", "b", "b"], [0.0, 1.5, 100.0, 101.5], np.ones((4, 2)))
    gone = fleet.evict(idle=60.0)
    assert gone.to_pydict()["stream"] == ["a"]
    assert gone.to_pydict()["t_end"] == [1.5]
    assert fleet.streams == ["b"]
    rows = len(fleet._table.rows)
    fleet.push(["c"], [0.0], np.ones((1, 2)))
    assert len(fleet._table.rows) == rows
    assert fleet.counts().samples == 5
    assert len(fleet.flush(["b"])) == 1
    assert len(fleet) == 1
    assert len(fleet.evict(idle=0.0)) == 0


def test_a_stream_that_ended_begins_anew():
    bundle = make_bundle()
    t, x = make_recording(1, 20)
    predictor = sr.Predictor(bundle)
    first = rows_of(predictor.push_many(t, x) + predictor.flush())
    assert rows_of(predictor.push_many(t, x) + predictor.flush()) == first


def test_snapshots_of_another_model_or_damaged_are_refused():
    bundle = make_bundle()
    predictor = sr.Predictor(bundle, stream="p")
    predictor.push(0.0, [1.0, 2.0])
    data = predictor.snapshot()
    with pytest.raises(SnapshotError, match="stream 'p' belongs to the model"):
        sr.Predictor.restore(make_bundle(seed=1), data)
    with pytest.raises(SnapshotError, match="checksum"):
        sr.Predictor.restore(bundle, data[:-9] + b"123456789")
    with pytest.raises(SnapshotError, match="another kind"):
        sr.Predictor.restore(bundle, sr.LogSignature(2, 2).snapshot())
    fleet = sr.Fleet(bundle)
    with pytest.raises(SnapshotError):
        fleet.restore({"p": data, "q": b"SRDE"})
    assert len(fleet) == 0


def test_float64_streams_at_unix_times_equal_those_at_zero():
    bundle = make_bundle(dtype="float64")
    t, x = make_recording(13, 60)
    t = np.arange(60) * 0.25
    here, there = sr.Predictor(bundle), sr.Predictor(bundle)
    a, b = here.push_many(t, x) + here.flush(), there.push_many(t + 1.7e9, x) + there.flush()
    assert [p.value.tobytes() for p in a] == [p.value.tobytes() for p in b]
    assert [p.t_end + 1.7e9 for p in a] == [p.t_end for p in b]


@pytest.mark.parametrize("faults", ["error", "drop"])
@pytest.mark.parametrize("interpolation", ["linear", "hold"])
def test_a_sample_may_come_in_any_type(interpolation, faults):
    """Floats in a list, a tuple or an array are read where they are, all else is converted: the same bits."""
    bundle = make_bundle(interpolation=interpolation)
    t, x = make_recording(15, 40, missing=0.2)
    x[0] = 0.5
    ways = {
        "list": lambda row: row.tolist(),
        "tuple": lambda row: tuple(row.tolist()),
        "array": lambda row: row,
        "strided": lambda row: np.repeat(row, 2)[::2],
        "swapped": lambda row: row.astype(">f8"),
        "objects": lambda row: [np.float64(v) for v in row],
        "series": lambda row: pa.array(row),
    }
    told = {}
    for name, way in ways.items():
        predictor = sr.Predictor(bundle, faults=faults)
        told[name] = rows_of([p for time, row in zip(t, x, strict=True) for p in predictor.push(time, way(row))])
        told[name].append(predictor.snapshot())
    assert all(rows == told["list"] for rows in told.values())
    whole = sr.Predictor(bundle, faults=faults)
    assert rows_of(whole.push_many(t, x)) == told["list"][:-1]
    late = sr.Predictor(bundle, faults=faults)
    late.push_many(t[:5], x[:5])
    before = late.snapshot()
    if faults == "drop":
        assert late.push(float(t[2]), [1.0, 2.0]) == []
        assert late.counts.late == 1
    else:
        with pytest.raises(OrderError, match=r"row 0: .* is not after"):
            late.push(float(t[2]), [1.0, 2.0])
        with pytest.raises(SampleError, match="channel 1: its value is inf"):
            late.push(100.0, [1.0, np.inf])
        assert late.snapshot() == before
    with pytest.raises(ShapeError, match="the channels a, b, without time"):
        late.push(100.0, [1.0])


@pytest.mark.parametrize("faults", ["drop", "error"])
def test_threads_change_no_bit_and_no_order(faults):
    rng, streams, rows = np.random.default_rng(0), 300, 9_000
    names = [f"s{i}" for i in rng.integers(0, streams, rows)]
    t = np.sort(rng.uniform(0, 40, rows))
    x = rng.normal(size=(rows, 2))
    if faults == "drop":
        t[rng.integers(0, rows, 300)] -= 5.0
        x[rng.integers(0, rows, 300), 0] = np.inf
    fleets = [sr.Fleet(make_bundle(), faults=faults, threads=threads) for threads in (1, 2, 4)]
    for part in np.array_split(np.arange(rows), 1 if faults == "drop" else 2):
        of_one, *others = [fleet.push([names[i] for i in part], t[part], x[part]) for fleet in fleets]
        assert len(of_one) > 1000
        assert all(batch.equals(of_one) for batch in others)
    assert all(fleet.snapshot() == fleets[0].snapshot() for fleet in fleets)
    assert all(fleet.unused.equals(fleets[0].unused) for fleet in fleets)


def test_the_first_refused_row_in_order_of_arrival_is_named_whatever_its_stream():
    fleet = sr.Fleet(make_bundle(), threads=2)
    names, t = ["z", "a", "z", "a"] * 3, np.repeat(np.arange(6.0), 2)
    t[[7, 10]] = -1.0  # row 7 is of stream a, row 10 of z
    before = fleet.push(["z", "a"], [-2.0, -2.0], np.zeros((2, 2)))
    state = fleet.snapshot()
    with pytest.raises(sr.errors.OrderError, match=r"row 7.*stream 'a'") as caught:
        fleet.push(names, t, np.zeros((12, 2)))
    assert caught.value.row == 7
    assert fleet.snapshot() == state
    assert len(before) == 0
