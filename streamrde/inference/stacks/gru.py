"""The gated recurrent unit (GRU)."""

from __future__ import annotations

import numpy as np

from streamrde.arrays import Reals
from streamrde.inference.activations import sigmoid
from streamrde.inference.model_part import Shapes, Tensors
from streamrde.inference.recurrence import ArrayRecurrence, Moved, Packed, Recurrence, split_layer


class GRU(Recurrence, frozen=True, kw_only=True, omit_defaults=True, tag="gru"):
    """The gated recurrent unit, as torch defines it. It counts tokens, not time.

    ``r, s = sigmoid(W u + b + V h + c)``, ``n = tanh(W_n u + b_n + r (V_n h + c_n))``, ``h <- (1 - s) n + s h``. The
    output is h. The tensors are those of `torch.nn.GRU`.

    Reference: Cho et al. 2014, "Learning phrase representations using RNN encoder-decoder".
    """

    def state_size(self, width: int) -> int:
        """See Recurrence."""
        return width

    def shapes(self, width: int) -> Shapes:
        """See Recurrence."""
        return {
            "cell.weight_ih_l0": (3 * width, width),
            "cell.weight_hh_l0": (3 * width, width),
            "cell.bias_ih_l0": (3 * width,),
            "cell.bias_hh_l0": (3 * width,),
        }

    def summary(self, width: int) -> str:
        """See Recurrence."""
        return "gated recurrent units (GRU)"

    def build(self, width: int, tensors: Tensors) -> ArrayRecurrence:
        """See Recurrence."""
        return _Cell(width, tensors)

    def packed(self, width: int, tensors: Tensors) -> Packed:
        """See Recurrence."""
        own, carried = (
            split_layer(tensors[f"cell.weight_{name}_l0"], tensors[f"cell.bias_{name}_l0"], 3) for name in ("ih", "hh")
        )
        return Packed(width, own + carried)


class _Cell(ArrayRecurrence):
    def __init__(self, width: int, tensors: Tensors) -> None:
        self._width = width
        self._own, self._carried = (
            (tensors[f"cell.weight_{name}_l0"], tensors[f"cell.bias_{name}_l0"]) for name in ("ih", "hh")
        )

    def advance(self, state: Reals, u: Reals, time: Reals) -> Moved:
        """See ArrayRecurrence."""
        width, (weight, bias) = self._width, self._own
        own = weight @ u + bias
        weight, bias = self._carried
        carried = weight @ state + bias
        gates = sigmoid(own[: 2 * width] + carried[: 2 * width])
        new = np.tanh(own[2 * width :] + gates[:width] * carried[2 * width :])
        state = (1 - gates[width:]) * new + gates[width:] * state
        return Moved(state, state)
