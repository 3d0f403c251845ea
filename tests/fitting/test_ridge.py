"""Ridge regression against solving each fold's equations by themselves."""

import numpy as np
import pytest

from streamrde.errors import ParameterError, ShapeError
from streamrde.fitting.ridge import STRENGTHS, Linear, NormalEquations, fit_ridge


def slow_ridge(x, y, strength):
    """Solve the penalised normal equations with a column of ones whose weight is free."""
    ones = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    penalty = strength * np.eye(ones.shape[1])
    penalty[-1, -1] = 0.0
    return np.linalg.solve(ones.T @ ones + penalty, ones.T @ y)


def slow_answers(x, y, folds, strength):
    answers = np.empty_like(y)
    for k in np.unique(folds):
        w = slow_ridge(x[folds != k], y[folds != k], strength)
        answers[folds == k] = x[folds == k] @ w[:-1] + w[-1]
    return answers


def data(n, p, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p)) * rng.uniform(0.1, 3, p) + rng.normal(size=p)
    y = x[:, :3] @ rng.normal(size=(3, 2)) + 0.5 * rng.normal(size=(n, 2)) + 7
    return x, y


def unit(x):
    values = np.linalg.svd(x - x.mean(axis=0), compute_uv=False) ** 2
    return values[values > 1e-9 * values[0]].mean()


@pytest.mark.parametrize(("n", "p"), [(30, 80), (80, 30), (31, 30)])
@pytest.mark.parametrize("one_by_one", [False, True])
def test_answers_to_what_is_left_out_are_those_of_a_fit_without_it(n, p, one_by_one) -> None:
    x, y = data(n, p)
    folds = np.arange(n) if one_by_one else np.arange(n) % 4 * 3
    found = fit_ridge(x, y, folds)
    losses = [((slow_answers(x, y, folds, s * unit(x)) - y) ** 2).mean() for s in STRENGTHS]
    assert found.strength == STRENGTHS[int(np.argmin(losses))]
    strength = found.strength * unit(x)
    np.testing.assert_allclose(found.held_out, slow_answers(x, y, folds, strength), rtol=1e-8, atol=1e-8)
    w = slow_ridge(x, y, strength)
    np.testing.assert_allclose(found.linear(x), x @ w[:-1] + w[-1], rtol=1e-8, atol=1e-8)


def test_sums_of_batches_give_the_fit_of_all_rows_at_once() -> None:
    x, y = data(120, 20)
    x += 1e5  # far from 0 beside its spread
    folds = np.arange(120) % 5
    sums = NormalEquations(20, 2, 5)
    for rows in (slice(0, 7), slice(7, 7), slice(7, 90), slice(90, 120)):
        sums.add(x[rows], y[rows], folds[rows])
    linear, strengths, without = sums.solve()
    whole = fit_ridge(x, y, folds)
    assert strengths.tolist() == [whole.strength] * 2
    np.testing.assert_allclose(linear(x), whole.linear(x), rtol=1e-6)
    held_out = np.stack([without[k](row) for k, row in zip(folds, x, strict=True)])
    np.testing.assert_allclose(held_out, whole.held_out, rtol=1e-6)


@pytest.mark.parametrize(("n", "p"), [(30, 80), (120, 20)])
def test_each_output_may_have_the_strength_that_it_has_alone(n, p) -> None:
    x, y = data(n, p)
    y[:, 1] = np.random.default_rng(1).normal(size=n)  # nothing is known of it
    folds = np.arange(n) % 4
    found = fit_ridge(x, y, folds, each=True)
    alone = [fit_ridge(x, y[:, i : i + 1], folds) for i in range(2)]
    assert found.strengths.tolist() == [own.strength for own in alone]
    assert found.strengths[1] > found.strengths[0]
    np.testing.assert_allclose(found.held_out, np.concatenate([own.held_out for own in alone], axis=1), rtol=1e-9)
    np.testing.assert_allclose(found.linear.weight[:, 1:], alone[1].linear.weight, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.without(2).weight[:, :1], alone[0].without(2).weight, rtol=1e-9, atol=1e-12)
    sums = NormalEquations(p, 2, 4)
    sums.add(x, y, folds)
    linear, strengths, _ = sums.solve(each=True)
    if n > p:  # else the mean eigenvalue that strengths are relative to counts null directions in one of the two
        assert strengths.tolist() == found.strengths.tolist()
        np.testing.assert_allclose(linear(x), found.linear(x), rtol=1e-6)


def test_constant_and_repeated_features_and_two_rows_do_no_harm() -> None:
    x, y = data(40, 6)
    folds = np.arange(40) % 4
    odd = np.concatenate([x, x, np.full((40, 1), 3e4)], axis=1)
    found = fit_ridge(odd, y, folds)
    np.testing.assert_allclose(found.linear.weight[:6], found.linear.weight[6:12], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.linear.weight[12], 0.0, atol=1e-12)
    two = fit_ridge(x[:2], y[:2], np.arange(2))
    np.testing.assert_allclose(two.held_out, y[1::-1])  # each is answered by the other
    flat = fit_ridge(np.ones((4, 3)), y[:4], np.arange(4))
    np.testing.assert_allclose(flat.linear(np.ones((1, 3)))[0], y[:4].mean(axis=0))


@pytest.mark.parametrize("size", [1e-120, 1e120])
def test_the_scale_of_the_features_does_not_change_the_answers(size) -> None:
    x, y = data(30, 50)
    folds = np.arange(30) % 3
    np.testing.assert_allclose(fit_ridge(size * x, y, folds).held_out, fit_ridge(x, y, folds).held_out, rtol=1e-6)


def test_wrong_shapes_and_a_single_fold_are_refused() -> None:
    x, y = data(10, 3)
    with pytest.raises(ShapeError, match=r"do not fit: use \(n, P\)"):
        fit_ridge(x, y[:9], np.arange(10))
    with pytest.raises(ParameterError, match="two folds at least"):
        fit_ridge(x, y, np.zeros(10, int))
    sums = NormalEquations(3, 2, 2)
    with pytest.raises(ShapeError, match="4 features"):
        sums.add(np.zeros((2, 4)), np.zeros((2, 2)), np.zeros(2, int))
    sums.add(x, y, np.zeros(10, int))
    with pytest.raises(ParameterError, match="rows of two folds"):
        sums.solve()


def test_a_linear_function_is_its_formula() -> None:
    assert Linear(np.array([[2.0]]), np.array([1.0]))(np.array([[3.0]])) == 7.0
