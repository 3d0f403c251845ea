"""Models that were trained elsewhere, brought here so that they give the same outputs."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from streamrde.errors import ParameterError
from streamrde.inference.activations import Activation, FinalActivation
from streamrde.inference.bundle import Emit, Task
from streamrde.inference.fields import MLP
from streamrde.inference.solvers import TABLEAUX, FirstStage, Solver, Substeps
from streamrde.models.fields import MLPField
from streamrde.models.fields.mlp import ACTIVATIONS
from streamrde.models.neural_rde import NeuralRDE
from streamrde.models.scaling import Scaling, along_words
from streamrde.signature.words import logsignature_channels
from streamrde.windowing.policies import Count, Interpolation, Windows

_HIDDEN = tuple(name for name in ACTIVATIONS if name != "identity")


class Imported(NamedTuple):
    """A model from elsewhere."""

    model: NeuralRDE
    """Ready for `save`, `to_bundle` or `TorchStepper`."""
    differences: tuple[str, ...]
    """What it does otherwise than the original; empty: the same outputs, to rounding."""


def from_torchcde(
    func: nn.Module,
    initial: nn.Linear,
    readout: nn.Linear,
    *,
    channels: int,
    depth: int,
    windows: Windows,
    method: str = "dopri5",
    options: Mapping[str, Any] | None = None,
    shift: ArrayLike | None = None,
    scale: ArrayLike | None = None,
    interpolation: Interpolation = "linear",
    names: Sequence[str] | None = None,
    task: Task = "regression",
    labels: Sequence[str] = (),
    emit: Emit = "every",
) -> Imported:
    """A Neural RDE that was trained with torchcde: logsig_windows, LinearInterpolation, cdeint at its grid points.

    A field that is a perceptron (found by comparing outputs on random states) is served compiled; any other by a
    `TorchStepper` or ONNX. torchcde's default, ``perturb=False``, shows the first stage of each window the window
    before: such a model gets ``first_stage="previous"``.

    Args:
        func: the vector field, func(t, z): (N, hidden) -> (N, hidden, B); it must not depend on t.
        initial: z0 = initial(x0), or of row 0 of logsig_windows, which is x0 and zeros.
        readout: y = readout(z).
        channels: C, channels of the path, time first. Time begins at 0.
        depth: of logsig_windows.
        windows: Every(window_length).
        method, options: as handed to cdeint, whose own default is dopri5.
        shift, scale: what the path's channels went through before, ``(x - shift) * scale``, (C,) each, time first.
        interpolation, names, task, labels, emit: as of NeuralRDE.
    Raises:
        ParameterError: a part cannot be brought over at all; says which and why.
    """
    hidden, features = initial.out_features, logsignature_channels(channels, depth)
    if initial.in_features not in (channels, features):
        raise ParameterError(
            f"initial takes {initial.in_features} inputs; this path has {channels} channels, or {features} coefficients"
        )
    if readout.in_features != hidden:
        raise ParameterError(f"readout takes {readout.in_features} inputs and the state has {hidden}")
    options, dtype = dict(options or {}), initial.weight.dtype
    differences: list[str] = []
    solver, substeps, first_stage = _solver(method, options, differences)
    field = _field(func, hidden, features)
    model = NeuralRDE(
        channels,
        depth,
        hidden,
        readout.out_features,
        field=field.spec if isinstance(field, _Perceptron) else field,
        solver=solver,
        first_stage=first_stage,
        substeps=substeps,
        tolerance=float(options.get("rtol", 1e-4)),
        windows=windows,
        interpolation=interpolation,
        names=names,
        task=task,
        labels=labels,
        emit=emit,
        dtype=dtype,
    )
    if isinstance(field, _Perceptron):
        _copy_layers(model, field.layers)
    _copy_ends(model, initial.weight[:, :channels], initial.bias, readout.weight, readout.bias)
    model.set_scaling(_scaling(model, shift, scale))
    return Imported(model, tuple(differences))


def from_neural_rdes(
    state: Mapping[str, Tensor],
    *,
    depth: int,
    step: int,
    solver: Solver = "midpoint",
    return_sequences: bool = True,
    shift: ArrayLike | None = None,
    scale: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    task: Task = "regression",
    labels: Sequence[str] = (),
) -> Imported:
    """A model of the original repository of Neural RDEs (github.com/jambo6/neuralRDEs), from its state dict.

    Its hidden layers are one layer, applied again and again: its weights are stored once for each. Windows are `step`
    samples by index; every stage sees its own window.

    Args:
        state: of ncdes.model.NeuralRDE: initial_linear, func.net, final_linear.
        depth: of its log-signatures.
        step: samples per window.
        solver: "midpoint", "rk4" or "euler".
        return_sequences: as it was trained; False: a prediction at the stream's end only.
        shift, scale: what the path's channels went through before, ``(x - shift) * scale``, (C,) each, time first.
        names, task, labels: as of NeuralRDE.
    Raises:
        ParameterError: a part cannot be brought over at all; says which and why.
    """
    if solver not in TABLEAUX:
        raise ParameterError(f"solver={solver!r}: an adaptive or unknown one; use one of {', '.join(TABLEAUX)}")
    for name in ("initial_linear.weight", "final_linear.weight"):
        if name not in state:
            raise ParameterError(
                f"the state dict has no '{name}': it is not of ncdes.model.NeuralRDE with a final layer"
            )
    parts = [name.split(".") for name in state]
    numbers = sorted(int(part[2]) for part in parts if part[:2] == ["func", "net"] and part[3:] == ["weight"])
    if len(numbers) < 2:
        raise ParameterError("func.net is one linear layer (num_layers=0): there is no perceptron to serve")
    layers = [(state[f"func.net.{i}.weight"], state[f"func.net.{i}.bias"]) for i in numbers]
    hidden, channels = state["initial_linear.weight"].shape
    width, features = layers[0][0].shape[0], logsignature_channels(channels, depth)
    if layers[-1][0].shape[0] != hidden * features:
        raise ParameterError(
            f"the field gives {layers[-1][0].shape[0]} numbers; {channels} channels, depth {depth} and {hidden} states "
            f"need {hidden * features}: another depth, or initial values that are not the path's (response_in_initial)"
        )
    differences = ["a stream's last window, where shorter than `step` samples, is served too when it is flushed"]
    if not return_sequences:
        differences.append(
            "the original integrates the last window twice when return_sequences=False; here it counts once"
        )
    model = NeuralRDE(
        channels,
        depth,
        hidden,
        state["final_linear.weight"].shape[0],
        field=MLP(width=width, layers=len(layers) - 1, activation="relu", last_activation="tanh"),
        solver=solver,
        windows=Count(step),
        names=names,
        task=task,
        labels=labels,
        emit="every" if return_sequences else "last",
        dtype=state["initial_linear.weight"].dtype,
    )
    _copy_layers(model, layers)
    _copy_ends(model, *(state[f"{part}_linear.{kind}"] for part in ("initial", "final") for kind in ("weight", "bias")))
    model.set_scaling(_scaling(model, shift, scale))
    return Imported(model, tuple(differences))


class _Perceptron(NamedTuple):
    spec: MLP
    layers: list[tuple[Tensor, Tensor]]


class _WithoutTime(nn.Module):
    """A torchcde field as a function of z alone."""

    def __init__(self, func: nn.Module) -> None:
        super().__init__()
        self.func = func

    def forward(self, z: Tensor) -> Tensor:
        field: Tensor = self.func(z.new_zeros(()), z)
        return field


@torch.no_grad()
def _field(func: nn.Module, hidden: int, features: int) -> _Perceptron | _WithoutTime:
    """The field as a perceptron if it is one, else as it is."""
    exact = copy.deepcopy(func).double()
    z = torch.randn(16, hidden, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted = exact(z.new_zeros(()), z)
    if wanted.shape != (16, hidden, features):
        raise ParameterError(
            f"func gives {tuple(wanted.shape)} for z (16, {hidden}); expected (16, {hidden}, {features})"
        )
    if not torch.equal(wanted, exact(z.new_ones(()), z)):
        raise ParameterError("func depends on t: here a field is a function of z alone; put time into the path")
    layers, own = _layers(exact), _layers(func)
    sizes = [layer.in_features for layer in layers] + [layer.out_features for layer in layers[-1:]]
    joined = all(a.out_features == b.in_features for a, b in itertools.pairwise(layers))
    if joined and len(set(sizes[1:-1])) == 1 and (sizes[0], sizes[-1]) == (hidden, hidden * features):
        hiddens = _HIDDEN if len(layers) > 2 else _HIDDEN[:1]  # with one hidden layer there is none between two
        for activation, last, final in itertools.product(hiddens, _HIDDEN, ACTIVATIONS):
            value = z
            for layer, name in zip(layers, [activation] * (len(layers) - 2) + [last, final], strict=True):
                value = ACTIVATIONS[name](layer(value))
            if torch.allclose(value, wanted.flatten(1), rtol=1e-10, atol=1e-12):
                spec = MLP(
                    width=sizes[1],
                    layers=len(layers) - 1,
                    activation=cast(Activation, activation),
                    last_activation=cast(Activation, last),
                    final_activation=cast(FinalActivation, final),
                )
                return _Perceptron(spec, [(layer.weight, layer.bias) for layer in own])
    return _WithoutTime(func)


def _layers(module: nn.Module) -> list[nn.Linear]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear) and layer.bias is not None]


def _solver(method: str, options: dict[str, Any], differences: list[str]) -> tuple[Solver, Substeps, FirstStage]:
    perturb = bool(options.get("perturb", False))
    first_stage: FirstStage = "own" if perturb else "previous"
    if method not in TABLEAUX:
        differences.append(f"{method} chooses its steps by its error; here rk4 does, with substeps='auto' within rtol")
        return "rk4", "auto", "own"
    step = float(options.get("step_size", 1.0))
    if "step_size" not in options:
        differences.append(
            "without step_size the original steps from output time to output time: here window by window"
        )
    substeps = round(1 / step) if 0 < step <= 1 else 0
    if not substeps or abs(substeps * step - 1) > 1e-9:
        raise ParameterError(
            f"options['step_size']={step}: windows have length 1; a step must divide them, as 1, 1/2, ..."
        )
    return method, substeps, first_stage  # type: ignore[return-value]


@torch.no_grad()
def _copy_layers(model: NeuralRDE, layers: Sequence[tuple[Tensor, Tensor]]) -> None:
    if not isinstance(model.field, MLPField):
        raise ParameterError("only a perceptron has layers to copy")
    for target, (weight, bias) in zip(model.field, layers, strict=True):
        target.weight.copy_(weight)  # type: ignore[operator]
        target.bias.copy_(bias)  # type: ignore[operator]


@torch.no_grad()
def _copy_ends(model: NeuralRDE, initial: Tensor, initial_bias: Tensor, readout: Tensor, readout_bias: Tensor) -> None:
    for part, weight, bias in ((model.initial, initial, initial_bias), (model.readout, readout, readout_bias)):
        part.weight.copy_(weight)
        part.bias.copy_(bias)


def _scaling(model: NeuralRDE, shift: ArrayLike | None, scale: ArrayLike | None) -> Scaling:
    """What scaling the path itself by channel does to x0 and to log-signatures."""
    channels, outputs = model.header.path_channels, model.header.outputs
    shifts = np.zeros(channels) if shift is None else np.asarray(shift, dtype=np.float64)
    scales = np.ones(channels) if scale is None else np.asarray(scale, dtype=np.float64)
    for name, values in (("shift", shifts), ("scale", scales)):
        if values.shape != (channels,):
            raise ParameterError(
                f"{name} has shape {values.shape}: give one value per channel, time first, ({channels},)"
            )
    letters = np.ones(model.header.logsig_channels)
    letters[:channels] = scales
    words = along_words(letters, model.header.depth)
    return Scaling(shifts, scales, words, np.zeros(outputs), np.ones(outputs))
