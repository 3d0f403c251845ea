"""The log-ODE step of a trained model on arrays: compiled where it can be, in NumPy elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamrde import kernels
from streamrde.inference.bundle import Bundle
from streamrde.inference.solvers import TABLEAUX, log_ode_step

Array = NDArray[np.floating]
Floats = NDArray[np.float64]

_erf = np.frompyfunc(math.erf, 1, 1)

# exp overflows to inf in float32 beyond 88; silu and softplus are written so that it does not.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda v: np.maximum(v, 0),
    "tanh": np.tanh,
    "silu": lambda v: v * (0.5 * (1 + np.tanh(0.5 * v))),
    "softplus": lambda v: np.logaddexp(v, np.zeros_like(v)),
    "gelu": lambda v: v * (0.5 * (1 + _erf(v * math.sqrt(0.5)).astype(v.dtype))),
}
# Numbers of the activations in kernels/stepper.hpp.
_NUMBERS = {"relu": 1, "tanh": 2, "silu": 3, "softplus": 4, "gelu": 5}


class Stepper(Protocol):
    """What advances hidden states: arrays with a row per stream, each row's result independent of the others."""

    dtype: np.dtype[Any]

    def initial(self, x0: Floats) -> Array:
        """Hidden states (n, hidden) of streams whose paths begin at x0, (n, C)."""

    def step(self, z: Array, logsigs: Floats, previous: Floats | None = None) -> Array:
        """Advance z (n, hidden) over a window with log-signatures (n, B).

        Args:
            previous: log-signatures of the windows before, (n, B), which drive the first stage of a model with
                ``first_stage="previous"``; a stream's first window has its own. None: all are first windows.
        """

    def output(self, z: Array) -> Array:
        """What the model predicts in z (n, hidden): probabilities of the classes, or targets, (n, outputs)."""


def make_stepper(bundle: Bundle, *, threads: int = 1) -> Stepper:
    """The fastest stepper there is for a model; the same results for each number of threads."""
    if kernels.Stepper is None:
        return ArrayStepper(bundle)
    return CompiledStepper(bundle, threads=threads)


class _BundleStepper:
    """What the steppers of a bundle have in common: scales on the way in and out."""

    def __init__(self, bundle: Bundle) -> None:
        header, tensors = bundle.header, bundle.tensors
        self.header = header
        self.dtype = np.dtype(header.dtype)
        self._x0 = tensors["x0.shift"], tensors["x0.scale"]
        self._logsig_scale = tensors["logsig.scale"]
        self._output = tensors["output.shift"].astype(self.dtype), tensors["output.scale"].astype(self.dtype)

    def _scaled(self, logsigs: Floats) -> Array:
        return np.ascontiguousarray((logsigs * self._logsig_scale).astype(self.dtype))

    def _scaled_x0(self, x0: Floats) -> Array:
        shift, scale = self._x0
        return np.ascontiguousarray(((x0 - shift) * scale).astype(self.dtype))


