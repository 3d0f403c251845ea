"""The log-ODE step of a trained model on arrays: compiled where it can be, in NumPy elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from streamrde import kernels
from streamrde.arrays import Floats, Indices, Reals
from streamrde.inference.activations import NUMBERS
from streamrde.inference.bundle import Bundle, Head, Header
from streamrde.inference.ensemble import parts
from streamrde.inference.fields import MLP, External
from streamrde.inference.layers import Dense, Layers
from streamrde.inference.solvers import MOST_SUBSTEPS, TABLEAUX, log_ode_step

T = TypeVar("T")


class Stepper(Protocol):
    """What advances hidden states: arrays with a row per stream, each row's result independent of the others."""

    dtype: np.dtype[Any]

    def initial(self, x0: Floats) -> Reals:
        """Hidden states (n, hidden) of streams whose paths begin at x0, (n, C)."""

    def step(self, z: Reals, logsigs: Floats, previous: Floats | None = None) -> Reals:
        """Advance z (n, hidden) over a window with log-signatures (n, B), unscaled.

        Args:
            previous: log-signatures of the windows before, (n, B), which drive the first stage of a model with
                ``first_stage="previous"``; a stream's first window has its own. None: all are first windows.
        """

    def step_with_error(self, z: Reals, logsigs: Floats, previous: Floats | None = None) -> tuple[Reals, Floats]:
        """As `step`, bit for bit, and an estimate of its error, (n,): see `step_error`."""

    def output(self, z: Reals) -> Reals:
        """What the model predicts in z (n, hidden): probabilities of the classes, or targets, (n, outputs)."""


def make_stepper(bundle: Bundle, *, threads: int = 1) -> Stepper:
    """The fastest stepper there is for a model; the same results for each number of threads.

    Raises:
        ParameterError: the model's field is not in its file.
    """
    return EnsembleStepper(bundle, threads=threads) if bundle.header.members > 1 else _alone(bundle, threads=threads)


def _alone(bundle: Bundle, *, threads: int) -> ArrayStepper | CompiledStepper:
    """The stepper of a model that is no ensemble."""
    field = bundle.header.field
    for name in ("initial", "readout"):
        if isinstance(end := getattr(bundle.header, name), External):
            raise end.elsewhere(name)
    if kernels.Stepper is None or not isinstance(field, MLP) or field.final_activation != "identity":
        return ArrayStepper(bundle)
    return CompiledStepper(bundle, threads=threads)


def _with_threads(cls: type[T], bundle: Bundle, threads: int) -> T:
    """Make a stepper again from what it was made from. A compiled one cannot be pickled itself."""
    return cls(bundle, threads=threads)  # type: ignore[call-arg]


def step_in_rounds(
    stepper: Stepper,
    z: Reals,
    logsigs: Floats,
    previous: Floats | None,
    rounds: Sequence[Indices],
    before: Indices,
    error: Floats | None = None,
) -> Reals:
    """`step` over many windows of the same streams, in an order in which each stream's predecessor is done.

    Args:
        z: states before the windows of the first round, (n, hidden).
        logsigs, previous: of all windows, (windows, B).
        rounds: places of the windows that are stepped together, every place once.
        before: the place of each window's predecessor; not looked at in the first round.
        error: is filled with an estimate of each step's error, (windows,); None: there is no need of it.
    Returns:
        states after all windows, (windows, hidden).
    """
    if error is None and isinstance(stepper, EnsembleStepper):
        moved = stepper.each(z, lambda member, own: step_in_rounds(member, own, logsigs, previous, rounds, before))
        return np.concatenate(moved, axis=1)
    if error is None and isinstance(stepper, CompiledStepper):
        return stepper.step_in_rounds(z, logsigs, previous, rounds, before)
    after = np.empty((len(logsigs), z.shape[1]), dtype=stepper.dtype)
    for turn, places in enumerate(rounds):
        z = after[before[places]] if turn else z
        own, own_previous = logsigs[places], None if previous is None else previous[places]
        if error is None:
            after[places] = stepper.step(z, own, own_previous)
        else:
            after[places], error[places] = stepper.step_with_error(z, own, own_previous)
    return after


