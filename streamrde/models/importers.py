"""Import models that were trained elsewhere, so that they give the same outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from streamrde.errors import ParameterError
from streamrde.inference.activations import Activation, FinalActivation
from streamrde.inference.ends import Layers
from streamrde.inference.fields import MLP
from streamrde.inference.header import Emit, Task
from streamrde.inference.solvers import TABLEAUX, FirstStage, Solver, Substeps
from streamrde.models.foreign import Chosen, FirstChannels, Part, Reordered, inspect, places_of, width_of
from streamrde.models.neural_rde import NeuralRDE
from streamrde.models.scaling import Scaling, along_words
from streamrde.models.structure import Step
from streamrde.signature.words import logsignature_channels
from streamrde.windowing.policies import Count, Windows


class Imported(NamedTuple):
    """An imported model."""

    model: NeuralRDE
    """Ready for `save`, `to_bundle` or `TorchStepper`."""
    differences: tuple[str, ...]
    """Differences, certain or possible, from the original. If empty, the outputs are equal up to rounding."""


def from_torchcde(
    func: nn.Module,
    initial: nn.Module,
    readout: nn.Module,
    *,
    channels: int,
    depth: int,
    windows: Windows,
    method: str = "dopri5",
    options: Mapping[str, Any] | None = None,
    times: Literal["windows", "seconds"] | None = None,
    time: int | None = 0,
    shift: ArrayLike | None = None,
    scale: ArrayLike | None = None,
    interpolation: Literal["linear", "hold", "rectilinear"] = "linear",
    complete: bool = False,
    names: Sequence[str] | None = None,
    fills: Sequence[float] | None = None,
    task: Task = "regression",
    labels: Sequence[str] = (),
    emit: Emit = "every",
) -> Imported:
    """Import a Neural RDE that was trained with torchcde: logsig_windows, LinearInterpolation, cdeint.

    The graphs of `func`, `initial` and `readout` decide how they are served. A chain of linear layers and known
    activations is stored in the model file, and such a field is served compiled. Any other module is served as it is,
    by a `TorchStepper` or ONNX, and the model's notes give the reason. With torchcde's default, ``perturb=False``, the
    first stage of each window sees the window before. Such a model gets ``first_stage="previous"``.

    Args:
        func: the vector field, func(t, z): (N, hidden) -> (N, hidden, B). It must not depend on t.
        initial: z0 = initial(x0), or initial of row 0 of logsig_windows, which is x0 and zeros.
        readout: y = readout(z), (N, hidden) -> (N, outputs).
        channels: C, channels of the path. Time begins at 0.
        depth: depth of logsig_windows.
        windows: Every(window_length).
        method, options: arguments of cdeint, whose default method is dopri5. `rtol` may be among the options.
        times: the t of the windows' interpolation, and so the unit of options["step_size"]. "windows": none was given,
            and each window has length 1. "seconds": the windows' edges in seconds. None: not known; `differences` then
            names the consequences.
        time: number of the path's channel that is time, or None. In streamrde it is the first. The field is adapted.
        shift, scale: earlier scaling of the path's channels, ``(x - shift) * scale``, (C,) each, in its order.
        interpolation: "linear", or "hold" for a path from linear_interpolation_coeffs(rectilinear=...).
        complete: every sample has a value in every channel, so that torchcde's filling of NaN does not matter.
        names, fills, task, labels, emit: as for NeuralRDE.
    Raises:
        ParameterError: a part cannot be imported. The message says which and why.
    """
    if time is not None and not 0 <= time < channels:
        raise ParameterError(f"time={time}: the channel that is time, 0 to {channels - 1}, or None where none is")
    if interpolation not in ("linear", "hold", "rectilinear"):
        raise ParameterError(
            f"interpolation={interpolation!r}: use 'linear' or 'hold' (rectilinear); a cubic path sees samples that "
            "are still to come, and cannot be served: train with linear or rectilinear interpolation"
        )
    options, differences = dict(options or {}), list[str]()
    solver, substeps, first_stage = _solver(method, options, windows, times, differences)
    differences += _missing(interpolation, complete) + _rectilinear(interpolation, depth, windows)
    parts = _parts(func, initial, readout, channels, logsignature_channels(channels, depth))
    for part in parts:
        differences += part.differences
    field, first, last = parts
    hidden, outputs = first.size, last.size
    path_channels = channels + (time is None)
    if time != 0:
        field = _reordered(field, channels, depth, time, (hidden, logsignature_channels(channels, depth)))
        first = _reordered_initial(first, channels, time)
    spec = _perceptron(field)
    reasons = [
        f"{name} is served by torch or ONNX: {part.reason or 'its layers are not those of an MLP field'}"
        for name, part, stored in (
            ("func", field, spec),
            ("initial", first, first.steps),
            ("readout", last, last.steps),
        )
        if not stored
    ]
    model = NeuralRDE(
        path_channels,
        depth,
        hidden,
        outputs,
        field=field.module if spec is None else spec,
        initial=_layers(first) if first.steps else first.module,
        readout=_layers(last) if last.steps else last.module,
        solver=solver,
        first_stage=first_stage,
        substeps=substeps,
        tolerance=float(options.get("rtol", 1e-4)),
        windows=windows,
        interpolation="linear" if interpolation == "linear" else "hold",
        names=names,
        fills=fills,
        task=task,
        labels=labels,
        emit=emit,
        notes="; ".join(reasons),
        dtype=_dtype(func, initial, readout),
    )
    if spec is not None:
        _copy(model.field, field.steps)
    for end, part in ((model.initial, first), (model.readout, last)):
        _copy(end, part.steps)
    model.set_scaling(_scaling(model, shift, scale, time))
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
    """Import a model of the original repository of Neural RDEs (github.com/jambo6/neuralRDEs) from its state dict.

    Its hidden layers are one layer that is applied repeatedly. Its weights are stored once for each application.
    Windows are `step` samples by index, and every stage sees its own window.

    Args:
        state: state dict of ncdes.model.NeuralRDE: initial_linear, func.net, final_linear.
        depth: depth of its log-signatures.
        step: samples per window.
        solver: "midpoint", "rk4" or "euler".
        return_sequences: as in training. False: a prediction only at the stream's end.
        shift, scale: earlier scaling of the path's channels, ``(x - shift) * scale``, (C,) each, time first.
        names, task, labels: as for NeuralRDE.
    Raises:
        ParameterError: a part cannot be imported. The message says which and why.
    """
    if solver not in TABLEAUX:
        raise ParameterError(f"solver={solver!r}: an adaptive or unknown one; use one of {', '.join(TABLEAUX)}")
    layers = _field_layers(state, depth)
    hidden, channels = state["initial_linear.weight"].shape
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
        field=MLP(width=len(layers[0].weight), layers=len(layers) - 1, activation="relu", last_activation="tanh"),
        solver=solver,
        windows=Count(step),
        names=names,
        task=task,
        labels=labels,
        emit="every" if return_sequences else "last",
        dtype=state["initial_linear.weight"].dtype,
    )
    _copy(model.field, layers)
    for part, name in ((model.initial, "initial_linear"), (model.readout, "final_linear")):
        _copy(part, [Step(state[f"{name}.weight"], state[f"{name}.bias"], "identity")])
    model.set_scaling(_scaling(model, shift, scale))
    return Imported(model, tuple(differences))


def _field_layers(state: Mapping[str, Tensor], depth: int) -> list[Step]:
    """Return the field's layers, after checking the names and shapes of a state dict of ncdes.model.NeuralRDE."""
    for name in ("initial_linear.weight", "final_linear.weight"):
        if name not in state:
            raise ParameterError(
                f"the state dict has no '{name}': it does not come from an ncdes.model.NeuralRDE with a final layer"
            )
    parts = [name.split(".") for name in state]
    numbers = sorted(int(part[2]) for part in parts if part[:2] == ["func", "net"] and part[3:] == ["weight"])
    layer_names = ["initial_linear", *(f"func.net.{i}" for i in numbers), "final_linear"]
    wanted = {f"{layer}.{kind}" for layer in layer_names for kind in ("weight", "bias")}
    for name in sorted(wanted ^ state.keys()):
        raise ParameterError(
            f"the state dict {'has' if name in state else 'lacks'} '{name}': it does not come from "
            "ncdes.model.NeuralRDE, which has only linear layers with biases"
        )
    for name in sorted(wanted):
        if state[name].ndim != (2 if name.endswith("weight") else 1):
            raise ParameterError(f"'{name}' has shape {tuple(state[name].shape)}: not that of a linear layer")
    if len(numbers) < 2:
        raise ParameterError("func.net is one linear layer (num_layers=0): there is no perceptron to serve")
    layers = [Step(state[f"func.net.{i}.weight"], state[f"func.net.{i}.bias"], "") for i in numbers]
    hidden, channels = state["initial_linear.weight"].shape
    width, features = len(layers[0].weight), logsignature_channels(channels, depth)
    sizes = [hidden] + [width] * (len(layers) - 1)
    for i, (weight, *_), size_in in zip(numbers, layers, sizes, strict=True):
        if weight.shape[1] != size_in or (i != numbers[-1] and weight.shape[0] != width):
            raise ParameterError(
                f"'func.net.{i}.weight' has shape {tuple(weight.shape)}: the layers of ncdes.model.NeuralRDE go from "
                f"{hidden} through {width} each"
            )
    if len(layers[-1].weight) != hidden * features:
        raise ParameterError(
            f"the field gives {len(layers[-1].weight)} numbers; {channels} channels, depth {depth} and {hidden} states "
            f"need {hidden * features}: another depth, or initial values that are not the path's (response_in_initial)"
        )
    return layers


