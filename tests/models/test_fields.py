"""Families of fields: torch for training against arrays for serving, and against what defines them."""

from __future__ import annotations

import numpy as np
import pytest
import tolerances
import torch
from bundles import make_bundle
from torch import nn

import streamrde as sr
from streamrde.errors import ParameterError, ShapeError
from streamrde.inference.fields import KINDS, External
from streamrde.inference.steppers import ArrayStepper
from streamrde.models import NeuralRDE, to_bundle

FIELDS = [
    sr.MLP(width=7, layers=2, activation="gelu"),
    sr.MLP(width=7, layers=1, final_activation="tanh"),
    sr.LogNCDE(width=7, layers=2),
    sr.LogNCDE(width=6, layers=1, activation="gelu", last_activation="softplus", final_activation="identity"),
    sr.Linear(),
    sr.Linear(block=4),
]


def served_and_trained(bundle):
    """States over a few windows by the array stepper and by the torch model."""
    rng = np.random.default_rng(1)
    x0, logsigs = rng.normal(size=(3, 3)), rng.normal(size=(3, 5, bundle.header.logsig_channels)) * 0.3
    logsigs[:, :, 0] = rng.uniform(0.2, 2.0, size=(3, 5))
    stepper, previous = ArrayStepper(bundle), None
    states = [stepper.initial(x0)]
    for own in logsigs.transpose(1, 0, 2):
        states.append(stepper.step(states[-1], own, previous))
        previous = own
    model = NeuralRDE.from_bundle(bundle)
    with torch.no_grad():
        trained = model.hidden_states(torch.tensor(x0), torch.tensor(logsigs)).numpy()
    return np.stack(states, axis=1), trained


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("decay", [False, True])
@pytest.mark.parametrize("field", FIELDS, ids=str)
def test_what_is_trained_is_what_is_served(field, decay, dtype):
    bundle = make_bundle(field=field, depth=2, decay=decay, dtype=dtype)
    served, trained = served_and_trained(bundle)
    tolerance = tolerances.STEPPER32 if dtype == "float32" else tolerances.ORACLE
    # Each component of a step is a sum over all of the state, so that it rounds by the largest of them. Some fields
    # grow states to 1,000, of which a component near 0 keeps fewer digits.
    size = np.maximum(1.0, np.abs(trained).max(axis=2, keepdims=True))
    np.testing.assert_allclose(served / size, trained / size, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("first_stage", ["own", "previous"])
@pytest.mark.parametrize("substeps", [3, "auto"])
@pytest.mark.parametrize("solver", ["euler", "midpoint", "rk4"])
def test_substeps_are_trained_as_they_are_served(solver, substeps, first_stage):
    bundle = make_bundle(
        solver=solver, substeps=substeps, first_stage=first_stage, tolerance=1e-2, decay=True, dtype="float64"
    )
    served, trained = served_and_trained(bundle)
    np.testing.assert_allclose(served, trained, rtol=0, atol=tolerances.ORACLE)


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("final", ["tanh", "identity"])
def test_log_ncde_sums_its_brackets_one_by_one(channels, final):
    torch.manual_seed(0)
    spec = sr.LogNCDE(width=6, layers=2, final_activation=final)
    model = NeuralRDE(channels, 2, 5, 1, field=spec, dtype=torch.float64)
    z, logsig = (
        torch.randn(3, 5, dtype=torch.float64),
        torch.randn(3, model.header.logsig_channels, dtype=torch.float64),
    )
    expected = (model.field.fields(z) @ logsig[:, :channels, None]).squeeze(-1)
    pairs = [(i, j) for i in range(channels) for j in range(i + 1, channels)]
    for n, (i, j) in enumerate(pairs):

        def along(k, direction):
            return torch.autograd.functional.jvp(lambda z: model.field.fields(z)[..., k], z, direction)

        value_i, value_j = (model.field.fields(z)[..., k] for k in (i, j))
        bracket = along(j, value_i)[1] - along(i, value_j)[1]
        expected = expected + logsig[:, channels + n, None] * bracket
    torch.testing.assert_close(model.field.drift(logsig)(z), expected, rtol=0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("field", FIELDS, ids=str)
def test_gradients_of_every_family_are_right(field):
    torch.manual_seed(0)
    model = NeuralRDE(3, 2, 4, 2, field=field, decay=0.2, dtype=torch.float64, substeps=1)
    x0, logsigs = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 2, 6, dtype=torch.float64) * 0.3
    assert torch.autograd.gradcheck(lambda a, b: model(a, b), (x0.requires_grad_(), logsigs.requires_grad_()))
    model(x0, logsigs).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_model_survives_the_way_to_a_file_and_back():
    for field in FIELDS:
        model = NeuralRDE(3, 2, 8, 3, field=field, decay=0.1, pooling="mean", emit="last", tolerance=0.5)
        with torch.no_grad():
            model.decay[0] = -0.3  # its magnitude counts
        model.set_range(torch.full((8,), -1.0), torch.full((8,), 2.0))
        bundle = to_bundle(model)
        assert bundle.tensors["decay"][0] == np.float32(0.3)
        assert bundle.header.hidden_range
        assert to_bundle(NeuralRDE.from_bundle(bundle)).fingerprint == bundle.fingerprint


def test_pooling_is_the_running_mean_of_the_states():
    model = NeuralRDE(3, 2, 8, 3, pooling="mean", dtype=torch.float64)
    states = torch.randn(2, 5, 8, dtype=torch.float64)
    pooled = model.pooled(states)
    for k in range(5):
        torch.testing.assert_close(pooled[:, k], states[:, : k + 1].mean(dim=1))


class Field(nn.Module):
    """A field of no family: a gate times a linear map."""

    def __init__(self, hidden: int, features: int) -> None:
        super().__init__()
        self.gate = nn.Linear(hidden, hidden * features, dtype=torch.float64)
        self.value = nn.Linear(hidden, hidden * features, dtype=torch.float64)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.gate(z)) * torch.tanh(self.value(z))


