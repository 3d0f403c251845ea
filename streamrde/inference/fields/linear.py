"""Linear vector fields, whose flow is a matrix exponential."""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np

from streamrde.arrays import Reals
from streamrde.errors import ParameterError
from streamrde.inference.fields.motion import Flow, Shapes, Tensors
from streamrde.signature.words import logsignature_channels

# Numerator of the [13/13] Pade approximant of exp, and the 1-norm up to which it is exact in float64.
# Reference: Higham 2005, "The scaling and squaring method for the matrix exponential revisited", table 2.3.
_PADE = (
    64764752532480000.0, 32382376266240000.0, 7771770303897600.0, 1187353796428800.0, 129060195264000.0,
    10559470521600.0, 670442572800.0, 33522128640.0, 1323241920.0, 40840800.0, 960960.0, 16380.0, 182.0, 1.0,
)  # fmt: skip
_NORM = 5.371920351148152


class Linear(msgspec.Struct, frozen=True, kw_only=True, tag="linear", tag_field="field", forbid_unknown_fields=True):
    """``dz/ds = Lambda z``, ``Lambda = sum_j l_j A_j``: over a window exactly ``z <- exp(Lambda) z``.

    With ``block`` > 0 the matrices A_j are block-diagonal with blocks of that size, which divides `hidden`; 0: dense.
    No solver is used. The tensor ``field.weight`` is (B, blocks, block, block).

    Reference: Walker et al. 2025, "Structured linear CDEs: maximally expressive and parallel-in-time sequence models".
    """

    block: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Size of the blocks of the matrices. If 0, the matrices are dense."""

    def check(self, hidden: int, channels: int, depth: int) -> None:
        """Raise ParameterError where blocks do not fill the state."""
        if self.block and hidden % self.block:
            raise ParameterError(f"field.block={self.block} does not divide hidden={hidden}: choose a divisor")

    def shapes(self, hidden: int, channels: int, depth: int) -> Shapes:
        """The tensor ``field.weight``."""
        size = self.block or hidden
        return {"field.weight": (logsignature_channels(channels, depth), hidden // size, size, size)}

    def summary(self, hidden: int) -> str:
        """A phrase for people."""
        shape = f"block-diagonal, {hidden // self.block} blocks of {self.block}" if self.block else "dense"
        return f"linear, {shape}, stepped exactly by the matrix exponential"

    def build(self, tensors: Tensors, hidden: int, channels: int, depth: int) -> Flow:
        """The field on arrays."""
        return _Exponential(tensors["field.weight"])


class _Exponential:
    def __init__(self, weight: Reals) -> None:
        self._weight = weight.astype(np.float64)

    def flow(self, z: Reals, logsig: Reals, fading: Reals | None) -> Reals:
        """See Flow."""
        generator = np.tensordot(logsig.astype(np.float64), self._weight, axes=1)  # (blocks, block, block)
        blocks, size, _ = generator.shape
        if fading is not None:
            generator[:, np.arange(size), np.arange(size)] -= fading.reshape(blocks, size)
        moved = exponential(generator) @ z.astype(np.float64).reshape(blocks, size, 1)
        return np.asarray(moved.reshape(-1).astype(z.dtype))


def exponential(matrices: Reals) -> Reals:
    """exp of square float64 matrices (..., n, n); NaN where one has an entry that is not finite."""
    finite = np.isfinite(matrices).all(axis=(-1, -2), keepdims=True)
    matrices = np.where(finite, matrices, 0.0)
    norm = np.abs(matrices).sum(axis=-2).max(axis=-1, initial=0.0)
    # Beyond 2^1000 the exponential overflows whatever one does.
    squarings = np.clip(np.ceil(np.log2(np.maximum(norm / _NORM, 1.0))), 0, 1000).astype(np.int64)
    a = matrices / (2.0 ** squarings[..., None, None])
    identity = np.broadcast_to(np.eye(a.shape[-1]), a.shape)
    a2 = a @ a
    a4, b = a2 @ a2, _PADE
    a6 = a4 @ a2
    odd = a @ (a6 @ (b[13] * a6 + b[11] * a4 + b[9] * a2) + b[7] * a6 + b[5] * a4 + b[3] * a2 + b[1] * identity)
    even = a6 @ (b[12] * a6 + b[10] * a4 + b[8] * a2) + b[6] * a6 + b[4] * a4 + b[2] * a2 + b[0] * identity
    result = np.linalg.solve(even - odd, even + odd)
    with np.errstate(over="ignore", invalid="ignore"):
        for i in range(int(squarings.max(initial=0))):
            result = np.where((squarings > i)[..., None, None], result @ result, result)
    return np.asarray(np.where(finite, result, np.nan))
