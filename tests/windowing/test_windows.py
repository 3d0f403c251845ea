import naive
import numpy as np
import pytest
from bundles import make_recording
from hypothesis import given
from hypothesis import strategies as st
from oracles import cases
from tolerances import LAW, ORACLE

import streamrde as sr
from streamrde.errors import OrderError, ParameterError, SampleError, ShapeError

ORACLES = cases("windows")


@pytest.mark.parametrize("case", [c for i, c in enumerate(ORACLES) if i != 3], ids=lambda c: str(c["x"].shape))
def test_windows_equal_torchcde(case):
    edges, logsigs = sr.logsig_windows(case["t"], case["x"], int(case["depth"]), sr.Every(float(case["window_length"])))
    assert logsigs.shape == case["logsigs"].shape
    np.testing.assert_allclose(logsigs, case["logsigs"], rtol=0, atol=ORACLE)
    assert edges[0] == case["t"][0]
    assert edges[-1] == case["t"][-1]


def test_windows_equal_torchcde_but_for_the_edge_that_it_moves_to_a_sample():
    # torchcde takes a sample within 1e-8 + 1e-5 |t| of an edge for the edge: at t = 26 one that is 6e-5 s away. The two
    # windows beside that edge are therefore off; everything else agrees, and so do these two with the edge so moved.
    case = ORACLES[3]
    t, x, depth, length = case["t"], case["x"], int(case["depth"]), float(case["window_length"])
    edges, logsigs = sr.logsig_windows(t, x, depth, sr.Every(length))
    right = np.ones(len(logsigs), dtype=bool)
    right[[7, 8]] = False
    np.testing.assert_allclose(logsigs[right], case["logsigs"][right], rtol=0, atol=ORACLE)
    sample = int(np.abs(t - edges[8]).argmin())
    assert 0 < abs(t[sample] - edges[8]) < 1e-5 * edges[8]
    for window, begin, end in ((7, edges[7], t[sample]), (8, t[sample], edges[9])):
        points = np.union1d(t[(t > begin) & (t < end)], [begin, end])
        path = np.column_stack([np.interp(points, t, channel) for channel in x.T])
        np.testing.assert_allclose(sr.logsignature(path, depth), case["logsigs"][window], rtol=0, atol=ORACLE)


policies = st.sampled_from(
    [{"every": 1.0}, {"every": 0.7, "align": "epoch"}, {"every": 0.05}, {"every": 40.0}, {"count": 1}, {"count": 4}]
)


def as_windows(policy):
    if "count" in policy:
        return sr.Count(policy["count"])
    return sr.Every(policy["every"], policy.get("align", "first"))


@given(policies, st.sampled_from(["linear", "hold"]), st.integers(0, 2**32), st.sampled_from([0.0, 12.3, 1.7e9]))
def test_windows_equal_a_walk_along_the_path(policy, interpolation, seed, t0):
    t, x = make_recording(seed, 25, missing=0.3 if interpolation == "hold" else 0.0, t0=t0)
    fill = [0.25, -0.5]
    edges, paths = naive.window_paths(t, x, **policy, interpolation=interpolation, fill=fill)
    got_edges, logsigs = sr.logsig_windows(
        t, np.column_stack([t - t0, x]), 2, as_windows(policy), interpolation, fill=[0.0, *fill]
    )
    np.testing.assert_allclose(got_edges, edges, rtol=1e-12)
    # Unix times carry a rounding of 2e-7 s, which the edges of the walk have too, but not always the same way.
    atol = 1e-5 if t0 > 1e6 else LAW
    np.testing.assert_allclose(logsigs, [naive.logsignature(p, 2) for p in paths], rtol=0, atol=atol)


def test_times_that_are_multiples_of_the_window_make_no_extra_window():
    t = np.array([0.0, 0.1, 0.2, 0.3])
    edges, logsigs = sr.logsig_windows(t, np.column_stack([t, t]), 2, sr.Every(0.1))
    assert len(logsigs) == 3
    np.testing.assert_allclose(edges, t)


def test_a_shift_of_the_clock_changes_nothing():
    t, x = make_recording(5, 300)
    t = np.round(t * 4) / 4 + np.arange(300)  # exact in float64 at unix times too
    here = sr.logsig_windows(t, np.column_stack([t, x]), 3, sr.Every(2.0))
    there = sr.logsig_windows(t + 2.0**30, np.column_stack([t, x]), 3, sr.Every(2.0))
    assert here[1].tobytes() == there[1].tobytes()
    np.testing.assert_array_equal(here[0] + 2.0**30, there[0])


