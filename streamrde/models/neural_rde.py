"""The Neural RDE in torch: for training, and for anything that needs gradients. Serving has its own NumPy twin."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

import streamrde
from streamrde.arrays import Reals
from streamrde.errors import ParameterError, ShapeError
from streamrde.floats import as_size, swapped
from streamrde.inference.bundle import Bundle
from streamrde.inference.ends import Layers
from streamrde.inference.fields import MLP, External, Linear, LogNCDE
from streamrde.inference.header import Emit, Head, Header, Pooling, Task
from streamrde.inference.solvers import FirstStage, Solver, Substeps
from streamrde.models.compiled_sequence import compiled_states, is_compiled
from streamrde.models.ends import ModuleEnd, make_end
from streamrde.models.fields import AnyField, LinearField, MLPField, ModuleField, make_field
from streamrde.models.header import checked, data_channels
from streamrde.models.scaling import Scaling, far_from_zero
from streamrde.models.solving import solve
from streamrde.signature.words import check_room
from streamrde.windowing import Every, Gap, Interpolation, Missing, Windows

_DTYPES = {torch.float32: "float32", torch.float64: "float64"}
_SCALES = Scaling._fields
_MLP, _LINEAR, _WINDOWS, _MISSING = MLP(), Layers(), Every(1.0), Missing()
_FLOAT64 = {*_SCALES, "range_low", "range_high"}


class NeuralRDE(nn.Module):
    """A Neural RDE by the log-ODE method, with a readout after every window.

    ``z(0) = Linear(x0)``, ``dz/ds = F(z) l_k`` over s in [0, 1], l_k window k's log-signature, and
    ``y_k = Linear(z(k+1))``, with other modules in the places of the linear layers where they are given.

    Args:
        channels: time (seconds since the stream's first sample) and the data channels; C, the channels of the path, are
            these and what `missing` adds.
        depth: depth of the log-signatures.
        hidden: size of the state z.
        outputs: number of outputs: classes or targets.
        field: the vector field F: a spec (`MLP`, `LogNCDE`, `Linear`), or a torch module that maps z (N, hidden) to
            (N, hidden, B), which is served by a `TorchStepper` or as ONNX.
        initial: what makes the first state of the first sample, (N, C) -> (N, hidden): one linear layer, a perceptron
            (`Layers`), or a torch module, which is served as a field that is one.
        readout: what reads the outputs out of a state, (N, hidden) -> (N, outputs), likewise.
        solver: "euler", "midpoint" or "rk4" (torchdiffeq's, the 3/8 rule); one step per window.
        first_stage: "own", the textbook step, or "previous": the first stage sees the window before, as
            torchcde.cdeint does by default.
        substeps: steps of the solver per window, or "auto": doubled until the estimated error is within `tolerance`.
        tolerance: what the error of a step, relative to 1 + the state's size, should not exceed.
        decay: where > 0, the state decays, ``dz/ds = F(z) l - decay z * duration``; this is the rate per second that
            training starts from. It is learned for each component, stays >= 0, and keeps an endless stream bounded.
        members: parts of the state that move by themselves, each with a field of its own: an ensemble, of which the
            readout is the mean (see inference.ensemble).
        windows: how time is cut into windows; stored with the model, so that it is served as it was trained.
        interpolation: the path between samples, "linear" or "hold".
        missing: what the path makes of channels that were not observed; it may add channels.
        gap: silence after which the path, and the state too or not, begins anew; None: none.
        names: names of the data channels; by default x1, x2, ...
        units: their units.
        fills: the value of each before it is first observed.
        task: "regression" or "classification" (the outputs are then logits). One output is the logit of the second of
            two classes: train it with binary_cross_entropy_with_logits; its sigmoid is served.
        labels: names of the outputs, or of the two classes of one logit.
        target_units: units of the outputs.
        heads: several predictions from one state; their outputs, one after the other, are `outputs`. `task`, `labels`
            and `target_units` are then theirs.
        pooling: what is read out: "state", or "mean" of the states after all windows so far.
        emit: "every" window's prediction is served, or only the "last" one, when the stream ends.
        description: free text that is stored with the model.
        dtype: torch.float32 or torch.float64.
    Raises:
        ParameterError: an argument has a value that cannot work.
    Reference: Morrill et al. 2021, "Neural rough differential equations for long time series".
    """

    # A linear layer in every model that training makes; else as `make_end` says.
    initial: Any
    readout: Any
    x0_shift: Tensor
    x0_scale: Tensor
    logsig_scale: Tensor
    output_shift: Tensor
    output_scale: Tensor
    range_low: Tensor
    range_high: Tensor

    def __init__(
        self,
        channels: int,
        depth: int,
        hidden: int,
        outputs: int,
        *,
        field: MLP | LogNCDE | Linear | nn.Module = _MLP,
        initial: Layers | nn.Module = _LINEAR,
        readout: Layers | nn.Module = _LINEAR,
        solver: Solver = "rk4",
        first_stage: FirstStage = "own",
        substeps: Substeps = 1,
        tolerance: float = 1e-3,
        decay: float = 0.0,
        members: int = 1,
        windows: Windows = _WINDOWS,
        interpolation: Interpolation = "linear",
        missing: Missing = _MISSING,
        gap: Gap | None = None,
        names: Sequence[str] | None = None,
        units: Sequence[str] | None = None,
        fills: Sequence[float] | None = None,
        task: Task = "regression",
        labels: Sequence[str] = (),
        target_units: Sequence[str] = (),
        heads: Sequence[Head] = (),
        pooling: Pooling = "state",
        emit: Emit = "every",
        description: str = "",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        hidden, outputs = as_size("hidden", hidden), as_size("outputs", outputs)
        if dtype not in _DTYPES:
            raise ParameterError(f"dtype={dtype}: use torch.float32 or torch.float64")
        if not decay >= 0:
            raise ParameterError(f"decay={decay}: a rate per second, at least 0")
        module = field if isinstance(field, nn.Module) else None
        self.header = checked(
            Header(
                channels=data_channels(channels, names, units, fills),
                depth=depth,
                hidden=hidden,
                outputs=outputs,
                field=External() if isinstance(field, nn.Module) else field,
                initial=External() if isinstance(initial, nn.Module) else initial,
                readout=External() if isinstance(readout, nn.Module) else readout,
                solver=solver,
                first_stage=first_stage,
                substeps=substeps,
                tolerance=tolerance,
                decay=decay > 0,
                members=members,
                windows=windows,
                interpolation=interpolation,
                missing=missing,
                gap=gap,
                task=task,
                labels=tuple(labels),
                units=tuple(target_units),
                heads=tuple(heads),
                pooling=pooling,
                emit=emit,
                description=description,
                dtype=_DTYPES[dtype],  # type: ignore[arg-type]
            )
        )
        check_room(self.header.path_channels, depth)
        channels, features, members = self.header.path_channels, self.header.logsig_channels, self.header.members
        modules = {
            name: end for name, end in (("initial", initial), ("readout", readout)) if isinstance(end, nn.Module)
        }
        own, given = self.header, modules.get
        self.initial = make_end(own.initial, "initial", channels, hidden, dtype=dtype, module=given("initial"))
        fields = [make_field(self.header, dtype=dtype, module=module) for _ in range(members)]
        self.field: AnyField | nn.ModuleList = fields[0] if members == 1 else nn.ModuleList(fields)
        self.readout = make_end(own.readout, "readout", hidden, outputs, dtype=dtype, module=given("readout"))
        sizes = dict(zip(_SCALES, (channels, channels, features, outputs, outputs), strict=True))
        for name, size in sizes.items():
            start = torch.zeros if name.endswith("shift") else torch.ones
            self.register_buffer(name, start(size, dtype=torch.float64))
        self.novelty: Mapping[str, Reals] = {}
        """The tensors `novelty.*` of the bundle that it came from: of its windows, whatever the weights are."""
        self.register_buffer("range_low", torch.full((hidden,), -torch.inf, dtype=torch.float64))
        self.register_buffer("range_high", torch.full((hidden,), torch.inf, dtype=torch.float64))
        # Its magnitude counts, so that no step of the optimiser can make a rate negative.
        self.decay = nn.Parameter(torch.full((hidden,), decay, dtype=dtype)) if decay else None
        self.decay_time = 1.0
        """Number of seconds that `decay` is a rate per. See `rescale_decay`."""

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights and the state."""
        weights = (weight for weight in self.parameters() if weight.is_floating_point())
        return next((weight.dtype for weight in weights), getattr(torch, self.header.dtype))

    @property
    def device(self) -> torch.device:
        """Device that the model is on."""
        return self.x0_shift.device

    def set_scaling(self, scaling: Scaling) -> None:
        """Store the scaling of inputs and outputs. Targets that float32 would take digits from come out as float64."""
        needed = any(head.task == "regression" for head in self.header.parts) and far_from_zero(scaling)
        self.header = msgspec.structs.replace(self.header, value_dtype="float64" if needed else "")
        with torch.no_grad():
            for name, value in scaling._asdict().items():
                getattr(self, name).copy_(torch.as_tensor(value))

    @property
    def rates(self) -> Tensor | None:
        """Decay per second of each component, (hidden,). None if the state does not decay."""
        return None if self.decay is None else self.decay.abs() / self.decay_time

    @torch.no_grad()
    def rescale_decay(self, seconds: float) -> None:
        """Make the parameter `decay` a rate per so many seconds. The rates stay as they are.

        An optimiser moves a parameter by steps of its own size. In a time that is measured in the unit of the data,
        what it learns does not depend on that unit.
        """
        if self.decay is not None:
            self.decay.mul_(seconds / self.decay_time)
            self.decay_time = seconds

    def set_range(self, low: Tensor, high: Tensor) -> None:
        """Store between what the states were in training, (hidden,) each."""
        with torch.no_grad():
            self.range_low.copy_(low)
            self.range_high.copy_(high)

    def forward(self, x0: Tensor, logsigs: Tensor, *, precontract: bool = True) -> Tensor:
        """Outputs after every window.

        Args:
            x0: first samples, (N, C); column 0 is time since the stream's start, hence 0.
            logsigs: log-signatures of the windows, unscaled, words basis, (N, K, B).
            precontract: contract the field's last layer with each log-signature once per window instead of once per
                stage: the same result for a fraction of the work.
        Returns:
            (N, K, outputs): logits (classification) or values in the targets' units (regression, float64 where the
            header's `value_dtype` says so), of every window also where only the last is served.
        Raises:
            ShapeError: another number of channels, of log-signature coefficients, or of streams.
        """
        return self.in_units(self.readouts(x0, logsigs, precontract=precontract))

    def readouts(self, x0: Tensor, logsigs: Tensor, *, precontract: bool = True) -> Tensor:
        """Return `forward` before the scaling of outputs, of order 1 whatever the targets' unit. Losses take these."""
        return self.readout(  # type: ignore[no-any-return]
            self.pooled(self.hidden_states(x0, logsigs, precontract=precontract)[:, 1:])
        )

    def pooled(self, states: Tensor, *, total: Tensor | None = None, count: int = 0) -> Tensor:
        """What of the states after each window, (N, K, hidden), is read out: themselves, or their running mean.

        Args:
            total: sum of the states after the `count` windows that came before, (N, hidden); None: there were none.
        """
        if self.header.pooling == "state":
            return states
        counts = torch.arange(1 + count, states.shape[1] + 1 + count, dtype=states.dtype, device=states.device)
        sums = states.cumsum(dim=1)
        return (sums if total is None else sums + total[:, None]) / counts[:, None]

    def hidden_states(
        self,
        x0: Tensor,
        logsigs: Tensor,
        *,
        precontract: bool = True,
        mask: Tensor | None = None,
        start: Tensor | None = None,
        before: Tensor | None = None,
    ) -> Tensor:
        """The state at every window edge, (N, K+1, hidden).

        On a CPU a field that is a perceptron runs in C++, forwards and backwards, unless gradients with respect to
        `logsigs` are wanted, or `precontract` is False.

        Arguments and errors as for `forward`, and, where streams go on from windows that came before:

        Args:
            mask: multiplies the output of the last hidden layer of F in every window, (N, width), which is how training
                drops features.
            start: the states to go on from, (N, hidden); None: what x0 gives.
            before: log-signatures, unscaled, of the windows before the first of `logsigs`, (N, B), for the first stage
                where that sees the window before; None: there was none.
        """
        channels, features = self.header.path_channels, self.header.logsig_channels
        if x0.ndim != 2 or x0.shape[1] != channels:
            hint = f"; {swapped('x0', tuple(x0.shape))}" if x0.ndim == 2 and len(x0) == channels else ""
            raise ShapeError(f"x0 has shape {tuple(x0.shape)}; this model takes (N, {channels}), time first{hint}")
        if logsigs.ndim != 3 or logsigs.shape[0] != x0.shape[0] or logsigs.shape[2] != features:
            shape = tuple(logsigs.shape)
            hint = f"; {swapped('logsigs', shape)}" if shape[:2] == (len(x0), features) else ""
            raise ShapeError(f"logsigs has shape {shape}; expected ({x0.shape[0]}, K, {features}){hint}")
        sizes = (("mask", mask, getattr(self.header.field, "width", None)), ("start", start, self.header.hidden))
        for name, tensor, size in (*sizes, ("before", before, features)):
            if tensor is not None and size is not None and tensor.shape != (len(x0), size):
                raise ShapeError(f"{name} has shape {tuple(tensor.shape)}; expected ({len(x0)}, {size})")
        dtype = self.dtype
        z = self.initial(((x0 - self.x0_shift) * self.x0_scale).to(dtype)) if start is None else start
        states, previous = [z], None
        if before is not None and self.header.first_stage == "previous":
            previous = (before * self.logsig_scale).to(dtype)
        scaled, seconds = (logsigs * self.logsig_scale).to(dtype), logsigs[..., :1].to(dtype)
        members = list(self._members(z))
        if precontract and all(is_compiled(self.header, own, z, scaled, mask, previous) for own, _, _ in members):
            moved = [
                compiled_states(
                    self.header,
                    cast(MLPField, own),
                    part,
                    scaled,
                    rates=rates,
                    seconds=seconds[..., 0],
                    mask=mask,
                    before=previous,
                )
                for own, part, rates in members
            ]
            return _joined(moved)
        for k, logsig in enumerate(scaled.unbind(1)):
            z = self.step(z, logsig, previous, seconds[:, k], mask=mask, precontract=precontract)
            states.append(z)
            if self.header.first_stage == "previous":
                previous = logsig
        return torch.stack(states, dim=1)

    def step(
        self,
        z: Tensor,
        logsig: Tensor,
        previous: Tensor | None,
        seconds: Tensor,
        *,
        mask: Tensor | None = None,
        precontract: bool = True,
    ) -> Tensor:
        """z (N, hidden) after one window.

        Args:
            logsig: its log-signature, scaled, (N, B).
            previous: that of the window before, for the first stage; None: its own.
            seconds: its duration, (N, 1); read only where the state decays.
            mask, precontract: as for `hidden_states`.
        """
        return self.step_with_error(
            z, logsig, previous, seconds, mask=mask, precontract=precontract, estimate=self.header.substeps == "auto"
        )[0]

    def step_with_error(
        self,
        z: Tensor,
        logsig: Tensor,
        previous: Tensor | None,
        seconds: Tensor,
        *,
        mask: Tensor | None = None,
        precontract: bool = True,
        estimate: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """As `step`, and an estimate of its error by halving the step, (N,), relative to 1 + the state's size.

        Args:
            estimate: False leaves the error at 0, unless the substeps depend on it.
        """
        moved, errors = [], []
        for field, part, decay in self._members(z):
            if isinstance(field, LinearField):
                moved.append(field.flow(part, logsig, None if decay is None else decay * seconds))
                errors.append(torch.zeros_like(part[:, 0]))
                continue
            drift = field.drift(logsig, mask=mask, precontract=precontract)
            first = None if previous is None else field.drift(previous, mask=mask, precontract=precontract)
            fading = None if decay is None else _fading(decay * seconds)
            state, error = solve(self.header, part, drift, first, fading, estimate=estimate)
            moved.append(state)
            errors.append(error)
        # Each error is a root mean square over as many components.
        return _joined(moved), errors[0] if len(errors) == 1 else torch.stack(errors).square().mean(dim=0).sqrt()

    def _members(self, z: Tensor) -> Iterator[tuple[AnyField, Tensor, Tensor | None]]:
        """Each member's field, part of the states (N, hidden) and decay per second."""
        count, rates = self.header.members, self.rates
        if count == 1:
            return iter([(cast(AnyField, self.field), z, rates)])
        fields = cast(list[AnyField], list(cast(nn.ModuleList, self.field)))
        return zip(fields, z.chunk(count, dim=1), [None] * count if rates is None else rates.chunk(count), strict=True)

    def outputs(self, z: Tensor) -> Tensor:
        """The readout of hidden states, (..., hidden) -> (..., outputs): logits, or values in the targets' units."""
        return self.in_units(self.readout(z))

    def in_units(self, y: Tensor) -> Tensor:
        """Return the readouts, (..., outputs), in the targets' units. Logits are returned as they are."""
        if all(head.task == "classification" for head in self.header.parts):
            return y
        if self.header.value_dtype == "float64":
            y = y.double()
        return y * self.output_scale.to(y.dtype) + self.output_shift.to(y.dtype)

    @classmethod
    def from_bundle(
        cls,
        bundle: Bundle,
        *,
        field: nn.Module | None = None,
        initial: nn.Module | None = None,
        readout: nn.Module | None = None,
    ) -> NeuralRDE:
        """The torch model of a bundle, for training further or for gradients.

        Args:
            field, initial, readout: the modules that are not in the bundle's file.
        Raises:
            ParameterError: there is none, or it has other weights than the bundle's had.
        """
        header, given = bundle.header, {"field": field, "initial": initial, "readout": readout}
        for name, module in given.items():
            if isinstance(part := getattr(header, name), External) and module is None:
                raise ParameterError(
                    f"the {name} of this model ({part.name}) is not in its file: give {name}=, the module"
                )
        model = cls(
            header.path_channels,
            header.depth,
            header.hidden,
            header.outputs,
            field=field or header.field,  # type: ignore[arg-type]
            initial=initial or header.initial,  # type: ignore[arg-type]
            readout=readout or header.readout,  # type: ignore[arg-type]
            decay=1.0 if header.decay else 0.0,
            members=header.members,
            heads=header.heads,
            dtype=getattr(torch, header.dtype),
        )
        for name in given:
            own = getattr(model, name)
            if isinstance(own, ModuleField | ModuleEnd) and own.spec() != getattr(header, name):
                raise ParameterError(
                    f"this {name} module has other weights, or another class, than the one the bundle was made with"
                )
        model.header = header
        state = model.state_dict()
        names = {_tensor_name(name): name for name in state if _tensor_name(name) in bundle.tensors}
        model.novelty = {name: tensor for name, tensor in bundle.tensors.items() if name.startswith("novelty.")}
        # A copy: the bundle's arrays may be read-only, and must not train along.
        loaded = {names[name]: torch.tensor(bundle.tensors[name]) for name in bundle.tensors.keys() - model.novelty}
        model.load_state_dict(state | loaded)
        return model


def to_bundle(model: NeuralRDE) -> Bundle:
    """The model's weights and header as NumPy arrays, ready to be saved or served.

    Raises:
        BundleError: a weight is not finite.
    """
    versions = {"streamrde": streamrde.__version__, "numpy": np.__version__, "torch": str(torch.__version__)}
    dtype = _DTYPES[model.dtype]
    ranged = bool(torch.isfinite(model.range_low).all() and torch.isfinite(model.range_high).all())
    header = msgspec.structs.replace(model.header, dtype=dtype, versions=versions, hidden_range=ranged)
    for part in ("field", "initial", "readout"):
        if isinstance(module := getattr(model, part), ModuleField | ModuleEnd):
            header = msgspec.structs.replace(header, **{part: module.spec()})
    tensors, shapes = {}, header.shapes()
    for name, tensor in model.state_dict().items():
        if _tensor_name(name) in shapes:
            array = tensor.detach().cpu().numpy()
            tensors[_tensor_name(name)] = array.astype(np.float64 if name in _FLOAT64 else dtype)
    if model.decay is not None:
        # Divided in float64, so that a time of 1 second leaves every bit as it is.
        rates = model.decay.detach().cpu().double().abs() / model.decay_time
        tensors["decay"] = rates.numpy().astype(dtype)
    return Bundle(header, tensors | dict(model.novelty))


def save(model: NeuralRDE | Bundle, path: str | os.PathLike[str]) -> None:
    """Write a model to `path`: safetensors with a JSON header, which `streamrde.load` reads without torch.

    The file is written under a temporary name, synced and renamed.

    Raises:
        BundleError: a weight is not finite.
    """
    (model if isinstance(model, Bundle) else to_bundle(model)).save(path)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Parts of the state as one, (..., hidden)."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=-1)


def _fading(exponent: Tensor) -> Callable[[float], Tensor]:
    return lambda share: torch.exp(-exponent * share)


def _tensor_name(name: str) -> str:
    return name.replace("_", ".") if name in _FLOAT64 else name
