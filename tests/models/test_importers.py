"""Models from torchcde and from the original repository give the same outputs here, streamed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchcde
from torch import nn

import streamrde as sr
from streamrde.errors import ParameterError
from streamrde.inference import OnnxStepper
from streamrde.models import NeuralRDE, TorchStepper, export_onnx, from_neural_rdes, from_torchcde, save, to_bundle

pytestmark = pytest.mark.slow

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


class Tanh(nn.Module):
    """A perceptron of a path with any number of coefficients."""

    def __init__(self, features, final=None) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(HIDDEN, 7), nn.Linear(7, HIDDEN * features)
        self.features, self.final = features, final or nn.Identity()

    def forward(self, t, z):
        return self.final(self.last(torch.tanh(self.first(z)))).view(-1, HIDDEN, self.features)


def by_torchcde(func, initial, readout, rows, *, times=None, method="rk4", **options):
    """Outputs by torchcde itself at its grid points after the first, for cumulated rows."""
    control = torchcde.LinearInterpolation(torch.tensor(rows)[None], t=None if times is None else torch.tensor(times))
    with torch.no_grad():
        z0 = initial(control.evaluate(control.interval[0])[:, :CHANNELS])
        z = torchcde.cdeint(control, func, z0, control.grid_points, adjoint=False, method=method, options=options)
        return readout(z)[0, 1:].numpy()


def cumulated(first, logsigs):
    return np.vstack([np.append(first, np.zeros(logsigs.shape[1] - len(first))), logsigs]).cumsum(axis=0)


def recording(length=20, seed=3):
    rng = np.random.default_rng(seed)
    return np.arange(length) * 0.5, rng.normal(size=(length, 2)).cumsum(axis=0) * 0.3


def served(imported, t, x):
    predictor = sr.Predictor(to_bundle(imported.model))
    return np.array([p.value for p in predictor.push_many(t, x) + predictor.flush()])


def ends(seed=0, inputs=CHANNELS):
    torch.manual_seed(seed)
    return nn.Linear(inputs, HIDDEN).double(), nn.Linear(HIDDEN, 2).double()


def test_a_rectilinear_path_is_the_same_where_windows_are_counted_and_said_where_it_was_stepped_by_halves():
    t, x = recording()
    initial, readout = ends()
    rectilinear = torchcde.linear_interpolation_coeffs(torch.tensor(np.column_stack([t, x])), rectilinear=0).numpy()
    given = {"channels": CHANNELS, "interpolation": "hold", "method": "rk4", "options": {"step_size": 1.0}}
    func = Tanh(FEATURES).double()
    logsigs = np.array([sr.logsignature(rectilinear[i : i + 9], DEPTH) for i in range(0, 38, 8)])
    expected = by_torchcde(func, initial, readout, cumulated(rectilinear[0], logsigs), step_size=1.0)
    counted = from_torchcde(func, initial, readout, depth=DEPTH, windows=sr.Count(4), complete=True, **given)
    assert counted.differences == ()
    np.testing.assert_allclose(served(counted, t, x), expected, rtol=0, atol=1e-12)
    by_time = from_torchcde(func, initial, readout, depth=DEPTH, windows=sr.Every(2.0), complete=True, **given)
    assert any("counted in its rows" in difference for difference in by_time.differences)
    func = Tanh(CHANNELS).double()
    expected = by_torchcde(func, initial, readout, rectilinear, step_size=1.0)[1::2]
    stepped = from_torchcde(func, initial, readout, depth=1, windows=sr.Count(1), complete=True, **given)
    assert "stepped twice per sample" in stepped.differences[0]
    assert np.abs(served(stepped, t, x) - expected).max() > 1e-3


@pytest.mark.parametrize(("seconds", "step"), [(2.0, 1.0), (2.0, 2.0), (4.0, 0.5), (0.5, 0.25)])
def test_steps_in_seconds_are_the_originals_where_its_interpolation_was_given_times(seconds, step):
    t, x = recording(17)  # windows of whole length
    initial, readout = ends()
    func = Tanh(FEATURES).double()
    edges, logsigs = sr.logsig_windows(t, np.column_stack([t, x]), DEPTH, sr.Every(seconds))
    rows = cumulated(np.append(0.0, x[0]), logsigs)
    given = {"channels": CHANNELS, "depth": DEPTH, "windows": sr.Every(seconds), "method": "rk4", "complete": True}
    imported = from_torchcde(func, initial, readout, options={"step_size": step}, times="seconds", **given)
    expected = by_torchcde(func, initial, readout, rows, times=edges, step_size=step)
    np.testing.assert_allclose(served(imported, t, x), expected, rtol=0, atol=1e-12)
    assert ["last window" in difference for difference in imported.differences] == [True]
    if step <= 1:
        unsaid = from_torchcde(func, initial, readout, options={"step_size": step}, **given)
        assert "times='seconds' if t was the windows' edges" in unsaid.differences[0]
        np.testing.assert_allclose(
            served(unsaid, t, x), by_torchcde(func, initial, readout, rows, step_size=step), rtol=0, atol=1e-12
        )
        given["times"] = "windows"
        assert from_torchcde(func, initial, readout, options={"step_size": step}, **given).differences == ()
    else:
        with pytest.raises(ParameterError, match="times='seconds' where the interpolation was given"):
            from_torchcde(func, initial, readout, options={"step_size": step}, **given)


def test_a_last_window_shorter_than_a_step_in_seconds_is_the_difference_that_is_said():
    t, x = recording(20)
    initial, readout = ends()
    func = Tanh(FEATURES).double()
    edges, logsigs = sr.logsig_windows(t, np.column_stack([t, x]), DEPTH, sr.Every(2.0))
    expected = by_torchcde(func, initial, readout, cumulated(np.append(0.0, x[0]), logsigs), times=edges, step_size=2.0)
    imported = from_torchcde(
        func,
        initial,
        readout,
        channels=CHANNELS,
        depth=DEPTH,
        windows=sr.Every(2.0),
        method="rk4",
        options={"step_size": 2.0},
        times="seconds",
    )
    values = served(imported, t, x)
    np.testing.assert_allclose(values[:-1], expected[:-1], rtol=0, atol=1e-12)
    assert np.abs(values[-1] - expected[-1]).max() > 1e-4
    assert "a stream's last window" in imported.differences[0]


def test_missing_values_are_filled_as_by_torchcde_but_for_the_beginning_which_is_said():
    t, x = recording()
    x[5:8, 1], x[11, 0], x[-1, 0] = np.nan, np.nan, np.nan
    initial, readout = ends()
    func = Tanh(FEATURES).double()
    given = {"channels": CHANNELS, "depth": DEPTH, "windows": sr.Every(2.0), "method": "rk4", "times": "windows"}
    imported = from_torchcde(func, initial, readout, options={"step_size": 1.0}, fills=[0.5, 0.0], **given)
    (difference,) = imported.differences
    assert "NaN" in difference
    assert "backwards" in difference

    def expected(x):
        path = torchcde.linear_interpolation_coeffs(torch.tensor(np.column_stack([t, x])), t=torch.tensor(t)).numpy()
        _, logsigs = sr.logsig_windows(t, path, DEPTH, sr.Every(2.0))
        return by_torchcde(func, initial, readout, cumulated(path[0], logsigs), step_size=1.0)

    np.testing.assert_allclose(served(imported, t, x), expected(x), rtol=0, atol=1e-12)
    late = x.copy()
    late[:3, 0] = np.nan
    assert np.abs(served(imported, t, late) - expected(late)).max() > 1e-3


def test_instead_of_an_adaptive_solver_the_exact_solution_is_followed_within_the_tolerance():
    t, x = recording()
    initial, readout = ends()
    func = Tanh(FEATURES).double()
    _, logsigs = sr.logsig_windows(t, np.column_stack([t, x]), DEPTH, sr.Every(2.0))
    rows = cumulated(np.append(0.0, x[0]), logsigs)
    exact = by_torchcde(func, initial, readout, rows, step_size=1 / 128, perturb=True)
    adaptive = by_torchcde(func, initial, readout, rows, method="dopri5")
    imported = from_torchcde(
        func, initial, readout, channels=CHANNELS, depth=DEPTH, windows=sr.Every(2.0), complete=True
    )
    assert ["dopri5" in difference for difference in imported.differences] == [True]
    error = np.abs(served(imported, t, x) - exact)
    assert error.max() < 5e-4
    assert error.max() < np.abs(adaptive - exact).max()


@pytest.mark.parametrize(("depth", "time"), [(2, 1), (3, 2), (3, 1), (2, None), (3, None)])
@pytest.mark.parametrize("final", [None, nn.Tanh()], ids=["perceptron", "tanh"])
def test_a_path_whose_time_is_not_the_first_channel_is_served_the_same(depth, time, final):
    t, x = recording()
    channels = 2 if time is None else 3
    order = [1, 2] if time is None else {1: [1, 0, 2], 2: [1, 2, 0]}[time]
    path = np.column_stack([t, x])[:, order]
    shift, scale = np.array([0.5, -1.0, 0.25])[:channels], np.array([0.5, 2.0, 1.5])[:channels]
    initial, readout = ends(inputs=channels)
    func = Tanh(sr.logsignature_channels(channels, depth), final).double()
    scaled = (path - shift) * scale
    logsigs = np.array([sr.logsignature(scaled[i : i + 5], depth) for i in range(0, 19, 4)])
    expected = by_torchcde(
        func, lambda x0: initial(x0[:, :channels]), readout, cumulated(scaled[0], logsigs), step_size=1.0
    )
    imported = from_torchcde(
        func,
        initial,
        readout,
        channels=channels,
        depth=depth,
        windows=sr.Count(4),
        method="rk4",
        options={"step_size": 1.0},
        time=time,
        shift=shift,
        scale=scale,
        complete=True,
    )
    bundle = to_bundle(imported.model)
    stepper = None if final is None else TorchStepper(imported.model)
    predictor = sr.Predictor(bundle, stepper=stepper)
    values = np.array([p.value for p in predictor.push_many(t, x) + predictor.flush()])
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-10)


def mlp(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 6), nn.Dropout(0.1), nn.Softplus(), nn.Linear(6, outputs), nn.Tanh()).eval()


class Normed(nn.Module):
    """An end of no family."""

    def __init__(self, inputs, outputs) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(inputs, outputs), nn.LayerNorm(outputs)

    def forward(self, x):
        return self.norm(self.layer(x)) + 1


@pytest.mark.parametrize(
    ("make", "in_file"),
    [
        (lambda a, b: nn.Linear(a, b, bias=False), True),
        (lambda a, b: nn.Sequential(nn.Linear(a, b)), True),
        (lambda a, b: nn.Sequential(nn.Linear(a, 9), nn.Linear(9, b)), True),
        (mlp, True),
        (Normed, False),
        (lambda a, b: nn.Sequential(nn.Linear(a, b), nn.ReLU6()), False),
    ],
    ids=["bias-free", "sequential", "two layers", "mlp", "norm", "relu6"],
)
@pytest.mark.parametrize("inputs", [CHANNELS, FEATURES])
def test_initial_and_readout_may_be_any_module(tmp_path, make, in_file, inputs):
    t, x = recording()
    torch.manual_seed(4)
    func, initial, readout = Tanh(FEATURES), make(inputs, HIDDEN), make(HIDDEN, 2)
    imported = from_torchcde(
        *(func, initial, readout),
        channels=CHANNELS,
        depth=DEPTH,
        windows=sr.Every(2.0),
        method="rk4",
        options={"step_size": 1.0},
        times="windows",
        complete=True,
    )
    assert imported.differences == ()
    save(imported.model, tmp_path / "model.safetensors")
    bundle = sr.load(tmp_path / "model.safetensors")
    assert ("initial is served" in bundle.header.notes) == (not in_file)
    stepper = None if in_file else TorchStepper(imported.model)
    _, logsigs = sr.logsig_windows(t, np.column_stack([t, x]), DEPTH, sr.Every(2.0))
    rows = cumulated(np.append(0.0, x[0]), logsigs)
    with torch.no_grad():
        control = torchcde.LinearInterpolation(torch.tensor(rows, dtype=torch.float32)[None])
        z0 = initial(torch.tensor(rows[:1, :inputs], dtype=torch.float32))
        z = torchcde.cdeint(
            control, func, z0, control.grid_points, adjoint=False, method="rk4", options={"step_size": 1.0}
        )
        expected = readout(z)[0, 1:].numpy()
    predictor = sr.Predictor(bundle, stepper=stepper)
    values = np.array([p.value for p in predictor.push_many(t, x) + predictor.flush()])
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-5)
    if in_file:
        fleet = sr.Fleet(bundle)
        batch = fleet.push(["s"] * len(t), t, x)
        assert [row["value"] for row in batch.to_pylist()] == values[: batch.num_rows].tolist()
        again = NeuralRDE.from_bundle(bundle)
        assert to_bundle(again).fingerprint == bundle.fingerprint
    else:
        with pytest.raises(ParameterError, match=r"the initial of this model .* is not in its file"):
            sr.Predictor(bundle)
        with pytest.raises(ParameterError, match="give initial="):
            NeuralRDE.from_bundle(bundle)


def test_a_model_without_an_initial_layer_begins_at_its_first_sample():
    torch.manual_seed(5)

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(CHANNELS, 7), nn.ReLU(), nn.Linear(7, CHANNELS * FEATURES))

        def forward(self, t, z):
            return self.net(z).unflatten(-1, (CHANNELS, FEATURES))

    func, readout = Small().double(), nn.Linear(CHANNELS, 1).double()
    imported = from_torchcde(
        func,
        nn.Identity(),
        readout,
        channels=CHANNELS,
        depth=DEPTH,
        windows=sr.Count(4),
        method="euler",
        options={"step_size": 1.0},
    )
    t, x = recording()
    _, logsigs = sr.logsig_windows(t, np.column_stack([t, x]), DEPTH, sr.Count(4))
    rows = cumulated(np.append(0.0, x[0]), logsigs)
    expected = by_torchcde(func, nn.Identity(), readout, rows, method="euler", step_size=1.0)
    np.testing.assert_allclose(served(imported, t, x), expected, rtol=0, atol=1e-12)


def test_onnx_serves_initial_and_readout_that_are_modules(tmp_path):
    torch.manual_seed(6)
    imported = from_torchcde(
        *(Gated(), Normed(CHANNELS, HIDDEN), Normed(HIDDEN, 2)),
        channels=CHANNELS,
        depth=DEPTH,
        windows=sr.Every(2.0),
        method="rk4",
        options={"step_size": 1.0},
    )
    bundle, (t, x) = to_bundle(imported.model), recording()
    func = imported.model.field.module.inner
    func.forward = lambda t, z: (func.gate(z).sigmoid() * func.value(z).tanh()).view(-1, HIDDEN, FEATURES)
    export_onnx(imported.model, tmp_path / "step.onnx")
    by_onnx = sr.Predictor(bundle, stepper=OnnxStepper(bundle, tmp_path / "step.onnx")).push_many(t, x)
    by_torch = sr.Predictor(bundle, stepper=TorchStepper(imported.model)).push_many(t, x)
    for a, b in zip(by_onnx, by_torch, strict=True):
        np.testing.assert_allclose(a.value, b.value, rtol=1e-5, atol=1e-5)


def test_a_module_whose_graph_holds_for_one_number_of_rows_is_not_exported(tmp_path):
    given = {"channels": CHANNELS, "depth": DEPTH, "windows": sr.Every(2.0), "method": "rk4"}
    initial, readout = nn.Linear(CHANNELS, HIDDEN), nn.Linear(HIDDEN, 2)
    imported = from_torchcde(Gated(), initial, readout, options={"step_size": 1.0}, **given)
    with pytest.raises(ParameterError, match="serve it by a TorchStepper"):
        export_onnx(imported.model, tmp_path / "step.onnx")


def test_unknown_methods_options_and_interpolations_are_refused():
    given = {"channels": CHANNELS, "depth": DEPTH, "windows": sr.Every(1.0)}
    parts = Perceptron(final=False), nn.Linear(CHANNELS, HIDDEN), nn.Linear(HIDDEN, 2)
    for changes, match in (
        ({"method": "heun3"}, "method='heun3': use one of euler"),
        ({"method": "rk4", "options": {"grid_constructor": None}}, "grid_constructor.*unknown option"),
        ({"interpolation": "cubic"}, "still to come"),
        ({"time": 3}, "time=3: the channel that is time, 0 to 2"),
        ({"method": "rk4", "times": "minutes"}, "times='minutes'"),
        ({"method": "rk4", "times": "seconds", "windows": sr.Count(3)}, "only windows by time"),
        ({"shift": [1.0]}, "one value per channel"),
    ):
        with pytest.raises(ParameterError, match=match):
            from_torchcde(*parts, **given | changes)
    third = from_torchcde(*parts, method="rk4", options={"step_size": 1 / 3}, complete=True, **given)
    assert "is not a power of two" in third.differences[0]


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


def test_a_state_dict_with_other_parts_than_the_originals_is_refused():
    *_, state = original(2)
    for changes, match in (
        ({"func.net.1.weight": torch.ones(7)}, r"lacks 'func\.net\.1\.bias'"),
        ({"extra.weight": torch.ones(7, 7)}, r"has 'extra\.weight'"),
        ({"func.net.2.bias": torch.ones(7, 7)}, "not that of a linear layer"),
        ({"func.net.2.weight": torch.ones(9, 7), "func.net.2.bias": torch.ones(9)}, "through 7 each"),
    ):
        with pytest.raises(ParameterError, match=match):
            from_neural_rdes(state | changes, depth=DEPTH, step=8)


@pytest.mark.parametrize("kind", ["hook", "forward", "subclass"])
def test_a_linear_layer_that_does_more_is_not_taken_for_its_weights(kind):
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    readout = Doubled(HIDDEN, 2) if kind == "subclass" else nn.Linear(HIDDEN, 2)
    if kind == "hook":
        readout.register_forward_hook(lambda module, given, result: 2 * result)
    elif kind == "forward":
        readout.forward = lambda x: 2 * nn.functional.linear(x, readout.weight, readout.bias)
    given = {"channels": CHANNELS, "depth": DEPTH, "windows": sr.Every(1.0), "method": "rk4"}
    imported = from_torchcde(
        Perceptron(final=False), nn.Linear(CHANNELS, HIDDEN), readout, options={"step_size": 1.0}, **given
    )
    z = np.ones((1, HIDDEN), np.float32)
    with torch.no_grad():
        expected = readout(torch.tensor(z)).numpy()
    np.testing.assert_allclose(TorchStepper(imported.model).output(z), expected, rtol=1e-6)
