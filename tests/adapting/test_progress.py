"""Progressive evaluation: recorded predictions and labels give what a live fleet gives."""

from __future__ import annotations

import numpy as np
import pytest
from late import NUMBERS, calibrated, errors, run

import streamrde as sr
from streamrde.adapting.progress import Windows, progress, summary
from streamrde.adapting.settings import Adapt
from streamrde.adapting.trackers import Tracking
from streamrde.inference.labels import adapting_of
from streamrde.inference.states import Serving


def section_of(bundle, serve="best"):
    return adapting_of(bundle, Serving(adapt=Adapt(serve=serve), intervals=Tracking()), 0)


def recorded(streams, count, outputs=2, seed=0):
    rng = np.random.default_rng(seed)
    stream = np.repeat(np.arange(streams), count)
    window = np.tile(np.arange(count), streams)
    frozen = rng.normal(size=(streams * count, outputs))
    label = frozen + 0.5 + rng.normal(size=frozen.shape) * np.where(window < count // 2, 1, 2)[:, None]
    return Windows(stream, window, window + 1.0, frozen, label)


def test_progressive_predictions_are_those_of_a_live_fleet():
    bundle = calibrated(**NUMBERS)
    late = 4
    fleet = sr.Fleet(bundle, intervals=0.9, adapt="online")
    predicted, _ = run(fleet, 200, errors, late=late)
    frozen, _ = run(sr.Fleet(bundle, intervals=0.9, adapt="frozen"), 200, errors, late=late)
    # Labels are those of what is served: take the ones of the fleet that learned.
    by_key = {(row["stream"], row["window"]): row["value"] for row in frozen}
    rows = sorted(predicted, key=lambda row: (row["stream"], row["window"]))
    windows = Windows(
        np.array([int(row["stream"][1:]) for row in rows]),
        np.array([row["window"] for row in rows]),
        np.array([row["t_end"] for row in rows]),
        np.array([by_key[row["stream"], row["window"]] for row in rows]),
        np.array([errors(row)[0] for row in rows]),
    )
    found = progress(section_of(bundle, "online"), windows, delay=late + 0.5)
    np.testing.assert_allclose(found.served, [row["value"] for row in rows], rtol=1e-5, atol=1e-5)
    width = [np.subtract(row["upper"], row["lower"]) / 2 for row in rows]
    np.testing.assert_allclose(np.maximum(found.threshold, 0), width, rtol=1e-4, atol=1e-4)


def test_every_label_is_predicted_before_it_is_learned():
    windows = recorded(3, 50)
    bundle = calibrated(**NUMBERS)
    whole = progress(section_of(bundle), windows, delay=2.0)
    changed = windows.label.copy()
    changed[windows.window >= 20] += 100.0
    other = progress(section_of(bundle), windows._replace(label=changed), delay=2.0)
    before = windows.window < 22
    np.testing.assert_array_equal(whole.served[before], other.served[before])
    assert (whole.served[~before] != other.served[~before]).any()
    assert whole.labels[windows.window == 0].tolist() == [0, 0, 0]
    assert (whole.labels == np.maximum(windows.window - 1, 0)).all()


def test_labels_without_delay_count_from_the_next_window_on():
    windows = recorded(1, 5)
    assert progress(section_of(calibrated(**NUMBERS)), windows).labels.tolist() == [0, 1, 2, 3, 4]


def test_summary_counts_coverage():
    windows = recorded(4, 1200, seed=3)
    found = progress(section_of(calibrated(**NUMBERS)), windows, delay=1.0)
    said = summary(windows, found, ["a", "b", "c", "d"], scale=np.ones(2))
    assert said["labels"] == 4800
    assert said["rmse"]["online"][0] < said["rmse"]["frozen"][0]
    assert list(said["streams"]) == ["a", "b", "c", "d"]
    for own in said["coverage"]:
        assert own["coverage"] == pytest.approx(0.9, abs=0.015)
        assert own["worst_stream_coverage"] >= 0.88
        assert own["worst_200"] >= 0.75
    inside = ~found.missed[windows.stream == 2, 0]
    slow = min(inside[i : i + 200].mean() for i in range(1001))
    assert said["coverage"][0]["worst_200"] <= slow
    late = said["after"]["1000"]
    assert late["served"] is not None
    assert len(said["over_time"]) == 10


def test_streams_without_labels_have_no_measures():
    windows = recorded(2, 10)
    windows = windows._replace(label=np.full_like(windows.label, np.nan))
    found = progress(section_of(calibrated(**NUMBERS)), windows)
    said = summary(windows, found, ["a", "b"], scale=np.ones(2))
    assert said["labels"] == 0
    assert said["coverage"][0]["coverage"] is None
