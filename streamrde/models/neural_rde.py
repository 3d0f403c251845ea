"""The Neural RDE in torch: for training, and for anything that needs gradients. Serving has its own NumPy twin."""

from __future__ import annotations

import os
from collections.abc import Sequence

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

import streamrde
from streamrde.errors import ParameterError, ShapeError
from streamrde.inference.bundle import MLP, Bundle, Channel, Header, Task
from streamrde.inference.solvers import FirstStage, Solver, log_ode_step
from streamrde.models.fields import MLPField
from streamrde.models.scaling import Scaling
from streamrde.windowing.gaps import Gap
from streamrde.windowing.missing import Missing
from streamrde.windowing.policies import Every, Interpolation, Windows

_DTYPES = {torch.float32: "float32", torch.float64: "float64"}
_SCALES = Scaling._fields
_MLP, _WINDOWS, _MISSING = MLP(), Every(1.0), Missing()


class NeuralRDE(nn.Module):
    """A Neural RDE by the log-ODE method, with a readout after every window.

    ``z(0) = Linear(x0)``; ``dz/ds = F(z) l_k`` over s in [0, 1], l_k window k's log-signature;
    ``y_k = Linear(z(k+1))``.

    Args:
        channels: time (seconds since the stream's first sample) and the data channels; C, the channels of the path, are
            these and what `missing` adds.
        depth: depth of the log-signatures.
        hidden: size of the state z.
        outputs: number of outputs: classes or targets.
        field: the vector field F.
        solver: "euler", "midpoint" or "rk4" (torchdiffeq's, the 3/8 rule); one step per window.
        first_stage: "own", the textbook step, or "previous": the first stage sees the window before, as
            torchcde.cdeint does by default.
        windows: how time is cut into windows; stored with the model, so that it is served as it was trained.
        interpolation: the path between samples, "linear" or "hold".
        missing: what the path makes of channels that were not observed; it may add channels.
        gap: silence after which the path, and the state too or not, begins anew; None: none.
        names: names of the data channels; by default x1, x2, ...
        units: their units.
        fills: the value of each before it is first observed.
        task: "regression" or "classification" (the outputs are then logits).
        labels: names of the outputs.
        target_units: units of the outputs.
        description: free text that is stored with the model.
        dtype: torch.float32 or torch.float64.
    Raises:
        ParameterError: an argument has a value that cannot work.
    Reference: Morrill et al. 2021, "Neural rough differential equations for long time series".
    """

    x0_shift: Tensor
    x0_scale: Tensor
    logsig_scale: Tensor
    output_shift: Tensor
    output_scale: Tensor

    def __init__(
        self,
        channels: int,
        depth: int,
        hidden: int,
        outputs: int,
        *,
        field: MLP = _MLP,
        solver: Solver = "rk4",
        first_stage: FirstStage = "own",
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
        description: str = "",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if dtype not in _DTYPES:
            raise ParameterError(f"dtype={dtype}: use torch.float32 or torch.float64")
        self.header = _checked(
            Header(
                channels=_channels(channels, names, units, fills),
                depth=depth,
                hidden=hidden,
                outputs=outputs,
                field=field,
                solver=solver,
                first_stage=first_stage,
                windows=windows,
                interpolation=interpolation,
                missing=missing,
                gap=gap,
                task=task,
                labels=tuple(labels),
                units=tuple(target_units),
                description=description,
                dtype=_DTYPES[dtype],  # type: ignore[arg-type]
            )
        )
        channels, features = self.header.path_channels, self.header.logsig_channels
        self.initial = nn.Linear(channels, hidden, dtype=dtype)
        self.field = MLPField(field, hidden=hidden, features=features, dtype=dtype)
        self.readout = nn.Linear(hidden, outputs, dtype=dtype)
        sizes = dict(zip(_SCALES, (channels, channels, features, outputs, outputs), strict=True))
        for name, size in sizes.items():
            start = torch.zeros if name.endswith("shift") else torch.ones
            self.register_buffer(name, start(size, dtype=torch.float64))

    def set_scaling(self, scaling: Scaling) -> None:
        """Store the scaling of inputs and outputs."""
        with torch.no_grad():
            for name, value in scaling._asdict().items():
                getattr(self, name).copy_(torch.as_tensor(value))

    def forward(self, x0: Tensor, logsigs: Tensor, *, precontract: bool = True) -> Tensor:
        """Outputs after every window.

        Args:
            x0: first samples, (N, C); column 0 is time since the stream's start, hence 0.
            logsigs: log-signatures of the windows, unscaled, words basis, (N, K, B).
            precontract: contract the field's last layer with each log-signature once per window instead of once per
                stage: the same result for a fraction of the work.
        Returns:
            (N, K, outputs): logits (classification) or values in the targets' units (regression).
        Raises:
            ShapeError: another number of channels, of log-signature coefficients, or of streams.
        """
        return self.outputs(self.hidden_states(x0, logsigs, precontract=precontract)[:, 1:])

    def hidden_states(
        self, x0: Tensor, logsigs: Tensor, *, precontract: bool = True, mask: Tensor | None = None
    ) -> Tensor:
        """The state at every window edge, (N, K+1, hidden).

        Arguments and errors as for `forward`; `mask`, (N, width), multiplies the output of the last hidden layer of F
        in every window, which is how training drops features.
        """
        channels, features = self.header.path_channels, self.header.logsig_channels
        if x0.ndim != 2 or x0.shape[1] != channels:
            raise ShapeError(f"x0 has shape {tuple(x0.shape)}; this model takes (N, {channels}), time first")
        if logsigs.ndim != 3 or logsigs.shape[0] != x0.shape[0] or logsigs.shape[2] != features:
            raise ShapeError(f"logsigs has shape {tuple(logsigs.shape)}; expected ({x0.shape[0]}, K, {features})")
        dtype = self.initial.weight.dtype
        z = self.initial(((x0 - self.x0_shift) * self.x0_scale).to(dtype))
        contract = self.field.contracted if precontract else self.field.plain
        states, previous = [z], None
        for logsig in (logsigs * self.logsig_scale).to(dtype).unbind(1):
            drift = contract(logsig, mask=mask)
            z = log_ode_step(z, drift, self.header.solver, first_drift=previous)
            states.append(z)
            if self.header.first_stage == "previous":
                previous = drift
        return torch.stack(states, dim=1)

    def outputs(self, z: Tensor) -> Tensor:
        """The readout of hidden states, (..., hidden) -> (..., outputs)."""
        y = self.readout(z)
        if self.header.task == "classification":
            return y  # type: ignore[no-any-return]
        return y * self.output_scale.to(y.dtype) + self.output_shift.to(y.dtype)  # type: ignore[no-any-return]

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> NeuralRDE:
        """The torch model of a bundle, for training further or for gradients."""
        header = bundle.header
        model = cls(
            header.path_channels,
            header.depth,
            header.hidden,
            header.outputs,
            field=header.field,
            dtype=getattr(torch, header.dtype),
        )
        model.header = header
        names = {_tensor_name(name): name for name in model.state_dict()}
        # A copy: the bundle's arrays may be read-only, and must not train along.
        model.load_state_dict({names[name]: torch.tensor(tensor) for name, tensor in bundle.tensors.items()})
        return model


def to_bundle(model: NeuralRDE) -> Bundle:
    """The model's weights and header as NumPy arrays, ready to be saved or served.

    Raises:
        BundleError: a weight is not finite.
    """
    versions = {"streamrde": streamrde.__version__, "numpy": np.__version__, "torch": str(torch.__version__)}
    dtype = _DTYPES[model.initial.weight.dtype]
    header = msgspec.structs.replace(model.header, dtype=dtype, versions=versions)
    tensors = {}
    for name, tensor in model.state_dict().items():
        array = tensor.detach().cpu().numpy()
        tensors[_tensor_name(name)] = array.astype(np.float64 if name in _SCALES else dtype)
    return Bundle(header, tensors)


def save(model: NeuralRDE | Bundle, path: str | os.PathLike[str]) -> None:
    """Write a model to `path`: safetensors with a JSON header, which `streamrde.load` reads without torch.

    The file is written under a temporary name, synced and renamed.

    Raises:
        BundleError: a weight is not finite.
    """
    (model if isinstance(model, Bundle) else to_bundle(model)).save(path)


def _tensor_name(name: str) -> str:
    return name.replace("_", ".") if name in _SCALES else name


def _channels(
    channels: int, names: Sequence[str] | None, units: Sequence[str] | None, fills: Sequence[float] | None
) -> tuple[Channel, ...]:
    """The header's data channels."""
    if not (isinstance(channels, int) and channels >= 2):
        raise ParameterError(f"channels={channels!r}: time and the data channels, hence a whole number >= 2")
    data = channels - 1
    names = [f"x{i}" for i in range(1, channels)] if names is None else names
    units = [""] * data if units is None else units
    fills = [0.0] * data if fills is None else fills
    for key, values in (("names", names), ("units", units), ("fills", fills)):
        if len(values) != data:
            raise ParameterError(f"{key} has {len(values)} entries; channels={channels} has {data} data channels")
    return tuple(
        Channel(name=name, unit=unit, fill=float(fill)) for name, unit, fill in zip(names, units, fills, strict=True)
    )


def _checked(header: Header) -> Header:
    """The header, if a file with it could be read again."""
    try:
        header = msgspec.convert(msgspec.to_builtins(header), Header)
    except msgspec.ValidationError as error:
        raise ParameterError(f"{error}") from None
    header.check()
    return header
