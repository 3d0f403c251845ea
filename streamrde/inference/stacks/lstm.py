"""The long short-term memory (LSTM)."""

from __future__ import annotations

import numpy as np

from streamrde.arrays import Reals
from streamrde.inference.activations import sigmoid
from streamrde.inference.model_part import Shapes, Tensors
from streamrde.inference.recurrence import ArrayRecurrence, Moved, Packed, Recurrence, split_layer


class LSTM(Recurrence, frozen=True, kw_only=True, omit_defaults=True, tag="lstm"):
    """The long short-term memory, as torch defines it. It counts tokens, not time.

    ``i, f, o = sigmoid(W u + b + V h + c)``, ``g = tanh(W_g u + b_g + V_g h + c_g)``, ``c <- f c + i g``,
    ``h <- o tanh(c)``. The output is h. The state has h, then c. The tensors are those of `torch.nn.LSTM`.

    Reference: Hochreiter & Schmidhuber 1997, "Long short-term memory"; Gers et al. 2000 for the forget gate.
    """

    def state_size(self, width: int) -> int:
        """See Recurrence."""
        return 2 * width

    def shapes(self, width: int) -> Shapes:
        """See Recurrence."""
        return {
            "cell.weight_ih_l0": (4 * width, width),
            "cell.weight_hh_l0": (4 * width, width),
            "cell.bias_ih_l0": (4 * width,),
            "cell.bias_hh_l0": (4 * width,),
        }

    def summary(self, width: int) -> str:
        """See Recurrence."""
        return "long short-term memories (LSTM)"

    def build(self, width: int, tensors: Tensors) -> ArrayRecurrence:
        """See Recurrence."""
        return _Cell(tensors)

    def packed(self, width: int, tensors: Tensors) -> Packed:
        """See Recurrence."""
        own, carried = (
            split_layer(tensors[f"cell.weight_{name}_l0"], tensors[f"cell.bias_{name}_l0"], 4) for name in ("ih", "hh")
        )
        return Packed(width, own + carried)


class _Cell(ArrayRecurrence):
    def __init__(self, tensors: Tensors) -> None:
        self._own, self._carried = (
            (tensors[f"cell.weight_{name}_l0"], tensors[f"cell.bias_{name}_l0"]) for name in ("ih", "hh")
        )

    def advance(self, state: Reals, u: Reals, time: Reals) -> Moved:
        """See ArrayRecurrence."""
        h, cell = state.reshape(2, -1)
        weight, bias = self._own
        own = weight @ u + bias
        weight, bias = self._carried
        gate, forget, new, out = (own + (weight @ h + bias)).reshape(4, -1)
        cell = sigmoid(forget) * cell + sigmoid(gate) * np.tanh(new)
        h = sigmoid(out) * np.tanh(cell)
        return Moved(np.concatenate([h, cell]), h)
