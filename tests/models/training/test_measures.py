from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
from models.recordings import config_for, quiet, write_recordings

import streamrde as sr
from streamrde.inference.quality import classification_measures, softmax
from streamrde.models import train
from streamrde.models.training.examples import Example
from streamrde.models.training.measures import measure


def example(target: list[object], seconds: float = 1.0) -> Example:
    count = len(target)
    return Example("s", np.zeros(2), np.arange(1, count + 1) * seconds, np.zeros((count, 1)), np.array(target))


def test_classes_are_measured_over_windows_at_ends_and_in_time() -> None:
    examples = [example([0, 0, 0, -1]), example([1, -1]), example([-1]), example([1, 1, 1])]
    outputs = [np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.0, 9.0]])]
    outputs += [np.array([[0.0, 1.0], [9.0, 0.0]]), np.array([[1.0, 0.0]]), np.array([[1.0, 0.0]] * 3)]
    measures = measure(examples, outputs, seconds=[2.0, 9.0])
    assert measures["streams"] == 4
    assert measures["windows"] == 10
    assert measures["accuracy_windows"] == pytest.approx(3 / 7)
    assert measures["accuracy_end"] == pytest.approx(2 / 3)
    assert measures["accuracy_2s"] == 0.0  # of the two streams that last 2 s and have a class then
    assert "accuracy_9s" not in measures
    ends = np.array([[3.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert measures["auc_end"] == classification_measures(np.array([0, 1, 1]), softmax(ends))["auc"]


def test_numbers_are_measured_target_by_target() -> None:
    examples = [example([[1.0, 10.0], [2.0, np.nan]]), example([[np.nan, 30.0], [5.0, 50.0]])]
    outputs = [np.array([[1.0, 13.0], [4.0, 99.0]]), np.array([[99.0, 30.0], [5.0, 46.0]])]
    measures = measure(examples, outputs, targets=["rr", "hr"])
    assert measures["rr_rmse"] == pytest.approx(np.sqrt(4 / 3))
    assert measures["hr_rmse"] == pytest.approx(np.sqrt(25 / 3))
    assert measures["rmse"] == pytest.approx((measures["rr_rmse"] + measures["hr_rmse"]) / 2)
    assert measures["rr_mae_end"] == pytest.approx(1.0)
    assert measures["hr_mae_end"] == pytest.approx(3.5)
    assert measures["rr_r2"] == pytest.approx(1 - 4 / 3 / np.var([1.0, 2.0, 5.0]))
    assert "rr_rmse" not in measure(examples, outputs)


def test_nothing_is_measured_where_there_is_nothing() -> None:
    assert measure([], []) == {}
    assert measure([example([-1])], [np.zeros((1, 2))]) == {"streams": 1.0, "windows": 1.0}


def test_score_measures_a_trained_model_as_training_did(tmp_path) -> None:
    files = write_recordings(tmp_path)
    training = {"epochs": 2, "learning_rate": 0.003}
    split = {"validation": [6], "test": [4, 5, 7]}
    bundle = train(config_for(files, training=training, split=split), console=quiet())
    bundle.save(tmp_path / "m.safetensors")
    pq.write_table(pq.read_table(files, filters=[("subject", "in", [4, 5, 7])]), tmp_path / "test.parquet")
    found = sr.score(
        str(tmp_path / "test.parquet"), tmp_path / "m.safetensors", out=tmp_path / "out.parquet", truth=["turn"], jobs=1
    ).evaluation
    measured = bundle.header.metrics
    assert found["windows"] == measured["test_windows"]
    assert found["log_loss"] == pytest.approx(measured["test_log_loss_windows"], rel=1e-5)
    for name in ("accuracy", "auc", "average_precision", "f1", "log_loss", "calibration"):
        assert found[f"{name}_at_end"] == pytest.approx(measured[f"test_{name}_end"], rel=1e-5)
