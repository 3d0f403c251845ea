"""How far windows lie outside of training, and when a stream drifts, in Predictor and Fleet."""

from __future__ import annotations

import math
import subprocess
import sys

import msgspec
import naive
import numpy as np
import pyarrow as pa
import pytest
from bundles import make_bundle, make_recording, novelty_tensor
from hypothesis import given
from hypothesis import strategies as st

import streamrde as sr
from streamrde import kernels
from streamrde.adapting.drift import highest_capital, log_growth, watch
from streamrde.errors import BundleError, ParameterError
from streamrde.inference.novelty import Novelty, ReferenceNovelty, TrainingWindows, features, novelty_shapes
from streamrde.windowing.recorded import window_recordings

TOLD = TrainingWindows(windows=400, streams=10, alarm=3.0)


def tensors_of(channels, depth, seed=0):
    rng = np.random.default_rng(seed)
    return {name: novelty_tensor(name, shape, rng) for name, shape in novelty_shapes(channels, depth).items()}


def told_of(predictor):
    return predictor.state_counts.novel, predictor.state_counts.drifts


@pytest.mark.parametrize(("channels", "depth"), [(2, 1), (2, 3), (3, 2), (3, 4), (4, 3)])
def test_p_values_are_the_oracles(channels, depth):
    tensors, rng = tensors_of(channels, depth), np.random.default_rng(1)
    tensors["novelty.scale"][-1] = 0.0
    count = sr.logsignature_channels(channels, depth)
    windows = rng.normal(size=(60, count)) * np.geomspace(0.01, 30, 60)[:, None]
    windows[3] = 0.0
    expected = [naive.novelty(row, tensors, channels, depth, TOLD.windows) for row in windows]
    found = Novelty(tensors, TOLD, channels=channels, depth=depth).p(windows)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert len(set(expected)) > 20
    reference = ReferenceNovelty(tensors, channels=channels, depth=depth, windows=TOLD.windows)
    np.testing.assert_allclose(reference.p(windows), expected, rtol=1e-9)


def test_a_windows_p_value_does_not_depend_on_the_others():
    windows = np.random.default_rng(2).normal(size=(50, 14))
    judge = Novelty(tensors_of(3, 3), TOLD, channels=3, depth=3)
    alone = [judge.p(row[None])[0] for row in windows]
    assert judge.p(windows).tobytes() == np.array(alone).tobytes()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_as_novel_as_can_be(bad):
    windows = np.ones((2, 14))
    windows[1, 5] = bad
    p = Novelty(tensors_of(3, 3), TOLD, channels=3, depth=3).p(windows)
    assert p[0] > p[1] == 1 / 401


settings = st.builds(
    lambda windows, interpolation, pooling, gap: make_bundle(
        windows=windows, interpolation=interpolation, pooling=pooling, gap=gap, novelty=TOLD
    ),
    st.sampled_from([sr.Every(1.0), sr.Every(0.7, "epoch"), sr.Count(4)]),
    st.sampled_from(["linear", "hold"]),
    st.sampled_from(["state", "mean"]),
    st.sampled_from([None, sr.Gap(seconds=1.0)]),
)


@pytest.mark.slow
@given(settings, st.integers(0, 2**32))
def test_a_fleet_in_random_cuts_with_restores_tells_what_predictors_do(bundle, seed):
    rng = np.random.default_rng(seed)
    recordings = {"s": make_recording(7, 60), "7": make_recording(8, 50, t0=3.0)}
    fleet, told = sr.Fleet(bundle, novelty=True), []
    names = np.repeat(list(recordings), [60, 50])
    t, x = (np.concatenate([r[i] for r in recordings.values()]) for i in (0, 1))
    order = np.lexsort((t, rng.random(2)[(names == "7").astype(int)] if seed % 2 else t))
    for part in np.split(order, np.sort(rng.integers(0, len(order), 5))):
        told += fleet.push(names[part].tolist(), t[part], x[part]).to_pylist()
        fleet, saved = sr.Fleet(bundle, novelty=True), fleet.snapshot()
        fleet.restore(saved)
    counts = {name: fleet.state_counts(name) for name in recordings}
    told += fleet.flush().to_pylist()
    for name, (times, samples) in recordings.items():
        predictor = sr.Predictor(bundle, novelty=True)
        alone = [p for time, sample in zip(times, samples, strict=True) for p in predictor.push(time, sample)]
        assert predictor.state_counts == counts[name]
        alone += predictor.flush()
        assert [r["novelty"] for r in told if r["stream"] == name] == [p.novelty for p in alone]
        assert sum(p.novelty is not None for p in alone) > 5