_ADAPTIVE = ("dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun", "tsit5")
_OPTIONS = (
    *("step_size", "perturb", "rtol", "atol", "interp", "norm", "jump_t", "step_t", "first_step"),
    *("min_step", "max_step", "safety", "ifactor", "dfactor", "max_num_steps", "dtype", "eps"),
)


def _solver(
    method: str, options: dict[str, Any], windows: Windows, times: str | None, differences: list[str]
) -> tuple[Solver, Substeps, FirstStage]:
    for name in options:
        if name not in _OPTIONS:
            raise ParameterError(f"options[{name!r}]: unknown option; a fixed step is options['step_size']")
    if times not in (None, "windows", "seconds"):
        raise ParameterError(f"times={times!r}: use 'windows', 'seconds' or None")
    if times == "seconds" and not windows.fixed_length:
        raise ParameterError(f"times='seconds' with {windows}: only windows by time, Every(seconds), have one length")
    if method not in TABLEAUX:
        if method not in _ADAPTIVE:
            raise ParameterError(
                f"method={method!r}: use one of {', '.join((*TABLEAUX, *_ADAPTIVE))}, as the model was trained"
            )
        differences.append(
            f"{method} chooses its steps by its error, also across the edges of windows, where its estimate fails: "
            "here rk4 does window by window, with substeps='auto', and stays within rtol of the exact solution"
        )
        return "rk4", "auto", "own"
    perturb = bool(options.get("perturb", False))
    if "step_size" not in options:
        differences.append(
            "without step_size the original steps from one output time to the next; here window by window"
        )
        return method, 1, "own" if perturb else "previous"  # type: ignore[return-value]
    step = float(options["step_size"])
    length = windows.length if times == "seconds" else 1.0
    substeps = round(length / step) if 0 < step <= length * (1 + 1e-9) else 0
    if not substeps or abs(substeps * step - length) > 1e-9 * length:
        fits = "1, 1/2, ..." if length == 1 else f"{length:g}, {length / 2:g}, ... (seconds)"
        hint = "" if times == "seconds" else "; times='seconds' where the interpolation was given the windows' edges"
        raise ParameterError(
            f"options['step_size']={step}: windows have length {length:g}; a step must divide them, as {fits}{hint}"
        )
    if times is None and windows.fixed_length and windows.length != 1:
        differences.append(
            f"step_size={step:g} is taken as a share of a window, as if the interpolation had no t: pass "
            "times='windows' if so, or times='seconds' if t was the windows' edges"
        )
    if times == "seconds":
        differences.append(
            "a stream's last window, where it is shorter than the others, takes as many steps as they do: the original "
            "took steps of one length, and its first stage saw the window before shortened"
        )
    if not perturb and math.frexp(step)[0] != 0.5:
        differences.append(
            f"step_size={step:g} is not a power of two: in the original rounding decides which windows' first stages "
            "see the window before; here all do"
        )
    return method, substeps, "own" if perturb else "previous"  # type: ignore[return-value]