def test_any_module_is_a_field_and_known_by_its_weights():
    model = NeuralRDE(3, 2, 8, 3, field=Field(8, 6), dtype=torch.float64)
    bundle = to_bundle(model)
    assert isinstance(bundle.header.field, External)
    assert bundle.header.field.name == "Field"
    again = NeuralRDE.from_bundle(bundle, field=model.field.module)
    x0, logsigs = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 4, 6, dtype=torch.float64) * 0.3
    torch.testing.assert_close(again(x0, logsigs), model(x0, logsigs), rtol=0, atol=0)
    with pytest.raises(ParameterError, match="other weights"):
        NeuralRDE.from_bundle(bundle, field=Field(8, 6))
    with pytest.raises(ParameterError, match="give field="):
        NeuralRDE.from_bundle(bundle)
    with pytest.raises(ShapeError, match=r"expected \(2, 8, 6\)"):
        NeuralRDE(3, 2, 8, 3, field=nn.Linear(8, 5, dtype=torch.float64), dtype=torch.float64)(x0, logsigs)


@pytest.mark.parametrize("tag", sorted(tag for tag, kind in KINDS.items() if kind.stored and kind.trained))
def test_every_kind_of_field_has_the_name_of_its_module_and_a_twin_with_the_same_tensors(tag) -> None:
    bundle = make_bundle(field=KINDS[tag](), depth=2)
    assert bundle.header.field.tag == tag
    again = to_bundle(NeuralRDE.from_header(bundle.header))
    assert {name: tensor.shape for name, tensor in again.tensors.items()} == bundle.header.shapes()


def test_a_model_that_may_train_on_keeps_no_errors_of_before():
    bundle = make_bundle(seed=2)
    scores = np.random.default_rng(0).uniform(size=(40, len(bundle.header.thresholds)))
    calibrated = bundle.with_calibration([scores, scores], np.arange(40) // 2)
    again = to_bundle(NeuralRDE.from_bundle(calibrated))
    assert again.header.calibration is None
    assert again.tensors.keys() == bundle.tensors.keys()
    assert again.fingerprint == bundle.fingerprint
