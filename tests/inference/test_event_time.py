"""Predictor and Fleet on rows that come late, twice, in parts, after a gap, or not at all."""

import itertools

import numpy as np
import pytest
from benchmarks.hostile_rows import make_hostile as make_many_hostile
from benchmarks.hostile_rows import reconcile
from bundles import make_bundle, make_recording
from hostile import BUILT_IN, Swing, make_hostile
from hypothesis import given, settings
from hypothesis import strategies as st

import streamrde as sr
from streamrde import snapshots
from streamrde.errors import BundleError, OrderError, ParameterError, SampleError, SnapshotError
from streamrde.inference.snapshot_header import SnapshotHeader
from streamrde.inference.table import Counts
from streamrde.windowing.rows import Column

NAMES = np.array(["a", "b", "c"], dtype=object)


def models():
    return st.builds(
        lambda windows, interpolation, counts, elapsed, gap: make_bundle(
            windows=windows,
            interpolation=interpolation,
            missing=sr.Missing(counts=counts, elapsed=elapsed),
            gap=gap,
            depth=2,
        ),
        st.sampled_from([*BUILT_IN, Swing(0.5, 2.0)]),
        st.sampled_from(["linear", "hold"]),
        st.booleans(),
        st.booleans(),
        st.sampled_from([None, sr.Gap(seconds=3.0), sr.Gap(seconds=3.0, state="carry")]),
    )


orders = st.sampled_from([sr.Order(), sr.Order(lateness=0.8, merge=True, duplicates="last"), sr.Order(lateness=0.6)])


def rows_of(predictions):
    return [(p.stream, p.window, p.t_start, p.t_end, p.value.tobytes()) for p in predictions]


def rows_of_batches(batches):
    return [
        (r["stream"], r["window"], r["t_start"], r["t_end"], np.array(r["value"], np.float32).tobytes())
        for batch in batches
        for r in batch.to_pylist()
    ]


@pytest.mark.slow
@settings(max_examples=25)
@given(models(), orders, st.integers(0, 2**32))
def test_a_fleet_equals_predictors_on_hostile_rows(bundle, order, seed):
    slots, t, x = make_hostile(seed, 60, grid=0.25)
    fleet = sr.Fleet(bundle, faults="drop", order=order)
    batches, unused = [], 0
    for part in np.array_split(np.arange(len(t)), 4):
        batches.append(fleet.push(NAMES[slots[part]], t[part], x[part]))
        unused += len(fleet.unused)
        moved = sr.Fleet(bundle, faults="drop", order=order)
        moved.restore(fleet.snapshot())
        fleet = moved
    batches.append(fleet.flush())
    total = Counts()
    for slot, name in enumerate(NAMES):
        predictor = sr.Predictor(bundle, stream=name, faults="drop", order=order)
        own = slots == slot
        got = [p for time, sample in zip(t[own], x[own], strict=True) for p in predictor.push(time, sample)]
        total += predictor.counts
        got += predictor.flush()
        assert rows_of(got) == [row for row in rows_of_batches(batches) if row[0] == name]
    assert fleet.counts() == total
    assert sum(total) == len(t)
    assert unused == total.late + total.duplicate + total.rejected


@pytest.mark.slow
@settings(max_examples=25)
@given(models(), orders, st.integers(0, 2**32))
def test_a_row_that_is_refused_changes_nothing(bundle, order, seed):
    slots, t, x = make_hostile(seed, 40, grid=0.25)
    fleet, twin = (sr.Fleet(bundle, faults=faults, order=order) for faults in ("error", "drop"))
    for i in range(0, len(t), 5):
        rows = slice(i, i + 5)
        before = fleet.snapshot(), fleet.streams
        try:
            batch = fleet.push(NAMES[slots[rows]], t[rows], x[rows])
        except SampleError as error:
            assert (fleet.snapshot(), fleet.streams) == before
            bad = error.row
            assert 0 <= bad < 5
            good = [k for k in range(i, min(i + 5, len(t))) if k != i + bad]
            # The rows before it are good: one by one they are taken.
            for k in good[:bad]:
                fleet.push(NAMES[slots[[k]]], t[[k]], x[[k]])
            with pytest.raises(type(error)):
                fleet.push(NAMES[slots[[i + bad]]], t[[i + bad]], x[[i + bad]])
            fleet.restore(twin.snapshot())
            for name in set(fleet.streams) - set(twin.streams):
                fleet.flush([name])
        else:
            assert twin.push(NAMES[slots[rows]], t[rows], x[rows]).equals(batch)
            assert fleet.snapshot() == twin.snapshot()


