"""Windows at several scales, end values and summaries against what NumPy makes of the samples."""

import naive
import numpy as np
import pytest
from bundles import make_recording
from hostile import BUILT_IN, check_cuts_and_moves, check_reference
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import LAW

import streamrde as sr
from streamrde.errors import ParameterError
from streamrde.kernels import Loop
from streamrde.windowing.partition import Partition
from streamrde.windowing.recorded import window_recordings
from streamrde.windowing.rows import Layout
from streamrde.windowing.tokens import SUMMARIES, Scale, Token

FILL = (0.25, -0.5)
some_scales = st.lists(st.integers(1, 40), min_size=1, max_size=4, unique=True)
policies = st.sampled_from([{"every": 1.0}, {"every": 0.7, "align": "epoch"}, {"count": 1}, {"count": 4}])


def as_windows(policy):
    return sr.Count(policy["count"]) if "count" in policy else sr.Every(policy["every"], policy.get("align", "first"))


def tokens_of(t, x, partition):
    (whole,) = window_recordings([t], [x], partition)
    return whole


@settings(max_examples=25)
@given(policies, st.sampled_from(["linear", "hold"]), st.integers(0, 2**32), some_scales)
def test_a_scale_is_the_path_over_its_last_windows(policy, interpolation, seed, scales):
    t, x = make_recording(seed, 25, missing=0.3 if interpolation == "hold" else 0.0)
    _, paths = naive.window_paths(t, x, **policy, interpolation=interpolation, fill=FILL)
    edges, tokens = sr.logsig_windows(
        t, np.column_stack([t, x]), 2, as_windows(policy), interpolation, scales=scales, fill=[0.0, *FILL]
    )
    size = sr.logsignature_channels(3, 2)
    assert tokens.shape == (len(paths), size * len(scales))
    assert len(edges) == len(paths) + 1
    for k in range(len(paths)):
        for place, m in enumerate(scales):
            path = np.concatenate(paths[max(0, k - m + 1) : k + 1])
            own = tokens[k, place * size : (place + 1) * size]
            np.testing.assert_allclose(own, naive.logsignature(path, 2), rtol=LAW, atol=LAW)


def test_each_scale_has_its_own_depth_and_one_window_has_the_bits_of_the_window():
    t, x = make_recording(3, 40)
    path = np.column_stack([t, x])
    _, plain = sr.logsig_windows(t, path, 3, sr.Every(0.5))
    _, tokens = sr.logsig_windows(t, path, 3, sr.Every(0.5), scales=(1, (6, 2), Scale(5)))
    deep, flat = sr.logsignature_channels(3, 3), sr.logsignature_channels(3, 2)
    assert tokens.shape[1] == 2 * deep + flat
    assert np.array_equal(tokens[:, :deep], plain)
    _, shallow = sr.logsig_windows(t, path, 2, sr.Every(0.5), scales=(6,))
    np.testing.assert_allclose(tokens[:, deep : deep + flat], shallow, rtol=LAW, atol=LAW)


def test_scales_of_a_path_without_time():
    t, x = make_recording(4, 30)
    _, tokens = sr.logsig_windows(t, x, 2, sr.Count(3), scales=(2,))
    for k in range(len(tokens)):
        want = naive.logsignature(x[max(0, 3 * (k - 1)) : 3 * (k + 1) + 1], 2)
        np.testing.assert_allclose(tokens[k], want, rtol=LAW, atol=LAW)


