from __future__ import annotations

import io
import json
import subprocess
import sys

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from models.recordings import config_for, quiet, write_recordings
from rich.console import Console

import streamrde as sr
from streamrde.errors import ConfigError, DataError, ParameterError
from streamrde.inference.table import Counts
from streamrde.models import train
from streamrde.models.training.config import as_train_config, load_train_config
from streamrde.models.training.examples import prepare
from streamrde.models.training.streams import read_streams


@pytest.fixture
def files(tmp_path) -> str:
    return write_recordings(tmp_path)


def test_classification_learns_which_way_a_stream_turns(files, tmp_path) -> None:
    console = quiet()
    out = {"model": str(tmp_path / "out" / "m.safetensors"), "metrics": str(tmp_path / "out" / "m.json")}
    bundle = train(config_for(files, output=out | {"seconds": [1.0]}), console=console)
    metrics = bundle.header.metrics
    assert bundle.header.labels == ("left", "right")
    assert metrics["test_accuracy_end"] == 1.0
    assert metrics["test_accuracy_windows"] > 0.9
    assert {"train_streams": 18.0, "validation_streams": 3.0, "test_streams": 3.0}.items() <= metrics.items()
    assert 0 <= metrics["test_accuracy_1s"] <= 1
    assert sr.load(out["model"]).fingerprint == bundle.fingerprint
    assert bundle.header.training["streams"] == "18 for training, 3 for validation, 3 for testing"
    assert bundle.header.training["split"] == "by subject; validation: 6; test: 7"
    assert bundle.header.training["epochs"].endswith(" of 25")
    assert json.loads((tmp_path / "out" / "m.json").read_text()) == metrics
    known = bundle.header.calibration
    assert known.streams == (3,)
    assert known.labels == metrics["validation_windows"]
    assert sr.Predictor(bundle, intervals=0.9)
    shown = console.file.getvalue()
    assert "epoch 1/25" in shown
    assert "accuracy end" in shown


def test_the_measured_accuracy_is_what_the_fleet_serves(files) -> None:
    bundle = train(config_for(files), console=quiet())
    table = pq.read_table(files).to_pylist()
    right = []
    for stream in ("s21", "s22", "s23"):
        rows = [row for row in table if row["stream_id"] == stream]
        predictor = sr.Predictor(bundle)
        served = [p for row in rows for p in predictor.push(row["t"], [row["a"], row["b"]])] + list(predictor.flush())
        right += [bundle.header.labels[int(np.argmax(p.value))] == rows[0]["turn"] for p in served]
    assert np.mean(right) == pytest.approx(bundle.header.metrics["test_accuracy_windows"])
    assert len(right) == bundle.header.metrics["test_windows"]


@pytest.mark.slow
def test_regression_learns_a_speed_in_its_own_units(files) -> None:
    data = {"target": ["speed"], "task": "regression", "target_units": ["rad/s"]}
    config = config_for(files, training={"epochs": 150, "patience": 0, "batch_size": 8, "learning_rate": 0.02})
    config["data"] |= data
    bundle = train(config, console=quiet())
    assert bundle.header.labels == ("speed",)
    assert bundle.header.units == ("rad/s",)
    assert bundle.header.metrics["test_rmse"] < 0.3
    assert bundle.header.metrics["test_mae"] <= bundle.header.metrics["test_rmse"]


def test_channels_keep_the_training_mean_as_fill_value(files) -> None:
    bundle = train(config_for(files, training={"epochs": 1}), console=quiet())
    table = pq.read_table(files, filters=[("subject", "<", 6)])
    fills = [channel.fill for channel in bundle.header.channels]
    np.testing.assert_allclose(fills, [np.mean(table["a"]), np.mean(table["b"])], rtol=1e-12)


@pytest.mark.parametrize("logsignatures", ["pysiglib", "own"])
def test_the_same_seed_gives_the_same_model_and_another_seed_another(files, logsignatures) -> None:
    augment = {"crop": 0.5, "tempo": 0.1, "gain": 0.1, "noise": 0.1, "flip": [["b"]]}

    def fingerprint(seed: int) -> str:
        training = {"epochs": 2, "seed": seed, "averaging": 0.5, "dropout": 0.3, "logsignatures": logsignatures}
        return train(config_for(files, training=training, augment=augment), console=quiet()).fingerprint

    assert fingerprint(1) == fingerprint(1)
    assert fingerprint(1) != fingerprint(2)


