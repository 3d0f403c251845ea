"""The diagonal state space model S4D: several complex modes for each channel."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
import numpy as np

from streamrde.arrays import Reals
from streamrde.inference.model_part import Shapes, Tensors
from streamrde.inference.recurrence import ArrayRecurrence, Moved, Packed, Recurrence

Start: TypeAlias = Literal["lin", "inv"]


class S4D(Recurrence, frozen=True, kw_only=True, omit_defaults=True, tag="s4d"):
    """Damped oscillations of each channel, several of them, driven by the channel alone.

    ``h <- e^(a t) h + (1 - e^(a t)) u``, ``a = -exp(rate) + i angle``, ``t = exp(step) dt``, output
    ``2 Re sum_n (c_n / -a_n) h_n + skip u``, with dt the window's duration in usual windows. This is the zero-order
    hold of ``dx/dt = a x + u``, output ``2 Re sum_n c_n x_n``, at ``h = -a x``, which stays as large as u. Each channel
    has modes and a step of its own, and windows of any duration are exact. The state has the real parts, mode after
    mode, then the imaginary ones.

    Reference: Gu et al. 2022, "On the parameterization and initialization of diagonal state space models".
    """

    modes: Annotated[int, msgspec.Meta(ge=1, le=64)] = 8
    """Number of modes of each channel. Each stands for itself and its conjugate."""
    start: Start = "lin"
    """Frequencies that training starts from: "lin" (S4D-Lin) are multiples of pi, "inv" (S4D-Inv) are denser near 0."""

    def state_size(self, width: int) -> int:
        """See Recurrence."""
        return 2 * self.modes * width

    def shapes(self, width: int) -> Shapes:
        """See Recurrence."""
        count = self.modes * width
        return {
            "rate": (count,),
            "angle": (count,),
            "step": (width,),
            "out.weight": (2, self.modes, width),
            "skip": (width,),
        }

    def summary(self, width: int) -> str:
        """See Recurrence."""
        return f"diagonal state spaces of {self.modes} modes (S4D)"

    def build(self, width: int, tensors: Tensors) -> ArrayRecurrence:
        """See Recurrence."""
        return _Modes(self, tensors)

    def packed(self, width: int, tensors: Tensors) -> Packed:
        """See Recurrence."""
        decay, angle, weights = folded(self, tensors)
        # The kernel needs the sine of half the angle.
        vectors = (*decay, *(angle / 2), *weights[0], *weights[1], tensors["skip"])
        return Packed(width, (), vectors, option=self.modes)


def folded(spec: S4D, tensors: Tensors) -> tuple[Reals, Reals, Reals]:
    """Return decay and frequency per usual window, (modes, width), and the weights of real and imaginary parts."""
    kind = tensors["rate"].dtype
    rate, angle = (tensors[name].astype(np.float64).reshape(spec.modes, -1) for name in ("rate", "angle"))
    a, step = -np.exp(rate) + 1j * angle, np.exp(tensors["step"].astype(np.float64))
    real, imaginary = tensors["out.weight"].astype(np.float64)
    weight = -2 * (real + 1j * imaginary) / a
    weights = np.stack([weight.real, -weight.imag])
    return (step * a.real).astype(kind), (step * a.imag).astype(kind), weights.astype(kind)


class _Modes(ArrayRecurrence):
    def __init__(self, spec: S4D, tensors: Tensors) -> None:
        self._decay, self._angle, self._weights = folded(spec, tensors)
        self._skip = tensors["skip"]

    def advance(self, state: Reals, u: Reals, time: Reals) -> Moved:
        """See ArrayRecurrence."""
        exponent, half = self._decay * time, self._angle * time / 2
        less, sine = np.expm1(exponent), np.sin(half)
        # e^(a t) - 1 keeps its digits where t is small: cos x - 1 = -2 sin(x / 2)^2.
        turn = 2 * sine * sine
        real = less * (1 - turn) - turn
        imaginary = (less + 1) * (2 * sine * np.cos(half))
        re, im = state.reshape(2, *self._decay.shape)
        moved = np.stack(
            [(1 + real) * re - imaginary * im - real * u, (1 + real) * im + imaginary * re - imaginary * u]
        )
        return Moved(moved.ravel(), (self._weights * moved).sum(axis=(0, 1)) + self._skip * u)
