"""Thresholds in units of how large the scores of a stream are: narrow in calm streams, wide in wild ones, at once."""

from __future__ import annotations

import math

import msgspec
import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from late import HEADS, calibrated

import streamrde as sr
from streamrde.adapting.scale import STAGES, calibrate_ratios
from streamrde.adapting.split import calibrate, thresholds
from streamrde.adapting.trackers import Tracking, make_tracker
from streamrde.errors import BundleError


def streams_of(rng, count, length):
    """Scores of streams whose errors differ in size, (count * length, 1), and their numbers."""
    size = rng.lognormal(sigma=1.0, size=count)
    return np.abs(rng.normal(size=(count, length)) * size[:, None]).reshape(-1, 1), np.repeat(np.arange(count), length)


HELD_OUT, NUMBER = streams_of(np.random.default_rng(0), 60, 40)
TABLE, COUNT = calibrate(HELD_OUT, NUMBER)
SCALED = calibrate_ratios(HELD_OUT, NUMBER, NUMBER)


def tracker_of(scaled=SCALED, **options):
    return make_tracker(Tracking(**options), TABLE, COUNT, scaled)


def drive(tracker, scores, late=1):
    """Issue a threshold before each score of streams, (streams, labels), and learn it `late` scores after."""
    state, issued, missed = np.tile(tracker.blank(), (len(scores), 1, 1)), [], []
    for k in range(scores.shape[1] + late):
        if k >= late:
            missed.append(tracker.learn(state, scores[:, k - late, None], issued[k - late]))
        issued.append(tracker.threshold(state))
    return np.array(missed)[:, :, 0].T, np.array(issued)[: scores.shape[1], :, 0].T


def test_ratios_are_those_of_each_streams_beginning():
    rng = np.random.default_rng(1)
    scores, number = streams_of(rng, 12, 30)
    scores[rng.random(len(scores)) < 0.2] = np.nan
    # Two sequences in each stream, one after the other, learned two rows late.
    sequence = np.tile(np.repeat([0, 1], 15), 12)
    usual, tables = calibrate_ratios(scores, number, sequence, lag=2)
    known = np.isfinite(scores[:, 0])
    expected = np.mean([np.mean(scores[known & (number == k), 0] ** 2) for k in range(12)]) ** 0.5
    assert usual[0] == pytest.approx(expected)
    ratios, stages = [], []
    for k in range(12):
        for part in range(2):
            own = scores[(number == k) & (sequence == part), 0]
            for i, score in enumerate(own):
                before = [s for s in own[: max(i - 1, 0)] if not math.isnan(s)]
                ratios.append(score / naive.stream_scale(before, expected))
                stages.append(len(before))
    ratios, stages = np.array(ratios)[:, None], np.array(stages)
    for table, low, high in zip(tables, STAGES, (*STAGES[1:], 999), strict=True):
        some = (stages >= low) & (stages < high)
        reached = np.unique(number[some & known])
        if 2 * len(reached) >= 12:
            np.testing.assert_allclose(table[0], calibrate(ratios[some], number[some])[0][0], rtol=1e-12)
            last = table
        else:
            np.testing.assert_array_equal(table, last)


def test_tracker_is_the_oracle():
    rng = np.random.default_rng(2)
    score = np.abs(rng.standard_t(2, size=300)) * 3.0
    score[::7] = np.nan
    usual, tables = SCALED
    factors = [thresholds(TABLE, COUNT, 0.9)[0] / usual[0], *(thresholds(own, COUNT, 0.9)[0] for own in tables)]

    def base(learned):
        return factors[np.searchsorted(STAGES, len(learned), side="right")] * naive.stream_scale(learned, usual[0])

    least = min(factors) * usual[0] * math.sqrt(2 / 52)
    for late in (1, 5):
        expected, misses = naive.score_tracker(score, base, 0.1, 0.05, late, least)
        missed, issued = drive(tracker_of(), score[None], late)
        np.testing.assert_allclose(issued[0], expected, rtol=1e-9)
        assert missed[0].tolist() == misses


def test_streams_with_few_labels_have_intervals_of_their_own_width():
    scores = streams_of(np.random.default_rng(3), 400, 30)[0].reshape(400, 30)
    (missed, issued), (plain, constant) = (drive(tracker_of(scaled), scores) for scaled in (SCALED, None))
    assert (~missed).mean() == pytest.approx(0.9, abs=0.02)
    # Half of the streams are calmer than the held-out ones' wildest tenth by far.
    assert np.median(issued) < 0.6 * np.median(constant)
    worst, worst_plain = (np.quantile((~m).mean(axis=1), 0.02) for m in (missed, plain))
    assert worst > 0.7 > worst_plain


@given(st.lists(st.sampled_from([0.0, 0.1, 1.0, 2.5, 40.0]), min_size=20, max_size=300), st.integers(1, 3))
def test_share_of_misses_is_bounded_on_every_sequence(values, late):
    tracker, n = tracker_of(), len(values)
    missed, _ = drive(tracker, np.array(values)[None], late)
    usual, tables = SCALED
    least = min(thresholds(TABLE, COUNT, 0.9)[0] / usual[0], *(thresholds(own, COUNT, 0.9)[0] for own in tables))
    most = 1 + max(0.0, math.log(40.0 / (least * usual[0] * math.sqrt(2 / 52)))) + 0.05 * late
    assert -(1 + 0.05 * late) / (0.05 * n) <= missed.mean() - 0.1 <= most / (0.05 * n)


def test_a_wild_label_is_forgotten():
    scores = np.abs(np.random.default_rng(4).normal(size=(1, 600)))
    wild = scores.copy()
    wild[0, 100] = 1e9
    usual, found = drive(tracker_of(), scores)[1], drive(tracker_of(), wild)[1]
    assert np.isfinite(found).all()
    assert found[0, 101] < 5 * usual[0, 101]
    np.testing.assert_allclose(found[0, -100:], usual[0, -100:], rtol=0.2)


def test_streams_with_one_label_each_have_no_scale():
    usual, tables = calibrate_ratios(np.arange(1.0, 21.0)[:, None], np.arange(20), np.arange(20))
    assert usual.tolist() == [0.0]
    tracker = tracker_of((usual, tables))
    state = tracker.blank()[None].copy()
    tracker.learn(state, np.array([[50.0]]), tracker.threshold(state))
    assert tracker.threshold(state)[0, 0] == pytest.approx(thresholds(TABLE, COUNT, 0.9)[0] * math.exp(0.045))


def test_files_hold_scales_of_numbers_alone_and_older_ones_none(tmp_path):
    bundle = calibrated(**HEADS)
    assert [scale > 0 for scale in bundle.header.calibration.scales] == [True, False]
    bundle.save(tmp_path / "model.safetensors")
    loaded = sr.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(loaded.tensors["calibration.ratios"], bundle.tensors["calibration.ratios"])
    older = {name: tensor for name, tensor in bundle.tensors.items() if name != "calibration.ratios"}
    header = bundle.header
    known = msgspec.structs.replace(header.calibration, scales=())
    fleet = sr.Fleet(sr.Bundle(msgspec.structs.replace(header, calibration=known), older), intervals=0.9)
    assert fleet.push(["s"], [0.0], [[0.0, 0.0]]).num_rows == 0
    with pytest.raises(BundleError, match=r"calibration\.scales has 1"):
        sr.Bundle(
            msgspec.structs.replace(header, calibration=msgspec.structs.replace(header.calibration, scales=(1.0,))),
            bundle.tensors,
        )
    with pytest.raises(BundleError, match=r"'calibration\.ratios' is missing"):
        sr.Bundle(header, older)
