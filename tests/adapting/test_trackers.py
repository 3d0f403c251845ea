"""Thresholds that follow the scores of a stream: their share of misses on every sequence, late labels, restores."""

from __future__ import annotations

import math

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamrde.adapting.split import RANKS, calibrate, fewest_streams, thresholds
from streamrde.adapting.trackers import Tracking, make_tracker
from streamrde.errors import ParameterError

METHODS = ("tracker", "aci", "pid")
RNG = np.random.default_rng(0)
TABLE, STREAMS = calibrate(np.abs(RNG.normal(size=(4000, 2))) * [1.0, 3.0], np.arange(4000) // 40)


def tracker_of(method="tracker", **options):
    return make_tracker(Tracking(method=method, **options), TABLE, STREAMS)


def drive(tracker, scores, late=1):
    """Issue thresholds before each score, learn `late` scores after; returns misses, thresholds and the last state."""
    state, issued, missed = tracker.blank()[None].copy(), [], []
    for k in range(len(scores)):
        if k >= late:
            missed.append(tracker.learn(state, scores[None, k - late], issued[k - late])[0])
        issued.append(tracker.threshold(state))
    for k in range(max(len(scores) - late, 0), len(scores)):
        missed.append(tracker.learn(state, scores[None, k], issued[k])[0])
    return np.array(missed), np.array(issued)[:, 0], state[0]


scores = st.lists(st.sampled_from([0.0, 0.1, 1.0, 2.5, 40.0]), min_size=20, max_size=300)


@given(scores, st.floats(0.5, 0.95))
def test_share_of_misses_is_bounded_on_every_sequence(values, coverage):
    score = np.array(values)[:, None] * np.ones(2)
    n, alpha, step = len(score), 1 - coverage, 0.05
    missed, _, _ = drive(tracker_of(coverage=coverage), score)
    for unit, first in enumerate(thresholds(TABLE, STREAMS, coverage)):
        most = 1 + max(0.0, math.log(40.0 / first)) + step
        assert -(1 + step) / (step * n) <= missed[:, unit].mean() - alpha <= most / (step * n)
    missed, _, _ = drive(tracker_of("aci", coverage=coverage), score)
    assert (np.abs(missed.mean(axis=0) - alpha) <= (1 + 0.005) / (0.005 * n)).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "score",
    [
        np.abs(RNG.normal(size=4000)),
        np.abs(RNG.normal(size=4000)) * np.where(np.arange(4000) < 2000, 1, 2),
        np.abs(RNG.normal(size=4000)) * np.exp(np.sin(np.arange(4000) / 300)),
        np.linspace(0, 8, 4000),
        np.full(4000, 0.7),
    ],
    ids=["usual", "noise doubles", "noise comes and goes", "ramp", "constant"],
)
def test_coverage_is_as_asked_for(method, score):
    missed, _, _ = drive(tracker_of(method), np.stack([score, 3 * score], axis=1))
    # A level that moves by .005 needs two thousand scores that are all the same to leave [0, 1].
    tolerance = 0.05 if method == "aci" and score[0] == score[1] else 0.012
    assert (np.abs(missed.mean(axis=0) - 0.1) < tolerance).all()


def test_tracker_is_the_oracle():
    score = np.abs(RNG.standard_t(2, size=500))
    score[::7] = np.nan
    first = thresholds(TABLE, STREAMS, 0.9)
    for late in (1, 5):
        missed, issued, _ = drive(tracker_of(), np.stack([score, score], axis=1), late)
        for unit in range(2):
            expected = naive.score_tracker(score, first[unit], 0.1, 0.05, late)
            np.testing.assert_allclose(issued[:, unit], expected[0], rtol=1e-12)
            assert missed[:, unit].tolist() == expected[1]


def test_noise_that_doubles_is_followed_within_two_hundred_labels():
    score = np.abs(np.random.default_rng(3).normal(size=(4000, 1))) * np.where(np.arange(4000) < 2000, 1, 2)[:, None]
    missed, issued, _ = drive(tracker_of(), np.repeat(score, 2, axis=1))
    assert np.convolve(~missed[:, 0], np.full(200, 1 / 200), "valid").min() >= 0.75
    assert issued[2200:, 0].mean() / issued[:2000, 0].mean() == pytest.approx(2, rel=0.15)


def test_decaying_step_settles():
    score = np.abs(np.random.default_rng(4).normal(size=(20_000, 1))) @ np.ones((1, 2))
    fixed, falling = (drive(tracker_of(decay=decay), score)[1][-5000:, 0].std() for decay in (0.0, 0.6))
    assert falling < fixed / 2


