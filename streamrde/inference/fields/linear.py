"""Linear vector fields, whose flow is a matrix exponential."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import msgspec
import numpy as np

from streamrde.arrays import Reals
from streamrde.errors import ParameterError
from streamrde.inference.model_part import Shapes, Tensors
from streamrde.inference.vector_field import ArrayField, VectorField, Window

if TYPE_CHECKING:
    from streamrde.inference.header import Header

# Numerator of the [13/13] Pade approximant of exp, and the 1-norm up to which it is exact in float64.
# Reference: Higham 2005, "The scaling and squaring method for the matrix exponential revisited", table 2.3.
_PADE = (
    64764752532480000.0, 32382376266240000.0, 7771770303897600.0, 1187353796428800.0, 129060195264000.0,
    10559470521600.0, 670442572800.0, 33522128640.0, 1323241920.0, 40840800.0, 960960.0, 16380.0, 182.0, 1.0,
)  # fmt: skip
_NORM = 5.371920351148152


class Linear(VectorField, frozen=True, kw_only=True, tag="linear"):
    """``dz/ds = Lambda z``, ``Lambda = sum_j l_j A_j``: over a window exactly ``z <- exp(Lambda) z``.

    With ``block`` > 0 the matrices A_j are block-diagonal with blocks of that size, which divides `hidden`; 0: dense.
    No solver is used. The tensor ``field.weight`` is (B, blocks, block, block).

    Reference: Walker et al. 2025, "Structured linear CDEs: maximally expressive and parallel-in-time sequence models".
    """

    exact: ClassVar[bool] = True
    onnx_obstacle: ClassVar[str] = "ONNX has no matrix exponential"
    block: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Size of the blocks of the matrices. If 0, the matrices are dense."""

    def check(self, name: str, header: Header) -> None:
        """Raise ParameterError if blocks do not fill the state, or a solver is asked for."""
        super().check(name, header)
        if self.block and header.member_hidden % self.block:
            raise ParameterError(
                f"field.block={self.block} does not divide hidden={header.member_hidden}: choose a divisor"
            )

    def shapes(self, name: str, header: Header) -> Shapes:
        """Return the shape of the tensor ``field.weight``."""
        size = self.block or header.member_hidden
        return {"field.weight": (header.logsig_channels, header.member_hidden // size, size, size)}

    def summary(self, header: Header) -> str:
        """Describe the matrices in a phrase for people."""
        blocks = header.member_hidden // (self.block or 1)
        shape = f"block-diagonal, {blocks} blocks of {self.block}" if self.block else "dense"
        return f"linear, {shape}, stepped exactly by the matrix exponential"

    def build(self, name: str, header: Header, tensors: Tensors) -> ArrayField:
        """Make the field on arrays."""
        return _Exponential(tensors["field.weight"])


class _Exponential(ArrayField):
    def __init__(self, weight: Reals) -> None:
        self._weight = weight.astype(np.float64)

    def advance(self, z: Reals, window: Window) -> tuple[Reals, float]:
        """Multiply the state by the exponential of the window's matrix."""
        generator = np.tensordot(window.logsig.astype(np.float64), self._weight, axes=1)  # (blocks, block, block)
        blocks, size, _ = generator.shape
        if window.decay is not None:
            fading = window.decay.astype(np.float64) * window.seconds
            generator[:, np.arange(size), np.arange(size)] -= fading.reshape(blocks, size)
        moved = exponential(generator) @ z.astype(np.float64).reshape(blocks, size, 1)
        return np.asarray(moved.reshape(-1).astype(z.dtype)), 0.0


def exponential(matrices: Reals) -> Reals:
    """Return exp of square float64 matrices (..., n, n). A matrix with an entry that is not finite gives NaN."""
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
