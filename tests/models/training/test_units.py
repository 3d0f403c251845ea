"""What is learned does not depend on the units of time, channels and targets."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from models.recordings import config_for, quiet, write_recordings

import streamrde as sr
from streamrde.connectors.codecs.predictions import decode_prediction, encode_prediction
from streamrde.models import NeuralRDE, export_onnx, to_bundle, train


def trained(folder, *, time: float = 1.0, offset: float = 0.0, deviation: float = 1.0, **tables) -> sr.Bundle:
    """A regression of the streams' speed; time, and all that is measured in it, in another unit."""
    table = pq.read_table(write_recordings(folder))
    columns = {
        "t": table["t"].to_numpy() * time,
        "speed": table["speed"].to_numpy() * deviation + offset,
    }
    for name, values in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values))
    path = str(folder / "recordings.parquet")
    pq.write_table(table, path)
    data = {"target": "speed", "task": "regression"}
    tables = {"training": {"epochs": 12}} | tables
    config = config_for(path, data=data, windows={"policy": "every", "seconds": 0.8 * time}, **tables)
    return train(config, console=quiet())


UNITS = {"milliseconds": 1e3, "hours": 1 / 3600, "seconds": 1.0}


@pytest.mark.slow
@pytest.mark.parametrize(
    "field",
    [
        {"field": "mlp", "width": 12, "layers": 1},
        {"field": "log_ncde", "width": 12, "layers": 1},
        {"field": "linear", "block": 3},
    ],
    ids=lambda field: field["field"],
)
@pytest.mark.parametrize("decay", [0.1, 0.7])
def test_the_unit_of_time_changes_no_training(tmp_path, field, decay) -> None:
    start = "sample" if field["field"] == "mlp" else "random"
    training = {"epochs": 4, "start": start, "learning_rate": 0.02}
    found = {
        name: trained(
            tmp_path / name,
            time=time,
            model={"depth": 2, "hidden": 6, "field": field, "decay": decay},
            training=training,
        )
        for name, time in UNITS.items()
    }
    expected = found["seconds"]
    for name, bundle in found.items():
        assert bundle.header.metrics["test_rmse"] == pytest.approx(expected.header.metrics["test_rmse"], rel=1e-2), name
        rates = bundle.tensors["decay"] * UNITS[name]
        np.testing.assert_allclose(rates, expected.tensors["decay"], rtol=1e-2, err_msg=name)
    assert np.ptp(expected.tensors["decay"]) > 0.01 * decay


@pytest.mark.parametrize(("offset", "deviation"), [(1e8, 3.0), (-1e6, 0.01), (1e10, 5.0)])
def test_an_offset_of_the_targets_costs_no_digit(tmp_path, offset, deviation) -> None:
    plain = trained(tmp_path / "plain", deviation=deviation)
    moved = trained(tmp_path / "moved", offset=offset, deviation=deviation)
    for name in ("train_rmse", "test_rmse", "validation_mae"):
        assert moved.header.metrics[name] == pytest.approx(plain.header.metrics[name], rel=1e-2), name
    assert (plain.header.value_dtype, moved.header.value_dtype) == ("", "float64")
    t = np.arange(60) * 0.1
    x = np.column_stack([np.cos(t), np.sin(t) + 3.0])
    ours, theirs = (sr.Predictor(bundle).push_many(t, x) for bundle in (plain, moved))
    assert theirs[0].value.dtype == np.float64
    difference = np.array([q.value - offset - p.value for p, q in zip(ours, theirs, strict=True)])
    assert np.abs(difference).max() < 0.02 * deviation
    fleet = sr.Fleet(moved)
    batch = fleet.push(["s"] * 60, t, x)
    assert batch.schema.equals(fleet.schema)
    assert batch["value"].to_pylist() == [p.value.tolist() for p in theirs]
    for row in batch.to_pylist():
        payload = encode_prediction(row)
        assert decode_prediction(payload)["value"] == json.loads(payload)["value"] == row["value"]


def far_model(**changes) -> NeuralRDE:
    torch.manual_seed(0)
    model = NeuralRDE(3, 2, 8, 2, windows=sr.Every(1.0), **changes)
    x0_shift, x0_scale, logsig_scale = (
        getattr(model, name).numpy() for name in ("x0_shift", "x0_scale", "logsig_scale")
    )
    shift, scale = np.array([1e8, 0.0]), np.array([3.0, 1.0])
    model.set_scaling(sr.models.scaling.Scaling(x0_shift, x0_scale, logsig_scale * 0.05, shift, scale))
    return model


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("field", [sr.MLP(width=6), sr.Linear()], ids=repr)
def test_a_far_target_is_served_as_torch_says_it_in_float64(members, field) -> None:
    model = far_model(members=members, field=field)
    bundle = to_bundle(model)
    t, x = np.arange(40) * 0.3, np.random.default_rng(0).normal(size=(40, 2)).cumsum(axis=0) * 0.05
    found = np.array([p.value for p in sr.Predictor(bundle).push_many(t, x)])
    _, logsigs = sr.logsig_windows(t, np.column_stack([t, x]), 2, sr.Every(1.0))
    x0 = torch.tensor(np.append(0.0, x[0])[None])
    y = model(x0, torch.tensor(logsigs[None, : len(found)])).detach()
    assert y.dtype == torch.float64
    np.testing.assert_allclose(found, y[0].numpy(), rtol=0, atol=2e-3)
    assert np.unique(found[:, 0]).size == len(found)
    again = to_bundle(NeuralRDE.from_bundle(bundle))
    assert again.fingerprint == bundle.fingerprint


@pytest.mark.slow
def test_a_far_targets_graph_in_onnx_puts_out_float64(tmp_path) -> None:
    pytest.importorskip("onnxscript", reason="the export needs onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime", reason="the graph needs onnxruntime")
    model = far_model()
    export_onnx(model, tmp_path / "step.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "step.onnx"), providers=["CPUExecutionProvider"])
    z = np.zeros((2, 8), np.float32)
    logsig = np.random.default_rng(0).normal(size=(2, model.header.logsig_channels))
    _, output = session.run(None, {"z": z, "logsig": logsig})
    stepper = sr.inference.steppers.make_stepper(to_bundle(model))
    assert output.dtype == np.float64
    np.testing.assert_allclose(output, stepper.output(stepper.step(z, logsig)), rtol=0, atol=1e-4)


def test_classes_and_targets_near_0_keep_the_models_dtype(tmp_path) -> None:
    model = NeuralRDE(3, 2, 8, 2, task="classification")
    scaling = [getattr(model, name).numpy() for name in ("x0_shift", "x0_scale", "logsig_scale")]
    model.set_scaling(sr.models.scaling.Scaling(*scaling, np.zeros(2), np.ones(2)))
    assert to_bundle(model).header.output_dtype == np.float32
    assert trained(tmp_path, offset=5.0, training={"epochs": 1}).header.output_dtype == np.float32
