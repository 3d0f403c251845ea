"""Intervals of measures: what they are for independent rows, and that groups widen them."""

import numpy as np
import pytest

from streamrde.fitting import intervals
from streamrde.fitting.intervals import of_area, of_mean, wilson


def test_wilsons_interval_of_independent_rows_is_the_published_one() -> None:
    right = np.array([1.0] * 81 + [0.0] * 182)
    low, high = wilson(right, np.arange(263))
    assert (low, high) == pytest.approx((0.2553, 0.3662), abs=5e-5)  # Newcombe 1998, table I, method 3


def test_all_right_leaves_room_below() -> None:
    low, high = wilson(np.ones(10), np.arange(10))
    assert low == pytest.approx(10 / (10 + 1.959964**2))
    assert high == pytest.approx(1.0)


def test_rows_that_err_together_count_as_fewer() -> None:
    right = np.repeat([1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0], 10)
    alone, together = wilson(right, np.arange(80)), wilson(right, np.repeat(np.arange(8), 10))
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_the_bootstrap_of_a_mean_is_about_the_normal_interval() -> None:
    values = np.random.default_rng(1).normal(5, 2, 400)
    low, high = of_mean(values, np.arange(400))
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.04)
    assert of_mean(values, np.arange(400)) == (low, high)


def test_whole_groups_are_drawn() -> None:
    values = np.repeat(np.random.default_rng(1).normal(0, 1, 20), 50)
    alone, together = of_mean(values, np.arange(1000)), of_mean(values, np.repeat(np.arange(20), 50))
    assert together.high - together.low > 4 * (alone.high - alone.low)


def test_the_area_under_a_curve_lies_in_its_interval() -> None:
    rng = np.random.default_rng(0)
    positive = np.arange(200) % 2
    interval = of_area(positive, rng.normal(size=200) + positive, np.arange(200))
    assert interval is not None
    assert 0.6 < interval.low < 0.76 < interval.high < 0.9


def test_many_groups_have_the_same_interval_without_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).exponential(2, 4000)
    groups = np.arange(4000) // 2
    drawn = of_mean(values, groups, of=np.sqrt)
    monkeypatch.setattr(intervals, "_MOST_DRAWN", 100)
    assert of_mean(values, groups, of=np.sqrt) == pytest.approx(drawn, abs=0.006)
