"""Modules from elsewhere are recognised by their structure, served as they are, or refused: never wrong in silence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

import streamrde as sr
from streamrde.errors import ParameterError
from streamrde.inference.steppers import make_stepper
from streamrde.models import TorchStepper, from_torchcde, to_bundle

HIDDEN, CHANNELS, DEPTH, WIDTH = 5, 3, 2, 7
FEATURES = sr.logsignature_channels(CHANNELS, DEPTH)


class Field(nn.Module):
    """``forward`` is given as a function of the module and z (and t, where it takes one)."""

    def __init__(self, forward, **modules):
        super().__init__()
        self.a, self.b = nn.Linear(HIDDEN, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.o = nn.Linear(WIDTH, HIDDEN * FEATURES)
        for name, module in modules.items():
            setattr(self, name, module)
        self._forward = forward

    def forward(self, t, z):
        takes_time = self._forward.__code__.co_argcount == 3
        y = self._forward(self, t, z) if takes_time else self._forward(self, z)
        return y.view(-1, HIDDEN, FEATURES)


class Sequential(nn.Sequential):
    """A field that is a Sequential of z."""

    def forward(self, t, z):
        return super().forward(z)


class Counting(nn.Module):
    """Counts its calls, as many examples do."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(HIDDEN, WIDTH), nn.Tanh(), nn.Linear(WIDTH, HIDDEN * FEATURES))
        self.calls = 0

    def forward(self, t, z):
        self.calls += 1
        return self.net(z).reshape(z.size(0), HIDDEN, FEATURES)


class Clamped(nn.Linear):
    """A layer that is more than its weights."""

    def forward(self, x):
        return super().forward(x).clamp(-3, 3)


def hooked():
    net = Field(lambda m, z: m.o(F.relu(m.a(z))))
    net.a.register_forward_hook(lambda module, given, result: result.clamp(max=2.0))
    return net


def tied():
    layer = nn.Linear(WIDTH, WIDTH)
    return Sequential(
        *(nn.Linear(HIDDEN, WIDTH), nn.ReLU(), layer, nn.ReLU(), layer, nn.Tanh()),
        *(nn.Linear(WIDTH, HIDDEN * FEATURES), nn.Unflatten(1, (HIDDEN, FEATURES))),
    )


def spectral():
    net = Field(lambda m, z: m.o(torch.tanh(m.n(z))), n=parametrizations.spectral_norm(nn.Linear(HIDDEN, WIDTH)))
    return net.eval()


def old_weight_norm():
    with pytest.warns(FutureWarning):
        layer = nn.utils.weight_norm(nn.Linear(HIDDEN, WIDTH))
    with torch.no_grad():
        layer.weight_g.mul_(2.0)  # the weight itself is stale until the layer is called
    return Field(lambda m, z: m.o(torch.relu(m.n(z))), n=layer)


def loop(m, z):
    for _ in range(2):
        z = z + torch.tanh(m.s(z))
    return m.o(torch.relu(m.a(z)))


def branch(m, z):
    if float(z.detach().abs().max()) > 20.0:
        z = z / 2
    return m.o(torch.relu(m.a(z)))


def clip_norm(m, z):
    return m.o(torch.tanh(m.a(z * (6.0 / z.norm(dim=-1, keepdim=True).clamp(min=6.0)))))


def layers(bias=True):
    return nn.Linear(HIDDEN, WIDTH, bias=bias), nn.Linear(WIDTH, HIDDEN * FEATURES, bias=bias)


