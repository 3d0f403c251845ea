"""The mix of predictions that a stream is served with: by errors on its labels, and first of all the last label."""

from __future__ import annotations

import numpy as np
import pytest

from streamrde.adapting.baselines import METHODS, Baselines, Method
from streamrde.adapting.targets import Part, Targets

PRIOR = np.array([[1.0, 4.0], [0.5, 4.0], [0.8, 0.1], [0.7, 0.5], [0.6, 0.2]])


def baselines(errors=PRIOR, before=None, kind="numbers", overlap=1.0):
    outputs = errors.shape[1]
    targets = Targets([Part(kind, slice(0, outputs))], np.zeros(outputs), np.ones(outputs))
    none = np.zeros(outputs)
    return Baselines(targets, 0, blend=none, shrink=none, errors=errors, errors_before=before, overlap=overlap)


def judged(own, squares):
    """A stream that had a label, and then these errors, (labels, 5, outputs)."""
    rows, slots = own.blank[None].copy(), np.zeros(1, np.intp)
    own.learn(rows, slots, np.full((1, squares.shape[2]), 3.0), np.zeros(1))
    for row in squares:
        own.judge(rows, slots, np.sqrt(row)[None], np.zeros((1, squares.shape[2])), own.seen(rows, slots))
    return rows, slots


def test_weights_are_those_of_the_formula():
    rng = np.random.default_rng(0)
    own, squares = baselines(), rng.exponential(size=(6, 5, 2))
    rows, slots = judged(own, squares)
    fades = 0.995 ** np.arange(5, -1, -1)
    count, total = fades.sum(), (fades[:, None, None] * squares).sum(axis=0)
    expected = (4 * PRIOR + total) ** (-(4 + count) / 2) * np.array([1, 1, 32, 1, 1])[:, None]
    np.testing.assert_allclose(own.weights(rows, slots)[0], expected / expected.sum(axis=0), rtol=1e-9)


def test_labels_that_depend_on_each_other_count_for_one():
    squares = np.random.default_rng(2).exponential(size=(6, 5, 2))
    one, four = baselines(), baselines(overlap=4.0)
    alone, together = one.weights(*judged(one, squares)), four.weights(*judged(four, np.repeat(squares, 4, axis=0)))
    np.testing.assert_allclose(together, alone, rtol=0.05)


def test_before_the_first_label_the_best_of_that_time_is_served_alone():
    slots = np.zeros(1, np.intp)
    for before, best in ((None, [0, 0]), (np.array([[3.0, 1], [3, 1], [2, 5], [2, 5], [2, 5]]), [2, 0])):
        own = baselines(before=before)
        weights = own.weights(own.blank[None], slots)[0]
        assert weights.argmax(axis=0).tolist() == best
        assert (weights.sum(axis=0) == weights.max(axis=0)).all()


def test_errors_before_the_first_label_do_not_count():
    own, slots = baselines(), np.zeros(1, np.intp)
    rows = own.blank[None].copy()
    own.judge(rows, slots, np.full((1, 5, 2), 9.0), np.zeros((1, 2)), own.seen(rows, slots))
    own.learn(rows, slots, np.full((1, 2), 3.0), np.zeros(1))
    fresh, _ = judged(own, np.empty((0, 5, 2)))
    np.testing.assert_array_equal(own.weights(rows, slots), own.weights(fresh, slots))
    assert own.errors(rows, slots)[0].tolist() == [[9.0, 9.0]] * 5


@pytest.mark.parametrize("best", range(5))
def test_any_method_wins_if_it_is_better_for_long_enough(best):
    squares = np.full((60, 5, 2), 1.0)
    squares[:, best] = 0.3
    own = baselines(np.ones((5, 2)))
    weights = own.weights(*judged(own, squares))[0]
    assert (weights[best] > 0.98).all()
    early = own.weights(*judged(own, squares[:1]))[0]
    assert early.argmax(axis=0).tolist() == [Method.LAST] * 2


def test_the_mix_leaves_out_what_is_not_finite():
    own = baselines()
    weights = np.full((1, 5, 2), 0.2)
    predicted = np.arange(10.0).reshape(1, 5, 2)
    np.testing.assert_allclose(own.mixed(weights, predicted), predicted.mean(axis=1))
    predicted[0, 0], predicted[0, 1, 1] = np.nan, np.inf
    np.testing.assert_allclose(own.mixed(weights, predicted), [[5.0, 7.0]])
    assert np.isnan(own.mixed(weights, np.full((1, 5, 2), np.nan))).all()


def test_classes_of_a_head_have_the_same_weights():
    rng = np.random.default_rng(1)
    own = baselines(rng.random((5, 3)), rng.random((5, 3)), "classes")
    rows, slots = judged(own, rng.exponential(size=(4, 5, 3)))
    for weights in (own.weights(rows, slots), own.weights(own.blank[None], slots)):
        assert (weights == weights[:, :, :1]).all()
        assert weights.shape == (1, len(METHODS), 3)