def test_training_stops_when_validation_no_longer_improves(files) -> None:
    console = quiet()
    training = {"epochs": 60, "patience": 3, "learning_rate": 0.2, "schedule": "constant"}
    bundle = train(config_for(files, training=training), console=console)
    assert "no better validation loss for 3 epochs" in console.file.getvalue()
    assert bundle.header.metrics["epochs"] < 57


def test_an_interrupt_keeps_the_best_weights_so_far(files) -> None:
    class CtrlC(io.StringIO):
        """Ctrl-C arrives while the fourth epoch is shown."""

        def write(self, text: str) -> int:
            if "epoch 4/" in text and "epoch 4/" not in self.getvalue():
                super().write(text)
                raise KeyboardInterrupt
            return super().write(text)

    console = Console(file=CtrlC(), width=120)
    bundle = train(config_for(files), console=console)
    assert "interrupted after epoch 4" in console.file.getvalue()
    assert 1 <= bundle.header.metrics["epochs"] <= 4


def test_a_diverged_training_says_what_to_lower(files) -> None:
    training = {"epochs": 30, "learning_rate": 1e12, "gradient_norm": 1e12, "spike": 0}
    with pytest.raises(ParameterError, match=r"diverged.*after 3 rewinds; lower training\.learning_rate"):
        train(config_for(files, training=training), console=quiet())


@pytest.mark.slow
@pytest.mark.parametrize(
    "training",
    [
        {"monitor": "auc_windows", "class_weights": "balanced", "schedule": "plateau", "plateau_epochs": 2},
        {"loss_on": "ramp", "class_weights": {"left": 2.0}, "schedule": "constant", "averaging": 0.9},
        {"loss_on": "last", "betas": [0.8, 0.95], "warm_up": 0.0},
    ],
)
def test_every_way_of_training_learns(files, training) -> None:
    metrics = train(config_for(files, training={"epochs": 12} | training), console=quiet()).header.metrics
    assert metrics["train_accuracy_end"] > 0.9


def test_weights_of_classes_are_undone_in_what_is_served_and_measured(files) -> None:
    training = {"epochs": 2, "class_weights": {"left": 9.0}}
    plain, undone = (
        train(config_for(files, training=training | more), console=quiet()) for more in ({}, {"undo_weights": True})
    )
    bias = plain.tensors["readout.bias"] - undone.tensors["readout.bias"]
    np.testing.assert_allclose(bias, [np.log(9.0), 0.0], rtol=1e-6)
    np.testing.assert_array_equal(plain.tensors["readout.weight"], undone.tensors["readout.weight"])
    assert undone.header.metrics["train_log_loss_windows"] != plain.header.metrics["train_log_loss_windows"]


def test_a_measure_that_validation_does_not_define_is_refused_as_monitor(files) -> None:
    config = config_for(files, split={"column": "stream_id", "validation": ["s00"], "test": []})
    config["training"] |= {"monitor": "auc_end", "epochs": 1}
    with pytest.raises(ConfigError, match=r"training\.monitor='auc_end' is not defined for the validation streams"):
        train(config, console=quiet())


@pytest.mark.slow
def test_a_robust_loss_is_not_led_astray_by_outliers(tmp_path) -> None:
    speed = pq.read_table(write_recordings(tmp_path / "clean"))["speed"].to_pylist()
    speed[40:80] = [1e3] * 40  # one of the training streams
    files = write_recordings(tmp_path / "spoilt", speed=speed)
    errors = {}
    for loss in ("mse", "huber"):
        training = {"epochs": 40, "patience": 0, "loss": loss, "huber": 0.01, "monitor": "mae"}
        config = config_for(files, training=training)
        config["data"] |= {"target": ["speed"], "task": "regression"}
        errors[loss] = train(config, console=quiet()).header.metrics["test_mae"]
    assert errors["huber"] < errors["mse"]


def test_streams_too_short_for_a_window_are_counted(tmp_path) -> None:
    files = write_recordings(tmp_path, length=2)
    table = pq.read_table(files)
    single = [row for row in table.to_pylist() if row["stream_id"] != "s00"] + table.slice(0, 1).to_pylist()
    pq.write_table(table.from_pylist(single), files)
    console = quiet()
    bundle = train(config_for(files, training={"epochs": 1}), console=console)
    assert bundle.header.metrics["train_streams_too_short"] == 1
    assert "train: 1 of 18 streams" in console.file.getvalue()


