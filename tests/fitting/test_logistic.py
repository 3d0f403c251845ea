"""Logistic regression against its own optimality, and probabilities against a plain search."""

import numpy as np
import pytest

from streamrde.errors import ParameterError, ShapeError
from streamrde.fitting.calibration import fit_sharpness
from streamrde.fitting.logistic import fit_logistic
from streamrde.fitting.weights import factors
from streamrde.inference.quality import softmax


def data(n=60, p=5, classes=3, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p))
    scores = x @ rng.normal(size=(p, classes)) + rng.normal(size=(n, classes))
    return x, scores.argmax(axis=1)


def balanced(codes, classes):
    return factors("balanced", tuple("abc"), np.bincount(codes, minlength=classes))[codes]


def slow_fit(x, codes, classes, strength, weights, steps=6000):
    """Descend along the gradient with a step that its Lipschitz constant allows, with momentum."""
    n = len(x)
    ones = np.concatenate([x, np.ones((n, 1))], axis=1)
    penalty = strength * np.r_[np.ones(x.shape[1]), 0.0][:, None]
    rate = 1 / (0.5 * np.linalg.eigvalsh(ones.T @ (weights[:, None] * ones) / n)[-1] + strength)
    w = old = np.zeros((ones.shape[1], classes))
    for i in range(steps):
        v = w + i / (i + 3) * (w - old)
        gradient = ones.T @ (weights[:, None] * (softmax(ones @ v) - np.eye(classes)[codes])) / n + penalty * v
        w, old = v - rate * gradient, w
    return w


@pytest.mark.parametrize("weighted", [False, True])
def test_the_least_loss_is_found(weighted) -> None:
    x, codes = data()
    weights = balanced(codes, 3) if weighted else np.ones(len(x))
    found = fit_logistic(x, codes, 3, 0.01, weights=weights)
    w = slow_fit(x, codes, 3, 0.01, weights)
    np.testing.assert_allclose(found.weight, w[:-1], atol=1e-6)
    np.testing.assert_allclose(found.bias, w[-1] - w[-1].mean(), atol=1e-6)


def test_the_start_does_not_change_the_end() -> None:
    x, codes = data()
    cold = fit_logistic(x, codes, 3, 1e-3)
    warm = fit_logistic(x, codes, 3, 1e-3, start=fit_logistic(x, codes, 3, 1.0))
    np.testing.assert_allclose(warm.weight, cold.weight, atol=1e-5)


@pytest.mark.parametrize("strength", [1e-6, 1.0, 1e6])
def test_the_gradient_vanishes_for_separable_repeated_and_large_features(strength) -> None:
    x, codes = data(n=40, p=60)
    x = np.concatenate([x, x, np.zeros((40, 1)), 1e3 * x[:, :1]], axis=1)
    found = fit_logistic(x, codes, 3, strength)
    gradient = x.T @ (softmax(found(x)) - np.eye(3)[codes]) / len(x) + strength * found.weight
    assert np.abs(gradient).max() < 1e-6
    # Free biases make the mean probability of each class its share.
    np.testing.assert_allclose(softmax(found(x)).mean(axis=0), np.bincount(codes) / 40, atol=1e-6)


def test_a_class_without_rows_gets_little_and_the_others_their_fit() -> None:
    x, codes = data(classes=2)
    two, three = fit_logistic(x, codes, 2, 0.1), fit_logistic(x, 2 * codes, 3, 0.1)
    p = softmax(three(x))
    assert 0 < p[:, 1].max() < 0.02
    np.testing.assert_allclose(p[:, 2] / (p[:, 0] + p[:, 2]), softmax(two(x))[:, 1], atol=1e-6)
    only = softmax(fit_logistic(x, np.zeros(60, int), 2, 0.1)(x))
    np.testing.assert_allclose(only[:, 1], 1 / 121)


def test_weights_make_classes_count_the_same() -> None:
    codes = np.array([0, 0, 0, 2])
    weights = balanced(codes, 3)
    np.testing.assert_allclose(weights, [2 / 3, 2 / 3, 2 / 3, 2])


def test_what_has_no_minimum_is_refused() -> None:
    x, codes = data()
    with pytest.raises(ParameterError, match=r"strength=0\.0"):
        fit_logistic(x, codes, 3, 0.0)
    with pytest.raises(ParameterError, match="use 0 to classes - 1 = 1"):
        fit_logistic(x, codes, 2, 1.0)
    with pytest.raises(ShapeError, match="do not fit"):
        fit_logistic(x[:3], codes, 3, 1.0)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e4])
def test_sharpness_has_the_least_loss(size) -> None:
    codes = data(n=200)[1]
    scores = size * (2 * np.eye(3)[codes] + np.random.default_rng(2).normal(size=(200, 3)))
    found = fit_sharpness(scores, codes)
    right = (200 * np.eye(3)[codes] + 1 / 3) / 201
    tried = found * np.array([0.99, 1.0, 1.01])
    loss = [-(right * np.log(softmax(s * scores))).sum() for s in tried]
    assert int(np.argmin(loss)) == 1


def test_sharpness_of_scores_that_are_all_right_is_finite_and_of_useless_ones_zero() -> None:
    codes = np.arange(20) % 2
    sharp = softmax(fit_sharpness(np.eye(2)[codes], codes) * np.eye(2))[0, 0]
    assert sharp == pytest.approx(1 - 0.5 / 21)  # the one row more is all that is wrong
    assert fit_sharpness(np.eye(2)[1 - codes], codes) == 0.0
    assert fit_sharpness(np.zeros((20, 2)), codes) == 1.0
