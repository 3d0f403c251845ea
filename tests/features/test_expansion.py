"""Ranks, hats and pairs against an obvious loop, one number after the other."""

import numpy as np
import pytest

from streamrde.errors import ParameterError, ShapeError
from streamrde.features.expansion import Expander, Expansion, fit_ranking

SPEC = Expansion(quantiles=9, hats=3, pairs=17)


def features_of(seed, count, size=6):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, size)).astype(np.float32).astype(np.float64)
    features[rng.random(features.shape) < 0.3] = 0.0
    features[:, 2] = np.round(features[:, 2])
    features[:, 4] = 0.0
    return features


@pytest.fixture(scope="module")
def ranking():
    return fit_ranking(SPEC, features_of(0, 200), seed=3)


def obvious_rank(knots, ranks, value):
    if value <= knots[0]:
        below = [k for k, knot in enumerate(knots) if knot <= value]
        return ranks[below[-1]] if below else ranks[0]
    for k in range(len(knots) - 1, -1, -1):
        if knots[k] <= value:
            if k == len(knots) - 1:
                return ranks[k]
            return ranks[k] + (value - knots[k]) * (ranks[k + 1] - ranks[k]) / (knots[k + 1] - knots[k])
    raise AssertionError("a value is above the least quantile or not")


def obvious(ranking, row):
    ranks = [obvious_rank(*own) for own in zip(ranking.knots, ranking.ranks, row, strict=True)]
    hats = [
        0.0 if value == 0 else max(0.0, 1 - abs(rank * (SPEC.hats - 1) - k))
        for value, rank in zip(row, ranks, strict=True)
        for k in range(SPEC.hats)
    ]
    centred = [0.0 if value == 0 else rank - 0.5 for value, rank in zip(row, ranks, strict=True)]
    pairs = [
        max(0.0, a * centred[int(i)] + b * centred[int(j)] - c)
        for (i, j), (a, b), c in zip(ranking.pairs, ranking.slopes, ranking.biases, strict=True)
    ]
    return np.array(hats + pairs)


def test_hats_and_pairs_are_those_of_an_obvious_loop(ranking):
    new = features_of(1, 50) * 1.5
    found = Expander(SPEC, ranking).expand(new)
    np.testing.assert_allclose(found, [obvious(ranking, row) for row in new], rtol=1e-12, atol=1e-12)
    assert found.shape == (50, 6 * 3 + 17)


def test_a_rank_is_the_share_of_training_streams_with_less(ranking):
    training = features_of(0, 200)
    ranks, seen = Expander(SPEC, ranking).rank(training)
    known = np.sort(training[seen[:, 0], 0])
    share = np.searchsorted(known, training[:, 0]) / len(known)
    assert np.abs(ranks[:, 0] - share)[seen[:, 0]].max() < 1 / (SPEC.quantiles - 1)
    assert not seen[:, 4].any()


def test_equal_values_have_the_middle_of_their_ranks():
    features = np.repeat([1.0, 2.0, 3.0], [20, 60, 20])[:, None]
    ranks, _ = Expander(SPEC, fit_ranking(SPEC, features, seed=0)).rank(np.array([[0.5], [1.0], [2.0], [3.0], [9.0]]))
    np.testing.assert_allclose(ranks[:, 0], [0.1, 0.1, 0.5, 0.9, 0.9], rtol=1e-6)


def test_the_hats_of_an_observed_feature_add_up_to_one_and_those_of_an_unobserved_one_to_nothing(ranking):
    features = features_of(2, 40)
    hats = Expander(SPEC, ranking).expand(features)[:, :18].reshape(40, 6, 3)
    np.testing.assert_allclose(hats.sum(axis=2), features != 0, atol=1e-12)


def test_pairs_depend_on_the_seed_and_on_what_was_observed(ranking):
    observed = np.where(features_of(0, 200) == 0, 0.0, 7.0)
    other = fit_ranking(SPEC, observed, seed=3)
    assert np.array_equal(other.pairs, ranking.pairs)
    assert np.array_equal(other.slopes, ranking.slopes)
    assert not np.array_equal(fit_ranking(SPEC, observed, seed=4).pairs, ranking.pairs)


def test_pairs_are_drawn_by_the_share_of_streams_that_have_a_feature():
    spec = Expansion(pairs=20_000)
    features = np.zeros((100, 3))
    features[:20, 0] = features[:80, 1] = 1.0
    shares = np.bincount(fit_ranking(spec, features, seed=0).pairs.astype(int).ravel(), minlength=3) / 40_000
    np.testing.assert_allclose(shares, [0.2, 0.8, 0.0], atol=0.02)
    nothing = fit_ranking(spec, np.zeros((5, 3)), seed=0).pairs
    assert set(np.unique(nothing)) == {0, 1, 2}


def test_a_row_is_read_with_the_same_bits_alone_and_among_others(ranking):
    rng, features = np.random.default_rng(4), features_of(3, 300)
    weight, bias = rng.normal(size=(2, 35)), rng.normal(size=2)
    expander = Expander(SPEC, ranking)
    found = expander.read(features, weight, bias)
    assert np.array_equal(found, [expander.read(row[None], weight, bias)[0] for row in features])
    np.testing.assert_allclose(found, expander.expand(features) @ weight.T + bias, rtol=1e-12, atol=1e-12)


def test_all_numbers_of_a_ranking_survive_float32(ranking):
    for part in ranking:
        assert np.array_equal(part, part.astype(np.float32))


def test_each_value_has_a_name_of_its_own():
    names = Expansion(hats=2, pairs=2).names(("a", "b"))
    assert names == ("hat0(a)", "hat1(a)", "hat0(b)", "hat1(b)", "pair(0)", "pair(1)")


def test_arrays_that_do_not_fit_the_spec_are_refused(ranking):
    with pytest.raises(ShapeError, match=r"slopes of the expansion have shape \(16, 2\)"):
        Expander(SPEC, ranking._replace(slopes=ranking.slopes[1:]))
    with pytest.raises(ParameterError, match="knots of the expansion descend"):
        Expander(SPEC, ranking._replace(knots=-ranking.knots))
    for wrong in (0.5, -1.0, 6.0):
        pairs = ranking.pairs.copy()
        pairs[3, 1] = wrong
        with pytest.raises(ParameterError, match="whole numbers from 0 to 5"):
            Expander(SPEC, ranking._replace(pairs=pairs))
