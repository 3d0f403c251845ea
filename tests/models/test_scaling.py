from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from models.recordings import config_for, quiet, write_recordings

import streamrde as sr
from streamrde.models.scaling import fit_inputs, moments
from streamrde.models.training.config import as_train_config
from streamrde.models.training.run import fit
from streamrde.models.training.streams import read_parts
from streamrde.windowing.partition import Partition
from streamrde.windowing.tokens import Scale, Token

C, DEPTH = 3, 3


def windows_of(factors: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Samples of two channels in some unit, and the log-signatures of their windows."""
    rng = np.random.default_rng(0)
    t = np.arange(400.0) * 0.1
    x = rng.normal(size=(400, 2)).cumsum(axis=0) * factors
    return x, sr.logsig_windows(t, np.column_stack([t, x]), DEPTH, sr.Every(1.0))[1]


def partition(logsigs: np.ndarray) -> Partition:
    """The rules that make such log-signatures of two channels, up to depth 2 or 3."""
    return Partition((0.0, 0.0), {6: 2, 14: 3}[logsigs.shape[1]], sr.Every(1.0), "linear")


@pytest.mark.parametrize("by", ["coefficient", "level"])
def test_scaled_log_signatures_have_mean_square_1_and_no_unit(by) -> None:
    scaled = []
    for factors in ((1.0, 1.0), (20.0, 0.1), (1e6, 1e-3), (1e-8, 1e8), (1e30, 1e-30)):
        x, logsigs = windows_of(factors)
        shift, scale, logsig_scale, _ = fit_inputs([x], [logsigs], ["a", "b"], partition=partition(logsigs), by=by)
        scaled.append(logsigs * logsig_scale)
        assert (scaled[-1] ** 2).sum(axis=1).mean() == pytest.approx(1)
        np.testing.assert_allclose(((x - shift[1:]) * scale[1:]).std(axis=0), 1)
    for other in scaled[1:]:
        np.testing.assert_allclose(scaled[0], other, rtol=1e-9)


@pytest.mark.parametrize("by", ["coefficient", "level"])
@pytest.mark.parametrize("factor", [1.0, 1e8, 1e-8])
def test_what_is_rounding_in_training_is_not_blown_up(by, factor) -> None:
    """The area between channels that move together, and the increments of one that always comes back."""
    x, _ = windows_of((1.0, 1.0))
    t = np.arange(400.0) * 0.1
    x[:, 1] = 3.7 * x[:, 0] * factor
    logsigs = sr.logsig_windows(t, np.column_stack([t, x]), 2, sr.Every(1.0))[1]
    scale = fit_inputs([x], [logsigs], ["a", "b"], partition=partition(logsigs), by=by)[2]
    assert np.abs(logsigs * scale)[:, 5].max() < 0.01  # word ab
    x[:, 1] = np.sin(2 * np.pi * t) * factor
    logsigs = sr.logsig_windows(t, np.column_stack([t, x]), 2, sr.Every(1.0))[1][:-1]  # the last one is short
    scale = fit_inputs([x], [logsigs], ["a", "b"], partition=partition(logsigs), by=by)[2]
    assert np.abs(logsigs * scale)[:, 2].max() < 0.05  # word b
    assert np.abs(logsigs * scale)[:, 4].max() < 0.05  # word tb


@pytest.mark.parametrize("by", ["coefficient", "level"])
def test_a_small_move_around_a_large_value_keeps_what_digits_it_has(by) -> None:
    x, logsigs = windows_of((1.0, 1.0))
    t, moved = np.arange(400.0) * 0.1, x + np.array([1e10, -1e8])
    path = np.column_stack([t, moved])
    found = sr.logsig_windows(t, path, DEPTH, sr.Every(1.0))[1]
    scaled = [
        values * fit_inputs([own], [values], ["a", "b"], partition=partition(values), by=by)[2]
        for own, values in ((x, logsigs), (moved, found))
    ]
    np.testing.assert_allclose(scaled[0], scaled[1], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("factors", [(1e6, 1e-3), (1e8, 1.0), (1e-12, 1e12)])
def test_units_of_channels_change_no_training(tmp_path, factors) -> None:
    model = {"depth": 3}
    bundles = []
    for own in ((1.0, 1.0), factors):
        files = write_recordings(tmp_path)
        table = pq.read_table(files)
        for name, factor in zip(("a", "b"), own, strict=True):
            column = pa.array(table[name].to_numpy() * factor)
            table = table.set_column(table.schema.get_field_index(name), name, column)
        pq.write_table(table, files)
        config = as_train_config(config_for(files, model=model, training={"epochs": 8, "learning_rate": 0.01}))
        torch.manual_seed(0)
        bundles.append(fit(config, read_parts(config), console=quiet()).bundle)
    plain, scaled = (bundle.header.metrics for bundle in bundles)
    for name in ("validation_accuracy_windows", "test_accuracy_windows", "train_accuracy_windows"):
        assert scaled[name] == pytest.approx(plain[name], abs=0.02)
    assert scaled["train_log_loss_windows"] == pytest.approx(plain["train_log_loss_windows"], rel=0.02)
    assert plain["train_accuracy_windows"] > 0.9


def test_by_level_small_coefficients_of_a_level_stay_small() -> None:
    x, _ = windows_of((1.0, 1.0))
    x[:, 1] = x[:, 0] + 1e-3 * x[:, 1]  # they move together: their area is small
    t = np.arange(400.0) * 0.1
    logsigs = sr.logsig_windows(t, np.column_stack([t, x]), 2, sr.Every(1.0))[1]
    size = {}
    for by in ("coefficient", "level"):
        scale = fit_inputs([x], [logsigs], ["a", "b"], partition=partition(logsigs), by=by)[2]
        size[by] = np.sqrt(((logsigs * scale) ** 2).mean(axis=0))
    np.testing.assert_allclose(size["coefficient"], size["coefficient"][0])
    assert size["level"][5] < 0.01 * size["level"][3]  # words ab and ta
    np.testing.assert_allclose((size["level"][:3] ** 2).mean(), (size["level"][3:] ** 2).mean())


def test_entries_after_the_log_signatures_are_standardised_without_what_is_missing() -> None:
    x, logsigs = windows_of((1.0, 1.0))
    rng = np.random.default_rng(1)
    token = Token(scales=(Scale(1), Scale(3, 2)), ends=True, summaries=True)
    parts = Partition((0.0, 0.0), DEPTH, sr.Every(1.0), "linear", token=token)
    long = np.array([logsigs[max(0, i - 2) : i + 1, :6].sum(axis=0) for i in range(len(logsigs))])
    rest = 300.0 + 7.0 * rng.normal(size=(len(logsigs), parts.places.size - 20))
    rest[rng.random(rest.shape) < 0.2] = np.nan
    rest[:, 4], rest[:, 5] = 4.0, np.nan
    found = fit_inputs([x], [np.hstack([logsigs, long, rest])], ["a", "b"], partition=parts)
    size = parts.places.size
    plain = fit_inputs([x], [logsigs], ["a", "b"], partition=partition(logsigs)).logsig_scale
    np.testing.assert_allclose(found.logsig_scale[:14] * np.sqrt(size), plain * np.sqrt(14))
    np.testing.assert_allclose(((long * found.logsig_scale[14:20]) ** 2).mean(axis=0) * size, np.ones(6), rtol=1e-9)
    assert found.token_shift is not None
    np.testing.assert_array_equal(found.token_shift[:20], 0.0)
    moving = np.setdiff1d(np.arange(rest.shape[1]), [4, 5])
    scaled = (rest - found.token_shift[20:]) * found.logsig_scale[20:] * np.sqrt(size)
    np.testing.assert_allclose(np.nanmean(scaled[:, moving], axis=0), 0.0, atol=1e-9)
    np.testing.assert_allclose(np.nanstd(scaled[:, moving], axis=0), 1.0)
    assert (found.logsig_scale[[24, 25]] == 0).all()


def test_moments_are_those_of_all_samples_together() -> None:
    x, _ = windows_of((2.0, 5.0))
    x[::7, 0] = np.nan
    mean, deviation, counts = moments([x[:100], x[100:]])
    np.testing.assert_allclose(mean, np.nanmean(x, axis=0))
    np.testing.assert_allclose(deviation, np.nanstd(x, axis=0))
    np.testing.assert_array_equal(counts, np.isfinite(x).sum(axis=0))


@pytest.mark.parametrize("by", ["coefficient", "level"])
def test_scales_are_those_of_the_training_streams_alone(tmp_path, by) -> None:
    training = {"epochs": 1, "scaling": by}
    made = []
    for factor in (1.0, 1e6):
        files = write_recordings(tmp_path)
        table = pq.read_table(files)
        a = np.where(table["subject"].to_numpy() > 5, factor, 1.0) * table["a"].to_numpy()
        pq.write_table(table.set_column(table.schema.get_field_index("a"), "a", pa.array(a)), files)
        config = as_train_config(config_for(files, training=training))
        made.append(fit(config, read_parts(config), console=quiet()).bundle)
    for name in ("x0.shift", "x0.scale", "logsig.scale"):
        np.testing.assert_array_equal(made[0].tensors[name], made[1].tensors[name])
    assert [c.fill for c in made[0].header.channels] == [c.fill for c in made[1].header.channels]
