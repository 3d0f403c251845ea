"""Targets along streams: rows, folds of time, forecasts, several targets, and the same answers when served."""

import numpy as np
import pyarrow as pa
import pytest

import streamrde as sr
from streamrde.errors import DataError, ParameterError
from streamrde.fitting.along import LONGEST
from streamrde.fitting.folds import make_blocks
from streamrde.fitting.preparing import as_horizon
from streamrde.fitting.serving import answers_of


def waves(streams=6, length=400, seed=0):
    """Follow an oscillation with a slow drift; the level of `y` is a running mean of `a`."""
    rng, rows = np.random.default_rng(seed), []
    for i in range(streams):
        t = np.arange(length) * 1.0
        a = np.sin(t / 5 + rng.uniform(0, 6)) + 0.05 * np.cumsum(rng.normal(size=length))
        y = np.convolve(a, np.ones(4) / 4)[:length]
        rows.append((np.full(length, f"s{i}"), t, a, y))
    name, t, a, y = (np.concatenate(part) for part in zip(*rows, strict=True))
    return pa.table({"stream_id": name, "t": t, "a": a, "y": y})


def test_a_target_that_changes_is_learned_along_the_streams_by_groups() -> None:
    report = sr.fit(waves(), "y")
    examples, header = report.fitted.examples, report.bundle.header
    assert examples.along
    assert header.target_at == "window"
    assert header.labels == ("y",)
    assert report.measures["r2"] > 0.9
    assert report.measures["rmse"] < report.measures["mean_rmse"]
    assert (examples.folds == examples.stream).all()  # streams are left out in turn


def test_what_was_fitted_is_what_is_served() -> None:
    report = sr.fit(waves(), "y")
    examples = report.fitted.examples
    for i, served in enumerate(answers_of(report.bundle, examples.recordings)):
        own = examples.stream == i
        place = np.searchsorted(served.end, examples.ends[own])
        np.testing.assert_array_equal(served.end[place], examples.ends[own])
        error = served.value[place, 0] - examples.truth[own, 0]
        assert np.sqrt((error**2).mean()) < 1.2 * report.measures["rmse"]


def test_sparse_labels_make_windows_of_their_spacing() -> None:
    rows = waves()
    y = np.where(np.arange(len(rows)) % 20 == 19, rows["y"].to_numpy(), np.nan)
    report = sr.fit(rows.set_column(3, "y", pa.array(y)), "y")
    assert report.fitted.examples.windows == sr.Every(20.0)
    assert len(report.fitted.examples.truth) == 6 * 20


def test_a_forecast_beats_the_last_known_value_and_learns_from_the_target() -> None:
    report = sr.fit(waves(), "a", horizon="5 s")
    examples = report.fitted.examples
    assert [channel.name for channel in report.bundle.header.channels] == ["a", "y"]
    assert report.bundle.header.horizon == 5.0
    assert report.measures["rmse"] < 0.7 * report.measures["persistence_rmse"]
    first = examples.recordings[0]
    rows = examples.stream == 0
    at = np.searchsorted(first.t, examples.ends[rows] + 5.0)
    np.testing.assert_allclose(examples.truth[rows, 0], first.x[at, 0])


def test_blocks_of_time_leave_out_what_sees_another_block() -> None:
    times = np.tile(np.arange(1000.0), 3)
    fold = make_blocks(times, 30.0)
    assert fold.max() == 4
    for k in range(1, 5):
        assert times[fold == k].min() - times[fold == k - 1].max() > 30.0
    assert (fold.reshape(3, -1) == fold[:1000]).all()
    with pytest.raises(ParameterError, match="shorter horizon"):
        make_blocks(times, 900.0)


def test_folds_of_a_forecast_are_blocks_with_the_horizon_and_the_longest_scale_between() -> None:
    examples = sr.fit(waves(length=600), "a", horizon=3.0).fitted.examples
    ends, fold = examples.ends, examples.folds
    for k in range(1, int(fold.max()) + 1):
        assert ends[fold == k].min() - ends[fold == k - 1].max() >= 3.0 + LONGEST * 1.0
    assert len(np.unique(examples.groups)) > len(np.unique(fold))


def test_a_single_stream_is_divided_in_time() -> None:
    report = sr.fit(waves(streams=1, length=4000), "y")
    assert len(np.unique(report.fitted.examples.folds)) == 5
    assert report.measures["r2"] > 0.9


def test_several_targets_are_learned_together_each_where_it_is_known() -> None:
    rows = waves()
    other = np.where(np.arange(len(rows)) % 3 == 0, 100 * rows["a"].to_numpy(), np.nan)
    report = sr.fit(rows.append_column("z", pa.array(other)), ["y", "z"])
    assert report.bundle.header.labels == ("y", "z")
    assert [channel.name for channel in report.bundle.header.channels] == ["a"]
    assert report.measures["y_r2"] > 0.8
    assert report.measures["z_r2"] > 0.8
    assert report.measures["r2"] == pytest.approx((report.measures["y_r2"] + report.measures["z_r2"]) / 2)
    with pytest.raises(DataError, match="no column 'q'"):
        sr.fit(rows, ["y", "q"])


def test_several_targets_of_whole_streams() -> None:
    rng, number = np.random.default_rng(0), np.repeat(np.arange(30), 20)
    size, lift = rng.normal(size=30), rng.normal(size=30)
    lift[:5] = np.nan
    t = np.tile(np.arange(20.0), 30)
    rows = {
        "stream_id": [f"s{i}" for i in number],
        "t": t,
        "a": size[number] * np.sin(t),
        "b": np.nan_to_num(lift)[number] + 0.01 * rng.normal(size=600),
        "size": size[number],
        "lift": lift[number],
    }
    report = sr.fit(rows, ["size", "lift"])
    assert not report.fitted.examples.along
    assert report.measures["rmse"] < 0.5 * report.measures["mean_rmse"]


def test_classes_along_streams_have_probabilities() -> None:
    rows = waves()
    state = np.where(rows["y"].to_numpy() > 0, "high", "low")
    report = sr.fit(rows.drop_columns(["y"]).append_column("state", pa.array(state)), "state")
    assert report.fitted.examples.along
    assert report.measures["accuracy"] > report.measures["majority_accuracy"] + 0.1
    assert report.bundle.header.task == "classification"


def test_a_test_part_along_streams_is_served() -> None:
    rows = waves(streams=8)
    part = np.where(np.arange(len(rows)) < 6 * 400, "train", "test")
    report = sr.fit(rows.append_column("split", pa.array(part)), "a", horizon=5.0)
    assert report.measures["test_rmse"] < 0.8 * report.measures["test_persistence_rmse"]
    assert len(report.fitted.examples.recordings) == 6


@pytest.mark.parametrize(
    ("text", "seconds"), [("24h", 86400.0), ("90 s", 90.0), ("7d", 604800.0), (5, 5.0), ("0.5", 0.5)]
)
def test_a_horizon_is_seconds_or_text(text, seconds) -> None:
    assert as_horizon(text) == seconds


@pytest.mark.parametrize("wrong", ["soon", "-1h", -1, float("nan"), "3 weeks", None])
def test_a_horizon_that_is_no_time_is_refused(wrong) -> None:
    with pytest.raises(ParameterError, match="give seconds, or a number with"):
        as_horizon(wrong)


def test_a_horizon_beyond_the_streams_is_said() -> None:
    with pytest.raises(DataError, match="is the horizon longer than the streams"):
        sr.fit(waves(length=40), "a", horizon="1h")