def test_the_counters_are_those_of_the_p_values():
    bundle = make_bundle(novelty=msgspec.structs.replace(TOLD, alarm=0.5), windows=sr.Every(0.5))
    predictor = sr.Predictor(bundle, novelty=True)
    t, x = make_recording(1, 300)
    p = [prediction.novelty for prediction in predictor.push_many(t, 50 * x)]
    assert None in p  # a window without a sample
    novel, drifts = naive.drift([value for value in p if value is not None], novel=0.01, alarm=0.5)
    assert told_of(predictor) == (novel, drifts)
    assert novel > 3
    assert drifts > 1
    fleet = sr.Fleet(bundle, novelty=True)
    fleet.push(["a"] * 300, t, 50 * x)
    fleet.flush()
    assert fleet.state_counts()[3:5] == (novel, drifts)


def test_novelty_changes_no_prediction_and_no_row_of_those_that_do_not_ask():
    bare = make_bundle()
    known = bare.with_novelty(TOLD, tensors_of(3, 3))
    assert known.fingerprint == bare.fingerprint
    assert known.parameters == bare.parameters
    assert known.novelty_fingerprint != bare.novelty_fingerprint == ""
    t, x = make_recording(3, 60)
    predictors = [sr.Predictor(bare), sr.Predictor(known), sr.Predictor(known, novelty=True)]
    values = [[p.value.tobytes() for p in predictor.push_many(t, x)] for predictor in predictors]
    assert values[0] == values[1] == values[2]
    saved = [predictor.snapshot() for predictor in predictors]
    assert saved[0] == saved[1]
    assert len(saved[2]) == len(saved[0]) + 3 * 8


def test_a_stream_goes_on_with_novelty_that_began_without_and_the_other_way_round():
    bundle = make_bundle(novelty=TOLD, interpolation="hold", missing=sr.Missing(counts=True))
    order = sr.Order(lateness=5.0)  # snapshots with held samples beside the row
    t, x = make_recording(4, 60)
    for before, after in [(False, True), (True, False)]:
        first = sr.Predictor(bundle, novelty=before, order=order)
        first.push_many(t[:30], x[:30])
        second = sr.Predictor.restore(bundle, first.snapshot(), novelty=after, order=order)
        assert told_of(second) == (0, 0)
        rest = [p.value.tobytes() for p in second.push_many(t[30:], x[30:])]
        assert rest == [p.value.tobytes() for p in first.push_many(t[30:], x[30:])]


def test_a_model_that_does_not_know_its_training_says_how_it_would():
    with pytest.raises(ParameterError, match=r"streamrde\.models\.add_novelty"):
        sr.Predictor(make_bundle(), novelty=True)
    known = make_bundle(novelty=TOLD)
    fleet = sr.Fleet(known, novelty=True)
    with pytest.raises(BundleError, match="add_novelty"):
        fleet.swap(make_bundle(seed=1))
    other = known.with_novelty(TOLD, tensors_of(3, 3, seed=5))
    assert fleet.fingerprint == other.fingerprint
    assert fleet.novelty_fingerprint != other.novelty_fingerprint
    fleet.swap(other)
    assert fleet.novelty_fingerprint == other.novelty_fingerprint
    assert sr.Fleet(other).novelty_fingerprint == ""


@pytest.mark.parametrize("windows", [sr.Every(1.0), sr.Count(4)], ids=str)
def test_windows_that_are_cut_short_are_not_judged(windows):
    bundle = make_bundle(windows=windows, novelty=TOLD)
    t, x = make_recording(5, 31)
    predictor = sr.Predictor(bundle, novelty=True)
    whole = predictor.push_many(t, x)
    assert all(p.novelty is not None for p in whole)
    before = predictor.snapshot()
    assert predictor.peek().novelty is None
    assert predictor.snapshot() == before
    assert predictor.flush()[-1].novelty is None


def test_a_window_that_closes_is_told_of_as_peek_at_its_end_told():
    bundle = make_bundle(interpolation="hold", novelty=TOLD)
    predictor = sr.Predictor(bundle, novelty=True)
    t, x = make_recording(8, 40)
    for time, sample in zip(t, x, strict=True):
        end = np.floor(time) + 1.0
        predictor.push(time, sample)
        peeked, counted = predictor.peek(end), predictor.state_counts
        following = sr.Predictor.restore(bundle, predictor.snapshot(), novelty=True)
        assert peeked.novelty == following.advance(end)[-1].novelty is not None
        assert predictor.state_counts == counted


