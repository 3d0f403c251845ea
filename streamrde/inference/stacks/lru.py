"""The linear recurrent unit: a diagonal complex recurrence, as in LRU and S5."""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np

from streamrde.arrays import Reals
from streamrde.inference.model_part import Shapes, Tensors
from streamrde.inference.recurrence import ArrayRecurrence, Moved, Packed, Recurrence, unbiased

FLOOR = 1e-6
"""Added under the root of the input's gain, whose slope would be infinite where nothing decays."""


class LRU(Recurrence, frozen=True, kw_only=True, omit_defaults=True, tag="lru"):
    """Damped oscillations driven by the token, each with a decay and a frequency of its own, per usual window.

    ``h <- l h + sqrt(1 - |l|^2 + 1e-6) W_u u``, ``l = exp((-nu + i theta) dt)``, ``nu = exp(rate)``,
    ``theta = exp(angle)``, output ``W_o [Re h, Im h] + skip u``, with dt the window's duration in usual windows. The
    step follows real time as S5's does, and the input is normalised as LRU's is. The state has the real parts, then
    the imaginary ones.

    Reference: Orvieto et al. 2023, "Resurrecting recurrent neural networks for long sequences"; Smith et al. 2023,
    "Simplified state space layers for sequence modeling" (S5).
    """

    modes: Annotated[int, msgspec.Meta(ge=0, le=65536)] = 0
    """Number of oscillations. 0: as many as the width."""

    def count(self, width: int) -> int:
        """Return the number of oscillations."""
        return self.modes or width

    def state_size(self, width: int) -> int:
        """See Recurrence."""
        return 2 * self.count(width)

    def shapes(self, width: int) -> Shapes:
        """See Recurrence."""
        count = self.count(width)
        return {
            "rate": (count,),
            "angle": (count,),
            "drive.weight": (2 * count, width),
            "out.weight": (width, 2 * count),
            "skip": (width,),
        }

    def summary(self, width: int) -> str:
        """See Recurrence."""
        return f"{self.count(width)} complex linear recurrences (LRU)"

    def build(self, width: int, tensors: Tensors) -> ArrayRecurrence:
        """See Recurrence."""
        return _Diagonal(tensors)

    def packed(self, width: int, tensors: Tensors) -> Packed:
        """See Recurrence."""
        drive, out = np.split(tensors["drive.weight"], 2), np.split(tensors["out.weight"], 2, axis=1)
        vectors = -np.exp(tensors["rate"]), np.exp(tensors["angle"]), tensors["skip"]
        return Packed(self.count(width), unbiased(*drive, *out), vectors)


class _Diagonal(ArrayRecurrence):
    def __init__(self, tensors: Tensors) -> None:
        self._decay, self._angle = -np.exp(tensors["rate"]), np.exp(tensors["angle"])
        self._drive, self._out, self._skip = tensors["drive.weight"], tensors["out.weight"], tensors["skip"]

    def advance(self, state: Reals, u: Reals, time: Reals) -> Moved:
        """See ArrayRecurrence."""
        exponent, angle = self._decay * time, self._angle * time
        size, gain = np.exp(exponent), np.sqrt(-np.expm1(2 * exponent) + FLOOR)
        (real, imaginary), drive = state.reshape(2, -1), gain * (self._drive @ u).reshape(2, -1)
        cosine, sine = size * np.cos(angle), size * np.sin(angle)
        state = np.concatenate(
            [cosine * real - sine * imaginary + drive[0], sine * real + cosine * imaginary + drive[1]]
        )
        return Moved(state, self._out @ state + self._skip * u)
