"""The Neural RDE in torch: for training, and for anything that needs gradients. Serving has its own NumPy twin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from streamrde.arrays import Reals
from streamrde.errors import ParameterError, ShapeError
from streamrde.floats import as_size, swapped
from streamrde.hub import Pretrained
from streamrde.inference.bundle import Bundle
from streamrde.inference.ends import Blank, Layers
from streamrde.inference.fields import MLP, External
from streamrde.inference.header import Emit, Head, Header, Pooling, Task
from streamrde.inference.model_part import PARTS
from streamrde.inference.solvers import FirstStage, Solver, Substeps
from streamrde.inference.vector_field import VectorField
from streamrde.models.compiled_sequence import compiled_states, is_compiled
from streamrde.models.ends import make_end
from streamrde.models.fields import make_field
from streamrde.models.header import data_channels, dtype_name
from streamrde.models.saving import load_tensors, to_bundle
from streamrde.models.scaling import Scaling, far_from_zero
from streamrde.models.torch_field import SequenceTorchField, TorchField, Window
from streamrde.signature.words import check_room
from streamrde.windowing import Every, Gap, Interpolation, Missing, Windows
from streamrde.windowing.tokens import Token

_MLP, _LINEAR, _WINDOWS, _TOKEN, _MISSING = MLP(), Layers(), Every(1.0), Token(), Missing()


class NeuralRDE(nn.Module, Pretrained):
    """A Neural RDE by the log-ODE method, with a readout after every window.

    ``z(0) = Linear(x0)``, ``dz/ds = F(z) l_k`` over s in [0, 1], l_k window k's log-signature, and
    ``y_k = Linear(z(k+1))``, with other modules in the places of the linear layers where they are given.

    Every other argument is the header's field of that name, see `streamrde.Header`.

    Args:
        channels: time (seconds since the stream's first sample) and the data channels. C, the channels of the path,
            are these and what `missing` adds.
        depth: depth of the log-signatures.
        hidden: size of the state z.
        outputs: number of outputs: classes (logits) or targets. One logit is that of the second of two classes: train
            it with binary_cross_entropy_with_logits. Its sigmoid is served.
        field: the vector field F: a description (`MLP`, `LogNCDE`, `Linear`, ...), or a torch module that maps
            z (N, hidden) to (N, hidden, B). A model with a module is served by a `TorchStepper` or as ONNX.
        initial: what makes the first state of the first sample, (N, C) -> (N, hidden): one linear layer, a perceptron
            (`Layers`), or a torch module. A `Stack` begins with zeros: `Blank`.
        readout: what reads the outputs out of a state, (N, hidden) -> (N, outputs), likewise.
        decay: if > 0, the state decays, ``dz/ds = F(z) l - decay z * duration``. This is the rate per second that
            training starts from. It is learned for each component, stays >= 0, and keeps an endless stream bounded.
        names, units, fills: of each data channel: its name (by default x1, x2, ...), its unit, and its value before it
            is first observed.
        target_units: units of the outputs.
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
    token_shift: Tensor
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
        field: VectorField | nn.Module = _MLP,
        initial: Layers | Blank | nn.Module = _LINEAR,
        readout: Layers | nn.Module = _LINEAR,
        solver: Solver = "rk4",
        first_stage: FirstStage = "own",
        substeps: Substeps = 1,
        tolerance: float = 1e-3,
        decay: float = 0.0,
        members: int = 1,
        windows: Windows = _WINDOWS,
        token: Token = _TOKEN,
        clip: float = 0.0,
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
        notes: str = "",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if not decay >= 0:
            raise ParameterError(f"decay={decay}: a rate per second, at least 0")
        header = Header(
            channels=data_channels(channels, names, units, fills),
            depth=depth,
            hidden=as_size("hidden", hidden),
            outputs=as_size("outputs", outputs),
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
            token=token,
            clip=clip,
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
            notes=notes,
            dtype=dtype_name(dtype),
        )
        given = {"field": field, "initial": initial, "readout": readout}
        modules = {name: part for name, part in given.items() if isinstance(part, nn.Module)}
        self._build(header.checked(), modules, decay)

    @classmethod
    def from_header(
        cls,
        header: Header,
        *,
        decay: float = 1.0,
        field: nn.Module | None = None,
        initial: nn.Module | None = None,
        readout: nn.Module | None = None,
    ) -> Self:
        """Make a model with random weights.

        Args:
            header: the model. It is not changed.
            decay: rate per second that training starts from, if the state decays.
            field, initial, readout: the modules of the parts that are external.
        Raises:
            ParameterError: the header contradicts itself, or a module is missing.
        """
        header.check()
        model, given = cls.__new__(cls), {"field": field, "initial": initial, "readout": readout}
        model._build(header, {name: module for name, module in given.items() if module is not None}, decay)
        return model

    def _build(self, header: Header, modules: Mapping[str, nn.Module], decay: float) -> None:
        super().__init__()
        for name in PARTS:
            if not (part := header.part(name)).stored and name not in modules:
                what = f"the {name} of this model ({cast(External, part).name})"
                raise ParameterError(f"{what} is not in its file: give {name}=, the module")
        if not header.field.trained:
            why = f"field '{header.field.tag}' is fitted in closed form and has no torch model"
            raise ParameterError(f"{why}: serve the bundle as it is")
        check_room(header.path_channels, header.depth)
        self.header = header
        hidden, outputs = header.hidden, header.outputs
        self.initial = make_end(header, "initial", modules.get("initial"))
        fields = [make_field(header, modules.get("field")) for _ in range(header.members)]
        self.field: Any = fields[0] if header.members == 1 else nn.ModuleList(fields)
        self.readout = make_end(header, "readout", modules.get("readout"))
        channels, features = header.path_channels, header.logsig_channels
        sizes = [channels, channels, features, outputs, outputs, *[features] * header.shifts_tokens]
        for name, size in zip(Scaling._fields, sizes, strict=False):
            start = torch.zeros if name.endswith("shift") else torch.ones
            self.register_buffer(name, start(size, dtype=torch.float64))
        self.value_dtype = header.value_dtype
        """Dtype of the outputs, as of the header. See `set_scaling`."""
        self.novelty: Mapping[str, Reals] = {}
        """The tensors `novelty.*` of the bundle that it came from, which describe windows, whatever the weights are."""
        self.register_buffer("range_low", torch.full((hidden,), -torch.inf, dtype=torch.float64))
        self.register_buffer("range_high", torch.full((hidden,), torch.inf, dtype=torch.float64))
        # Its magnitude counts, so that no step of the optimiser can make a rate negative.
        rate = torch.full((hidden,), decay, dtype=getattr(torch, header.dtype))
        self.decay = nn.Parameter(rate) if header.decay else None
        self.decay_time = 1.0
        """Number of seconds that `decay` is a rate per. See `rescale_decay`."""

    @property
    def dtype(self) -> torch.dtype:
        """Return the dtype of the weights and the state."""
        weights = (weight for weight in self.parameters() if weight.is_floating_point())
        return next((weight.dtype for weight in weights), getattr(torch, self.header.dtype))

    @property
    def device(self) -> torch.device:
        """Return the device that the model is on."""
        return self.x0_shift.device

    def set_scaling(self, scaling: Scaling) -> None:
        """Store the scaling of inputs and outputs. Targets that float32 would take digits from come out as float64."""
        needed = any(head.task == "regression" for head in self.header.parts) and far_from_zero(scaling)
        self.value_dtype = "float64" if needed else ""
        with torch.no_grad():
            for name, value in scaling._asdict().items():
                if value is not None:
                    getattr(self, name).copy_(torch.as_tensor(value))

    def scaled(self, tokens: Tensor) -> Tensor:
        """Return tokens, (..., B), as they enter the field. See `streamrde.inference.token_scaling`.

        A row whose first entry is NaN becomes 0 where tokens are shifted: with such rows batches are padded.
        """
        if not self.header.shifts_tokens:
            return (tokens * self.logsig_scale).to(self.dtype)
        scaled = (tokens - self.token_shift) * self.logsig_scale
        summaries = torch.arange(tokens.shape[-1], device=tokens.device) >= self.header.partition.places.summaries.start
        absent = (scaled.isnan() & summaries) | tokens[..., :1].isnan()
        scaled = scaled.masked_fill(absent, 0.0)
        if self.header.clip:
            scaled = scaled.clamp(-self.header.clip, self.header.clip)
        return scaled.to(self.dtype)

    @property
    def rates(self) -> Tensor | None:
        """Return the decay per second of each component, (hidden,). None: the state does not decay."""
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
        """Store between what the states were in training, (hidden,) each. Counts of windows may go on."""
        with torch.no_grad():
            self.range_low.copy_(low)
            self.range_high.copy_(high)
            for column, most in self.header.field.counters:
                self.range_high[column :: self.header.member_hidden] = most

    def forward(self, x0: Tensor, logsigs: Tensor, *, precontract: bool = True) -> Tensor:
        """Return the outputs after every window.

        Args:
            x0: first samples, (N, C); column 0 is time since the stream's start, hence 0.
            logsigs: log-signatures of the windows, words basis, or their tokens, unscaled, (N, K, B).
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
        return self.read(self.pooled(self.hidden_states(x0, logsigs, precontract=precontract)[:, 1:]))

    def read(self, states: Tensor) -> Tensor:
        """Read states out before the scaling of outputs, (..., hidden) -> (..., outputs)."""
        header = self.header
        part = header.field.read_part(header)
        if part != slice(0, header.member_hidden):
            states = states.reshape(*states.shape[:-1], header.members, header.member_hidden)[..., part].flatten(-2)
        return self.readout(states)  # type: ignore[no-any-return]

    def pooled(self, states: Tensor, *, total: Tensor | None = None, count: int = 0) -> Tensor:
        """Return what is read out: the states after each window, (N, K, hidden), or their running mean.

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
        token_mask: Tensor | None = None,
        start: Tensor | None = None,
        before: Tensor | None = None,
        through: bool = True,
    ) -> Tensor:
        """Return the state at every window edge, (N, K+1, hidden).

        On a CPU a field that is a perceptron runs in C++, forwards and backwards, unless gradients with respect to
        `logsigs` are wanted, or `precontract` is False.

        Arguments and errors as for `forward`, and, where streams go on from windows that came before:

        Args:
            mask: multiplies the output of the last hidden layer of F in every window, (N, width), which is how training
                drops features.
            token_mask: multiplies the scaled tokens of every window, (N, B), which is how training drops their entries.
            start: the states to go on from, (N, hidden); None: what x0 gives.
            before: log-signatures, unscaled, of the windows before the first of `logsigs`, (N, B), for the first stage
                where that sees the window before; None: there was none.
            through: False leaves gradients out of the parts of a stack's state that are not read out, which is faster.
        """
        channels, features = self.header.path_channels, self.header.logsig_channels
        if x0.ndim != 2 or x0.shape[1] != channels:
            hint = f"; {swapped('x0', tuple(x0.shape))}" if x0.ndim == 2 and len(x0) == channels else ""
            raise ShapeError(f"x0 has shape {tuple(x0.shape)}; this model takes (N, {channels}), time first{hint}")
        if logsigs.ndim != 3 or logsigs.shape[0] != x0.shape[0] or logsigs.shape[2] != features:
            shape = tuple(logsigs.shape)
            hint = f"; {swapped('logsigs', shape)}" if shape[:2] == (len(x0), features) else ""
            raise ShapeError(f"logsigs has shape {shape}; expected ({x0.shape[0]}, K, {features}){hint}")
        sizes = (("mask", mask, self.header.field.dropout_width or None), ("start", start, self.header.hidden))
        for name, tensor, size in (*sizes, ("before", before, features), ("token_mask", token_mask, features)):
            if tensor is not None and size is not None and tensor.shape != (len(x0), size):
                raise ShapeError(f"{name} has shape {tuple(tensor.shape)}; expected ({len(x0)}, {size})")
        dtype = self.dtype
        z = self.initial(((x0 - self.x0_shift) * self.x0_scale).to(dtype)) if start is None else start
        states, previous = [z], None
        if before is not None and self.header.first_stage == "previous":
            previous = self.scaled(before)
        scaled, seconds = self.scaled(logsigs), logsigs[..., :1].to(dtype)
        if self.header.shifts_tokens:
            seconds = seconds.nan_to_num()
        if token_mask is not None:
            scaled = scaled * token_mask[:, None].to(dtype)
            previous = None if previous is None else previous * token_mask.to(dtype)
        members = list(self._members(z))
        runs = [(own, part) for own, part, _ in members if isinstance(own, SequenceTorchField)]
        if runs:
            return _joined([own.states(part, scaled, seconds, mask, through=through) for own, part in runs])
        if precontract and all(is_compiled(self.header, own, z, scaled, mask, previous) for own, _, _ in members):
            moved = [
                compiled_states(
                    self.header,
                    own,
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
        """Return z (N, hidden) after one window.

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
        """Return what `step` does, and an estimate of its error by halving the step, (N,), relative to 1 + the state.

        Args:
            estimate: False leaves the error at 0, unless the substeps depend on it.
        """
        moved, errors = [], []
        for field, part, decay in self._members(z):
            exponent = None if decay is None else decay * seconds
            window = Window(logsig, previous, seconds, exponent, mask, precontract, estimate)
            state, error = field.advance(self.header, part, window)
            moved.append(state)
            errors.append(error)
        # Each error is a root mean square over as many components.
        return _joined(moved), errors[0] if len(errors) == 1 else torch.stack(errors).square().mean(dim=0).sqrt()

    def _members(self, z: Tensor) -> Iterator[tuple[TorchField, Tensor, Tensor | None]]:
        """Return each member's field, part of the states (N, hidden) and decay per second."""
        count, rates = self.header.members, self.rates
        if count == 1:
            return iter([(self.field, z, rates)])
        return zip(
            self.field, z.chunk(count, dim=1), [None] * count if rates is None else rates.chunk(count), strict=True
        )

    def outputs(self, z: Tensor) -> Tensor:
        """Read states out, (..., hidden) -> (..., outputs): logits, or values in the targets' units."""
        return self.in_units(self.read(z))

    def in_units(self, y: Tensor) -> Tensor:
        """Return the readouts, (..., outputs), in the targets' units. Logits are returned as they are."""
        if all(head.task == "classification" for head in self.header.parts):
            return y
        if self.value_dtype == "float64":
            y = y.double()
        return y * self.output_scale.to(y.dtype) + self.output_shift.to(y.dtype)

    def to_bundle(self) -> Bundle:
        """Return the weights and the header as NumPy arrays, to be served or saved."""
        return to_bundle(self)

    @classmethod
    def from_bundle(
        cls,
        bundle: Bundle,
        *,
        field: nn.Module | None = None,
        initial: nn.Module | None = None,
        readout: nn.Module | None = None,
    ) -> Self:
        """Make the torch model of a bundle, for training further or for gradients.

        Args:
            field, initial, readout: the modules that are not in the bundle's file.
        Raises:
            ParameterError: there is none, or it has other weights than the bundle's had.
        """
        model = cls.from_header(bundle.header, field=field, initial=initial, readout=readout)
        for name, module in (("field", field), ("initial", initial), ("readout", readout)):
            if module is not None and getattr(model, name).description() != bundle.header.part(name):
                raise ParameterError(
                    f"this {name} module has other weights, or another class, than the one the bundle was made with"
                )
        load_tensors(model, bundle)
        return model


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Join parts of the state to one, (..., hidden)."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=-1)