def step_error(coarse: Reals, fine: Reals) -> Floats:
    """Root mean square over the state of ``(fine - coarse) / (1 + |fine|)``, (..., hidden) -> (...)."""
    fine, coarse = fine.astype(np.float64), coarse.astype(np.float64)
    return np.asarray(np.sqrt((((fine - coarse) / (1 + np.abs(fine))) ** 2).mean(axis=-1)))


class Ends:
    """Where a model's states begin and are read out; what all steppers of a bundle have in common."""

    def __init__(self, bundle: Bundle) -> None:
        header, tensors = bundle.header, bundle.tensors
        self._bundle = bundle
        self.header: Header = header
        self.dtype = np.dtype(header.dtype)
        self._x0 = tensors["x0.shift"], tensors["x0.scale"]
        self._logsig_scale = tensors["logsig.scale"]
        self._output = (
            tensors["output.shift"].astype(header.of_values),
            tensors["output.scale"].astype(header.of_values),
        )
        self._initial, self._readout = (
            Dense(end, tensors, name) if isinstance(end, Layers) else None
            for name, end in (("initial", header.initial), ("readout", header.readout))
        )

    def scaled(self, logsigs: Floats) -> Reals:
        """Log-signatures as they enter the field, (n, B)."""
        return np.ascontiguousarray((logsigs * self._logsig_scale).astype(self.dtype))

    def scaled_x0(self, x0: Floats) -> Reals:
        """First samples as they enter the initial layer, (n, C)."""
        shift, scale = self._x0
        return np.ascontiguousarray(((x0 - shift) * scale).astype(self.dtype))

    def initial(self, x0: Floats) -> Reals:
        """See Stepper."""
        dense = self._dense("initial", self._initial)
        return self.rows(len(x0), self.header.hidden, [dense(row) for row in self.scaled_x0(x0)])

    def output(self, z: Reals) -> Reals:
        """See Stepper."""
        return self.predicted(self.readout(z))

    def readout(self, z: Reals) -> Reals:
        """``readout.weight z + readout.bias``, or through more layers, (n, hidden) -> (n, outputs)."""
        dense = self._dense("readout", self._readout)
        return self.rows(len(z), self.header.outputs, [dense(state) for state in z])

    def predicted(self, value: Reals) -> Reals:
        """Readouts (n, outputs) as probabilities, or in the targets' units."""
        shift, scale = self._output
        value = value.astype(self.header.of_values, copy=False)
        parts: list[Reals] = []
        begin = 0
        for head in self.header.parts:
            own = slice(begin, begin := begin + head.outputs)
            part = value[:, own]
            if head.is_binary:
                with np.errstate(over="ignore"):
                    parts.append(1 / (1 + np.exp(-part)))
            elif head.task == "classification":
                exponentials = np.exp(part - part.max(axis=1, keepdims=True))
                parts.append(exponentials / exponentials.sum(axis=1, keepdims=True))
            else:
                parts.append(part * scale[own] + shift[own])
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def _dense(self, name: str, dense: Dense | None) -> Dense:
        if dense is None:
            raise getattr(self.header, name).elsewhere(name)
        return dense

    def rows(self, count: int, size: int, rows: list[Reals]) -> Reals:
        """Rows as one array, (count, size)."""
        return np.array(rows, dtype=self.dtype).reshape(count, size)


