"""The log-ODE step of a trained model on NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from streamrde.inference.bundle import Bundle
from streamrde.inference.solvers import log_ode_step

Array = NDArray[np.floating]

# exp overflows to inf in float32 beyond 88; silu and softplus are written so that it does not.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda v: np.maximum(v, 0),
    "tanh": np.tanh,
    "silu": lambda v: v * (0.5 * (1 + np.tanh(0.5 * v))),
    "softplus": lambda v: np.logaddexp(v, np.zeros_like(v)),
}


class Stepper:
    """Advances hidden states of one model, one stream and one window at a time.

    The field ends in a linear layer, so with h(z) the output of the layer before it
    ``F(z) l = (sum_j l_j W_j) h(z) + sum_j l_j b_j``. The sums are contracted once per window; every stage of the
    solver is then a product with a (hidden, width) matrix. One stream at a time, because a matrix product's rounding
    depends on its shape, and a stream's result must not depend on how many others are stepped with it.

    Args:
        bundle: the model.
    """

    def __init__(self, bundle: Bundle) -> None:
        header, tensors = bundle.header, bundle.tensors
        hidden, features, layers = header.hidden, header.logsig_channels, header.field.layers
        self.header = header
        self.dtype = np.dtype(header.dtype)
        self._x0 = tensors["x0.shift"], tensors["x0.scale"]
        self._logsig_scale = tensors["logsig.scale"]
        self._initial = tensors["initial.weight"], tensors["initial.bias"]
        self._readout = tensors["readout.weight"], tensors["readout.bias"]
        self._output = tensors["output.shift"].astype(self.dtype), tensors["output.scale"].astype(self.dtype)
        self._layers = [(tensors[f"field.{i}.weight"], tensors[f"field.{i}.bias"]) for i in range(layers)]
        field = header.field
        self._activations = [ACTIVATIONS[field.activation]] * (layers - 1) + [ACTIVATIONS[field.last_activation]]
        # Rows h*B + j of the last layer, regrouped so that contracting over j is one vector-matrix product; the bias
        # rides along as one more column.
        weight = tensors[f"field.{layers}.weight"].reshape(hidden, features, field.width)
        bias = tensors[f"field.{layers}.bias"].reshape(hidden, features, 1)
        self._last = np.ascontiguousarray(np.concatenate([weight, bias], axis=2).transpose(1, 0, 2)).reshape(
            features, -1
        )

    def initial(self, x0: NDArray[np.float64]) -> Array:
        """Hidden state (hidden,) of a stream whose path begins at x0, (C,)."""
        shift, scale = self._x0
        weight, bias = self._initial
        return np.asarray(weight @ ((x0 - shift) * scale).astype(self.dtype) + bias)

    def step(self, z: Array, logsig: NDArray[np.float64], previous: NDArray[np.float64] | None = None) -> Array:
        """Advance z (hidden,) over a window with log-signature (B,).

        Args:
            previous: log-signature of the window before, (B,), which drives the first stage of a model with
                ``first_stage="previous"``; None in a stream's first window.
        """
        drift = self._drift(logsig)
        first = self._drift(previous) if previous is not None and self.header.first_stage == "previous" else None
        return np.asarray(log_ode_step(z, drift, self.header.solver, first_drift=first))

    def _drift(self, logsig: NDArray[np.float64]) -> Callable[[Array], Array]:
        scaled = (logsig * self._logsig_scale).astype(self.dtype)
        contracted = (scaled @ self._last).reshape(self.header.hidden, -1)
        matrix, offset = contracted[:, :-1], contracted[:, -1]

        def drift(z: Array) -> Array:
            for (weight, bias), activation in zip(self._layers, self._activations, strict=True):
                z = activation(weight @ z + bias)
            return np.asarray(matrix @ z + offset)

        return drift

    def output(self, z: Array) -> Array:
        """What the model predicts in hidden state z (hidden,): probabilities of the classes, or targets, (outputs,)."""
        weight, bias = self._readout
        value = weight @ z + bias
        if self.header.task == "classification":
            exponentials = np.exp(value - value.max())
            return np.asarray(exponentials / exponentials.sum())
        shift, scale = self._output
        return np.asarray(value * scale + shift)