def _missing(interpolation: str, complete: bool) -> list[str]:
    begins = (
        "if a stream begins without a value (NaN), torchcde fills backwards from the first one; here the channel has "
        "its fill until then"
    )
    if interpolation == "linear":
        begins += (
            "; between values torchcde fills by row unless it was given t; here by time "
            "(pass complete=True if no value is missing)"
        )
    return [] if complete else [begins]


def _rectilinear(interpolation: str, depth: int, windows: Windows) -> list[str]:
    if interpolation == "linear":
        return []
    found = []
    if depth == 1:
        found.append(
            "a rectilinear path that was not cut by logsig_windows was stepped twice per sample, for the move in time "
            "and for the jump of the values; here a window is one step of both"
        )
    if not windows.by_count:
        found.append(
            "windows of a rectilinear path were counted in its rows, two per sample; here they are cut by time, which "
            "Count(n) of n samples would not do"
        )
    return found


def _dtype(*modules: nn.Module) -> torch.dtype:
    found = {weight.dtype for module in modules for weight in module.parameters() if weight.is_floating_point()}
    if len(found) > 1:
        raise ParameterError(f"the parts have weights of {', '.join(sorted(map(str, found)))}: make them one dtype")
    return found.pop() if found else torch.float32


def _parts(
    func: nn.Module, initial: nn.Module, readout: nn.Module, channels: int, features: int
) -> tuple[Part, Part, Part]:
    """Inspect the three parts. The initial one becomes a function of x0 alone."""
    for name, module in (("func", func), ("initial", initial), ("readout", readout)):
        if not isinstance(module, nn.Module):
            raise ParameterError(f"{name} is a {type(module).__name__}: wrap it in a torch.nn.Module")
    if hasattr(func, "prod"):
        raise ParameterError(
            "func has a method prod, which cdeint calls instead of forward: give a func whose forward is F(z)"
        )
    _dtype(func, initial, readout)
    if isinstance(initial, nn.Linear) and initial.in_features not in (channels, features):
        raise ParameterError(
            f"initial takes {initial.in_features} inputs; this path has {channels} channels, or {features} coefficients"
        )
    errors = []
    for size in dict.fromkeys((channels, features)):
        try:
            hidden = width_of(initial, "initial", size)
            if isinstance(readout, nn.Linear) and readout.in_features != hidden:
                raise ParameterError(f"readout takes {readout.in_features} inputs and the state has {hidden}")
            field = inspect(func, "func", hidden, (hidden, features), timed=True)
        except ParameterError as error:
            errors.append(error)
            continue
        first = inspect(initial, "initial", size, (hidden,))
        if size != channels:
            steps = first.steps
            if steps:
                steps = [steps[0]._replace(weight=steps[0].weight[:, :channels]), *steps[1:]]
            first = first._replace(steps=steps, module=FirstChannels(first.module, size - channels))
        return field, first, inspect(readout, "readout", hidden, (width_of(readout, "readout", hidden),))
    raise errors[-1] if isinstance(initial, nn.Linear) and initial.in_features == features else errors[0]


