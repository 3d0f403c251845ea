from __future__ import annotations

import copy
import pickle

import numpy as np
import oracles
import pytest
import tolerances
import torch
from bundles import make_bundle

import streamrde as sr
from streamrde.errors import BundleError, ParameterError, ShapeError
from streamrde.inference.novelty import TrainingWindows
from streamrde.inference.solvers import TABLEAUX
from streamrde.models import NeuralRDE, save, to_bundle

STAGES = [(solver, first) for solver in TABLEAUX for first in ("own", "previous")]


def random_model(**changes: object) -> NeuralRDE:
    torch.manual_seed(0)
    arguments: dict[str, object] = {"field": sr.MLP(width=6, layers=2), "dtype": torch.float64} | changes
    return NeuralRDE(3, 2, 5, 2, **arguments)


def random_inputs(model: NeuralRDE, streams: int = 3, windows: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = [(streams, model.header.path_channels), (streams, windows, model.header.logsig_channels)]
    x0, logsigs = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return x0, logsigs * 0.5


@pytest.mark.parametrize("precontract", [True, False])
@pytest.mark.parametrize("case", oracles.cases("hidden_states"))
def test_hidden_states_are_those_of_torchcde(case: dict[str, np.ndarray], precontract: bool) -> None:
    width, hidden = case["W1"].shape
    channels = len(case["x0"])
    model = NeuralRDE(
        channels,
        {3: 2, 4: 3}[channels],
        hidden,
        1,
        field=sr.MLP(width=width, layers=1),
        solver=str(case["solver"]),
        first_stage="own" if case["perturb"] else "previous",
        dtype=torch.float64,
    )
    with torch.no_grad():
        weights = ((model.field[0].weight, "W1"), (model.field[0].bias, "b1"), (model.field[1].weight, "W2"))
        for parameter, name in (*weights, (model.field[1].bias, "b2"), (model.initial.bias, "z0")):
            parameter.copy_(torch.tensor(case[name]))
        model.initial.weight.zero_()
        x0, logsigs = torch.tensor(case["x0"])[None], torch.tensor(case["logsigs"])[None]
        states = model.hidden_states(x0, logsigs, precontract=precontract)[0]
    np.testing.assert_allclose(states.numpy(), case["z"], rtol=0, atol=tolerances.ORACLE)


@pytest.mark.parametrize(("solver", "first_stage"), STAGES)
def test_precontracted_forward_equals_the_plain_one(solver: str, first_stage: str) -> None:
    model = random_model(solver=solver, first_stage=first_stage)
    x0, logsigs = random_inputs(model)
    torch.testing.assert_close(
        model(x0, logsigs, precontract=True), model(x0, logsigs, precontract=False), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize(("solver", "first_stage"), STAGES)
def test_gradients_are_right(solver: str, first_stage: str) -> None:
    model = random_model(solver=solver, first_stage=first_stage, field=sr.MLP(width=4, activation="silu"))
    x0, logsigs = (value.requires_grad_() for value in random_inputs(model, streams=2, windows=2))
    assert torch.autograd.gradcheck(lambda a, b: model(a, b), (x0, logsigs))
    model(x0, logsigs).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("cut", [1, 3])
@pytest.mark.parametrize("pooling", ["state", "mean"])
@pytest.mark.parametrize(("solver", "first_stage"), STAGES)
def test_windows_may_come_in_two_parts(solver: str, first_stage: str, pooling: str, cut: int) -> None:
    model = random_model(solver=solver, first_stage=first_stage, pooling=pooling, decay=0.3)
    x0, logsigs = random_inputs(model, windows=5)
    states = model.hidden_states(x0, logsigs)
    first = model.hidden_states(x0, logsigs[:, :cut])
    second = model.hidden_states(x0, logsigs[:, cut:], start=first[:, -1], before=logsigs[:, cut - 1])
    tolerance = {"rtol": 0, "atol": tolerances.LAW}
    torch.testing.assert_close(torch.cat([first, second[:, 1:]], dim=1), states, **tolerance)
    pooled = model.pooled(second[:, 1:], total=first[:, 1:].sum(dim=1), count=cut)
    torch.testing.assert_close(pooled, model.pooled(states[:, 1:])[:, cut:], **tolerance)


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize(("solver", "first_stage"), STAGES)
def test_forward_equals_the_predictor_on_the_same_recording(task: str, solver: str, first_stage: str) -> None:
    bundle = make_bundle(solver=solver, first_stage=first_stage, task=task, windows=sr.Every(1.0))
    rng = np.random.default_rng(3)
    t = np.arange(60) * 0.13 + 1e9
    x = rng.normal(size=(60, 2)).cumsum(axis=0) * 0.3
    predictor = sr.Predictor(bundle)
    served = [p for i in range(60) for p in predictor.push(t[i], x[i])] + list(predictor.flush())
    _, logsigs = sr.logsig_windows(t, np.column_stack([t - t[0], x]), bundle.header.depth, bundle.header.windows)
    x0 = torch.tensor(np.append(0.0, x[0]))[None]
    with torch.no_grad():
        y = NeuralRDE.from_bundle(bundle)(x0, torch.tensor(logsigs)[None])[0]
    if task == "classification":
        y = y.softmax(-1)
    np.testing.assert_allclose(
        y.numpy(), [prediction.value for prediction in served], rtol=tolerances.STEPPER32, atol=tolerances.STEPPER32
    )


def test_a_bundle_survives_the_way_through_torch_and_a_file(tmp_path) -> None:
    bundle = make_bundle(novelty=TrainingWindows(windows=400, streams=10, alarm=9.0))
    again = to_bundle(NeuralRDE.from_bundle(bundle))
    assert again.header.novelty == bundle.header.novelty
    assert again.novelty_fingerprint == bundle.novelty_fingerprint
    assert again.fingerprint == bundle.fingerprint
    assert again.header.versions.keys() == {"streamrde", "numpy", "torch"}
    save(NeuralRDE.from_bundle(bundle), tmp_path / "model.safetensors")
    save(bundle, tmp_path / "bundle.safetensors")
    assert sr.load(tmp_path / "model.safetensors").fingerprint == bundle.fingerprint
    assert sr.load(tmp_path / "bundle.safetensors").fingerprint == bundle.fingerprint


def test_training_a_model_further_leaves_its_bundle_alone() -> None:
    bundle = make_bundle()
    before = bundle.fingerprint
    model = NeuralRDE.from_bundle(bundle)
    with torch.no_grad():
        model.readout.weight.add_(1.0)
    assert sr.Bundle(bundle.header, bundle.tensors).fingerprint == before


def test_a_diverged_model_is_not_exported() -> None:
    model = random_model()
    with torch.no_grad():
        model.readout.bias[0] = torch.nan
    with pytest.raises(BundleError, match=r"readout\.bias.*not finite"):
        to_bundle(model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"solver": "heun"}, "solver"),
        ({"names": ["a"]}, "names has 1 entries; channels=3 has 2"),
        ({"names": ["a", "a"]}, "twice"),
        ({"labels": ["x"]}, "labels has 1 entries and outputs=2"),
        ({"dtype": torch.float16}, "float32 or torch.float64"),
    ],
)
def test_a_model_that_cannot_work_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        random_model(**changes)


