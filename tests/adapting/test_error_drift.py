"""Drift that labels reveal: errors that are larger than on held-out streams, and how often the alarm is false."""

from __future__ import annotations

import math

import numpy as np
from late import NUMBERS, calibrated, errors, run

import streamrde as sr
from streamrde.adapting.drift import COLUMNS, watch
from streamrde.adapting.split import CAPITAL, alarm_of, calibrate, p_values


def test_p_values_are_valid_for_new_streams():
    rng, found = np.random.default_rng(0), []
    for _ in range(400):
        scale = rng.lognormal(size=31)
        scores = np.abs(rng.normal(size=(30 * 20, 1))) * np.repeat(scale[:-1], 20)[:, None]
        table, streams = calibrate(scores, np.arange(600) // 20)
        found.append(p_values(table, streams, np.abs(rng.normal(size=(1, 1))) * scale[-1])[0, 0])
    for level in (0.05, 0.1, 0.3):
        assert np.mean(np.array(found) <= level) <= level + 3 * math.sqrt(level / 400)


def test_p_values_fall_with_the_score():
    table, streams = calibrate(np.arange(1.0, 101.0)[:, None], np.arange(100))
    p = p_values(table, streams, np.array([[0.5], [50.0], [99.5], [200.0], [np.nan]]))[:, 0]
    assert p[0] == 1.0
    assert (np.diff(p[:4]) < 0).all()
    assert p[3] == 1 / 101
    assert np.isnan(p[4])


def test_false_alarms_are_as_rare_as_stated():
    rng, capital = np.random.default_rng(1), 8.0
    scores = np.abs(rng.normal(size=(20_000, 1)))
    table, streams = calibrate(scores[:10_000], np.arange(10_000) // 100)
    rows = np.zeros((1, COLUMNS))
    p = p_values(table, streams, scores[10_000:])[:, 0]
    watch(rows, 0, np.zeros(10_000, np.intp), p, novel=0.01, alarm=math.log(capital))
    assert 0 < rows[0, 1] <= 10_000 / capital


def test_the_threshold_is_above_what_most_held_out_streams_reach():
    rng = np.random.default_rng(2)
    scale = np.repeat(rng.lognormal(sigma=1.0, size=60), 200)
    scores, numbers = (np.abs(rng.normal(size=len(scale))) * scale)[:, None], np.arange(len(scale)) // 200
    table, streams = calibrate(scores, numbers)
    alarm = alarm_of(table, streams, scores, numbers)
    assert alarm > math.log(CAPITAL)
    rows = np.zeros((60, COLUMNS))
    watch(rows, 0, numbers, p_values(table, streams, scores)[:, 0], novel=0.01, alarm=alarm)
    assert (rows[:, 1] > 0).sum() <= 0.05 * 60 + 1


def test_larger_errors_raise_an_alarm_and_usual_ones_do_not():
    bundle = calibrated(**NUMBERS)
    fleet = sr.Fleet(bundle, intervals=0.9, adapt="frozen")
    run(fleet, 200, errors)
    assert min(fleet.adaptation().drifts) > 0

    def usual(row):
        return [np.array(value) for value in [row["value"] + np.random.default_rng(row["window"]).normal(size=2)]]

    fleet = sr.Fleet(bundle, intervals=0.9, adapt="frozen")
    run(fleet, 200, usual)
    assert fleet.adaptation().drifts == (0, 0)
    assert sr.Fleet(bundle, adapt="frozen").adaptation().drifts == ()
