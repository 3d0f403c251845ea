"""A training that loses to answers without a model says so."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from models.recordings import config_for, quiet, write_recordings

from streamrde.models import train
from streamrde.models.training.verdict import PLAIN, verdict


def classes(**changes: float) -> dict[str, float]:
    own = {
        "streams": 50.0,
        "accuracy_windows": 0.9,
        "accuracy_end": 0.95,
        "log_loss_windows": 0.3,
        "log_loss_end": 0.2,
        "majority_accuracy_windows": 0.6,
        "majority_accuracy_end": 0.6,
        "prior_log_loss_windows": 0.67,
        "prior_log_loss_end": 0.67,
    }
    parts = {f"{part}_{name}": value for part in ("train", "test") for name, value in own.items()}
    return parts | changes


def alarms(metrics: dict[str, float], **options: object) -> str:
    return "\n".join(verdict(metrics, majority="left", targets=(), **options).alarms)  # type: ignore[arg-type]


def test_a_model_that_beats_the_majority_raises_no_alarm() -> None:
    found = verdict(classes(), majority="left", targets=())
    assert found.alarms == ()
    assert found.line == "on the test streams 95.0% right at their ends; always 'left' is right in 60.0%"


def test_a_model_worse_than_the_majority_says_so() -> None:
    text = alarms(classes(test_accuracy_end=0.5, test_log_loss_end=0.9, train_accuracy_end=0.5))
    assert text.startswith("on the test streams the model is worse than always saying 'left': 50.0% right")
    assert "right in 60.0%" in text


def test_a_rare_class_that_is_ranked_well_raises_no_alarm() -> None:
    rare = classes(test_accuracy_end=0.58, test_auc_end=0.85, train_accuracy_end=0.6)
    assert alarms(rare) == ""
    balanced = rare | {"test_log_loss_end": 0.9}
    assert "log loss" in alarms(rare | {"test_accuracy_end": 0.7, "test_log_loss_end": 0.9})
    assert alarms(balanced, weighted=True) == ""


def test_answers_that_are_sure_and_wrong_say_so() -> None:
    text = alarms(classes(test_log_loss_end=9.0, test_accuracy_end=0.74, train_accuracy_end=1.0))
    assert "its log loss at the streams' ends is 9, and 0.67 where each class" in text
    assert "does not carry over: 100.0% of the training streams are right at their ends, and 74.0% of the test" in text


@pytest.mark.parametrize("name", ["nearest", "summaries", "fitted"])
def test_a_plain_model_that_is_better_is_named(name: str) -> None:
    better = {f"test_{name}_accuracy_end": 0.97, f"test_{name}_log_loss_end": 0.1}
    text = alarms(classes(**better))
    assert text.startswith(f"on the test streams the model is worse than {PLAIN[name]}: 95.0% right at their ends")
    assert alarms(classes(**better | {f"test_{name}_log_loss_end": 0.3})) == ""
    assert alarms(classes(**better | {f"test_{name}_accuracy_end": 0.9})) == ""
    own = {"test_streams": 5.0, "test_rmse": 1.0, "test_r2": 0.5, "test_rmse_end": 1.2, f"test_{name}_rmse_end": 1.1}
    found = verdict(own, majority="", targets=("y",))
    assert found.alarms == (
        f"on the test streams the model is worse than {PLAIN[name]}: rmse 1.2 at their ends, and 1.1 so",
    )


def test_what_chance_explains_is_no_alarm() -> None:
    few = classes(test_streams=5.0, test_accuracy_end=0.6, train_accuracy_end=0.9)
    assert "carry over" not in alarms(few)
    assert "carry over" in alarms(few | {"test_streams": 500.0})


def test_without_a_test_the_validation_streams_judge() -> None:
    metrics = {name.replace("test_", "validation_"): value for name, value in classes().items()}
    assert verdict(metrics, majority="left", targets=()).line.startswith("on the validation streams 95.0%")
    alone = {name: value for name, value in classes().items() if name.startswith("train_")}
    assert verdict(alone, majority="left", targets=()).line.startswith("on the training streams")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"test_rmse": 6.0, "test_r2": -5.0}, "worse than always answering the mean of training: rmse 6, and 2.5 so"),
        ({"test_last_rmse": 0.5}, "worse than the last value known: rmse 1, and 0.5 so"),
        (
            {"test_r2": 0.1, "train_r2": 0.95},
            "r2 is 0.95 on the training streams and 0.1 on the test",
        ),
        ({"test_rmse": float("nan")}, "worse than always answering the mean"),
    ],
)
def test_a_regression_is_compared_with_mean_and_last_value(changes, said) -> None:
    metrics = {"test_streams": 9.0, "test_rmse": 1.0, "test_r2": 0.8, "test_mean_rmse": 2.5, "train_r2": 0.9} | changes
    found = verdict(metrics, majority="", targets=("speed",))
    assert (said in "\n".join(found.alarms)) if said else found.alarms == ()


def test_each_of_several_targets_is_compared() -> None:
    metrics = {"test_streams": 9.0, "test_rmse": 1.0, "test_r2": 0.8, "test_mean_rmse": 2.5}
    metrics |= {"test_u_rmse": 0.5, "test_u_mean_rmse": 1.0, "test_v_rmse": 1.5, "test_v_mean_rmse": 1.2}
    (alarm,) = verdict(metrics, majority="", targets=("u", "v")).alarms
    assert "model of 'v' is worse" in alarm


def test_baselines_are_those_of_their_definitions(tmp_path) -> None:
    files = write_recordings(tmp_path)
    config = config_for(files, data={"task": "regression", "target": ["a"], "horizon": 0.5}, training={"epochs": 1})
    output = {"report": str(tmp_path / "report.html"), "metrics": str(tmp_path / "metrics.json")}
    console = quiet(60)
    metrics = train(config | {"output": output}, console=console).header.metrics
    # Of the test streams, the slow way: windows of 0.8 s from each first sample, the last one short.
    rows = pq.read_table(files).to_pylist()
    errors, last, learned = [], [], []
    for name in sorted({row["stream_id"] for row in rows}):
        own = [row for row in rows if row["stream_id"] == name]
        if own[0]["subject"] == 6:
            continue
        t, a = np.array([row["t"] for row in own]), np.array([row["a"] for row in own])
        edges = [*np.arange(t[0], t[-1], 0.8), t[-1]]
        known = np.nan
        for start, end in itertools.pairwise(edges):
            inside = (t > start) & (t <= end)
            ahead = a[(t > start + 0.5) & (t <= end + 0.5)]
            known = a[inside][-1] if inside.any() else known
            if inside.any() and len(ahead):
                if own[0]["subject"] == 7:
                    errors.append(ahead[-1])
                    last.append(ahead[-1] - known)
                else:
                    learned.append(ahead[-1])
    assert metrics["test_mean_rmse"] == pytest.approx(np.sqrt(np.mean((np.array(errors) - np.mean(learned)) ** 2)))
    assert metrics["test_last_rmse"] == pytest.approx(np.sqrt(np.mean(np.square(last))))
    shown = console.file.getvalue().splitlines()
    assert shown[-1].startswith("warning: ")
    assert any(line.startswith("done: on the test streams rmse") for line in shown)
    page = (tmp_path / "report.html").read_text()
    assert page.index("worse than") < page.index("<h2>")
    assert "test_last_rmse" in (tmp_path / "metrics.json").read_text()


def test_the_majority_is_that_of_training(tmp_path) -> None:
    files = write_recordings(tmp_path)
    table = pq.read_table(files)
    turn = ["right" if int(name[1:]) % 3 else "left" for name in table["stream_id"].to_pylist()]
    pq.write_table(table.set_column(4, "turn", pa.array(turn)), files)
    console = quiet(60)
    metrics = train(config_for(files, training={"epochs": 1, "learning_rate": 1e-9}), console=console).header.metrics
    assert metrics["test_majority_accuracy_end"] == pytest.approx(2 / 3)
    share = np.array([6, 12]) / 18
    assert metrics["test_prior_log_loss_end"] == pytest.approx(-np.log(share[[0, 1, 1]]).mean())
    assert "always 'right' is right in 66.7%" in console.file.getvalue().splitlines()[-1] + console.file.getvalue()


def test_what_was_trained_is_kept_when_a_later_file_fails(tmp_path, monkeypatch) -> None:
    from streamrde.errors import DataError, ParameterError
    from streamrde.models.training import outputs

    def full(*args: object) -> None:
        raise DataError("the disk is full", path="x")

    monkeypatch.setattr(outputs, "write_test", full)
    output = {key: str(tmp_path / key) for key in ("model", "report", "metrics")} | {"test": str(tmp_path / "t.csv")}
    config = config_for(write_recordings(tmp_path), training={"epochs": 1}, output=output)
    with pytest.raises(ParameterError, match="test streams: the disk is full"):
        train(config, console=quiet(60))
    assert all((tmp_path / key).exists() for key in ("model", "report", "metrics"))
