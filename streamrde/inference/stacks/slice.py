"""The structured linear controlled differential equation (SLiCE): a block-diagonal linear flow."""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np

from streamrde.arrays import Reals
from streamrde.inference.model_part import Shapes, Tensors
from streamrde.inference.recurrence import ArrayRecurrence, Moved, Packed, Recurrence, split_layer, unbiased

FLOOR = 1e-6
"""Added under the root of the damping, whose slope would be infinite where nothing is stretched."""
HALVINGS = 30
"""Most halvings of a matrix before its exponential is expanded. A matrix that needs more is not finite."""


class SLiCE(Recurrence, frozen=True, kw_only=True, omit_defaults=True, tag="slice"):
    """The exact flow of a linear equation whose matrix is linear in the token, in blocks along its diagonal.

    ``h <- exp(M dt) h + (W_v u + b_v) dt``, ``M = G - (strength |G + G'| / 2 + exp(rate)) I`` in each block, ``G`` a
    block of ``W_g u + b_g``, output ``W_o h``, with dt the window's duration in usual windows. The norm is
    Frobenius's, and strength is 1: then no block stretches any state, and the state stays bounded. Blocks do not
    commute, so that the state depends on the order of tokens as a log-ODE does. With ``damped=False`` ``M = G``, as in
    the paper. The state has the first component of each block, then the second, and so on.

    Reference: Walker et al. 2025, "Structured linear CDEs: maximally expressive and parallel-in-time sequence models".
    """

    block: Annotated[int, msgspec.Meta(ge=1, le=4)] = 4
    """Rows of a block."""
    damped: bool = True
    """Whether blocks are kept from growing. Without, a long stream may leave the range of numbers."""
    started: bool = False
    """Whether h begins with learned numbers, as that of imported models does. The state is then h without them, which
    begins with zeros as all do."""

    def count(self, width: int) -> int:
        """Return the number of blocks."""
        return -(-width // self.block)

    def state_size(self, width: int) -> int:
        """See Recurrence."""
        return self.block * self.count(width)

    def shapes(self, width: int) -> Shapes:
        """See Recurrence."""
        states, entries = self.state_size(width), self.block * self.state_size(width)
        shapes: Shapes = {
            "generator.weight": (entries, width),
            "generator.bias": (entries,),
            "value.weight": (states, width),
            "value.bias": (states,),
            "out.weight": (width, states),
        }
        if self.damped:
            shapes["rate"] = (self.count(width),)
        if self.started:
            shapes["start"] = (states,)
        return shapes

    def summary(self, width: int) -> str:
        """See Recurrence."""
        return f"{self.count(width)} linear flows of {self.block} components (SLiCE)"

    def build(self, width: int, tensors: Tensors) -> ArrayRecurrence:
        """See Recurrence."""
        return _Flow(self, tensors)

    def packed(self, width: int, tensors: Tensors) -> Packed:
        """See Recurrence."""
        size = self.block
        generator = split_layer(tensors["generator.weight"], tensors["generator.bias"], size * size)
        value = split_layer(tensors["value.weight"], tensors["value.bias"], size)
        start = tensors["start"] if self.started else np.zeros_like(tensors["value.bias"])
        (first, _), *others = unbiased(*np.split(tensors["out.weight"], size, axis=1))
        rate = damping(self, tensors)
        vectors = np.full_like(rate, self.damped), rate, *np.split(start, size)
        # The state is without `start`, which the output has.
        out = (first, tensors["out.weight"] @ start), *others
        return Packed(self.count(width), (*generator, *value, *out), vectors, option=size)


def damping(spec: SLiCE, tensors: Tensors) -> Reals:
    """Return the rate of each block by which it decays in any case, (blocks,)."""
    if spec.damped:
        return np.asarray(np.exp(tensors["rate"]))
    return np.zeros_like(tensors["value.bias"][:: spec.block])


class _Flow(ArrayRecurrence):
    def __init__(self, spec: SLiCE, tensors: Tensors) -> None:
        self._block, self._damped, self._rate = spec.block, spec.damped, damping(spec, tensors)
        self._generator, self._value = (
            (tensors[f"{name}.weight"], tensors[f"{name}.bias"]) for name in ("generator", "value")
        )
        self._out = tensors["out.weight"]
        self._start = tensors["start"] if spec.started else np.zeros_like(tensors["value.bias"])

    def advance(self, state: Reals, u: Reals, time: Reals) -> Moved:
        """See ArrayRecurrence."""
        size = self._block
        weight, bias = self._generator
        matrices = (weight @ u + bias).reshape(size, size, -1).transpose(2, 0, 1)
        damping = self._rate
        if self._damped:
            stretch = (matrices + matrices.transpose(0, 2, 1)) / 2
            damping = damping + np.sqrt((stretch * stretch).sum(axis=(1, 2)) + u.dtype.type(FLOOR))
        flow = exponential((matrices - damping[:, None, None] * np.eye(size, dtype=u.dtype)) * time)
        weight, bias = self._value
        before = (state + self._start).reshape(size, -1).T[:, :, None]
        moved = (flow @ before)[:, :, 0].T.ravel() + (weight @ u + bias) * time
        return Moved(moved - self._start, self._out @ moved)


def exponential(matrices: Reals) -> Reals:
    """Return the exponential of small matrices, (..., s, s).

    Each is halved until Taylor's polynomial of degree 8 has all digits, and the result is squared as often. The
    polynomial takes three products (Bader, Blanes & Casas 2019, "Computing the matrix exponential with an optimized
    Taylor polynomial approximation", equation 15).
    """
    most = largest_norm(matrices.dtype == np.float64)
    norm = np.abs(matrices).sum(axis=-1).max(axis=-1)
    times = np.zeros(norm.shape, np.int64)
    for _ in range(HALVINGS):
        times += np.ldexp(norm, -times) > most
    a = np.ldexp(matrices, -times[..., None, None])
    (p, q), r, (b, c, d, e), f = (np.asarray(own, matrices.dtype) for own in TAYLOR)
    eye = np.eye(a.shape[-1], dtype=a.dtype)
    a2 = a @ a
    a4 = a2 @ (p * a + q * a2)
    power = eye + a + f * a2 + (r * a2 + a4) @ (b * eye + c * a + d * a2 + e * a4)
    for done in range(times.max(initial=0)):
        power = np.where((times > done)[..., None, None], power @ power, power)
    return np.asarray(power)


def largest_norm(is_double: bool) -> float:
    """Return the norm up to which the polynomial's error is below the last digit: ``x^9 / 9!``."""
    return 1 / 16 if is_double else 1 / 2


def _taylor() -> tuple[tuple[float, float], float, tuple[float, float, float, float], float]:
    root, r = 177**0.5, 2 / 3
    inner = r * (1 + root) / 88, r * (1 + root) / 352
    outer = (
        (-271 + 29 * root) / (315 * r),
        11 * (-1 + root) / (1260 * r),
        11 * (-9 + root) / (5040 * r),
        (89 - root) / (5040 * r * r),
    )
    return inner, r, outer, (857 - 58 * root) / 630


TAYLOR = _taylor()
"""Factors of the polynomial, in the order in which `exponential` takes them."""