@pytest.mark.parametrize("interpolation", ["linear", "hold"])
def test_ends_and_summaries_say_what_was_observed_up_to_the_edge(interpolation):
    t, x = make_recording(5, 60, missing=0.4)
    x[:, 1] = np.where(t < t[30], np.nan, x[:, 1])
    partition = Partition(FILL, 2, sr.Every(1.0), interpolation, token=Token(ends=True, summaries=True))
    whole = tokens_of(t, x, partition)
    places = partition.places
    for k, end in enumerate(whole.end):
        before = t <= end + 1e-9 if interpolation == "linear" or k == len(whole.end) - 1 else t < end - 1e-9
        summaries = dict(zip(SUMMARIES, whole.logsigs[k, places.summaries].reshape(2, -1).T, strict=True))
        for channel in range(2):
            seen = before & np.isfinite(x[:, channel])
            own = {name: values[channel] for name, values in summaries.items()}
            v, at = x[seen, channel], t[seen]
            assert own["count"] == len(v)
            if not len(v):
                assert all(np.isnan(own[name]) for name in SUMMARIES[1:])
                continue
            want = [v[0], v[-1], v.min(), v.max()]
            assert [own["first"], own["last"], own["min"], own["max"]] == want
            np.testing.assert_allclose(own["mean"], v.mean(), rtol=LAW, atol=LAW)
            np.testing.assert_allclose(own["spread"], v.std(), rtol=LAW, atol=LAW)
            np.testing.assert_allclose(own["since"], end - at[-1], rtol=LAW, atol=LAW)
            centred = at - at.mean()
            slope = (centred * (v - v.mean())).sum() / (centred**2).sum() if len(v) > 1 else 0.0
            np.testing.assert_allclose(own["slope"], slope, rtol=LAW, atol=LAW)
            if interpolation == "hold":
                assert whole.logsigs[k, places.ends][channel] == v[-1]


FULL = Token(scales=(Scale(1), Scale(3), Scale(5, 1)), ends=True, summaries=True)


@pytest.mark.parametrize("windows", BUILT_IN, ids=str)
@pytest.mark.parametrize("gap", [None, sr.Gap(seconds=3.0), sr.Gap(seconds=3.0, state="carry")], ids=str)
@pytest.mark.parametrize("interpolation", ["linear", "hold"])
def test_tokens_do_not_depend_on_cuts_into_calls_or_on_moves_of_rows(windows, gap, interpolation):
    partition = Partition(FILL, 2, windows, interpolation, gap=gap, token=FULL)
    check_cuts_and_moves(partition)


@pytest.mark.skipif(Loop is None, reason="no compiled loop")
@pytest.mark.parametrize("windows", BUILT_IN, ids=str)
@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize("interpolation", ["linear", "hold"])
def test_the_compiled_loop_makes_the_tokens_of_its_reference(windows, marked, interpolation):
    token = Token(scales=(*FULL.scales, Scale(1, 1), Scale(6)), ends=True, summaries=True)
    missing = sr.Missing(counts=marked, elapsed=marked)
    partition = Partition(
        FILL, 2, windows, interpolation, missing=missing, gap=sr.Gap(seconds=3.0, state="carry"), token=token
    )
    check_reference(partition)


def test_nothing_accumulates_over_many_windows():
    # A scale's product is made of its own windows alone: the last one is what it is in a stream that begins with them.
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4001, 1)).cumsum(axis=0)
    t = np.arange(4001.0)
    token = Token(scales=(Scale(32),))
    partition = Partition((0.0,), 3, sr.Count(1), "linear", token=token)
    late = tokens_of(t, x, partition).logsigs[-1]
    early = tokens_of(t[-33:], x[-33:], partition).logsigs[-1]
    np.testing.assert_allclose(late, early, rtol=LAW, atol=LAW)


def test_a_row_has_room_for_the_windows_of_its_largest_scale_and_no_more():
    plain = Layout(Partition(FILL, 3, sr.Every(1.0), "linear"))
    six = Token(scales=tuple(Scale(2**i) for i in range(6)))
    wide = Layout(Partition(FILL, 3, sr.Every(1.0), "linear", token=six))
    signature = plain.signature.stop - plain.signature.start
    assert wide.width - plain.width == (32 - 1 + 6) * signature


@pytest.mark.parametrize(
    ("scales", "says"),
    [((), "scales is empty"), ((0,), "scales"), ((5000,), "4096"), (((2, 3),), "deeper"), ((2, 2), "twice")],
)
def test_scales_that_cannot_be_are_refused(scales, says):
    with pytest.raises(ParameterError, match=says):
        sr.logsig_windows([0.0, 1.0, 2.0], np.zeros((3, 2)), 2, sr.Count(1), scales=scales)
