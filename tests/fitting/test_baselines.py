"""Plain models on data where the best answer is known, and the choice among readouts."""

import numpy as np
import pytest

from streamrde.fitting.baselines import measure_baselines
from streamrde.fitting.folds import make_folds
from streamrde.fitting.readout import logistic_readout, ridge_readout, simplest_of
from streamrde.inference.quality import softmax


def streams(n=30, seed=0):
    """Rise or fall by class; some values and one whole channel are not observed; lengths differ."""
    rng = np.random.default_rng(seed)
    code = np.arange(n) % 2
    ts = [np.sort(rng.uniform(0, 10, rng.integers(5, 40))) for _ in code]
    xs = [
        np.stack([(2 * c - 1) * t + rng.normal(size=len(t)), np.full(len(t), np.nan)], -1)
        for c, t in zip(code, ts, strict=True)
    ]
    for x in xs:
        x[rng.random(len(x)) < 0.2, 0] = np.nan
    xs[0][:] = np.nan  # a stream without any observation
    return ts, xs, code


def test_baselines_find_what_is_plain() -> None:
    ts, xs, code = streams()
    folds = make_folds(np.arange(30), code)
    found = measure_baselines(ts, xs, code[:, None].astype(float), 2, np.arange(30), folds)
    assert list(found) == ["plainest", "nearest", "summaries"]
    assert found["plainest"]["accuracy"] <= 0.5
    assert found["plainest"]["log_loss"] == pytest.approx(np.log(2), abs=0.01)
    for name in ("nearest", "summaries"):
        assert found[name]["accuracy"] >= 29 / 30
        assert found[name]["log_loss"] < 0.3


def test_baselines_of_numbers() -> None:
    ts, xs, code = streams()
    truth = 100.0 + 10 * code
    folds = make_folds(np.arange(30))
    found = measure_baselines(ts, xs, truth[:, None], 0, np.arange(30), folds)
    left_out = np.array([truth[folds != k].mean() for k in folds])
    assert found["plainest"]["rmse"] == pytest.approx(np.sqrt(((left_out - truth) ** 2).mean()))
    assert found["nearest"]["rmse"] < 0.5 * found["plainest"]["rmse"]
    assert found["summaries"]["r2"] > 0.5


def test_a_stream_is_no_neighbour_of_its_own_group() -> None:
    """Twins make the nearest neighbour look perfect; across groups it knows nothing."""
    rng = np.random.default_rng(0)
    own = [rng.normal(size=(20, 1)) for _ in range(24)]
    xs = [x for x in own for _ in (0, 1)]
    code = np.repeat(rng.integers(0, 2, 24), 2)
    groups = np.repeat(np.arange(24), 2)
    found = measure_baselines(
        [np.arange(20.0)] * 48, xs, code[:, None].astype(float), 2, groups, make_folds(groups, code)
    )
    assert found["nearest"]["accuracy"] < 0.8
    assert found["nearest"]["log_loss"] < 1.0  # its doubt is measured across groups too


@pytest.mark.parametrize("fit", [ridge_readout, logistic_readout])
@pytest.mark.parametrize("n", [40, 120])
def test_a_readout_of_raw_features_says_what_its_scores_say(fit, n) -> None:
    rng = np.random.default_rng(1)
    signal = rng.normal(size=n)
    noisy = signal[:, None] * (np.arange(60) % 2) + rng.normal(size=(n, 60))
    x = 1e3 + noisy * np.r_[0.0, rng.uniform(0.1, 50, 59)]
    truth = (signal > 0).astype(float)
    found = fit(x, truth[:, None], 2, np.arange(n) % 4)
    code = truth.astype(int)
    assert (softmax(found.linear(x)).argmax(axis=1) == code).mean() > 0.9
    np.testing.assert_allclose(found.losses, -np.log(found.held_out[np.arange(n), code]))
    # A row's own class has no part in its answer, but for the strength and sharpness that all rows choose together.
    again = fit(x, np.r_[1 - truth[0], truth[1:]][:, None], 2, np.arange(n) % 4)
    np.testing.assert_allclose(again.held_out[0], found.held_out[0], atol=0.1)


def test_numbers_are_read_out_in_their_unit() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(50, 8))
    truth = 1e4 + 3e3 * x[:, 0]
    found = ridge_readout(x, truth[:, None], 0, np.arange(50) % 5)
    np.testing.assert_allclose(found.linear(x)[:, 0], truth, rtol=1e-3)
    np.testing.assert_allclose(found.losses, (found.held_out[:, 0] - truth) ** 2 / truth.var())


def test_several_targets_are_read_out_where_each_is_known() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 4))
    truth = np.stack([2 * x[:, 0], 1e3 * x[:, 1] + 5, -x[:, 2]], axis=1)
    part = truth.copy()
    part[::3, 1] = np.nan
    found = ridge_readout(x, part, 0, np.arange(60) % 5)
    np.testing.assert_allclose(found.linear(x), truth, atol=1.0)
    assert np.isnan(found.held_out).tolist() == np.isnan(part).tolist()
    assert np.isfinite(found.losses).all()
    alone = ridge_readout(x, part[:, :1], 0, np.arange(60) % 5)
    np.testing.assert_allclose(found.linear(x)[:, 0], alone.linear(x)[:, 0], atol=0.01)


def test_the_first_of_candidates_that_differ_by_noise_is_chosen() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(100)
    noise = rng.normal(0, 1e-3, 100)
    alike, better = base + noise - noise.mean() - 1e-5, base - 0.5
    assert simplest_of([base, alike], np.arange(100)) == 0
    assert simplest_of([base, better], np.arange(100)) == 1
    # One group a stream: the difference is 0.8 of its standard error.
    near = base + np.where(np.arange(100) < 50, 1.0, -1.16)
    assert simplest_of([base, near], np.arange(100)) == 1
    # Two groups of which one is worse: no more than two answers, however many the streams.
    mixed = base + np.where(np.arange(100) < 50, 0.1, -0.12)
    assert simplest_of([base, mixed], np.arange(100) // 50) == 0
