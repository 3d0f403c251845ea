from __future__ import annotations

import math

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamrde.inference.quality import (
    area_under_roc,
    average_precision,
    classification_measures,
    regression_measures,
    softmax,
)

# Few distinct scores, so that many tie.
SCORED = st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=30)


@given(SCORED)
def test_areas_are_those_of_the_definitions(rows) -> None:
    positive, score = np.array([p for p, _ in rows]), np.array([s / 6 for _, s in rows])
    area, precision = area_under_roc(positive, score), average_precision(positive, score)
    if 0 < positive.sum() < len(rows):
        assert area == pytest.approx(naive.area_under_roc(positive.tolist(), score.tolist()), abs=1e-12)
    else:
        assert math.isnan(area)
    if positive.any():
        assert precision == pytest.approx(naive.average_precision(positive.tolist(), score.tolist()), abs=1e-12)
    else:
        assert math.isnan(precision)


@pytest.mark.parametrize("classes", [2, 4])
def test_measures_of_classes_are_those_of_the_definitions(classes) -> None:
    rng = np.random.default_rng(classes)
    true = rng.integers(0, classes, 50)
    probability = softmax(np.round(rng.normal(size=(50, classes)) + 1.5 * np.eye(classes)[true], 1))
    measures = classification_measures(true, probability)
    predicted = probability.argmax(axis=1)
    areas = [naive.area_under_roc((true == j).tolist(), probability[:, j].tolist()) for j in range(classes)]
    assert measures["accuracy"] == np.mean(predicted == true)
    assert measures["auc"] == pytest.approx(np.mean(areas[-1:] if classes == 2 else areas))
    assert measures["f1"] == pytest.approx(naive.macro_f1(true.tolist(), predicted.tolist()))
    assert measures["log_loss"] == pytest.approx(np.mean([-math.log(probability[i, c]) for i, c in enumerate(true)]))
    assert measures["calibration"] == pytest.approx(naive.calibration_error(true.tolist(), probability.tolist()))
    if classes == 2:
        expected = naive.average_precision((true == 1).tolist(), probability[:, 1].tolist())
        assert measures["average_precision"] == pytest.approx(expected)
    else:
        assert "average_precision" not in measures


def test_what_the_data_do_not_define_is_left_out() -> None:
    assert classification_measures(np.array([], dtype=np.int64), np.empty((0, 2))) == {}
    one_class = classification_measures(np.array([0, 0]), np.array([[0.9, 0.1], [0.2, 0.8]]))
    assert one_class.keys() == {"accuracy", "f1", "log_loss", "calibration"}
    assert regression_measures(np.array([math.nan]), np.array([1.0])) == {}
    assert regression_measures(np.array([2.0, 2.0]), np.array([1.0, 2.0])).keys() == {"rmse", "mae"}


def test_a_probability_of_zero_costs_much_but_not_all() -> None:
    assert 80 < classification_measures(np.array([0]), np.array([[0.0, 1.0]]))["log_loss"] < 100


def test_measures_of_numbers_leave_unknown_targets_out() -> None:
    true = np.array([1.0, math.nan, 3.0, 5.0])
    measures = regression_measures(true, np.array([1.0, 9.0, 3.0, 2.0]))
    assert measures == pytest.approx({"rmse": math.sqrt(3), "mae": 1.0, "r2": 1 - 9 / 8})


def test_logits_that_are_not_finite_have_probabilities() -> None:
    logits = np.array([[np.nan, np.nan], [np.inf, 1.0], [-np.inf, 0.0], [np.inf, -np.inf], [800.0, -800.0]])
    np.testing.assert_array_equal(softmax(logits), [[0.5, 0.5], [1, 0], [0, 1], [1, 0], [1, 0]])
