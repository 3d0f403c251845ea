"""Models from torchcde and from the original repository give the same outputs here, streamed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchcde
from torch import nn

import streamrde as sr
from streamrde.errors import ParameterError
from streamrde.models import TorchStepper, from_neural_rdes, from_torchcde, to_bundle

HIDDEN, CHANNELS, DEPTH = 5, 3, 2
FEATURES = sr.logsignature_channels(CHANNELS, DEPTH)


class Perceptron(nn.Module):
    """As in torchcde's examples: activations in forward."""

    def __init__(self, final: bool, layers: int = 1) -> None:
        super().__init__()
        self.first = nn.Linear(HIDDEN, 7)
        self.between = nn.ModuleList(nn.Linear(7, 7) for _ in range(layers - 1))
        self.last = nn.Linear(7, HIDDEN * FEATURES)
        self.final = final

    def forward(self, t, z):
        z = self.first(z).relu()
        for layer in self.between:
            z = layer(z).relu()
        z = self.last(z)
        return (z.tanh() if self.final else z).view(len(z), HIDDEN, FEATURES)


class Gated(nn.Module):
    """A field of no family."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.value = (nn.Linear(HIDDEN, HIDDEN * FEATURES) for _ in range(2))

    def forward(self, t, z):
        return (self.gate(z).sigmoid() * self.value(z).tanh()).view(len(z), HIDDEN, FEATURES)


def trained_with_torchcde(func, initial, readout, t, x, windows, method, options):
    """Outputs at the window edges by torchcde itself; its logsig_windows from ours, which needs no signatory."""
    path = np.column_stack([t - t[0], x])
    _, logsigs = sr.logsig_windows(t, path, DEPTH, windows)
    rows = np.vstack([np.append(path[0], np.zeros(FEATURES - CHANNELS)), logsigs]).cumsum(axis=0)
    control = torchcde.LinearInterpolation(torch.tensor(rows, dtype=initial.weight.dtype)[None])
    z0 = initial(control.evaluate(control.interval[0])[:, : initial.in_features])
    with torch.no_grad():
        z = torchcde.cdeint(control, func, z0, control.grid_points, adjoint=False, method=method, options=options)
        return readout(z)[0, 1:].numpy()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)], ids=str)
@pytest.mark.parametrize("perturb", [False, True])
@pytest.mark.parametrize("step_size", [1.0, 0.5])
@pytest.mark.parametrize("method", ["euler", "midpoint", "rk4"])
def test_a_model_trained_with_torchcde_streams_to_the_same_outputs(method, step_size, perturb, dtype, tolerance):
    torch.manual_seed(0)
    func = Perceptron(final=False, layers=2).to(dtype)
    initial, readout = nn.Linear(FEATURES, HIDDEN).to(dtype), nn.Linear(HIDDEN, 2).to(dtype)
    options = {"step_size": step_size, "perturb": perturb}
    rng = np.random.default_rng(0)
    t = 1.7e9 + np.ceil(rng.exponential(0.4, size=60) * 64).cumsum() / 64
    x = rng.normal(size=(60, 2)).cumsum(axis=0) * 0.3
    given = {"channels": CHANNELS, "depth": DEPTH, "windows": sr.Every(1.0), "method": method, "options": options}
    imported = from_torchcde(func, initial, readout, complete=True, **given)
    assert imported.differences == ()
    bundle = to_bundle(imported.model)
    assert bundle.header.field == sr.MLP(width=7, layers=2, activation="relu", last_activation="relu")
    predictor = sr.Predictor(bundle)
    served = [p for i in range(60) for p in predictor.push(t[i], x[i])] + predictor.flush()
    assert served[-1].t_end < served[-1].t_start + 1.0  # the short last window is among them
    expected = trained_with_torchcde(func, initial, readout, t, x, sr.Every(1.0), method, options)
    np.testing.assert_allclose([p.value for p in served], expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("func", [Perceptron(final=True), Gated()], ids=["perceptron", "gated"])
def test_fields_that_do_not_precontract_are_brought_over_too(func):
    torch.manual_seed(0)
    func = func.double()
    initial, readout = nn.Linear(CHANNELS, HIDDEN).double(), nn.Linear(HIDDEN, 2).double()
    options = {"step_size": 1.0}
    imported = from_torchcde(
        func, initial, readout, channels=CHANNELS, depth=DEPTH, windows=sr.Count(5), method="rk4", options=options
    )
    bundle = to_bundle(imported.model)
    rng = np.random.default_rng(1)
    t, x = np.arange(41) * 0.5, rng.normal(size=(41, 2)).cumsum(axis=0) * 0.3
    stepper = TorchStepper(imported.model) if isinstance(func, Gated) else None
    if stepper is None:
        assert bundle.header.field.final_activation == "tanh"
    served = sr.Predictor(bundle, stepper=stepper).push_many(t, x)
    expected = trained_with_torchcde(func, initial, readout, t, x, sr.Count(5), "rk4", options)
    np.testing.assert_allclose([p.value for p in served], expected, rtol=0, atol=1e-10)


def test_what_torchcde_did_otherwise_is_said_or_refused():
    func, initial, readout = Perceptron(final=False), nn.Linear(CHANNELS, HIDDEN), nn.Linear(HIDDEN, 2)
    given = {"channels": CHANNELS, "depth": DEPTH, "windows": sr.Every(1.0)}
    assert "dopri5" in from_torchcde(func, initial, readout, **given).differences[0]
    with pytest.raises(ParameterError, match="must divide them"):
        from_torchcde(func, initial, readout, method="rk4", options={"step_size": 0.3}, **given)
    with pytest.raises(ParameterError, match=r"initial takes 4 inputs; this path has 3 channels, or 6"):
        from_torchcde(func, nn.Linear(4, HIDDEN), readout, method="rk4", **given)
    with pytest.raises(ParameterError, match="readout takes 9"):
        from_torchcde(func, initial, nn.Linear(9, 2), method="rk4", **given)

    class Driven(Perceptron):
        def forward(self, t, z):
            return super().forward(t, z) * (1 + t)

    with pytest.raises(ParameterError, match="depends on t"):
        from_torchcde(Driven(final=False), initial, readout, method="rk4", **given)
    with pytest.raises(ParameterError, match=r"func gives \(24, 5, 6\) .* expected \(24, 5, 3\)"):
        from_torchcde(func, initial, readout, method="rk4", **given | {"depth": 1})


def original(num_layers, outputs=2, width=7):
    """The layout of ncdes.model.NeuralRDE's state dict: hidden layers share their weights."""
    tied = [nn.ReLU(), nn.Linear(width, width)] * (num_layers - 1)
    net = nn.Sequential(nn.Linear(HIDDEN, width), *tied, nn.Tanh(), nn.Linear(width, HIDDEN * FEATURES)).double()
    ends = nn.Linear(CHANNELS, HIDDEN).double(), nn.Linear(HIDDEN, outputs).double()
    state = {f"func.net.{key}": value for key, value in net.state_dict().items()}
    for name, layer in zip(("initial_linear", "final_linear"), ends, strict=True):
        state |= {f"{name}.{key}": value for key, value in layer.state_dict().items()}
    return net, *ends, state