@pytest.mark.parametrize("method", METHODS)
def test_labels_that_come_late_or_never_keep_the_share(method):
    score = np.abs(np.random.default_rng(5).normal(size=(6000, 2)))
    score[np.random.default_rng(6).random(6000) < 0.5] = np.nan
    missed, _, _ = drive(tracker_of(method), score, late=30)
    known = np.isfinite(score[:, 0])
    assert not missed[~known].any()
    assert (np.abs(missed[known].mean(axis=0) - 0.1) < 0.02).all()


def test_a_thousand_labels_at_once_do_not_throw_the_threshold_away():
    tracker = tracker_of()
    state = tracker.blank()[None].copy()
    issued = tracker.threshold(state)
    for _ in range(1000):
        tracker.learn(state, np.full((1, 2), 10.0), issued)
    assert (tracker.threshold(state) <= 10.0 * math.e * (1 + 1e-12)).all()


@pytest.mark.parametrize("method", METHODS)
def test_wild_labels_leave_it_finite(method):
    score = (
        np.abs(np.random.default_rng(7).standard_cauchy(size=(20_000, 2))) * 10.0 ** (np.arange(20_000) % 9)[:, None]
    )
    _, _, state = drive(tracker_of(method), score)
    assert np.isfinite(state).all()


@pytest.mark.parametrize("method", METHODS)
def test_streams_do_not_see_each_other_and_restores_change_no_bit(method):
    tracker, rng = tracker_of(method), np.random.default_rng(8)
    score = np.abs(rng.standard_t(2, size=(300, 33, 2)))
    score[rng.random(score.shape) < 0.2] = np.nan
    together = np.repeat(tracker.blank()[None], 33, axis=0)
    for step in score:
        tracker.learn(together, step, tracker.threshold(together))
    for stream in (0, 17, 32):
        alone = tracker.blank()[None].copy()
        for step in score:
            alone = np.frombuffer(alone.tobytes()).reshape(alone.shape).copy()
            tracker.learn(alone, step[stream, None], tracker.threshold(alone))
        assert alone[0].tobytes() == together[stream].tobytes()


def test_a_model_without_errors_in_training_learns_of_some():
    tracker = make_tracker(Tracking(), np.zeros((1, RANKS)), np.array([100]))
    missed, _, _ = drive(tracker, np.abs(np.random.default_rng(9).normal(size=(3000, 1))))
    assert missed.mean() < 0.3


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"coverage": 90.0}, "0.9 for 90 %"),
        ({"method": "kalman"}, "'tracker', 'aci' or 'pid'"),
        ({"step": -1.0}, "between 0 and 1"),
        ({"decay": 2.0}, "0.6"),
        ({"method": "aci", "decay": 0.6}, "leave it out"),
    ],
)
def test_options_that_cannot_work_are_refused(options, word):
    with pytest.raises(ParameterError, match=word):
        Tracking(**options)


def test_streams_weigh_the_same_however_long():
    scores = np.concatenate([np.full(1000, 5.0), np.arange(1.0, 20.0)])[:, None]
    table, streams = calibrate(scores, np.concatenate([np.zeros(1000, int), np.arange(1, 20)]))
    assert streams.tolist() == [20]
    # 19 of 21 equal masses are above 90 %, the last of them at infinity.
    assert thresholds(table, streams, 0.9)[0] == np.sort(np.append(np.arange(1.0, 20.0), 5.0))[18]


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_split_thresholds_cover_windows_of_new_streams(coverage):
    rng, covered = np.random.default_rng(10), []
    for _ in range(600):
        size = rng.integers(1, 30, size=16)
        scale = rng.lognormal(size=17)
        scores = np.abs(rng.normal(size=size.sum())) * np.repeat(scale[:-1], size)
        table, streams = calibrate(scores[:, None], np.repeat(np.arange(16), size))
        covered.append(abs(rng.normal()) * scale[-1] <= thresholds(table, streams, coverage)[0])
    # Three standard deviations of 600 draws.
    assert np.mean(covered) >= coverage - 3 * math.sqrt(coverage * (1 - coverage) / 600)


def test_with_too_few_streams_the_plain_quantile_stands_in():
    scores = np.arange(1.0, 101.0)[:, None]
    table, streams = calibrate(scores, np.repeat(np.arange(4), 25))
    assert fewest_streams(0.9) == 9
    assert thresholds(table, streams, 0.9)[0] == pytest.approx(90.0, abs=1)
    assert thresholds(table, streams, 0.75)[0] == pytest.approx(94.0, abs=1)


def test_scores_that_are_not_known_do_not_count():
    scores = np.array([[1.0, np.nan], [2.0, np.nan], [np.nan, np.nan]])
    table, streams = calibrate(scores, np.arange(3))
    assert streams.tolist() == [2, 0]
    assert table[0, -1] == 2.0
    assert not table[1].any()