def test_a_target_that_is_not_there_is_named(files) -> None:
    config = config_for(files)
    config["data"] |= {"target": "exercise"}
    with pytest.raises(DataError, match="exercise"):
        train(config, console=quiet())


def test_text_as_a_regression_target_is_refused(files) -> None:
    config = config_for(files)
    config["data"] |= {"task": "regression"}
    with pytest.raises(DataError, match="target 'turn' is string, not numbers"):
        train(config, console=quiet())


def test_a_stream_with_two_labels_is_refused(tmp_path) -> None:
    turns = ["left", "right"] * (24 * 40 // 2)
    files = write_recordings(tmp_path, turn=turns)
    with pytest.raises(DataError, match="stream 's00' has 'left', 'right' in column 'turn'"):
        train(config_for(files), console=quiet())


def test_a_channel_that_never_changes_is_refused(tmp_path) -> None:
    files = write_recordings(tmp_path, a=[1.5] * (24 * 40))
    with pytest.raises(ParameterError, match=r"channel 'a' is 1\.5 in every sample"):
        train(config_for(files), console=quiet())


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"split": {"column": "subject", "validation": [6], "test": [42]}}, "no stream has '42' in column 'subject'"),
        ({"split": {"column": "subject", "validation": [6], "test": [6]}}, "'6' is listed in split.validation and"),
        ({"split": {"column": ""}}, "set split.column"),
        ({"training": {"epoch": 3}}, "unknown key 'training.epoch'; did you mean 'training.epochs'"),
        ({"training": {"epochs": "3"}}, 'training.epochs = "3": expected a whole number >= 1; write 3 without'),
        ({"augment": {"flip": [["c"]]}}, "augment.flip names 'c'"),
        ({"augment": {"rates": ["turn"]}}, r"augment.rates names 'turn', which is not a number .* of a regression"),
        ({"training": {"monitor": "rmse"}}, "training.monitor='rmse': of a classification use one of loss, accuracy_w"),
        ({"training": {"class_weights": {"up": 2.0}}}, "class_weights names 'up', which is not a .*: left, right"),
        ({"training": {"undo_weights": True}}, "training.undo_weights: there are no training.class_weights to undo"),
        ({"training": {"device": "abacus"}}, "training.device='abacus'.*use 'auto' or 'cpu'"),
        pytest.param(
            {"training": {"device": "cuda"}},
            "training.device='cuda'.*use 'auto' or 'cpu'",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
        ({"training": {"loss": "huber"}}, "training.loss='huber' is for regression"),
        ({"training": {"target_weights": [1.0]}}, "training.target_weights is for regression"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(files, tables, message) -> None:
    with pytest.raises(ConfigError, match=message):
        train(config_for(files, **tables), console=quiet())


def test_a_toml_file_is_read_and_its_faults_carry_its_name(tmp_path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('[data]\nfiles = "x"\nchannels = [{ name = "a" }]\ntarget = "y"\n')
    assert load_train_config(path) == as_train_config(
        {"data": {"files": "x", "channels": [{"name": "a"}], "target": "y"}}
    )
    path.write_text('[data]\nfile = "x"\n')
    with pytest.raises(ConfigError, match=r"run\.toml: unknown key .data\.file"):
        load_train_config(path)
    path.write_text("[data\n")
    with pytest.raises(ConfigError, match=r"run\.toml"):
        load_train_config(path)
    with pytest.raises(ConfigError, match=r"none\.toml"):
        load_train_config(tmp_path / "none.toml")


@pytest.mark.slow
def test_a_trained_model_loads_where_torch_is_missing(files, tmp_path) -> None:
    path = tmp_path / "m.safetensors"
    train(config_for(files, training={"epochs": 1}, output={"model": str(path)}), console=quiet())
    script = (
        "import sys\n"
        "sys.modules['torch'] = sys.modules['pysiglib'] = None\n"
        "import streamrde as sr\n"
        "print(sr.load(sys.argv[1]).header.outputs)\n"
        "from streamrde.models import TrainConfig, load_train_config\n"
        "try:\n"
        "    sr.train\n"
        "except sr.errors.MissingExtraError as error:\n"
        "    print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
    assert run.stderr == ""
    assert run.stdout == "2\ntraining needs the extra 'train': run  pip install 'streamrde[train]'\n"


def test_a_configuration_is_frozen_and_takes_no_unknown_field(files) -> None:
    config = as_train_config(config_for(files))
    with pytest.raises(AttributeError):
        config.windows = sr.Count(3)
    assert msgspec.convert(msgspec.to_builtins(config), type(config)) == config


def test_a_value_that_serving_would_refuse_stops_training(tmp_path) -> None:
    table = {"stream_id": ["a"] * 4 + ["b"] * 4, "t": [0.0, 1.0, 2.0, 3.0] * 2, "x": [1.0, 2.0, np.inf, 4.0] * 2}
    pq.write_table(pa.table(table | {"y": ["u"] * 4 + ["v"] * 4}), tmp_path / "infinite.parquet")
    config = {
        "data": {"files": str(tmp_path / "infinite.parquet"), "channels": [{"name": "x"}], "target": "y"},
        "split": {"validation": 0.0, "test": 0.0},
        "model": {},
        "training": {"epochs": 1},
    }
    with pytest.raises(DataError, match=r"stream 'a': row 2, channel 0: its value is inf"):
        sr.train(config)


def test_training_sees_messy_data_as_serving_does(tmp_path) -> None:
    rng = np.random.default_rng(0)
    t = np.tile(np.arange(40) * 0.25, 6)
    t[20:40] += 7.0  # stream 0 has a gap
    x = rng.normal(size=(240, 2)).cumsum(axis=0) * 0.1
    x[rng.random(x.shape) < 0.3] = np.nan
    names = np.repeat([f"s{i}" for i in range(6)], 40)
    order = np.argsort(t + rng.uniform(0, 0.9, 240), kind="stable")  # late, and interleaved
    order = np.concatenate([order, order[-1:]])  # and a repeat
    table = {"stream_id": names[order], "t": t[order], "x": x[order, 0], "y": x[order, 1]}
    pq.write_table(pa.table(table | {"label": np.where(names[order] < "s3", "u", "v")}), tmp_path / "messy.parquet")
    config = as_train_config(
        {
            "data": {
                "files": str(tmp_path / "messy.parquet"),
                "channels": [{"name": "x"}, {"name": "y"}],
                "target": "label",
            },
            "order": {"lateness": 1.0, "duplicates": "first"},
            "missing": {"counts": True, "elapsed": True},
            "gap": {"seconds": 5.0},
            "model": {"hidden": 4},
            "split": {"validation": 0.0, "test": 0.0},
            "training": {"epochs": 1, "logsignatures": "own"},
        }
    )
    bundle = sr.train(config)
    assert bundle.header.partition.path_channels == 7
    recordings = read_streams(config.data, order=config.order)
    fills = [channel.fill for channel in bundle.header.channels]
    examples = prepare(recordings, config, fills=fills, classes=("u", "v"))
    fleet = sr.Fleet(bundle, order=config.order)
    stepped = []
    states = fleet._table.states
    step, begin = states.step, states.begin
    states.step = lambda *taken: stepped.extend(taken[3]) or step(*taken)
    first = []
    states.begin = lambda rows, slots, values: first.extend(values) or begin(rows, slots, values)
    for part in np.array_split(order, 9):
        fleet.push(names[part], t[part], x[part])
    fleet.flush()
    assert len(examples) == 7  # six streams, one of them in two segments
    assert sorted(row.tobytes() for row in stepped) == sorted(r.tobytes() for e in examples for r in e.logsigs)
    assert sorted(row.tobytes() for row in first) == sorted(e.x0[1:].tobytes() for e in examples)
    assert fleet.counts() == Counts(samples=240, duplicate=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        {"field": {"field": "log_ncde", "width": 12, "layers": 1}, "decay": 0.1},
        {"field": {"field": "linear", "block": 3}, "decay": 0.1, "pooling": "mean"},
        {"emit": "last", "substeps": 2},
    ],
    ids=["log_ncde", "linear", "last"],
)
def test_every_family_and_mode_is_trained_and_knows_its_states_range(files, model) -> None:
    bundle = train(config_for(files, model=model, training={"epochs": 12}), console=quiet())
    assert bundle.header.metrics["train_accuracy_end"] > 0.6
    low, high = bundle.tensors["range.low"], bundle.tensors["range.high"]
    assert (low < high).all()
    if "decay" in model:
        assert (bundle.tensors["decay"] > 0).all()
    table = pq.read_table(files).to_pylist()
    predictor = sr.Predictor(bundle)
    rows = [row for row in table if row["stream_id"] == "s00"]
    served = [p for row in rows for p in predictor.push(row["t"], [row["a"], row["b"]])] + predictor.flush()
    assert (len(served) == 1) == (model.get("emit") == "last")
    assert {p.flag for p in served} == {None}
