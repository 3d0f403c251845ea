"""Groups of features are penalised by what they say alone, and no answer has seen its own fold."""

import numpy as np
import pytest

from streamrde.fitting.relevance import Groups, relevance, relevant_readout

GROUPS = (Groups(5, 3), Groups(4, 1))


def example(classes, count=300):
    rng = np.random.default_rng(1)
    codes = rng.integers(0, classes, count)
    x = rng.normal(size=(count, 19))
    x[:, 4] += codes
    x[:, 17] -= 2 * codes
    return x, codes, np.arange(count) % 5


def obvious(group, codes, classes):
    """n / size times the mean over classes of the share of a class's variance that least squares explain."""
    ones = np.c_[np.ones(len(group)), group]
    shares = []
    for k in range(classes):
        y = (codes == k).astype(float)
        left = y - ones @ np.linalg.lstsq(ones, y)[0]
        shares.append(1 - left.var() / y.var())
    return len(group) / group.shape[1] * np.mean(shares)


@pytest.mark.parametrize("classes", [2, 4])
def test_relevance_is_the_share_that_least_squares_explain_without_the_fold(classes):
    x, codes, folds = example(classes)
    found = relevance(x, GROUPS, codes, classes, folds)
    parts = [x[:, 3 * g : 3 * g + 3] for g in range(5)] + [x[:, g : g + 1] for g in range(15, 19)]
    for k in range(6):
        rest = folds != k
        expected = [obvious(part[rest], codes[rest], classes) for part in parts]
        np.testing.assert_allclose(found[k], expected, rtol=2e-3, atol=1e-6)
    assert sorted(np.argsort(found[-1])[-2:]) == [1, 7]


def test_hats_that_add_up_to_one_and_constant_features_have_a_finite_relevance():
    x, codes, folds = example(2)
    x[:, 2] = 1 - x[:, 0] - x[:, 1]
    x[:, 15] = 4.0
    found = relevance(x, GROUPS, codes, 2, folds)
    assert np.isfinite(found).all()
    assert np.abs(found[:, 5]).max() < 1e-3


@pytest.mark.parametrize("classes", [2, 4])
def test_held_out_answers_are_those_of_the_readouts_without_their_folds(classes):
    x, codes, folds = example(classes)
    readout = relevant_readout(x, GROUPS, codes, classes, folds)
    for k in range(5):
        scores = readout.without(k)(x[folds == k])
        chance = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(chance, readout.held_out[folds == k], atol=1e-6)
    own = readout.held_out[np.arange(len(codes)), codes]
    np.testing.assert_allclose(readout.losses, -np.log(own))
    plain = np.log(classes)
    assert readout.losses.mean() < 0.8 * plain
    assert (readout.linear(x).argmax(axis=1) == codes).mean() > 1.3 / classes


def test_an_answer_does_not_depend_on_its_own_class():
    x, codes, folds = example(2)
    changed = codes.copy()
    changed[folds == 0] = 1 - changed[folds == 0]
    first, second = (relevant_readout(x, GROUPS, own, 2, folds) for own in (codes, changed))
    # One factor of calibration, and the strength, are the same for all folds: the order is that of the scores.
    a, b = (own.without(0)(x)[:, 1] for own in (first, second))
    assert np.corrcoef(a, b)[0, 1] > 0.98


def test_features_that_say_nothing_are_answered_with_the_shares_of_the_classes():
    rng = np.random.default_rng(2)
    codes = (rng.random(400) < 0.25).astype(int)
    readout = relevant_readout(rng.normal(size=(400, 19)), GROUPS, codes, 2, np.arange(400) % 5)
    share = codes.mean()
    assert readout.losses.mean() < -(share * np.log(share) + (1 - share) * np.log(1 - share)) + 0.03