def test_hold_puts_a_jump_on_an_edge_into_the_window_that_starts_there():
    t = [0.0, 1.0, 2.0]
    x = np.column_stack([t, [0.0, 5.0, 9.0]])
    edges, logsigs = sr.logsig_windows(t, x, 1, sr.Every(1.0), "hold")
    np.testing.assert_array_equal(edges, [0.0, 1.0, 2.0, 2.0])
    np.testing.assert_array_equal(logsigs, [[1.0, 0.0], [1.0, 5.0], [0.0, 4.0]])


def test_epoch_edges_fall_on_the_clock():
    t = np.array([1.7e9 + 3.2, 1.7e9 + 8.0, 1.7e9 + 21.0])
    edges, _ = sr.logsig_windows(t, np.column_stack([t, t]), 1, sr.Every(5.0, "epoch"))
    np.testing.assert_array_equal(edges - 1.7e9, [t[0] - 1.7e9, 5.0, 10.0, 15.0, 20.0, 21.0])


def test_a_path_without_time_is_used_as_it_is():
    t = np.arange(9.0)
    x = np.random.default_rng(0).normal(size=(9, 3))
    _, logsigs = sr.logsig_windows(t, x, 3, sr.Count(4))
    np.testing.assert_array_equal(logsigs[1], sr.logsignature(x[4:], 3))


def test_one_sample_has_no_window():
    edges, logsigs = sr.logsig_windows([3.0], [[1.0, 2.0]], 2, sr.Every(1.0))
    assert edges.tolist() == [3.0]
    assert logsigs.shape == (0, 3)


@pytest.mark.parametrize(
    ("t", "x", "error", "match"),
    [
        ([0.0, 1.0], [[1.0], [2.0], [3.0]], ShapeError, r"t has shape \(2,\)"),
        ([0.0, 1.0, 1.0], [[1.0], [2.0], [3.0]], OrderError, r"t\[2\] = 1.0 is not after t\[1\] = 1.0"),
        ([0.0, 2.0, 1.0], [[1.0], [2.0], [3.0]], OrderError, "sort by time"),
        ([0.0, 1.0, np.nan], [[1.0], [2.0], [3.0]], SampleError, "row 2: its time is nan"),
        ([0.0, 1.0, 2.0], [[np.nan], [2.0], [3.0]], SampleError, "give fill"),
        ([0.0, 1.0, 2.0], [[1.0], [np.inf], [3.0]], SampleError, "row 1, channel 0: its value is inf"),
    ],
)
def test_a_recording_that_is_no_path_is_refused(t, x, error, match):
    with pytest.raises(error, match=match):
        sr.logsig_windows(t, x, 2, sr.Every(1.0))


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: sr.Every(0.0), "finite and > 0"),
        (lambda: sr.Every(float("inf")), "finite and > 0"),
        (lambda: sr.Every(1.0, "last"), "'first' or 'epoch'"),
        (lambda: sr.Count(0), "at least 1"),
        (lambda: sr.Count(1.5), "at least 1"),
        (lambda: sr.logsig_windows([0.0], [[0.0]], 1, sr.Count(1), "cubic"), "'linear' or 'hold'"),
    ],
)
def test_a_policy_that_cannot_work_is_named(call, match):
    with pytest.raises(ParameterError, match=match):
        call()


def rounded_times() -> dict[str, tuple[np.ndarray, np.ndarray, object]]:
    """Times, channel 0 of the path, and the rounding of the log-signatures that is due to the times alone."""
    t = np.sort(np.random.default_rng(0).uniform(0.0, 30.0, 200))
    unix = t + 1.7e9
    steps = np.diff(t, prepend=0.0).astype(np.float32)
    return {
        "float64": (t, t, 0.0),
        "float32": (t, t.astype(np.float32), 0.0),
        "float16": (t, t.astype(np.float16), 0.0),
        "float32, later in double": (t, t.astype(np.float32).astype(np.float64), 0.0),
        "float32, summed up": (t, np.cumsum(steps, dtype=np.float32), 0.0),
        "float32, of a late origin": (t, (t + 5e5).astype(np.float32), 0.0),
        "the times are float32 too": (t.astype(np.float32), t.astype(np.float32), 1e-5),
        "only the times are float32": (t.astype(np.float32), t, 1e-5),
        "unix": (unix, unix, 1e-5),
        "unix times, seconds since the first": (unix, t, 1e-5),
        "unix times, rounded beyond the span": (unix, unix.astype(np.float32), 1e-5),
    }