def test_late_rows_are_named_with_their_reason():
    fleet = sr.Fleet(make_bundle(), faults="drop", order=sr.Order(lateness=1.0, duplicates="first"))
    fleet.push(["p"] * 3, [0.0, 3.0, 2.5], np.ones((3, 2)))
    assert fleet.unused.num_rows == 0
    fleet.push(["q", "p", "p", "p"], [7.0, 5.0, -1.0, 3.0], [[1, 1], [1, 1], [4, np.nan], [1, 1]])
    assert fleet.unused.to_pylist()[0]["x"][0] == 4.0
    assert [(r["row"], r["stream"], r["t"], r["reason"]) for r in fleet.unused.to_pylist()] == [
        (2, "p", -1.0, "late"),
        (3, "p", 3.0, "duplicate"),
    ]
    fleet.push(["q"], [np.inf], np.ones((1, 2)))
    assert [r["reason"] for r in fleet.unused.to_pylist()] == ["rejected"]
    assert fleet.event_time == 7.0
    assert fleet.counts("p") == Counts(samples=4, late=1, duplicate=1)


def test_time_closes_nothing_that_lateness_still_allows_for():
    bundle = make_bundle(interpolation="hold")
    predictor = sr.Predictor(bundle, order=sr.Order(lateness=2.0))
    predictor.push(0.0, [1.0, 2.0])
    predictor.push(0.4, [1.0, 3.0])
    assert predictor.advance(2.9) == []
    predictor.push(0.95, [0.0, 0.0])  # 1.95 s behind what was told
    assert [p.t_end for p in predictor.advance(3.0)] == [1.0]
    assert predictor.counts == Counts(samples=3)


def test_samples_counted_as_lateness_wait_for_samples_and_not_for_time():
    predictor = sr.Predictor(make_bundle(interpolation="hold"), order=sr.Order(lateness_samples=2))
    assert predictor.push_many([0.0, 2.5, 1.5], np.ones((3, 2))) == []
    assert predictor.advance(99.0) == []
    assert [p.t_end for p in predictor.push(3.5, [1.0, 1.0])] == [1.0]
    assert [p.t_end for p in predictor.flush()] == [2.0, 3.0, 3.5]


def test_no_more_is_held_than_allowed():
    predictor = sr.Predictor(make_bundle(), order=sr.Order(lateness=100.0, max_held=5), faults="drop")
    closed = [p.t_end for i in range(40) for p in predictor.push(i * 0.5, [i, 0.0])]
    assert closed == list(range(1, 18))  # the samples up to 17.0 are taken
    predictor.push(17.2, [0.0, 0.0])
    predictor.push(3.0, [0.0, 0.0])
    assert predictor.counts == Counts(samples=41, late=1)


@pytest.mark.parametrize(("duplicates", "kept"), [("first", 1.0), ("last", 3.0)])
def test_a_repeat_keeps_the_first_or_the_last(duplicates, kept):
    bundle = make_bundle()
    predictor = sr.Predictor(bundle, order=sr.Order(lateness=1.0, duplicates=duplicates))
    predictor.push_many([0.0, 0.5, 0.5, 0.5, 2.0], [[0, 0], [1, 1], [2, 2], [3, 3], [0, 0]])
    assert predictor.counts == Counts(samples=3, duplicate=2)
    plain = sr.Predictor(bundle)
    expected = plain.push_many([0.0, 0.5, 2.0], [[0, 0], [kept, kept], [0, 0]]) + plain.flush()
    assert rows_of(predictor.flush()) == rows_of(expected)


