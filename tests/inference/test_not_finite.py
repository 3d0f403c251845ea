"""A state that is not finite is begun anew, and a value that is not finite has no label."""

from __future__ import annotations

import numpy as np
import pytest
from bundles import make_bundle

import streamrde as sr
from streamrde.connectors.codecs import decode_prediction
from streamrde.connectors.registry import PREDICTION_CODECS
from streamrde.inference.plausibility import Plausible

BUNDLE = make_bundle(task="classification", outputs=3, labels=("a", "b", "c"), interpolation="linear")
USED = Plausible(otherwise="use")


def overloaded(value, count=120):
    t = np.arange(count) * 0.25
    x = np.sin(np.outer(t, [0.7, 0.3]))
    x[10, 0] = value
    return t, x


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("value", [9.9e37, -9.9e37, 1e300])
@pytest.mark.parametrize("pooling", ["state", "mean"])
def test_one_overload_of_an_instrument_spoils_the_windows_that_it_is_in_and_no_other(value, pooling):
    bundle = make_bundle(task="classification", outputs=3, labels=("a", "b", "c"), pooling=pooling)
    t, x = overloaded(value)
    predictor = sr.Predictor(bundle, plausible=USED)
    with np.errstate(all="ignore"):
        predictions = predictor.push_many(t, x)
    bad = [p for p in predictions if p.flag == "not_finite"]
    assert 1 <= len(bad) <= 3
    assert all(p.t_end <= 5.0 for p in bad)
    assert predictor.state_counts.not_finite == len(bad)
    for p in predictions:
        assert (p.label is not None) == bool(np.isfinite(p.value).all())
    assert all(p.label for p in predictions if p.t_start >= 5.0)
    assert predictor.counts.samples == len(t)


@pytest.mark.filterwarnings("ignore")
def test_a_state_begun_anew_goes_on_as_one_that_begins_there():
    """The value at the overload does not stay in the state's beginning."""
    bundle = make_bundle(dtype="float64")
    t, x = overloaded(1e300)
    with np.errstate(all="ignore"):
        predictions = sr.Predictor(bundle, plausible=USED).push_many(t, x)
    last = max(i for i, p in enumerate(predictions) if p.flag == "not_finite")
    after = predictions[last].t_end
    fresh = sr.Predictor(bundle).push_many(t[t >= after], x[t >= after])
    for ours, theirs in zip(predictions[last + 1 :], fresh, strict=True):
        np.testing.assert_allclose(ours.value, theirs.value, rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PREDICTION_CODECS.names())
def test_a_value_that_is_not_finite_has_no_label_in_batches_and_payloads(name):
    t, x = overloaded(9.9e37, 40)
    noticed = []
    fleet = sr.Fleet(BUNDLE, plausible=USED, on_trouble=noticed.append)
    with np.errstate(all="ignore"):
        rows = fleet.push(["s"] * len(t), t, x).to_pylist()
    bad = [row for row in rows if not np.isfinite(row["value"]).all()]
    assert bad
    assert {row["label"] for row in bad} == {None}
    assert {row["label"] for row in rows if row not in bad} <= {"a", "b", "c"}
    encoded = [PREDICTION_CODECS.find(name).encode_prediction(row) for row in bad]
    if name == "json":
        assert [decode_prediction(payload).get("label") for payload in encoded] == [None] * len(bad)
    assert "not_finite" in {trouble.kind for trouble in noticed}
    assert "was reset" in next(str(trouble) for trouble in noticed if trouble.kind == "not_finite")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("on_range", ["mend", "reset"])
def test_states_are_begun_anew_with_an_archive_and_with_gaps_that_carry_them(on_range):
    bundle = make_bundle(gap=sr.Gap(seconds=50.0, state="carry"))
    t, x = overloaded(1e300)
    fleet = sr.Fleet(bundle, archive={}, on_range=on_range, plausible=USED)
    with np.errstate(all="ignore"):
        rows = fleet.push(["s"] * len(t), t, x).to_pylist()
        rows += fleet.push(["s"] * len(t), t + 200.0, np.sin(x)).to_pylist()
    assert np.isfinite(rows[-1]["value"]).all()


@pytest.mark.filterwarnings("ignore")
def test_where_states_are_kept_one_that_is_not_finite_stays_so():
    t, x = overloaded(1e300)
    with np.errstate(all="ignore"):
        predictions = sr.Predictor(BUNDLE, on_range="keep", plausible=USED).push_many(t, x)
    assert predictions[-1].flag == "not_finite"
    assert predictions[-1].label is None