def test_the_column_is_there_where_it_is_asked_for():
    bundle = make_bundle(novelty=TOLD)
    t, x = make_recording(6, 30)
    assert "novelty" not in sr.Fleet(bundle).push(["a"] * 30, t, x).schema.names
    fleet = sr.Fleet(bundle, novelty=True, features=["state"])
    batch = fleet.push(["a"] * 30, t, x)
    assert batch.schema == fleet.schema
    assert batch.schema.names[-3:] == ["step_error", "novelty", "state"]
    assert batch["novelty"].null_count == 0
    assert fleet.peek()["novelty"].null_count == 1


def test_bets_on_uniform_p_values_are_fair():
    """The growth of the capital is the mixture of powers, whose mean is 1."""
    for p in (1e-6, 0.01, 0.3, 0.989, 0.991, 1.0):
        assert log_growth(p) == pytest.approx(math.log(naive.bet(p)), abs=1e-6)
    # Of the integral over p the part below exp(-y) is (1 - exp(-y)) / y; the rest is summed over y = -log p.
    y = (np.arange(20_000) + 0.5) * 14 / 20_000
    above = sum(math.exp(log_growth(math.exp(-value)) - value) for value in y) * 14 / 20_000
    assert above + (1 - math.exp(-14)) / 14 == pytest.approx(1.0, abs=1e-6)


def test_false_alarms_are_as_rare_as_the_threshold_says_and_drift_is_noticed():
    rng, rows, slots = np.random.default_rng(0), np.zeros((200, 3)), np.repeat(np.arange(200), 250)
    watch(rows, 0, slots, rng.uniform(size=50_000), novel=0.01, alarm=math.log(1000))
    assert rows[:, 1].sum() <= 50_000 / 1000
    assert 400 < rows[:, 0].sum() < 600
    before = rows[:, 1].copy()
    watch(rows, 0, slots, rng.beta(0.3, 1.0, size=50_000), novel=0.01, alarm=math.log(1000))
    assert (rows[:, 1] > before).mean() > 0.95
    assert highest_capital(np.full(3, 1e-3)) == pytest.approx(3 * log_growth(1e-3))


@pytest.mark.parametrize(
    ("name", "change", "match"),
    [
        ("tails", lambda a: a[:, ::-1], "does not ascend"),
        ("log_p", lambda a: -a, "does not descend from 0"),
        ("log_p", lambda a: a + 1.0, "does not descend from 0"),
        ("spread", lambda a: -a, "negative"),
        ("rest", lambda a: a * np.nan, "not finite"),
        ("axes.0", lambda a: a[:, :1], "asks for"),
        ("scale", lambda a: a.astype(np.float32), "asks for float64"),
    ],
)
def test_a_damaged_distribution_is_refused(name, change, match):
    tensors = tensors_of(3, 3)
    tensors[f"novelty.{name}"] = np.ascontiguousarray(change(tensors[f"novelty.{name}"]))
    with pytest.raises(BundleError, match=match):
        make_bundle().with_novelty(TOLD, tensors)


def test_a_file_with_a_distribution_is_read_and_its_hostile_header_is_not(tmp_path):
    path = tmp_path / "model.safetensors"
    bundle = make_bundle(novelty=TOLD)
    bundle.save(path)
    loaded = sr.load(path)
    assert loaded.header.novelty == TOLD
    assert loaded.novelty_fingerprint == bundle.novelty_fingerprint
    data = path.read_bytes()
    for old, new in [(b'\\"alarm\\":3.0', b'\\"alarm\\":-30'), (b'\\"windows\\":400', b'\\"windows\\":000')]:
        assert old in data
        path.write_bytes(data.replace(old, new))
        with pytest.raises(BundleError):
            sr.load(path)


def test_a_header_that_claims_more_words_than_fit_into_memory_is_refused_at_once():
    header = msgspec.structs.replace(
        make_bundle(novelty=TOLD).header, depth=12, channels=tuple(sr.Channel(name=str(i)) for i in range(99))
    )
    with pytest.raises(BundleError, match=r"asks for|is missing"):
        sr.Bundle(header, make_bundle(novelty=TOLD).tensors)
    assert all(
        novelty_shapes(c, n)["novelty.scale"] == features(c, n).level.shape and sum(features(c, n).blocks) == size
        for c, n in [(2, 1), (2, 4), (5, 3)]
        for size in novelty_shapes(c, n)["novelty.center"]
    )


@pytest.mark.skipif(kernels.Novelty is None, reason="no compiled kernels")
def test_the_compiled_twin_refuses_arrays_that_do_not_belong_together():
    judge = Novelty(tensors_of(3, 3), TOLD, channels=3, depth=3)
    with pytest.raises(ValueError, match="another shape"):
        judge._native.p(np.ones((2, 13)))
    with pytest.raises(TypeError, match="float64"):
        judge._native.p(np.ones((2, 14), np.float32))
    tensors = tensors_of(3, 3) | {"novelty.rest": np.ones(2)}
    with pytest.raises(ValueError, match="do not belong together"):
        Novelty(tensors, TOLD, channels=3, depth=3)


