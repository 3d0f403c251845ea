"""The Neural RDE as a recurrence: a nonlinear controlled differential equation driven by the token."""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np

from streamrde.arrays import Reals
from streamrde.inference.activations import ACTIVATIONS
from streamrde.inference.model_part import Shapes, Tensors
from streamrde.inference.recurrence import ArrayRecurrence, Moved, Packed, Recurrence, unbiased


class RDE(Recurrence, frozen=True, kw_only=True, omit_defaults=True, tag="rde"):
    """A Neural RDE whose vector field is linear in the token and a perceptron in the state.

    ``dh/ds = dt (W_m (tanh(W_h h + b_h) * (W_u u + b_u)) - softplus(rate) h)`` for s in [0, 1], output ``W_o h``,
    with dt the window's duration in usual windows. The field is ``F(h) (1, u)`` with F of rank width: its columns are
    those of ``W_m``, weighed by the perceptron. The midpoint rule is applied to ``exp(softplus(rate) dt s) h``, so that
    the decay is exact. The field is bounded, so the state is.

    Reference: Morrill et al. 2021, "Neural rough differential equations for long time series"; Lawson 1967,
    "Generalized Runge-Kutta processes for stable systems".
    """

    substeps: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    """Steps of the midpoint rule in a window."""

    def state_size(self, width: int) -> int:
        """See Recurrence."""
        return width

    def shapes(self, width: int) -> Shapes:
        """See Recurrence."""
        return {
            "drive.weight": (width, width),
            "drive.bias": (width,),
            "hidden.weight": (width, width),
            "hidden.bias": (width,),
            "move.weight": (width, width),
            "rate": (width,),
            "out.weight": (width, width),
        }

    def summary(self, width: int) -> str:
        """See Recurrence."""
        return "Neural RDEs"

    def build(self, width: int, tensors: Tensors) -> ArrayRecurrence:
        """See Recurrence."""
        return _Solved(self, tensors)

    def packed(self, width: int, tensors: Tensors) -> Packed:
        """See Recurrence."""
        drive, hidden = ((tensors[f"{name}.weight"], tensors[f"{name}.bias"]) for name in ("drive", "hidden"))
        rate = -ACTIVATIONS["softplus"](tensors["rate"])
        layers = (drive, hidden, *unbiased(tensors["move.weight"], tensors["out.weight"]))
        return Packed(width, layers, (rate,), option=self.substeps)


class _Solved(ArrayRecurrence):
    def __init__(self, spec: RDE, tensors: Tensors) -> None:
        self._substeps = spec.substeps
        self._drive, self._hidden = (
            (tensors[f"{name}.weight"], tensors[f"{name}.bias"]) for name in ("drive", "hidden")
        )
        self._move, self._out = tensors["move.weight"], tensors["out.weight"]
        self._rate = -ACTIVATIONS["softplus"](tensors["rate"])

    def advance(self, state: Reals, u: Reals, time: Reals) -> Moved:
        """See ArrayRecurrence."""
        weight, bias = self._drive
        drive = weight @ u + bias
        weight, bias = self._hidden

        def slope(h: Reals) -> Reals:
            return np.asarray(self._move @ (np.tanh(weight @ h + bias) * drive))

        step = time / u.dtype.type(self._substeps)
        half = np.exp(self._rate * (step / 2))
        for _ in range(self._substeps):
            between = half * (state + step / 2 * slope(state))
            state = half * (half * state + step * slope(between))
        return Moved(state, self._out @ state)