def _perceptron(field: Part) -> MLP | None:
    """Describe the field as an MLP, or return None if no description fits."""
    if not field.steps or len(field.steps) < 2:
        return None
    *hidden, final = field.steps
    widths = {len(step.weight) for step in hidden}
    activations, last = {step.activation for step in hidden[:-1]}, hidden[-1].activation
    if len(widths) > 1 or len(activations) > 1 or "identity" in {*activations, last}:
        return None
    return MLP(
        width=widths.pop(),
        layers=len(hidden),
        activation=cast(Activation, activations.pop() if activations else "relu"),
        last_activation=cast(Activation, last),
        final_activation=cast(FinalActivation, final.activation),
    )


def _layers(part: Part) -> Layers:
    *hidden, final = part.steps or []
    return Layers(
        widths=tuple(len(step.weight) for step in hidden),
        activations=tuple(cast(FinalActivation, step.activation) for step in hidden),
        final_activation=cast(FinalActivation, final.activation),
    )


def _reordered(field: Part, channels: int, depth: int, time: int | None, shape: tuple[int, int]) -> Part:
    """Adapt a field to a path whose first channel is time."""
    places = torch.as_tensor(places_of(_order(channels, time), channels + (time is None), depth))
    weight = next(field.module.parameters(), torch.zeros(0))
    places = places.to(weight)
    steps = field.steps
    if steps and steps[-1].activation == "identity":
        last = steps[-1]
        weight = torch.einsum("hbw,bj->hjw", last.weight.reshape(*shape, -1), places).flatten(0, 1)
        bias = (last.bias.reshape(shape) @ places).flatten()
        return field._replace(steps=[*steps[:-1], last._replace(weight=weight, bias=bias)])
    reason = field.reason or "an activation after its last layer, and time is not the first channel"
    return field._replace(steps=None, module=Reordered(field.module, places), reason=reason)