class ArrayStepper(Ends):
    """The step in NumPy: the specification of the compiled one, and what runs for every other family of fields.

    One stream at a time, because a matrix product's rounding depends on its shape, and a stream's result must not
    depend on how many others are stepped with it.

    Args:
        bundle: the model; no ensemble.
    """

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        header = bundle.header
        self._field: Any = header.field.build(bundle.tensors, header.hidden, header.path_channels, header.depth)
        self._decay = bundle.tensors["decay"] if header.decay else None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._bundle,)

    def step(self, z: Reals, logsigs: Floats, previous: Floats | None = None) -> Reals:
        """See Stepper."""
        return self._steps(z, logsigs, previous, estimate=False)[0]

    def step_with_error(self, z: Reals, logsigs: Floats, previous: Floats | None = None) -> tuple[Reals, Floats]:
        """See Stepper."""
        return self._steps(z, logsigs, previous, estimate=True)

    def _steps(self, z: Reals, logsigs: Floats, previous: Floats | None, *, estimate: bool) -> tuple[Reals, Floats]:
        own = self.scaled(logsigs)
        before = self.scaled(previous) if previous is not None and self.header.first_stage == "previous" else None
        moved, errors = [], np.zeros(len(z))
        for i, state in enumerate(z):
            first = None if before is None else before[i]
            if hasattr(self._field, "flow"):
                fading = None if self._decay is None else self._decay.astype(np.float64) * logsigs[i, 0]
                moved.append(self._field.flow(state, own[i], fading))
            else:
                state, errors[i] = self._solve(state, own[i], first, float(logsigs[i, 0]), estimate=estimate)
                moved.append(state)
        return self.rows(len(z), self.header.hidden, moved), errors

    def _solve(
        self, z: Reals, own: Reals, first: Reals | None, seconds: float, *, estimate: bool
    ) -> tuple[Reals, float]:
        header, decay = self.header, self._decay
        drift = self._field.drift(own)
        first_drift = None if first is None else self._field.drift(first)

        def solve(substeps: int, first_drift: Any) -> Reals:
            fading = None if decay is None else lambda share: np.exp(decay * self.dtype.type(-seconds * share))
            return np.asarray(
                log_ode_step(z, drift, header.solver, first_drift=first_drift, substeps=substeps, fading=fading)
            )

        # A first stage that sees the window before lowers the order of the step. The finer step of the comparison
        # therefore sees its own window only: it converges at the solver's order, to what the step is to come near.
        power = 2.0 ** TABLEAUX[header.solver].order
        if header.substeps != "auto":
            coarse = solve(header.substeps, first_drift)
            error = step_error(coarse, solve(2 * header.substeps, None)) * power / (power - 1) if estimate else 0.0
            return coarse, float(error)
        coarse, n = solve(1, None), 2
        while True:
            fine = moved = solve(n, None)
            error = step_error(coarse, fine) / (power - 1)
            if first_drift is not None:
                moved = solve(n, first_drift)
                error = error + step_error(moved, fine)
            # NaN is accepted: more steps would not mend it.
            if not error > header.tolerance or 2 * n > MOST_SUBSTEPS:
                return moved, float(error)
            coarse, n = fine, 2 * n