@pytest.mark.slow
def test_without_a_compiler_the_same_is_told():
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from inference.test_novelty import *\n"
        "predictor = sr.Predictor(make_bundle(novelty=TOLD), novelty=True)\n"
        "told = predictor.push_many(*make_recording(1, 30))\n"
        "print(kernels.IMPLEMENTATION.name, *[p.novelty or np.nan for p in told])\n"
    )
    environment = {"STREAMRDE_KERNELS": "reference", "PYTHONPATH": "tests"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    name, *values = done.stdout.split()
    assert name == "reference"
    expected = sr.Predictor(make_bundle(novelty=TOLD), novelty=True).push_many(*make_recording(1, 30))
    np.testing.assert_allclose(np.array(values, float), [p.novelty or np.nan for p in expected], rtol=1e-4)


def sampled_windows(windows, interpolation, t, *, advance_to=None):
    """Which windows of a stream have a p-value, live by a Predictor, by a Fleet, and as recorded."""
    bundle = make_bundle(windows=windows, interpolation=interpolation, novelty=TOLD)
    x = np.random.default_rng(0).normal(size=(len(t), 2)).cumsum(axis=0)
    predictor, fleet = sr.Predictor(bundle, novelty=True), sr.Fleet(bundle, novelty=True)
    live = [p for time, row in zip(t, x, strict=True) for p in predictor.push(float(time), row)]
    batch = fleet.push(["s"] * len(t), t, x)
    if advance_to is not None:
        live += predictor.advance(advance_to)
        batch = pa.Table.from_batches([batch, fleet.advance(advance_to)])
    assert [p.novelty for p in live] == batch["novelty"].to_pylist()
    assert predictor.state_counts == fleet.state_counts()
    (recorded,) = window_recordings([np.asarray(t, float)], [x], bundle.header.partition)
    # Short windows, the first one of epoch edges, are not judged either.
    whole = [p.t_end - p.t_start > 0.999 * windows.length or not isinstance(windows, sr.Every) for p in live]
    judged, count = [p.novelty is not None for p in live], min(len(live), len(recorded.sampled))
    assert judged[:count] == (recorded.sampled[:count] & np.array(whole[:count], bool)).tolist()
    return judged


@pytest.mark.parametrize(
    ("interpolation", "expected"),
    [
        # Windows (k, k + 1] of a line from 1.5 to 4.5, and [k, k + 1) of a value that holds.
        ("linear", [True, True, False, False, True]),
        ("hold", [True, True, False, False, True]),
    ],
)
def test_a_window_without_a_sample_is_not_judged(interpolation, expected):
    assert sampled_windows(sr.Every(1.0), interpolation, [0.0, 0.5, 1.5, 4.5, 5.5]) == expected


@pytest.mark.parametrize("interpolation", ["linear", "hold"])
@pytest.mark.parametrize("t0", [0.0, 1.7e9, 0.1])
@pytest.mark.parametrize("step", [0.1, 1 / 3, 60.0])
def test_windows_of_one_sample_on_their_edges_are_judged(interpolation, t0, step):
    judged = sampled_windows(sr.Every(step), interpolation, t0 + step * np.arange(40.0))
    assert judged == [True] * 39


def test_time_that_passes_without_a_sample_is_not_judged_and_no_drift():
    judged = sampled_windows(sr.Every(1.0), "hold", [0.0, 0.5, 1.5], advance_to=60.0)
    assert judged == [True, True] + [False] * 58


@pytest.mark.parametrize("windows", [sr.Count(1), sr.Count(3)], ids=str)
@pytest.mark.parametrize("interpolation", ["linear", "hold"])
def test_windows_by_count_have_samples_and_are_judged(windows, interpolation):
    assert all(sampled_windows(windows, interpolation, [0.0, 0.5, 1.5, 14.5, 15.5, 16.0, 17.0]))


@pytest.mark.slow
@given(
    st.lists(st.floats(0.01, 3.0), min_size=2, max_size=30),
    st.sampled_from([sr.Every(1.0), sr.Every(0.7, "epoch"), sr.Adaptive(norm=2.0, max_seconds=0.9)]),
    st.sampled_from(["linear", "hold"]),
)
def test_live_and_recorded_windows_agree_on_their_samples(steps, windows, interpolation):
    sampled_windows(windows, interpolation, 3.0 + np.cumsum(steps))