class BiasFree(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.o = layers(bias=False)

    def forward(self, t, z):
        return self.o(self.a(z).relu()).view(*z.shape[:-1], HIDDEN, FEATURES)


class Matrices(nn.Module):
    """Weights that are no layers."""

    def __init__(self):
        super().__init__()
        self.w, self.v = nn.Parameter(torch.randn(HIDDEN, WIDTH) / 3), nn.Parameter(torch.randn(WIDTH, 30) / 3)
        self.register_buffer("c", torch.randn(WIDTH))

    def forward(self, t, z):
        return (torch.tanh(z @ self.w + self.c) @ self.v).reshape(len(z), HIDDEN, FEATURES)


FILE, TORCH = "file", "torch"  # what serves a module: the model file alone, or torch
MODULES = {
    # chains of linear layers and known activations
    "relu": (FILE, lambda: Field(lambda m, z: m.o(m.a(z).relu()))),
    "tanh, twice": (FILE, lambda: Field(lambda m, z: m.o(torch.tanh(m.b(torch.tanh(m.a(z))))))),
    "silu": (FILE, lambda: Field(lambda m, z: m.o(F.silu(m.a(z))))),
    "softplus": (FILE, lambda: Field(lambda m, z: m.o(F.softplus(m.a(z))))),
    "gelu": (FILE, lambda: Field(lambda m, z: m.o(F.gelu(m.a(z))))),
    "final tanh": (FILE, lambda: Field(lambda m, z: torch.tanh(m.o(m.a(z).relu())))),
    "relu in place": (FILE, lambda: Field(lambda m, z: m.o(m.r(m.a(z))), r=nn.ReLU(inplace=True))),
    "a sequential with tied layers": (FILE, tied),
    "bias-free": (FILE, BiasFree),
    "matrices": (FILE, Matrices),
    "a counter of calls": (FILE, Counting),
    "dropout": (FILE, lambda: Field(lambda m, z: m.o(m.d(m.a(z).relu())), d=nn.Dropout(0.5))),
    "functional dropout": (FILE, lambda: Field(lambda m, z: m.o(F.dropout(m.a(z).relu(), 0.5, m.training)))),
    "weight norm": (
        FILE,
        lambda: Field(lambda m, z: m.o(torch.relu(m.n(z))), n=parametrizations.weight_norm(layers()[0])),
    ),
    "old weight norm": (FILE, old_weight_norm),
    "spectral norm": (FILE, spectral),
    "relu with a clamp that is not used": (FILE, lambda: Field(lambda m, z: (z.clamp(-1, 1), m.o(m.a(z).relu()))[1])),
    # other functions, many of them the same as a chain where states are small
    "relu6": (TORCH, lambda: Field(lambda m, z: m.o(F.relu6(m.a(z))))),
    "hardtanh": (TORCH, lambda: Field(lambda m, z: m.o(F.hardtanh(m.a(z), -20, 20)))),
    "a far clamp of z": (TORCH, lambda: Field(lambda m, z: m.o(torch.relu(m.a(z.clamp(-30, 30)))))),
    "a clamp of the output": (TORCH, lambda: Field(lambda m, z: m.o(torch.relu(m.a(z))).clamp(-40, 40))),
    "norm clipping": (TORCH, lambda: Field(clip_norm)),
    "where": (TORCH, lambda: Field(lambda m, z: m.o(torch.where(m.a(z) > 25, 0 * m.a(z), m.a(z).relu())))),
    "a gate": (TORCH, lambda: Field(lambda m, z: m.o(torch.sigmoid(m.b(m.a(z))) * torch.tanh(m.a(z))))),
    "softplus with beta": (TORCH, lambda: Field(lambda m, z: m.o(F.softplus(m.a(z), beta=1.02)))),
    "softplus with a threshold": (TORCH, lambda: Field(lambda m, z: m.o(F.softplus(m.a(z), threshold=4)))),
    "a leaky relu": (TORCH, lambda: Field(lambda m, z: m.o(F.leaky_relu(m.a(z), 1e-3)))),
    "elu": (TORCH, lambda: Field(lambda m, z: m.o(F.elu(m.a(z))))),
    "gelu by tanh": (TORCH, lambda: Field(lambda m, z: m.o(F.gelu(m.a(z), approximate="tanh")))),
    "hardswish": (TORCH, lambda: Field(lambda m, z: m.o(F.hardswish(m.a(z))))),
    "layer norm": (TORCH, lambda: Field(lambda m, z: m.o(torch.relu(m.n(m.a(z)))), n=nn.LayerNorm(WIDTH))),
    "batch norm": (TORCH, lambda: Field(lambda m, z: m.o(torch.relu(m.n(m.a(z)))), n=nn.BatchNorm1d(WIDTH))),
    "a residual": (TORCH, lambda: Field(lambda m, z: m.o(torch.relu(m.a(z)) + m.b(torch.relu(m.a(z)))))),
    "a residual of z": (
        TORCH,
        lambda: Field(lambda m, z: m.o(torch.relu(m.a(z + torch.tanh(m.s(z))))), s=nn.Linear(5, 5)),
    ),
    "a loop": (TORCH, lambda: Field(loop, s=nn.Linear(HIDDEN, HIDDEN))),
    "a branch": (TORCH, lambda: Field(branch)),
    "a norm of the batch": (TORCH, lambda: Field(lambda m, z: m.o(torch.relu(m.a(z / (1 + z.norm())))))),
    "a scaled output": (TORCH, lambda: Field(lambda m, z: 0.1 * m.o(torch.relu(m.a(z))))),
    "a transposed output": (
        TORCH,
        lambda: Field(lambda m, z: m.o(m.a(z).relu()).view(-1, FEATURES, HIDDEN).transpose(1, 2).reshape(len(z), -1)),
    ),
    "layers of several widths": (
        TORCH,
        lambda: Field(lambda m, z: m.o(torch.relu(m.d(torch.relu(m.c(z))))), c=nn.Linear(5, 3), d=nn.Linear(3, WIDTH)),
    ),
    "one layer": (TORCH, lambda: Sequential(nn.Linear(HIDDEN, 30), nn.Unflatten(1, (HIDDEN, FEATURES)))),
    "a layer of one's own": (TORCH, lambda: Field(lambda m, z: m.o(torch.relu(m.c(z))), c=Clamped(HIDDEN, WIDTH))),
    "a hook": (TORCH, hooked),
    "double inside": (TORCH, lambda: Field(lambda m, z: m.o(torch.relu(m.a(z).double()).to(z.dtype)))),
    "attention over components": (TORCH, lambda: Field(lambda m, z: m.o(torch.softmax(m.a(z), dim=-1)))),
    # what has no right answer as a function of the state alone
    "time": ("depends on t", lambda: Field(lambda m, t, z: m.o(torch.relu(m.a(z))) * (1 + t))),
    "time as a channel": ("depends on t", lambda: Field(lambda m, t, z: m.o(torch.relu(m.a(z + t.expand_as(z)))))),
    "late time": ("depends on t", lambda: Field(lambda m, t, z: m.o(torch.relu(m.a(z))) * (1 + (t - 9).relu()))),
    "a branch on time": ("depends on t", lambda: Field(lambda m, t, z: m.o(m.a(z).relu()) if t < 9 else m.o(m.a(z)))),
    "dropout that stays on": ("random", lambda: Field(lambda m, z: m.o(F.dropout(m.a(z).relu(), 0.5)))),
    "noise": ("random", lambda: Field(lambda m, z: m.o(m.a(z + 0.01 * torch.randn_like(z)).relu()))),
    "a change of z in place": ("in place", lambda: Field(lambda m, z: m.o(m.a(z.clamp_(-3, 3)).relu()))),
}


def end_weights(seed=0):
    torch.manual_seed(seed)
    return nn.Linear(CHANNELS, HIDDEN), nn.Linear(HIDDEN, 2)


def imported_field(func):
    return from_torchcde(
        func,
        *end_weights(),
        channels=CHANNELS,
        depth=DEPTH,
        windows=sr.Every(1.0),
        method="euler",
        options={"step_size": 1.0, "perturb": True},
        complete=True,
    )


def seeded(make):
    torch.manual_seed(1)
    return make()


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, (kind, _) in MODULES.items() if kind in (FILE, TORCH)])
def test_a_module_is_exact_by_its_file_or_served_by_torch(name):
    kind, make = MODULES[name]
    func = seeded(make)
    imported = imported_field(func)
    bundle = to_bundle(imported.model)
    assert (bundle.header.field.__struct_config__.tag == "mlp") == (kind == FILE)
    assert bool(bundle.header.notes) == (kind == TORCH)
    stepper = make_stepper(bundle) if kind == FILE else TorchStepper(imported.model)
    rng = np.random.default_rng(2)
    z = (rng.normal(size=(60, HIDDEN)) * np.repeat([1.0, 10.0, 100.0], 20)[:, None]).astype(np.float32)
    logsigs = rng.normal(size=(60, FEATURES))
    served = stepper.step(z, logsigs) - z
    # The original, stream by stream, in float64: its field times the log-signature.
    func = func.double().eval()
    with torch.no_grad():
        rows = torch.tensor(z, dtype=torch.float64)
        field = torch.cat([func(torch.tensor(0.0), row) for row in torch.split(rows, 1)])
        expected = (field @ torch.tensor(logsigs)[..., None])[..., 0].numpy()
    size = np.abs(expected).max(axis=1, keepdims=True) + np.abs(z).max(axis=1, keepdims=True)
    assert (np.abs(served - expected) / np.maximum(size, 1)).max() < 1e-5