def test_inputs_of_another_shape_are_refused() -> None:
    model = random_model()
    x0, logsigs = random_inputs(model)
    with pytest.raises(ShapeError, match=r"takes \(N, 3\)"):
        model(x0[:, 1:], logsigs)
    with pytest.raises(ShapeError, match=r"expected \(3, K, 6\)"):
        model(x0, logsigs[..., 1:])


@pytest.mark.parametrize("copied", [lambda m: pickle.loads(pickle.dumps(m)), copy.copy, copy.deepcopy])
@pytest.mark.parametrize("field", [sr.MLP(width=6, activation="softplus"), sr.Linear(), sr.LogNCDE(width=6)], ids=repr)
def test_a_copy_of_a_model_says_the_same_and_its_bundle_too(copied, field) -> None:
    model = random_model(field=field, decay=0.1)
    x0, logsigs = random_inputs(model)
    twin = copied(model)
    torch.testing.assert_close(twin(x0, logsigs), model(x0, logsigs), rtol=0, atol=0)
    assert to_bundle(twin).fingerprint == to_bundle(model).fingerprint
    bundle = to_bundle(model)
    assert copied(bundle).fingerprint == bundle.fingerprint


def test_sizes_may_be_integers_and_floats_of_numpy() -> None:
    torch.manual_seed(0)
    plain = NeuralRDE(3, 2, 4, 2, field=sr.MLP(width=8), windows=sr.Every(0.5), members=2, decay=0.1, substeps=2)
    torch.manual_seed(0)
    given = NeuralRDE(
        np.int64(3),
        np.int32(2),
        np.int16(4),
        np.uint8(2),
        field=sr.MLP(width=np.int64(8)),
        windows=sr.Every(np.float32(0.5)),
        members=np.int64(2),
        decay=np.float64(0.1),
        substeps=np.int64(2),
    )
    assert to_bundle(given).fingerprint == to_bundle(plain).fingerprint


@pytest.mark.parametrize(
    ("sizes", "match"),
    [
        ((True, 2, 4, 2), "channels=True"),
        ((3, True, 4, 2), "depth"),
        ((3, 2, True, 2), "hidden=True"),
        ((3, 2, 4, np.True_), "outputs="),
        ((3, 2, 4.0, 2), "hidden=4.0"),
        ((304128, 2, 4, 2), "level 2 of a signature has 92,493,840,384 numbers"),
    ],
)
def test_what_is_no_size_is_named(sizes, match) -> None:
    with pytest.raises(ParameterError, match=match):
        NeuralRDE(*sizes)


def test_axes_that_look_swapped_are_named() -> None:
    model = random_model()
    x0, logsigs = random_inputs(model, streams=4)
    with pytest.raises(ShapeError, match=r"the axes look swapped: give x0.swapaxes"):
        model(x0.T, logsigs)
    with pytest.raises(ShapeError, match=r"the axes look swapped: give logsigs.swapaxes"):
        model(x0, logsigs.mT)