def test_a_repeat_that_is_a_fault_raises():
    predictor = sr.Predictor(make_bundle(), order=sr.Order(lateness=1.0))
    predictor.push(0.0, [0.0, 0.0])
    predictor.push(0.5, [1.0, 1.0])
    with pytest.raises(OrderError, match=r"0\.5 s is not after 0\.5 s"):
        predictor.push(0.5, [2.0, 2.0])


def test_channels_that_come_apart_become_one_sample():
    bundle = make_bundle()
    t, x = make_recording(3, 30)
    whole = sr.Predictor(bundle)
    expected = rows_of(whole.push_many(t, x) + whole.flush())
    rng = np.random.default_rng(0)
    parts = [(time, channel, value) for time, sample in zip(t, x, strict=True) for channel, value in enumerate(sample)]
    parts.sort(key=lambda part: part[0] + rng.uniform(0, 0.5))
    for order in (sr.Order(lateness=0.5, merge=True), sr.Order(lateness=0.5, merge=True, duplicates="last")):
        predictor, got = sr.Predictor(bundle, order=order), []
        for time, channel, value in parts:
            sample = np.full(2, np.nan)
            sample[channel] = value
            got += predictor.push(time, sample)
        assert predictor.counts == Counts(samples=30, merged=30)
        assert rows_of(got + predictor.flush()) == expected


def test_a_gap_ends_the_window_and_begins_a_segment():
    for interpolation, ends in (("linear", [1.0, 1.5]), ("hold", [1.0, 2.0, 3.0, 4.0])):
        bundle = make_bundle(interpolation=interpolation, gap=sr.Gap(seconds=3.0))
        predictor = sr.Predictor(bundle)
        closed = predictor.push_many([0.0, 0.6, 1.5, 60.25], np.arange(8.0).reshape(4, 2))
        assert [p.t_end for p in closed] == ends
        again = predictor.push(61.5, [1.0, 1.0])
        assert [(p.window, p.t_start, p.t_end) for p in again] == [(len(ends), 60.25, 61.25)]
        fresh = sr.Predictor(bundle)
        fresh.push(60.25, [6.0, 7.0])
        assert fresh.push(61.5, [1.0, 1.0])[0].value.tobytes() == again[0].value.tobytes()


def test_a_gap_can_carry_the_state():
    bundle = make_bundle(gap=sr.Gap(seconds=3.0, state="carry"))
    predictor = sr.Predictor(bundle)
    predictor.push_many([0.0, 0.6, 1.5], np.arange(6.0).reshape(3, 2))
    before = predictor.peek().value  # the window that the gap will end
    (ended,) = predictor.push(60.0, [np.nan, 9.0])
    assert ended.value.tobytes() == before.tobytes()
    assert predictor.peek().value.tobytes() == before.tobytes()  # nothing moved since
    assert predictor.peek().t_end == 60.0


def test_a_wrong_time_does_not_fill_memory_with_windows():
    predictor = sr.Predictor(make_bundle(interpolation="hold"), faults="drop")
    predictor.push(0.0, [1.0, 1.0])
    predictor.push(0.5, [1.0, 1.0])
    assert predictor.advance(1.7e9) == []
    assert [p.t_end for p in predictor.push(1.7e9, [1.0, 1.0])] == [0.5]


def test_a_silent_stream_is_ended_and_returns_anew_or_from_its_snapshot():
    bundle = make_bundle(interpolation="hold")
    for archive in (None, {}):
        fleet = sr.Fleet(bundle, archive=archive)
        fleet.push(["a", "a", "b"], [0.0, 1.5, 30.0], np.ones((3, 2)))
        assert fleet.evict(idle=30.0).num_rows == 0
        gone = fleet.evict(idle=30.0, now=32.0)
        assert gone.to_pydict()["window"] == [1]
        assert fleet.streams == ["b"]
        back = fleet.push(["a", "a"], [40.0, 41.0], np.full((2, 2), 2.0))
        assert back.to_pydict()["window"] == ([0] if archive is None else [2])
        assert fleet.counts() == Counts(samples=5)
        if archive is not None:
            assert archive.keys() == {"a"}
            fleet.flush(["a"])
            assert archive == {}  # it ended for good
    with pytest.raises(ParameterError, match="at least 0"):
        fleet.evict(idle=-1.0)