@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("solver", ["midpoint", "rk4"])
def test_a_model_of_the_original_repository_streams_to_the_same_outputs(solver, num_layers):
    torch.manual_seed(0)
    net, initial, final, state = original(num_layers)
    shift, scale = np.array([0.0, 1.0, -2.0]), np.array([0.1, 2.0, 0.5])
    rng = np.random.default_rng(2)
    t, x = np.arange(33) * 0.25, rng.normal(size=(33, 2)).cumsum(axis=0)
    imported = from_neural_rdes(state, depth=DEPTH, step=8, solver=solver, shift=shift, scale=scale)
    assert len(imported.differences) == 1
    served = sr.Predictor(to_bundle(imported.model)).push_many(t, x)
    path = (np.column_stack([t, x]) - shift) * scale
    z, expected = initial(torch.tensor(path[0])), []
    for k in range(4):
        logsig = torch.tensor(sr.logsignature(path[8 * k : 8 * k + 9], DEPTH))

        def f(z, logsig=logsig):
            return net(z).view(HIDDEN, FEATURES) @ logsig

        if solver == "midpoint":
            z = z + f(z + f(z) / 2)
        else:
            k1 = f(z)
            k2 = f(z + k1 / 3)
            k3 = f(z + k2 - k1 / 3)
            z = z + (k1 + 3 * k2 + 3 * k3 + f(z + k1 - k2 + k3)) / 8
        expected.append(final(z).detach().numpy())
    np.testing.assert_allclose([p.value for p in served], expected, rtol=0, atol=1e-10)


def test_what_the_original_did_otherwise_is_said_or_refused():
    *_, state = original(2)
    last = from_neural_rdes(state, depth=DEPTH, step=8, return_sequences=False)
    assert last.model.header.emit == "last"
    assert "twice" in last.differences[1]
    with pytest.raises(ParameterError, match="another depth"):
        from_neural_rdes(state, depth=3, step=8)
    with pytest.raises(ParameterError, match="num_layers=0"):
        from_neural_rdes({k: v for k, v in state.items() if "net.0" not in k and "net.2" not in k}, depth=DEPTH, step=8)
    with pytest.raises(ParameterError, match=r"has no 'final_linear\.weight'"):
        from_neural_rdes({k: v for k, v in state.items() if "final" not in k}, depth=DEPTH, step=8)
    with pytest.raises(ParameterError, match="one value per channel"):
        from_neural_rdes(state, depth=DEPTH, step=8, scale=[1.0, 2.0])
    with pytest.raises(ParameterError, match="adaptive or unknown"):
        from_neural_rdes(state, depth=DEPTH, step=8, solver="dopri5")
