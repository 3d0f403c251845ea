"""Stacks in torch: scanned for training as they are stepped for serving, exported, and trained."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import tolerances
import torch
from bundles import make_recording, make_stack
from models.recordings import config_for, quiet, write_recordings

import streamrde as sr
from streamrde.errors import ConfigError
from streamrde.inference import OnnxStepper
from streamrde.inference.fields import Stack
from streamrde.inference.fields.stack import MEMORY
from streamrde.inference.stacks import RECURRENCES
from streamrde.inference.stacks.slice import exponential as on_arrays
from streamrde.inference.steppers import make_stepper
from streamrde.models import NeuralRDE, TorchStepper, export_onnx, to_bundle
from streamrde.models.scans import in_pairs, in_turn, linear_scan, matrix_scan
from streamrde.models.stacks.slice import exponential
from streamrde.models.training.config import as_train_config
from streamrde.models.training.examples import Batch
from streamrde.models.training.losses import Objective
from streamrde.models.training.propagation import propagate
from streamrde.models.training.run import fit
from streamrde.models.training.streams import read_parts
from streamrde.models.training.trainer import Trainer
from streamrde.windowing.tokens import Scale, Token

KINDS = pytest.mark.parametrize("kind", sorted(RECURRENCES))
TOKEN = Token(scales=(Scale(1), Scale(4, depth=1)), ends=True, summaries=True)


def inputs(bundle, streams=3, windows=40):
    rng = np.random.default_rng(1)
    tokens = rng.normal(size=(streams, windows, bundle.header.logsig_channels))
    tokens[:, :, 0] = rng.uniform(0.2, 2.0, size=(streams, windows))
    tokens[0, windows // 2, bundle.header.partition.places.summaries] = np.nan
    return rng.normal(size=(streams, bundle.header.path_channels)), tokens


@KINDS
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("pool", ["both", "last", "mean"])
def test_what_is_scanned_is_what_is_stepped(kind, pool, dtype):
    bundle = make_stack(kind, options={"pool": pool, "gate_width": 5}, dtype=dtype, token=TOKEN, members=2)
    x0, tokens = inputs(bundle, windows=300)
    stepper = make_stepper(bundle)
    stepped = [stepper.initial(x0)]
    for own in tokens.transpose(1, 0, 2):
        stepped.append(stepper.step(stepped[-1], own))
    model = NeuralRDE.from_bundle(bundle)
    with torch.no_grad():
        scanned = model.hidden_states(torch.tensor(x0), torch.tensor(tokens))
        read = model.outputs(scanned[:, -1]).softmax(dim=1)
    tolerance = tolerances.STEPPER32 if dtype == "float32" else tolerances.ORACLE
    np.testing.assert_allclose(np.stack(stepped, axis=1), scanned, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(stepper.output(stepped[-1]), read, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("length", [1, 2, 3, 8, 13])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_both_ways_to_scan_give_the_recurrence(length, dtype):
    torch.manual_seed(0)
    a, b = torch.randn(2, length, 3, 4, dtype=dtype)
    first = torch.randn(3, 4, dtype=dtype)
    expected, h = [], first
    for k in range(length):
        h = a[k] * h + b[k]
        expected.append(h)
    torch.testing.assert_close(linear_scan(a, b, first), torch.stack(expected))
    begun = torch.cat([(b[0] + a[0] * first)[None], b[1:]])
    torch.testing.assert_close(in_pairs(a, begun), torch.stack(expected))
    in_turn(a, begun)
    torch.testing.assert_close(begun, torch.stack(expected))


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_exponentials_of_small_matrices_are_those_of_torch(size, dtype):
    torch.manual_seed(0)
    # A rotation, a shear, a decay: from no squaring to many.
    matrices = torch.randn(7, 5, size, size, dtype=dtype) * torch.logspace(-4, 1.3, 7, dtype=dtype)[:, None, None, None]
    matrices = torch.cat([matrices - matrices.mT, matrices.triu(1), -matrices @ matrices.mT])
    expected = torch.linalg.matrix_exp(matrices.double())
    # Each squaring doubles what rounding did: the error grows with the norm, as that of the matrix's own rounding.
    tolerance = 16 * torch.finfo(dtype).eps * (1 + matrices.abs().sum(dim=-1).amax(dim=-1))
    for found in (exponential(matrices), torch.tensor(on_arrays(matrices.numpy()))):
        error = (found - expected).abs().amax(dim=(-1, -2)) / expected.abs().amax(dim=(-1, -2)).clamp(min=1.0)
        assert found.dtype == dtype
        assert (error < tolerance).all()


def test_gradients_of_exponentials_and_of_their_scan_are_right():
    torch.manual_seed(0)
    matrices = torch.randn(3, 2, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    added, first = torch.randn(3, 2, 2, 2, dtype=torch.float64), torch.randn(2, 2, 2, dtype=torch.float64)
    inputs = matrices, added.requires_grad_(), first.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b, h: matrix_scan(exponential(a), b, h), inputs)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_gradients_of_the_scan_are_right(dtype):
    torch.manual_seed(0)
    a, b = (torch.randn(5, 2, 3, dtype=dtype, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(linear_scan, (a, b, torch.randn(2, 3, dtype=dtype, requires_grad=True)))


@KINDS
def test_gradients_reach_every_weight_and_skipping_unread_states_changes_none(kind):
    bundle = make_stack(kind, dtype="float64")
    x0, tokens = (torch.tensor(array) for array in inputs(bundle, windows=6))
    found = []
    for through in (True, False):
        model = NeuralRDE.from_bundle(bundle)
        states = model.hidden_states(x0, tokens, through=through)
        model.read(states[:, 1:]).square().sum().backward()
        found.append((states.detach(), {name: weight.grad for name, weight in model.named_parameters()}))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=0, atol=tolerances.ORACLE)
    assert found[0][1].keys() == found[1][1].keys()
    for name, gradient in found[0][1].items():
        assert gradient is not None
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(gradient, found[1][1][name], rtol=0, atol=1e-9)


@KINDS
def test_gradients_are_right(kind):
    bundle = make_stack(kind, options={"width": 2, "blocks": 1}, dtype="float64", clip=0.0)
    x0, tokens = (torch.tensor(array) for array in inputs(bundle, streams=2, windows=3))
    model = NeuralRDE.from_bundle(bundle)
    assert torch.autograd.gradcheck(lambda own: model(x0, own), (tokens.requires_grad_(),))


@KINDS
def test_parts_of_a_sequence_go_on_where_the_last_one_ended(kind):
    bundle = make_stack(kind, dtype="float64")
    x0, tokens = (torch.tensor(array) for array in inputs(bundle, windows=11))
    model = NeuralRDE.from_bundle(bundle)
    lengths = [11, 7, 4]
    batch = Batch(x0, tokens, torch.zeros(3, 11, dtype=torch.int64), torch.ones(3, 11, dtype=torch.float64))
    with torch.no_grad():
        whole = model.readouts(x0, tokens)
        for part in propagate(model, batch, lengths, windows=4):
            torch.testing.assert_close(part.y, part.select(whole), rtol=0, atol=tolerances.ORACLE)


def test_the_count_of_windows_stops_as_when_stepped():
    bundle = make_stack(dtype="float64")
    x0, tokens = inputs(bundle, streams=1, windows=5)
    z = make_stepper(bundle).initial(x0)
    z[:, bundle.header.field.counter] = MEMORY - 2
    model, stepped = NeuralRDE.from_bundle(bundle), z
    for k in range(5):
        stepped = make_stepper(bundle).step(stepped, tokens[:, k])
    with torch.no_grad():
        scanned = model.hidden_states(torch.tensor(x0), torch.tensor(tokens), start=torch.tensor(z))[:, -1]
    np.testing.assert_allclose(stepped, scanned, rtol=0, atol=tolerances.ORACLE)


@KINDS
def test_a_stack_survives_the_way_to_a_file_and_back(kind, tmp_path):
    model = NeuralRDE.from_header(make_stack(kind, token=TOKEN).header)
    bundle = to_bundle(model)
    bundle.save(tmp_path / "m.safetensors")
    again = NeuralRDE.from_bundle(sr.load(tmp_path / "m.safetensors"))
    assert to_bundle(again).fingerprint == bundle.fingerprint


@pytest.mark.slow
@KINDS
def test_the_graph_of_a_stack_gives_the_same_predictions(kind, tmp_path):
    bundle = make_stack(kind, token=TOKEN, members=2 if kind == "lru" else 1)
    export_onnx(bundle, tmp_path / "step.onnx")
    t, x = make_recording(2, 40, missing=0.1)
    served = sr.Predictor(bundle).push_many(t, x)
    for stepper in (OnnxStepper(bundle, tmp_path / "step.onnx"), TorchStepper(NeuralRDE.from_bundle(bundle))):
        found = sr.Predictor(bundle, stepper=stepper).push_many(t, x)
        assert len(found) == len(served) > 5
        for a, b in zip(found, served, strict=True):
            np.testing.assert_allclose(a.value, b.value, rtol=0, atol=tolerances.STEPPER32)


def stack_config(tmp_path, kind="rg_lru", **tables):
    field = {"field": "stack", "width": 8, "blocks": 2, "recurrence": {"kind": kind}}
    tables = {"token": {"scales": [1, 4], "ends": True}, "model": {"field": field}} | tables
    config = config_for(write_recordings(tmp_path), **tables)
    if "hidden" not in tables["model"]:
        del config["model"]["hidden"]
    if "windows" in tables:
        config["windows"] = tables["windows"]
    return as_train_config(config)


@pytest.mark.slow
@pytest.mark.parametrize("windows", [{"policy": "every", "seconds": 0.5}, {"policy": "count", "n": 5}])
def test_training_learns_and_serves_what_it_learned(tmp_path, windows):
    training = {"epochs": 30, "dropout": 0.1, "token_dropout": 0.1, "label_smoothing": 0.05, "averaging": 0.9}
    config = stack_config(tmp_path, windows=windows, training=training)
    console = quiet()
    torch.manual_seed(0)
    parts = read_parts(config)
    fitted = fit(config, parts, console=console)
    assert fitted.bundle.header.metrics["train_accuracy_end"] > 0.9
    field = fitted.bundle.header.field
    assert (field.window > 0) == (windows["policy"] == "count")
    for recording, outputs in zip(parts.test, fitted.parts["test"].outputs, strict=True):
        found = sr.Predictor(fitted.bundle).push_many(recording.t, recording.x)
        e = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        probabilities = e / e.sum(axis=1, keepdims=True)
        np.testing.assert_allclose([p.value for p in found], probabilities[: len(found)], rtol=0, atol=1e-5)
        assert {p.flag for p in found} <= {None, "out_of_range"}
    high = fitted.bundle.tensors["range.high"]
    assert high[field.counter] == MEMORY
    assert high[: field.counter].max() < 100


@pytest.mark.parametrize("kind", ["rg_lru", "lstm"])
def test_members_are_trained_apart_and_served_as_one(tmp_path, kind):
    config = stack_config(tmp_path, kind, training={"epochs": 2, "members": 2})
    parts = read_parts(config)
    torch.manual_seed(0)
    fitted = fit(config, parts, console=quiet())
    header = fitted.bundle.header
    assert (header.members, header.hidden) == (2, 2 * header.field.state_size)
    counter = header.field.counter
    assert (fitted.bundle.tensors["range.high"][counter :: header.member_hidden] == MEMORY).all()
    for recording, outputs in zip(parts.test, fitted.parts["test"].outputs, strict=True):
        found = sr.Predictor(fitted.bundle).push_many(recording.t, recording.x)
        e = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        probabilities = e / e.sum(axis=1, keepdims=True)
        np.testing.assert_allclose([p.value for p in found], probabilities[: len(found)], rtol=0, atol=1e-5)


def test_weight_decay_leaves_vectors_alone():
    model = NeuralRDE.from_header(make_stack().header)
    config = as_train_config(
        {"data": {"files": "x", "target": "y", "channels": ["a", "b"]}, "training": {"weight_decay": 0.5}}
    ).training
    objective = Objective(config, model.header, [], device=torch.device("cpu"))
    trainer = Trainer(model, config, objective, torch.device("cpu"))
    decayed = {
        id(weight): group["weight_decay"] for group in trainer._optimiser.param_groups for weight in group["params"]
    }
    for name, weight in model.named_parameters():
        vector = weight.ndim < 2 and not name.startswith("readout")
        assert decayed[id(weight)] == (0.0 if vector else 0.5), name


def test_dropped_residuals_and_entries_are_the_same_in_all_windows():
    bundle = make_stack(dtype="float64")
    x0, tokens = (torch.tensor(array) for array in inputs(bundle, windows=6))
    model = NeuralRDE.from_bundle(bundle)
    entries = torch.ones(3, bundle.header.logsig_channels, dtype=torch.float64)
    entries[:, 2] = 0.0
    changed = tokens.clone()
    changed[..., 2] = -5.0
    with torch.no_grad():
        a, b = (model.hidden_states(x0, own, token_mask=entries) for own in (tokens, changed))
        assert not torch.equal(model.hidden_states(x0, tokens), model.hidden_states(x0, changed))
        torch.testing.assert_close(a, b, rtol=0, atol=0)
        mask = torch.zeros(3, model.header.field.dropout_width, dtype=torch.float64)
        # Without residuals, what is read out is the scaled token alone.
        silent = model.hidden_states(x0, tokens, mask=mask)[:, 1:, 6:12]
        alone = model.field.last(model.field.input(model.scaled(tokens) * model.header.logsig_channels**0.5))
    torch.testing.assert_close(silent, alone, rtol=0, atol=tolerances.ORACLE)


@pytest.mark.parametrize(("key", "value"), [("hidden", 32), ("decay", 0.1), ("pooling", "mean")])
def test_keys_that_a_stack_does_not_have_are_refused(tmp_path, key, value):
    model = {"field": {"field": "stack"}, key: value}
    with pytest.raises(ConfigError, match=rf"model\.{key}=.*field 'stack'.*leave it out"):
        stack_config(tmp_path, model=model)


def test_a_stack_has_defaults_of_its_own_which_a_file_overrides(tmp_path):
    tables = config_for(write_recordings(tmp_path), training={"dropout": 0.3})
    plain = as_train_config(tables)
    assert (plain.training.weight_decay, plain.token.ends) == (1e-4, False)
    tables["model"] = {"field": "stack"}
    config = as_train_config(tables, ["training.warm_up=0.3"])
    assert config.model.field == Stack()
    assert config.token.ends
    training = config.training
    assert (training.weight_decay, training.betas, training.averaging) == (0.05, (0.9, 0.98), 0.95)
    assert (training.dropout, training.warm_up) == (0.3, 0.3)
    assert as_train_config(msgspec.to_builtins(config)) == config
    with pytest.raises(ConfigError, match="token = 3: expected a table"):
        as_train_config(tables | {"token": 3})
    with pytest.raises(ConfigError, match=r"model\.field"):
        as_train_config(tables | {"model": {"field": "stak"}})


@pytest.mark.slow
def test_a_newcomers_stack_trains_without_a_step_or_an_epoch_undone(tmp_path):
    tables = config_for(write_recordings(tmp_path))
    tables["training"] = {"epochs": 15, "balance": "groups", "draw": 16, "mixup": 0.2}
    tables["model"] = {"field": "stack"}
    config = as_train_config(tables)
    torch.manual_seed(0)
    fitted = fit(config, read_parts(config), console=quiet())
    (history,) = fitted.histories
    assert not any(epoch.skipped or epoch.rewound for epoch in history.epochs)
    assert fitted.bundle.header.metrics["train_accuracy_end"] > 0.9


def test_a_stack_that_does_not_know_where_the_path_is_says_so(tmp_path):
    config = stack_config(tmp_path, token={"scales": [1], "ends": False}, training={"epochs": 1})
    console = quiet()
    fit(config, read_parts(config), console=console)
    assert "token.ends = true" in console.file.getvalue()