@pytest.mark.parametrize("state", [None, "reset", "carry"])
def test_what_returns_from_the_archive_has_its_state_unless_gaps_reset_it(state):
    gap = None if state is None else sr.Gap(seconds=5.0, state=state)
    bundle, archive = make_bundle(gap=gap), {}
    fleet = sr.Fleet(bundle, archive=archive)
    fleet.push(["a"] * 3, [0.0, 0.6, 1.5], np.arange(6.0).reshape(3, 2))
    last = fleet.evict(idle=0.0, now=100.0).to_pydict()["value"][-1]
    fleet.push(["a"], [200.0], [[7.0, 7.0]])
    anew = sr.Predictor(bundle)
    anew.push(200.0, [7.0, 7.0])
    expected = anew.peek().value.tolist() if state == "reset" else last
    assert fleet.peek().to_pydict()["value"] == [expected]


@pytest.mark.slow
def test_memory_follows_the_live_streams():
    fleet = sr.Fleet(make_bundle(), order=sr.Order(lateness=1.0))
    for i in range(200):
        fleet.push([f"s{i}"] * 3, i + np.array([0.0, 0.4, 0.2]), np.ones((3, 2)))
        fleet.evict(idle=5.0)
    assert len(fleet) == 6
    assert len(fleet._table.rows) == 8
    assert fleet.counts() == Counts(samples=600)


def test_a_models_own_policy_is_stored_by_name_and_handed_over_as_a_class(tmp_path):
    bundle = make_bundle(windows=Swing(0.75, 2.0))
    bundle.save(tmp_path / "swing.safetensors")
    with pytest.raises(BundleError, match=r"policy 'swing', which is not built in: load\(..., policies"):
        sr.load(tmp_path / "swing.safetensors")
    loaded = sr.load(tmp_path / "swing.safetensors", policies=[Swing])
    assert loaded.header == bundle.header
    assert loaded.fingerprint == bundle.fingerprint


def test_a_scale_that_does_not_fit_the_path_is_refused():
    with pytest.raises(BundleError, match="2 factors and the path 3 channels"):
        make_bundle(windows=sr.Adaptive(1.0, scale=(0.0, 1.0)))


def test_hostile_snapshots_of_held_samples_are_refused():
    bundle = make_bundle()
    predictor = sr.Predictor(bundle, order=sr.Order(lateness=9.0))
    predictor.push_many([0.0, 0.5, 0.2], np.ones((3, 2)))
    table = predictor._table
    name, values = table.read_snapshot(predictor.snapshot())
    header = SnapshotHeader(name, bundle.fingerprint)
    for column, value in itertools.product((Column.HELD, Column.PENDING), (-1.0, 0.5, 4.0, np.nan, np.inf)):
        changed = values.copy()
        changed[column] = value
        with pytest.raises(SnapshotError, match=r"has .* values"):
            table.read_snapshot(snapshots.pack(header, changed))


def test_orders_that_cannot_work_are_named():
    for options, match in (
        ({"lateness": -1.0}, "finite and >= 0"),
        ({"lateness_samples": -1}, ">= 0"),
        ({"lateness": 1.0, "lateness_samples": 1}, "one of the two"),
        ({"lateness_samples": 9, "max_held": 8}, "at least lateness_samples"),
        ({"duplicates": "both"}, "'first', 'last' or 'error'"),
    ):
        with pytest.raises(ParameterError, match=match):
            sr.Order(**options)


@pytest.mark.parametrize("interpolation", ["linear", "hold"])
def test_counts_of_many_hostile_rows_add_up(interpolation):
    bundle = make_bundle(interpolation=interpolation, gap=sr.Gap(seconds=30.0))
    index, t, x = make_many_hostile(4000, 20)
    counts = reconcile(index, t, x, [f"s{i}" for i in range(20)], bundle)
    assert min(counts.samples, counts.late, counts.duplicate, counts.rejected) > 0
