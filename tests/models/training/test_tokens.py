"""Neural RDEs that tokens of several scales drive: trained, saved, and served with the same outputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from models.recordings import config_for, quiet, write_recordings

import streamrde as sr
from streamrde.errors import ConfigError
from streamrde.inference.fields import KINDS
from streamrde.models import NeuralRDE, export_onnx
from streamrde.models.sweeping.space import trials
from streamrde.models.training.config import as_train_config
from streamrde.models.training.examples import collate, prepare
from streamrde.models.training.run import fit
from streamrde.models.training.streams import read_parts

TOKEN = {
    "scales": [1, [4, 1]],
    "ends": True,
    "summaries": True,
    "bands": {"low": 0.2, "high": 4.0, "count": 3, "half_life": 20.0},
}


def trained(tmp_path, **tables):
    """The configuration, the streams' parts, and what training makes of them."""
    config = as_train_config(config_for(write_recordings(tmp_path), **({"token": TOKEN} | tables)))
    parts = read_parts(config)
    torch.manual_seed(0)
    return config, parts, fit(config, parts, console=quiet())


def served(bundle, recording, stepper=None):
    """Predictions of a recording's windows."""
    predictor = sr.Predictor(bundle, stepper=stepper)
    return predictor.push_many(recording.t, recording.x) + predictor.flush()


@pytest.mark.parametrize("kind", [tag for tag, kind in KINDS.items() if kind.stored and kind.trained])
def test_what_is_trained_on_tokens_is_what_is_served(tmp_path, kind):
    model = {"depth": 2, "field": {"field": kind}}
    if KINDS[kind]().state_size is None:
        model |= {"hidden": 6, "decay": 0.1}
    else:
        model |= {"hidden": None}
    _, parts, fitted = trained(tmp_path, model=model, training={"epochs": 3})
    fitted.bundle.save(tmp_path / "model")
    bundle = sr.load(tmp_path / "model")
    assert bundle.header.clip == pytest.approx(8 / np.sqrt(bundle.header.logsig_channels))
    fleet = sr.Fleet(bundle)
    for recording, outputs in zip(parts.test, fitted.parts["test"].outputs, strict=True):
        found = served(bundle, recording)
        e = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        np.testing.assert_allclose([p.value for p in found], e / e.sum(axis=1, keepdims=True), rtol=0, atol=1e-5)
        rows = fleet.push([recording.stream] * len(recording.t), recording.t, recording.x).to_pylist()
        rows += fleet.flush(recording.stream).to_pylist()
        assert len(rows) == len(found)
        for row, prediction in zip(rows, found, strict=True):
            np.testing.assert_array_equal(row["value"], prediction.value)


def test_a_model_of_overlapping_windows_learns(tmp_path):
    """One scale of four hops: no window of its own, so no start from the sample, and no novelty."""
    console = quiet()
    tables = {"windows": {"seconds": 0.2}, "token": {"scales": [4], "ends": True}}
    config = as_train_config(config_for(write_recordings(tmp_path), **tables))
    torch.manual_seed(0)
    bundle = fit(config, read_parts(config), console=console).bundle
    assert bundle.header.metrics["train_accuracy_end"] > 0.9
    assert bundle.header.novelty is None
    said = console.file.getvalue()
    assert "starts at random" in said
    assert "begin token.scales with 1" in said


def test_padding_moves_no_state(tmp_path):
    config, parts, fitted = trained(tmp_path, training={"epochs": 1})
    model = NeuralRDE.from_bundle(fitted.bundle)
    short = parts.train[0].__class__(**{**vars(parts.train[0]), "t": parts.train[0].t[:20], "x": parts.train[0].x[:20]})
    fills = np.array([channel.fill for channel in fitted.bundle.header.channels])
    examples = prepare([short, parts.train[1]], config, fills=fills, classes=("left", "right"))
    batch = collate(examples, torch.device("cpu"))
    with torch.no_grad():
        states = model.hidden_states(batch.x0, batch.logsigs).numpy()
        alone = model.hidden_states(batch.x0[:1], batch.logsigs[:1, : examples.lengths[0]]).numpy()
    last = int(examples.lengths[0])
    assert last < states.shape[1] - 1
    np.testing.assert_allclose(states[0, : last + 1], alone[0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(states[0, last:], np.tile(alone[0, -1], (states.shape[1] - last, 1)), rtol=0, atol=1e-6)


@pytest.mark.slow
def test_an_onnx_graph_scales_tokens_itself(tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    from streamrde.inference.steppers.onnx import OnnxStepper

    _, parts, fitted = trained(tmp_path, training={"epochs": 1})
    export_onnx(NeuralRDE.from_bundle(fitted.bundle), tmp_path / "step.onnx")
    bundle = fitted.bundle
    by_graph = served(bundle, parts.test[0], OnnxStepper(bundle, tmp_path / "step.onnx"))
    for a, b in zip(by_graph, served(bundle, parts.test[0]), strict=True):
        np.testing.assert_allclose(a.value, b.value, rtol=0, atol=1e-5)


def test_scales_are_swept(tmp_path):
    over = {"token": {"scales": [[1], [1, 4], [[4, 1], 8]]}}
    found, left_out = trials(as_train_config(config_for(write_recordings(tmp_path), sweep={"over": over})))
    assert not left_out
    assert [len(trial.config.token.token.scales) for trial in found] == [1, 2, 2]


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"token": {"scales": []}}, r"token\.scales is empty"),
        ({"token": {"scales": [1, 1]}}, "has one twice"),
        ({"token": {"scales": [[4, 3]]}}, "a scale cannot be deeper"),
        ({"token": {"scales": [4]}, "model": {"decay": 0.1}}, r"model\.decay=0\.1 needs .* begin token\.scales with 1"),
        ({"token": {"scales": [4]}, "training": {"start": "average"}}, "begin token.scales with 1"),
    ],
)
def test_what_cannot_be_is_said_before_data_are_read(tables, message):
    with pytest.raises(ConfigError, match=message):
        as_train_config(config_for("nowhere.parquet", **tables))