@pytest.mark.parametrize("name", [name for name, (kind, _) in MODULES.items() if kind not in (FILE, TORCH)])
def test_a_module_without_a_right_answer_is_refused(name):
    match, make = MODULES[name]
    with pytest.raises(ParameterError, match=f"func.*{match}"):
        imported_field(seeded(make))


def test_a_clip_that_random_states_do_not_reach_is_not_taken_for_a_perceptron():
    func = seeded(MODULES["relu6"][1])
    initial, readout = end_weights()
    t = np.arange(61) * 0.1
    x = 6 * np.column_stack([np.cos(t), np.sin(t)])
    options = {"step_size": 1.0}
    imported = from_torchcde(
        func, initial, readout, channels=CHANNELS, depth=DEPTH, windows=sr.Count(5), method="rk4", options=options
    )
    bundle = to_bundle(imported.model)
    assert "hardtanh(0.0, 6.0)" in bundle.header.notes or "relu6" in bundle.header.notes
    with pytest.raises(ParameterError, match="TorchStepper"):
        sr.Predictor(bundle)
    served = sr.Predictor(bundle, stepper=TorchStepper(imported.model)).push_many(t, x)
    _, logsigs = sr.logsig_windows(t, np.column_stack([t, x]), DEPTH, sr.Count(5))
    with torch.no_grad():
        z = initial(torch.tensor([[0.0, *x[0]]], dtype=torch.float32))
        previous = logsigs[0]
        for logsig, prediction in zip(logsigs, served, strict=True):

            def slope(z, logsig):
                return (func(None, z) @ torch.tensor(logsig, dtype=torch.float32)[:, None])[..., 0]

            k1 = slope(z, previous)
            k2 = slope(z + k1 / 3, logsig)
            k3 = slope(z + k2 - k1 / 3, logsig)
            z = z + (k1 + 3 * k2 + 3 * k3 + slope(z + k1 - k2 + k3, logsig)) / 8
            previous = logsig
            np.testing.assert_allclose(prediction.value, readout(z)[0].numpy(), rtol=1e-5, atol=1e-5)


