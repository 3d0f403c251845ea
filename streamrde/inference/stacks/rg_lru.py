"""The real-gated linear recurrent unit (RG-LRU)."""

from __future__ import annotations

import numpy as np

from streamrde.arrays import Reals
from streamrde.inference.activations import ACTIVATIONS, sigmoid
from streamrde.inference.model_part import Shapes, Tensors
from streamrde.inference.recurrence import ArrayRecurrence, Moved, Packed, Recurrence, split_layer, unbiased

SHARPNESS = 2.0
"""Factor on the gated rate. With 2, a gate that is half open has the rate itself. De et al. take 8."""
FLOOR = 1e-6
"""Added under the root of the input's gain, whose slope would be infinite where nothing decays."""


class RGLRU(Recurrence, frozen=True, kw_only=True, omit_defaults=True, tag="rg_lru"):
    """A diagonal linear recurrence whose decay and input are gated by the token.

    ``r, i = sigmoid(W_g u + b_g)``, ``log a = -2 softplus(rate) r dt``,
    ``h <- a h + sqrt(1 - a^2 + 1e-6) i * (W_v u)``, output ``W_o h``, with dt the window's duration in usual windows.

    Reference: De et al. 2024, "Griffin: mixing gated linear recurrences with local attention for efficient language
    models", section 2.4.
    """

    def state_size(self, width: int) -> int:
        """See Recurrence."""
        return width

    def shapes(self, width: int) -> Shapes:
        """See Recurrence."""
        return {
            "gates.weight": (2 * width, width),
            "gates.bias": (2 * width,),
            "value.weight": (width, width),
            "rate": (width,),
            "out.weight": (width, width),
        }

    def summary(self, width: int) -> str:
        """See Recurrence."""
        return "gated linear recurrences (RG-LRU)"

    def build(self, width: int, tensors: Tensors) -> ArrayRecurrence:
        """See Recurrence."""
        return _Gated(width, tensors)

    def packed(self, width: int, tensors: Tensors) -> Packed:
        """See Recurrence."""
        gates = split_layer(tensors["gates.weight"], tensors["gates.bias"], 2)
        rate = -SHARPNESS * ACTIVATIONS["softplus"](tensors["rate"])
        return Packed(width, (*gates, *unbiased(tensors["value.weight"], tensors["out.weight"])), (rate,))


class _Gated(ArrayRecurrence):
    def __init__(self, width: int, tensors: Tensors) -> None:
        self._width = width
        self._gates, self._bias = tensors["gates.weight"], tensors["gates.bias"]
        self._value, self._out = tensors["value.weight"], tensors["out.weight"]
        self._rate = -SHARPNESS * ACTIVATIONS["softplus"](tensors["rate"])

    def advance(self, state: Reals, u: Reals, time: Reals) -> Moved:
        """See ArrayRecurrence."""
        gates = sigmoid(self._gates @ u + self._bias)
        exponent = self._rate * gates[: self._width] * time
        gain = np.sqrt(-np.expm1(2 * exponent) + FLOOR)
        state = np.exp(exponent) * state + gain * (gates[self._width :] * (self._value @ u))
        return Moved(state, self._out @ state)