def _reordered_initial(first: Part, channels: int, time: int | None) -> Part:
    order = _order(channels, time)
    if first.steps:
        step = first.steps[0]
        weight = step.weight.new_zeros(len(step.weight), channels + (time is None))
        weight[:, order] = step.weight
        return first._replace(steps=[step._replace(weight=weight), *first.steps[1:]])
    return first._replace(module=Chosen(first.module, order))


def _order(channels: int, time: int | None) -> list[int]:
    """Return the place of each of the original's channels in a path whose first channel is time."""
    if time is None:
        return [1 + i for i in range(channels)]
    return [0 if i == time else i + (i < time) for i in range(channels)]


@torch.no_grad()
def _copy(target: nn.Module, steps: Sequence[Step] | None) -> None:
    """Copy the weights of an imported chain into a model's layers."""
    if steps is None:
        return
    layers = [target] if isinstance(target, nn.Linear) else list(cast(nn.ModuleList, target))
    for layer, step in zip(cast("list[nn.Linear]", layers), steps, strict=True):
        layer.weight.copy_(step.weight)
        layer.bias.copy_(step.bias)


def _scaling(model: NeuralRDE, shift: ArrayLike | None, scale: ArrayLike | None, time: int | None = 0) -> Scaling:
    """Turn a scaling of the original path's channels into one of x0 and of log-signatures."""
    channels, outputs = model.header.path_channels, model.header.outputs
    order = _order(channels - (time is None), time)
    ends = np.zeros(channels), np.ones(channels)
    for name, values, found in zip(("shift", "scale"), (shift, scale), ends, strict=True):
        given = found[order] if values is None else np.asarray(values, dtype=np.float64)
        if given.shape != (len(order),):
            raise ParameterError(
                f"{name} has shape {given.shape}: give one value per channel, in the path's order, ({len(order)},)"
            )
        found[order] = given
    letters = np.ones(model.header.logsig_channels)
    letters[:channels] = ends[1]
    return Scaling(*ends, along_words(letters, model.header.depth), np.zeros(outputs), np.ones(outputs))
