"""Weights of classes: a row of weight 2 counts as two rows do, and rare classes are found more often."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fit_data import swinging

import streamrde as sr
from streamrde.errors import ConfigError, DataError, ParameterError
from streamrde.fitting import large
from streamrde.fitting.calibration import fit_sharpness
from streamrde.fitting.config import read_config, write_config
from streamrde.fitting.logistic import fit_logistic
from streamrde.fitting.logistic_paths import PathProblem
from streamrde.fitting.readout import average_readout, logistic_readout, ridge_readout
from streamrde.fitting.ridge import STRENGTHS, NormalEquations, fit_any_ridge, fit_ridge
from streamrde.fitting.weights import check_weights, factors
from streamrde.inference.quality import softmax


def data(n, p, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p)) * rng.uniform(0.3, 3, p) + rng.normal(size=p)
    y = x[:, :3] @ rng.normal(size=(3, 2)) + 0.5 * rng.normal(size=(n, 2)) + 7
    return x, y, rng.choice([1.0, 3.0], n)


def repeated(weights, *arrays):
    """Return rows as often as their weight says."""
    return [np.repeat(array, weights.astype(int), axis=0) for array in arrays]


@pytest.mark.parametrize(("n", "p"), [(30, 80), (80, 30)])
def test_a_row_of_weight_three_is_three_rows_to_a_ridge(n, p) -> None:
    x, y, weights = data(n, p)
    folds = np.arange(n) % 4
    found = fit_ridge(x, y, folds, weights=weights)
    whole = fit_ridge(*repeated(weights, x, y, folds), strengths=STRENGTHS)
    assert found.strength == whole.strength
    np.testing.assert_allclose(found.linear(x), whole.linear(x), rtol=1e-7)
    np.testing.assert_allclose(*repeated(weights, found.held_out), whole.held_out, rtol=1e-7)
    np.testing.assert_allclose(found.without(1)(x), whole.without(1)(x), rtol=1e-7)
    same = fit_ridge(x, y, folds, weights=np.ones(n))
    np.testing.assert_allclose(same.held_out, fit_ridge(x, y, folds).held_out, rtol=1e-9)
    assert np.abs(found.held_out - same.held_out).max() > 1e-4


def test_one_row_left_out_has_the_answer_of_a_weighted_ridge_without_it() -> None:
    x, y, weights = data(25, 6)
    found = fit_ridge(x, y, np.arange(25), weights=weights)
    np.testing.assert_allclose(found.held_out[7], found.without(7)(x[7:8])[0], rtol=1e-8)


def test_sums_with_weights_give_the_ridge_of_memory() -> None:
    x, y, weights = data(120, 20)
    folds = np.arange(120) % 5
    sums = NormalEquations(20, 2, 5)
    for rows in (slice(0, 50), slice(50, 120)):
        sums.add(x[rows], y[rows], folds[rows], weights=weights[rows])
    linear, strengths, without = sums.solve()
    whole = fit_ridge(x, y, folds, weights=weights)
    assert strengths.tolist() == [whole.strength] * 2
    np.testing.assert_allclose(linear(x), whole.linear(x), rtol=1e-8)
    np.testing.assert_allclose(without[2](x), whole.without(2)(x), rtol=1e-8)
    again = fit_any_ridge(x, y, folds, weights=weights)
    np.testing.assert_allclose(again.held_out, whole.held_out, rtol=1e-8)
    mean = np.average(x, axis=0, weights=weights)
    np.testing.assert_allclose(sums.spread() ** 2, np.average((x - mean) ** 2, axis=0, weights=weights), rtol=1e-8)


def test_paths_with_weights_are_logistic_regressions_with_weights() -> None:
    rng = np.random.default_rng(1)
    x, folds = rng.normal(size=(240, 12)).astype(np.float32).astype(float), np.arange(240) % 4
    codes = (x[:, :3] + rng.normal(size=(240, 3))).argmax(axis=1)
    weights = factors("balanced", tuple("abc"), np.bincount(codes) * np.array([1, 5, 1]))[codes]
    found = PathProblem(x, codes, 3, folds, weights=weights).fit(np.array([0.01]))
    rest = folds != 1
    alone = fit_logistic(x[rest], codes[rest], 3, 0.01, weights=weights[rest] / weights[rest].mean())
    wanted = alone(x[~rest])
    np.testing.assert_allclose(found.held_out[0, ~rest], wanted - wanted.mean(axis=1, keepdims=True), atol=0.03)
    plain = PathProblem(x, codes, 3, folds).fit(np.array([0.01]))
    assert np.abs(found.held_out - plain.held_out).max() > 0.3


@pytest.mark.parametrize("fit", [ridge_readout, logistic_readout])
def test_readouts_answer_out_of_fold_and_are_calibrated_with_weights(fit) -> None:
    rng = np.random.default_rng(2)
    x, folds = rng.normal(size=(90, 7)), np.arange(90) % 3
    codes = (x[:, 0] + rng.normal(size=90) > 1).astype(int)
    weights = factors("balanced", tuple("ab"), np.bincount(codes))[codes]
    own = fit(x, codes[:, None].astype(float), 2, folds, weights=weights)
    np.testing.assert_allclose(own.held_out[folds == 1], softmax(own.without(1)(x[folds == 1])), rtol=1e-4)
    scores = np.log(own.held_out)
    assert fit_sharpness(scores, codes, weights=weights) == pytest.approx(1.0, abs=0.05)
    # Weighted alike, both classes are as common as each other.
    assert np.average(own.held_out[:, 1], weights=weights) == pytest.approx(0.5, abs=0.03)
    both = average_readout([own, own], codes[:, None].astype(float), 2, weights=weights)
    np.testing.assert_allclose(both.held_out, own.held_out, rtol=0.05)


def test_factors_have_mean_one_and_name_classes_that_there_are() -> None:
    counts = np.array([6, 2, 0])
    balanced = factors("balanced", ("a", "b", "c"), counts)
    assert balanced[1] == pytest.approx(3 * balanced[0])
    assert (balanced * counts).sum() == pytest.approx(8)
    table = factors({"b": 2.0}, ("a", "b", "c"), counts)
    np.testing.assert_allclose(table, np.array([1, 2, 1]) * 8 / 10)
    assert factors("equal", ("a", "b"), counts[:2]) is None
    with pytest.raises(
        DataError, match=r"names 'oben', which is no class .did you mean 'open'.*there are closed, open"
    ):
        factors({"oben": 2.0}, ("closed", "open"), counts[:2])
    with pytest.raises(ParameterError, match="factor 0; give a number above 0"):
        check_weights({"a": 0}, classify=True)
    with pytest.raises(ParameterError, match="give 'equal', 'balanced', or"):
        check_weights("balance", classify=True)
    with pytest.raises(ParameterError, match="the target is a number"):
        check_weights("balanced", classify=False)


def rare(noise=2.0):
    """Swing fast in one of five streams, in much noise."""
    rows = swinging(streams=100)
    number = np.repeat(np.arange(100), 20)
    rng, t = np.random.default_rng(0), rows["t"].to_numpy()
    a = np.sin(t * np.where(number % 5, 1, 2) + number) + noise * rng.normal(size=len(t))
    rows = rows.set_column(2, "a", pa.array(a))
    return rows.set_column(3, "label", pa.array(np.where(number % 5, "slow", "fast")))


def found_of(report, label):
    return report.as_dict()["recall"][label]


def test_a_rare_class_is_found_more_often_when_it_counts_as_much(tmp_path) -> None:
    choice = "above, ridge"
    plain, balanced = (sr.fit(rare(), "label", choice=choice, class_weights=w) for w in ("equal", "balanced"))
    assert found_of(balanced, "fast") > found_of(plain, "fast")
    assert any(text.startswith("class weights: 2.5 for 'fast', 0.625 for 'slow'") for text in balanced.notes)
    assert any(text.startswith("warning: ") and "plain model" in text for text in plain.warnings)
    assert not any(text.startswith("warning: ") and "plain model" in text for text in balanced.warnings)
    pq.write_table(rare(), tmp_path / "rows.parquet")
    again = sr.fit(tmp_path / "rows.parquet", "label", choice=choice, class_weights={"fast": 4.0})
    assert again.bundle.fingerprint == balanced.bundle.fingerprint
    write_config(tmp_path / "fit.toml", again.config)
    assert read_config(tmp_path / "fit.toml").class_weights == {"fast": 4.0}
    (tmp_path / "fit.toml").write_text('data = "a"\ntarget = "b"\nclass_weights = "balance"\n')
    with pytest.raises(ConfigError, match="class_weights"):
        read_config(tmp_path / "fit.toml")


def test_all_streams_of_large_data_are_weighed(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(large, "STREAM_BYTES", 400_000)  # 52 streams fit into 20 MiB
    pq.write_table(rare(1.0), tmp_path / "rows.parquet")
    said = []
    settings = {"choice": "above, ridge", "memory": 20 << 20, "say": said.append}
    reports = [sr.fit(tmp_path / "rows.parquet", "label", class_weights=w, **settings) for w in ("equal", "balanced")]
    assert sum("100 streams" in text for text in said if text.startswith("the readout")) == 2, said
    assert found_of(reports[1], "fast") > found_of(reports[0], "fast")
