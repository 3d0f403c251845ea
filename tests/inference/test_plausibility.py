"""Values that cannot be are not used as if they were: live, recorded and in Python, with the same bits."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from bundles import make_bundle, make_recording, make_statistics

import streamrde as sr
from streamrde.errors import ParameterError, SampleError
from streamrde.inference.plausibility import SENTINELS, Plausible
from streamrde.inference.table import Counts
from streamrde.inference.troubles import ImplausibleValueWarning

KNOWN = make_bundle(statistics=make_statistics())
UNKNOWN = make_bundle()
T, X = make_recording(0, 60)

OVERLOADS = [9.9e37, -9.9e37, 1e30, -1e30, 9.96921e36, 3.4028235e38, 1e20, 1.7e308]
CODES = [-9999.0, 9999.0, -999.25, 32767.0, -32768.0, 65535.0, 999.9, float(np.float32(999.9))]


@pytest.mark.parametrize("value", OVERLOADS)
@pytest.mark.parametrize("bundle", [KNOWN, UNKNOWN], ids=["range known", "range unknown"])
def test_an_instruments_overload_is_as_if_the_channel_was_not_observed(bundle, value):
    bad, missing = X.copy(), X.copy()
    bad[[7, 20], [0, 1]], missing[[7, 20], [0, 1]] = value, np.nan
    predictor, expected = sr.Predictor(bundle), sr.Predictor(bundle)
    with pytest.warns(ImplausibleValueWarning, match="which is not plausible"):
        got = [p for t, x in zip(T, bad, strict=True) for p in predictor.push(float(t), x)]
    assert [p.value.tolist() for p in got] == [p.value.tolist() for p in expected.push_many(T, missing)]
    assert predictor.counts == Counts(samples=60)
    assert all(np.isfinite(p.value).all() for p in got)


@pytest.mark.parametrize("value", CODES)
def test_a_code_for_no_value_is_one_where_the_channels_range_is_known_and_far(value):
    bundle = make_bundle(statistics=make_statistics(low=(900.0, 15.0), high=(1100.0, 30.0)))
    X = np.array([[1000.0, 20.0]] * 4)
    X[2, 1] = value
    fleet = sr.Fleet(bundle, on_trouble=(said := []).append)
    fleet.push(["a"] * 4, np.arange(4.0), X)
    assert fleet.implausible == {"a": 0, "b": 1}
    assert [(t.stream, t.kind, t.channel) for t in said] == [("a", "implausible", "b")]
    assert f"{value:g}" in str(said[0])


def test_a_number_that_is_a_code_elsewhere_is_a_value_near_the_channels_range():
    bundle = make_bundle(statistics=make_statistics(low=(980.0, 15.0), high=(1030.0, 30.0)))
    fleet = sr.Fleet(bundle, on_trouble=lambda trouble: pytest.fail(str(trouble)))
    fleet.push(["a"] * 3, np.arange(3.0), np.array([[1000.0, 20.0], [999.0, 20.0], [999.9, 20.0]]))


def test_values_in_another_unit_are_said_with_value_limits_and_remedy():
    said = []
    fleet = sr.Fleet(KNOWN, on_trouble=said.append)
    x = X.copy()
    x[:, 0] = 1000.0 * np.sign(x[:, 0])  # mm for m
    fleet.push(["a"] * 60, T, x)
    assert [t.kind for t in said if t.channel == "a"] == ["implausible"]
    assert "the limits are -42 and 42" in said[0].reason
    assert "streams.limits" in said[0].remedy
    assert fleet.implausible["a"] == 60


@pytest.mark.parametrize("push", ["one by one", "many", "fleet", "fleet, one by one"])
def test_every_way_in_judges_alike(push):
    x = X.copy()
    x[::7, 0], x[3::11, 1] = -9999.0, 1e31
    missing = np.where((x == -9999.0) | (x == 1e31), np.nan, x)
    expected = [p.value.tolist() for p in sr.Predictor(KNOWN).push_many(T, missing)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImplausibleValueWarning)
        if push == "one by one":
            predictor = sr.Predictor(KNOWN)
            got = [p.value.tolist() for t, row in zip(T, x, strict=True) for p in predictor.push(float(t), row)]
        elif push == "many":
            got = [p.value.tolist() for p in sr.Predictor(KNOWN).push_many(T, x)]
        else:
            fleet, size = sr.Fleet(KNOWN), 60 if push == "fleet" else 1
            got = []
            for i in range(0, 60, size):
                got += fleet.push(["a"] * size, T[i : i + size], x[i : i + size])["value"].to_pylist()
    assert got == expected


def test_it_is_said_once_per_stream_and_channel():
    said = []
    fleet = sr.Fleet(KNOWN, on_trouble=said.append)
    x = np.full((4, 2), 1e30)
    for i in range(5):
        fleet.push(["a", "b", "a", "b"], [2.0 * i, 2.0 * i, 2.0 * i + 1, 2.0 * i + 1], x)
    assert [(t.stream, t.channel) for t in said] == [("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")]
    assert fleet.implausible == {"a": 20, "b": 20}
    assert fleet.trouble_counts["implausible"] == 4


def test_limits_of_ones_own_take_the_place_of_trainings():
    plausible = Plausible(limits={"a": (0.0, 5000.0)})
    fleet = sr.Fleet(KNOWN, plausible=plausible, on_trouble=(said := []).append)
    fleet.push(["a"] * 4, np.arange(4.0), np.array([[4000.0, 1.0], [-0.5, 1.0], [5000.0, 1.0], [0.0, -9999.0]]))
    assert [(t.channel, t.t) for t in said] == [("a", 1.0), ("b", 3.0)]
    assert "the limits are 0 and 5000" in said[0].reason


def test_a_row_with_an_implausible_value_may_be_rejected_instead():
    plausible = Plausible(otherwise="reject")
    x = X.copy()
    x[7, 1] = 1e30
    fleet = sr.Fleet(KNOWN, plausible=plausible, faults="drop", on_trouble=lambda trouble: None)
    fleet.push(["a"] * 60, T, x)
    assert fleet.counts() == Counts(samples=59, rejected=1)
    strict = sr.Predictor(KNOWN, plausible=plausible)
    with pytest.raises(SampleError, match=r"row 7: channel 'b' of stream '' has 1e\+30, which is not plausible"):
        strict.push_many(T, x)
    assert strict.counts == Counts()
    dropping = sr.Predictor(KNOWN, plausible=plausible, faults="drop")
    with pytest.warns(ImplausibleValueWarning, match="its sample is rejected"):
        dropping.push_many(T, x)
    assert dropping.counts == Counts(samples=59, rejected=1)


def test_it_may_be_used_and_is_counted_all_the_same():
    x = X.copy()
    x[7, 1] = -9999.0
    fleet = sr.Fleet(KNOWN, plausible=Plausible(otherwise="use"), on_trouble=lambda trouble: None)
    fleet.push(["a"] * 60, T, x)
    assert fleet.implausible == {"a": 0, "b": 1}
    assert fleet.snapshot()["a"] != sr.Fleet(KNOWN).snapshot().get("a")
    predictor = sr.Predictor(KNOWN, plausible=Plausible(otherwise="use"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImplausibleValueWarning)
        for t, row in zip(T, x, strict=True):
            predictor.push(float(t), row.tolist())
    assert predictor.snapshot()[-8:-4] == fleet.snapshot()["a"][-8:-4]


def test_ordinary_values_far_outside_of_training_are_used():
    """Twenty times training's width is unusual, not impossible: the limits lie ten sizes beyond its ends."""
    x = X.copy()
    x[:, 0] = 40.0
    fleet, plain = (
        sr.Fleet(bundle, on_trouble=lambda trouble: pytest.fail(str(trouble)))
        for bundle in (KNOWN, make_bundle(statistics=make_statistics(low=(-100.0, -3.0), high=(100.0, 5.0))))
    )
    assert fleet.push(["a"] * 60, T, x).equals(plain.push(["a"] * 60, T, x))


def test_an_infinite_value_is_rejected_as_ever():
    x = X.copy()
    x[3, 0] = np.inf
    fleet = sr.Fleet(KNOWN, faults="drop")
    fleet.push(["a"] * 60, T, x)
    assert fleet.counts() == Counts(samples=59, rejected=1)
    with pytest.raises(SampleError, match="inf"):
        sr.Predictor(KNOWN).push(0.0, [np.inf, 0.0])


def test_limits_that_cannot_work_are_named():
    for options, match in (
        ({"limits": {"a": (1.0, 1.0)}}, "smallest and the largest"),
        ({"limits": {"a": (np.nan, 1.0)}}, "smallest and the largest"),
        ({"ranges": 0.5}, "at least 1"),
        ({"otherwise": "drop"}, "'missing', 'reject' or 'use'"),
    ):
        with pytest.raises(ParameterError, match=match):
            Plausible(**options)
    with pytest.raises(ParameterError, match="no channel 'c'; its channels are a, b"):
        sr.Fleet(KNOWN, plausible=Plausible(limits={"c": (0.0, 1.0)}))


def test_codes_are_numbers_of_either_sign():
    assert (-SENTINELS[::-1] == SENTINELS).all()
    assert np.isfinite(SENTINELS).all()