class ArrayStepper(_BundleStepper):
    """The step in NumPy: the specification of the compiled one, and what runs where that is not there.

    The field ends in a linear layer, so with h(z) the output of the layer before it
    ``F(z) l = (sum_j l_j W_j) h(z) + sum_j l_j b_j``. The sums are contracted once per window; every stage of the
    solver is then a product with a (hidden, width) matrix. One stream at a time, because a matrix product's rounding
    depends on its shape, and a stream's result must not depend on how many others are stepped with it.

    Args:
        bundle: the model.
    """

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        header, tensors = bundle.header, bundle.tensors
        hidden, features, layers = header.hidden, header.logsig_channels, header.field.layers
        self._initial = tensors["initial.weight"], tensors["initial.bias"]
        self._readout = tensors["readout.weight"], tensors["readout.bias"]
        self._layers = [(tensors[f"field.{i}.weight"], tensors[f"field.{i}.bias"]) for i in range(layers)]
        self._activations = [ACTIVATIONS[name] for name in header.field.activations]
        # Rows h*B + j of the last layer, regrouped so that contracting over j is one vector-matrix product; the bias
        # rides along as one more column.
        weight = tensors[f"field.{layers}.weight"].reshape(hidden, features, header.field.width)
        bias = tensors[f"field.{layers}.bias"].reshape(hidden, features, 1)
        self._last = np.ascontiguousarray(np.concatenate([weight, bias], axis=2).transpose(1, 0, 2)).reshape(
            features, -1
        )

    def initial(self, x0: Floats) -> Array:
        """See Stepper."""
        weight, bias = self._initial
        return self._rows(len(x0), self.header.hidden, [weight @ row + bias for row in self._scaled_x0(x0)])

    def step(self, z: Array, logsigs: Floats, previous: Floats | None = None) -> Array:
        """See Stepper."""
        own = self._scaled(logsigs)
        before = self._scaled(previous) if previous is not None and self.header.first_stage == "previous" else None
        moved = []
        for i, state in enumerate(z):
            first = None if before is None else self._drift(before[i])
            moved.append(log_ode_step(state, self._drift(own[i]), self.header.solver, first_drift=first))
        return self._rows(len(z), self.header.hidden, moved)

    def output(self, z: Array) -> Array:
        """See Stepper."""
        weight, bias = self._readout
        value = self._rows(len(z), self.header.outputs, [weight @ state + bias for state in z])
        if self.header.task == "classification":
            exponentials = np.exp(value - value.max(axis=1, keepdims=True))
            return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))
        shift, scale = self._output
        return np.asarray(value * scale + shift)

    def _drift(self, scaled: Array) -> Callable[[Array], Array]:
        contracted = (scaled @ self._last).reshape(self.header.hidden, -1)
        matrix, offset = contracted[:, :-1], contracted[:, -1]

        def drift(z: Array) -> Array:
            for (weight, bias), activation in zip(self._layers, self._activations, strict=True):
                z = activation(weight @ z + bias)
            return np.asarray(matrix @ z + offset)

        return drift

    def _rows(self, count: int, size: int, rows: list[Array]) -> Array:
        return np.array(rows, dtype=self.dtype).reshape(count, size)


class CompiledStepper(_BundleStepper):
    """The same step in C++, a block of streams at a time; each stream's bits are those it would have alone.

    Args:
        bundle: the model.
        threads: how many to split large batches over.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        super().__init__(bundle)
        header, field = bundle.header, bundle.header.field
        tensors = {name: np.ascontiguousarray(tensor) for name, tensor in bundle.tensors.items()}
        self._threads = threads

        def layer(name: str) -> tuple[Array, Array]:
            return tensors[f"{name}.weight"], tensors[f"{name}.bias"]

        tableau = TABLEAUX[header.solver]
        assert kernels.Stepper is not None  # noqa: S101 (make_stepper saw to it)
        self._native = kernels.Stepper(
            self.dtype == np.float64,
            (*layer("initial"), 0),
            (*layer("readout"), 0),
            [(*layer(f"field.{i}"), _NUMBERS[name]) for i, name in enumerate(field.activations)],
            layer(f"field.{field.layers}"),
            header.logsig_channels,
            None,
            (tableau.order, tableau.parts, tableau.nodes, tableau.stages, tableau.weights),
            1,
            1.0,
            2,
        )

    def initial(self, x0: Floats) -> Array:
        """See Stepper."""
        return np.asarray(self._native.initial(self._scaled_x0(x0)))

    def step(self, z: Array, logsigs: Floats, previous: Floats | None = None) -> Array:
        """See Stepper."""
        before = None
        if previous is not None and self.header.first_stage == "previous":
            before = self._scaled(previous)
        return np.asarray(
            self._native.step(np.ascontiguousarray(z), self._scaled(logsigs), before, None, False, self._threads)
        )

    def output(self, z: Array) -> Array:
        """See Stepper."""
        z = np.ascontiguousarray(z)
        if self.header.task == "classification":
            return np.asarray(self._native.output(z, True))
        shift, scale = self._output
        return np.asarray(self._native.output(z, False) * scale + shift)
