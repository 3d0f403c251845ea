"""The minimal gated recurrent unit (minGRU)."""

from __future__ import annotations

import numpy as np

from streamrde.arrays import Reals
from streamrde.inference.activations import ACTIVATIONS
from streamrde.inference.model_part import Shapes, Tensors
from streamrde.inference.recurrence import ArrayRecurrence, Moved, Packed, Recurrence, unbiased


class MinGRU(Recurrence, frozen=True, kw_only=True, omit_defaults=True, tag="min_gru"):
    """A gated unit whose gate sees the token alone, so that it is linear in the state.

    ``g = sigmoid(W_g u + b_g)``, ``a = (1 - g)^dt``, ``h <- a h + (1 - a) (W_v u + b_v)``, output ``W_o h``, with dt
    the window's duration in usual windows. For dt = 1 this is the published unit, without the log-space of its values.

    Reference: Feng et al. 2024, "Were RNNs all we needed?", section 3.1.
    """

    def state_size(self, width: int) -> int:
        """See Recurrence."""
        return width

    def shapes(self, width: int) -> Shapes:
        """See Recurrence."""
        return {
            "gate.weight": (width, width),
            "gate.bias": (width,),
            "value.weight": (width, width),
            "value.bias": (width,),
            "out.weight": (width, width),
        }

    def summary(self, width: int) -> str:
        """See Recurrence."""
        return "minimal gated units (minGRU)"

    def build(self, width: int, tensors: Tensors) -> ArrayRecurrence:
        """See Recurrence."""
        return _Minimal(tensors)

    def packed(self, width: int, tensors: Tensors) -> Packed:
        """See Recurrence."""
        gate, value = ((tensors[f"{name}.weight"], tensors[f"{name}.bias"]) for name in ("gate", "value"))
        return Packed(width, (gate, value, *unbiased(tensors["out.weight"])))


class _Minimal(ArrayRecurrence):
    def __init__(self, tensors: Tensors) -> None:
        self._gate, self._value = ((tensors[f"{name}.weight"], tensors[f"{name}.bias"]) for name in ("gate", "value"))
        self._out = tensors["out.weight"]

    def advance(self, state: Reals, u: Reals, time: Reals) -> Moved:
        """See ArrayRecurrence."""
        weight, bias = self._gate
        # 1 - sigmoid(v) = exp(-softplus(v)), which keeps its digits near 0 and near 1.
        exponent = -ACTIVATIONS["softplus"](weight @ u + bias) * time
        weight, bias = self._value
        state = np.exp(exponent) * state - np.expm1(exponent) * (weight @ u + bias)
        return Moved(state, self._out @ state)
