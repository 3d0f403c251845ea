"""Regressions of all folds and strengths at once are those that are fitted one by one."""

import numpy as np
import pytest

from streamrde.errors import ParameterError, ShapeError
from streamrde.fitting import logistic_paths
from streamrde.fitting.logistic import fit_logistic
from streamrde.fitting.logistic_paths import PathProblem

STRENGTHS = np.array([0.1, 0.01])


def example(classes, count=240, size=12):
    rng = np.random.default_rng(classes)
    x = rng.normal(size=(count, size)).astype(np.float32).astype(np.float64)
    codes = (x @ rng.normal(size=(size, classes)) + 3 * rng.normal(size=(count, classes))).argmax(axis=1)
    return x, codes, np.arange(count) % 4


@pytest.mark.parametrize("classes", [2, 3])
def test_each_fit_is_that_of_its_fold_and_strength_alone(classes):
    x, codes, folds = example(classes)
    paths = PathProblem(x, codes, classes, folds).fit(STRENGTHS)
    for j, strength in enumerate(STRENGTHS):
        alone = fit_logistic(x, codes, classes, strength)
        np.testing.assert_allclose(paths.fits[j](x), alone(x) - alone(x).mean(1, keepdims=True), atol=0.03)
        for k in range(4):
            rest = folds != k
            alone = fit_logistic(x[rest], codes[rest], classes, strength)
            expected = alone(x[~rest])
            np.testing.assert_allclose(paths.held_out[j, ~rest], expected - expected.mean(1, keepdims=True), atol=0.03)
            np.testing.assert_allclose(paths.without[j][k].weight, alone.weight, atol=0.02)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_penalty_is_that_of_a_feature_of_another_size(classes):
    x, codes, folds = example(classes)
    scale = np.random.default_rng(7).uniform(0.3, 2.0, (5, 12))
    paths = PathProblem(x, codes, classes, folds, penalties=1 / scale**2).fit(STRENGTHS)
    for k in range(4):
        rest = folds != k
        alone = fit_logistic(x[rest] * scale[k], codes[rest], classes, 0.01)
        expected = alone(x[~rest] * scale[k])
        np.testing.assert_allclose(paths.held_out[1, ~rest], expected - expected.mean(1, keepdims=True), atol=0.03)
    alone = fit_logistic(x * scale[4], codes, classes, 0.01)
    np.testing.assert_allclose(paths.fits[1].weight, alone.weight * scale[4][:, None], atol=0.03)


@pytest.mark.parametrize("classes", [2, 3])
def test_more_features_than_rows_give_the_same_fits(classes, monkeypatch):
    x, codes, folds = example(classes, count=40, size=70)
    penalties = np.random.default_rng(7).uniform(0.3, 2.0, (5, 70))
    monkeypatch.setattr(logistic_paths, "_ENOUGH", 1e-5)
    turned = PathProblem(x, codes, classes, folds, penalties=penalties).fit(STRENGTHS)
    again = PathProblem(x, codes, classes, folds, penalties=penalties).fit(STRENGTHS, start=turned)
    monkeypatch.setattr(logistic_paths, "_FEW", 0)
    plain = PathProblem(x, codes, classes, folds, penalties=penalties).fit(STRENGTHS)
    for found in (turned, again):
        np.testing.assert_allclose(found.held_out, plain.held_out, atol=0.03)
        for j in range(2):
            np.testing.assert_allclose(found.fits[j].weight, plain.fits[j].weight, atol=0.01)


def test_a_start_does_not_change_the_end():
    x, codes, folds = example(3)
    first = PathProblem(x, codes, 3, folds).fit(STRENGTHS[:1])
    found = PathProblem(x, codes, 3, folds).fit(STRENGTHS[1:], start=first)
    expected = PathProblem(x, codes, 3, folds).fit(STRENGTHS[1:])
    np.testing.assert_allclose(found.held_out, expected.held_out, atol=0.03)


def test_a_fold_that_has_a_class_to_itself_is_answered_with_finite_scores():
    x, codes, _ = example(3)
    paths = PathProblem(x, codes, 3, codes).fit(STRENGTHS)
    assert np.isfinite(paths.held_out).all()
    assert (paths.held_out.argmax(axis=2) != codes).all()


def test_arrays_that_do_not_fit_are_refused():
    x, codes, folds = example(3)
    with pytest.raises(ShapeError, match="do not fit"):
        PathProblem(x, codes[1:], 3, folds).fit(STRENGTHS)
    with pytest.raises(ShapeError, match="do not fit"):
        PathProblem(x, codes, 3, folds, penalties=np.ones((4, 12))).fit(STRENGTHS)
    with pytest.raises(ParameterError, match="codes lie from 0 to 2"):
        PathProblem(x, codes, 2, folds).fit(STRENGTHS)
    with pytest.raises(ParameterError, match="above 0"):
        PathProblem(x, codes, 3, folds).fit(STRENGTHS - 0.01)