@pytest.mark.parametrize("name", rounded_times())
def test_a_channel_that_is_time_but_for_its_rounding_is_time(name):
    t, channel, rounding = rounded_times()[name]
    x = np.random.default_rng(1).normal(size=(200, 2)).cumsum(axis=0)
    exact = rounded_times()["float64"][0]
    expected = sr.logsig_windows(exact, np.column_stack([exact, x]), 2, sr.Every(1.0), "hold")[1]
    path = np.column_stack([channel, x])
    found = sr.logsig_windows(t, path, 2, sr.Every(1.0), "hold")[1]
    np.testing.assert_allclose(found, expected, rtol=0, atol=rounding)


def test_a_whole_path_in_float32_has_the_areas_of_time_that_moves_first():
    t = np.sort(np.random.default_rng(0).uniform(0.0, 30.0, 200))
    path = np.column_stack([t, np.random.default_rng(1).normal(size=(200, 2)).cumsum(axis=0)])
    expected = sr.logsig_windows(t, path, 2, sr.Every(1.0), "hold")[1]
    found = sr.logsig_windows(t, path.astype(np.float32), 2, sr.Every(1.0), "hold")[1]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("drift", [1e-2, -1e-2, 0.5])
def test_a_channel_that_only_resembles_time_is_data(drift):
    """A clock that is off by a percent is a sensor's; under hold it jumps as data does."""
    t = np.arange(1.0, 31.0).astype(np.float32)
    path = np.column_stack([t * (1 + drift), np.sin(t)]).astype(np.float32)
    found = sr.logsig_windows(t, path, 2, sr.Every(10.0), "hold")[1]
    np.testing.assert_allclose(found[0, 0], 9 * (1 + drift), rtol=1e-5)


@pytest.mark.parametrize("interpolation", ["linear", "hold"])
@pytest.mark.parametrize("windows", [sr.Every(2.0), sr.Count(2), sr.Adaptive(norm=1.5, scale=(1.0,))], ids=str)
@pytest.mark.parametrize("depth", [1, 3])
def test_a_path_of_time_alone_has_the_windows_durations(windows, interpolation, depth):
    t = np.arange(6.0)
    edges, logsigs = sr.logsig_windows(t, t[:, None], depth, windows, interpolation)
    assert logsigs.shape == (len(edges) - 1, 1)
    np.testing.assert_allclose(logsigs[:, 0], np.diff(edges))
    assert edges[-1] == 5.0


@pytest.mark.parametrize("x", [[[7.0]], [[7.0, 1.0]], [[7.0, 1.0, 2.0]]], ids=len)
@pytest.mark.parametrize("windows", [sr.Every(2.0), sr.Count(np.int64(3))], ids=str)
def test_one_sample_of_any_channels_has_no_window(x, windows):
    edges, logsigs = sr.logsig_windows([7.0], x, 2, windows)
    np.testing.assert_array_equal(edges, [7.0])
    assert logsigs.shape == (0, sr.logsignature_channels(len(x[0]), 2))


def test_a_masked_value_of_a_path_is_not_observed():
    t, x = make_recording(3, 50)
    holes = np.random.default_rng(1).random(x.shape) < 0.3
    holes[0] = False
    masked = np.ma.array(np.where(holes, -9999.0, x), mask=holes)
    expected = sr.logsig_windows(t, np.where(holes, np.nan, x), 2, sr.Every(1.0), "hold")
    found = sr.logsig_windows(t, masked, 2, sr.Every(1.0), "hold")
    np.testing.assert_array_equal(found[1], expected[1])


def test_axes_of_a_path_that_look_swapped_are_named():
    with pytest.raises(ShapeError, match=r"the axes look swapped: give x.swapaxes\(-1, -2\), of shape \(304128, 2\)"):
        sr.logsig_windows(np.arange(304128.0), np.zeros((2, 304128)), 2, sr.Every(1.0))