class CompiledStepper(Ends):
    """The same step in C++, a block of streams at a time; each stream's bits are those it would have alone.

    Args:
        bundle: the model; no ensemble, and its field is an MLP with a final linear layer.
        threads: how many to split large batches over.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        super().__init__(bundle)
        header, field = bundle.header, bundle.header.field
        tensors = {name: np.ascontiguousarray(tensor) for name, tensor in bundle.tensors.items()}
        self._threads = threads
        self._carries = header.first_stage == "previous"

        def layer(name: str) -> tuple[Reals, Reals]:
            return tensors[f"{name}.weight"], tensors[f"{name}.bias"]

        # Other ends than one linear layer are run in NumPy. The compiled step is then given layers of zeros.
        ends = {"initial": (header.hidden, header.path_channels), "readout": (header.outputs, header.hidden)}
        self._linear = {name: getattr(header, name) == Layers() for name in ends}
        for name, shape in ends.items():
            if not self._linear[name]:
                tensors[f"{name}.weight"] = np.zeros(shape, self.dtype)
                tensors[f"{name}.bias"] = np.zeros(shape[0], self.dtype)
        tableau = TABLEAUX[header.solver]
        assert kernels.Stepper is not None  # noqa: S101 (make_stepper saw to it)
        assert isinstance(field, MLP)  # noqa: S101
        self._native = kernels.Stepper(
            self.dtype == np.float64,
            (*layer("initial"), NUMBERS["identity"]),
            (*layer("readout"), NUMBERS["identity"]),
            [(*layer(f"field.{i}"), NUMBERS[name]) for i, name in enumerate(field.activations)],
            layer(f"field.{field.layers}"),
            np.ascontiguousarray(self._logsig_scale),
            tensors["decay"] if header.decay else None,
            (tableau.order, tableau.parts, tableau.nodes, tableau.stages, tableau.weights),
            0 if header.substeps == "auto" else header.substeps,
            header.tolerance,
            MOST_SUBSTEPS,
        )
        heads: tuple[Head, ...] = header.parts
        self._one_classifier = len(heads) == 1 and heads[0].task == "classification" and not heads[0].is_binary

    def __reduce__(self) -> tuple[Any, ...]:
        return _with_threads, (type(self), self._bundle, self._threads)

    def initial(self, x0: Floats) -> Reals:
        """See Stepper."""
        if not self._linear["initial"]:
            return super().initial(x0)
        return np.asarray(self._native.initial(self.scaled_x0(x0)))

    def step(self, z: Reals, logsigs: Floats, previous: Floats | None = None) -> Reals:
        """See Stepper."""
        return self._step(z, logsigs, previous, False)  # type: ignore[no-any-return]

    def step_with_error(self, z: Reals, logsigs: Floats, previous: Floats | None = None) -> tuple[Reals, Floats]:
        """See Stepper."""
        return self._step(z, logsigs, previous, True)  # type: ignore[no-any-return]

    def step_in_rounds(
        self,
        z: Reals,
        logsigs: Floats,
        previous: Floats | None,
        rounds: Sequence[Indices],
        before: Indices,
    ) -> Reals:
        """See the function `step_in_rounds`."""
        order = np.concatenate(rounds)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        own, before = logsigs[order], place[before[order]]
        own_previous = previous[order] if self._carries and previous is not None else None
        after = np.empty((len(order), self.header.hidden), dtype=self.dtype)
        step, begin = self._native.step, 0
        for end in np.cumsum([len(places) for places in rounds]).tolist():
            after[begin:end] = z = step(
                np.ascontiguousarray(z) if not begin else after[before[begin:end]],
                own[begin:end],
                None if own_previous is None else own_previous[begin:end],
                False,
                self._threads,
            )
            begin = end
        return after[place]

    def output(self, z: Reals) -> Reals:
        """See Stepper."""
        if self._one_classifier and self._linear["readout"]:
            return np.asarray(self._native.output(np.ascontiguousarray(z), True))
        return self.predicted(self.readout(z))

    def readout(self, z: Reals) -> Reals:
        """See Ends."""
        if not self._linear["readout"]:
            return super().readout(z)
        return np.asarray(self._native.output(np.ascontiguousarray(z), False))

    def _step(self, z: Reals, logsigs: Floats, previous: Floats | None, estimate: bool) -> Any:
        before = np.ascontiguousarray(previous) if self._carries and previous is not None else None
        return self._native.step(
            np.ascontiguousarray(z), np.ascontiguousarray(logsigs), before, estimate, self._threads
        )


class EnsembleStepper(Ends):
    """The members of an ensemble, each stepped by itself.

    Args:
        bundle: the model, of several members.
        threads: how many to split large batches over.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        super().__init__(bundle)
        self._threads = threads
        self._members = [_alone(member, threads=threads) for member in parts(bundle)]

    def __reduce__(self) -> tuple[Any, ...]:
        return _with_threads, (type(self), self._bundle, self._threads)

    def initial(self, x0: Floats) -> Reals:
        """See Stepper."""
        return np.concatenate([member.initial(x0) for member in self._members], axis=1)

    def step(self, z: Reals, logsigs: Floats, previous: Floats | None = None) -> Reals:
        """See Stepper."""
        return np.concatenate(self.each(z, lambda member, own: member.step(own, logsigs, previous)), axis=1)

    def step_with_error(self, z: Reals, logsigs: Floats, previous: Floats | None = None) -> tuple[Reals, Floats]:
        """See Stepper."""
        steps = self.each(z, lambda member, own: member.step_with_error(own, logsigs, previous))
        moved, errors = zip(*steps, strict=True)
        # Each is a root mean square over as many components.
        return np.concatenate(moved, axis=1), np.sqrt(np.mean(np.square(errors), axis=0))

    def readout(self, z: Reals) -> Reals:
        """See Ends."""
        total, *others = self.each(z, lambda member, own: member.readout(own))
        return sum(others, start=total)

    def each(self, z: Reals, do: Callable[[ArrayStepper | CompiledStepper, Reals], T]) -> list[T]:
        """What comes of every member and its part of the states z (n, hidden)."""
        size = self.header.member_hidden
        return [do(member, z[:, i * size : (i + 1) * size]) for i, member in enumerate(self._members)]