def test_dropout_in_training_mode_is_said():
    func = seeded(MODULES["dropout"][1])
    assert "func.d (Dropout) is in training mode" in imported_field(func).differences[0]
    assert func.d.training  # the module is given back as it was
    assert imported_field(func.eval()).differences == ()


def test_rows_that_depend_on_each_other_are_said_and_served_alone():
    imported = imported_field(seeded(MODULES["a norm of the batch"][1]))
    assert "lets rows of a batch affect each other" in imported.differences[0]
    z, logsigs = np.ones((3, HIDDEN), np.float32), np.ones((3, FEATURES))
    stepper = TorchStepper(imported.model)
    np.testing.assert_array_equal(stepper.step(z, logsigs)[:1], stepper.step(z[:1], logsigs[:1]))


def test_a_field_that_uses_t_where_no_state_was_tried_raises_when_it_does():
    func = Field(lambda m, t, z: m.o(m.a(z)) * (1 + t) if float(z.detach().abs().max()) > 1e6 else m.o(m.a(z).relu()))
    imported = imported_field(func)
    stepper = TorchStepper(imported.model)
    logsigs = np.ones((1, FEATURES))
    assert np.isfinite(stepper.step(np.ones((1, HIDDEN), np.float32), logsigs)).all()
    with pytest.raises(ParameterError, match="depends on t"):
        stepper.step(np.full((1, HIDDEN), 1e7, np.float32), logsigs)


def test_a_method_prod_that_cdeint_would_call_is_refused():
    func = seeded(MODULES["relu"][1])
    func.prod = lambda t, z, dx: z
    with pytest.raises(ParameterError, match="method prod"):
        imported_field(func)


def test_parts_of_two_dtypes_and_plain_functions_are_refused():
    with pytest.raises(ParameterError, match="make them one dtype"):
        imported_field(seeded(MODULES["relu"][1]).double())
    with pytest.raises(ParameterError, match="wrap it in a torch"):
        imported_field(lambda t, z: z)
