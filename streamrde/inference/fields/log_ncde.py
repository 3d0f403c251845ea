"""The vector field of Log-NCDEs: Lie brackets of a field of the path's channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from streamrde.arrays import Reals
from streamrde.inference.activations import ACTIVATIONS, DERIVATIVES, Activation, FinalActivation
from streamrde.inference.model_part import Tensors
from streamrde.inference.perceptron import PerceptronField, PerceptronOnArrays
from streamrde.inference.vector_field import SolvedField

if TYPE_CHECKING:
    from streamrde.inference.header import Header


class LogNCDE(PerceptronField, frozen=True, kw_only=True, tag="log_ncde"):
    """A perceptron with one vector field V_i per channel of the path, and their Lie brackets for depth 2.

    ``dz/ds = sum_i l_i V_i(z) + sum_{i<j} l_ij [V_i, V_j](z)`` with ``[V_i, V_j] = DV_j V_i - DV_i V_j``. All brackets
    together are ``sum_j DV_j U_j``, ``U_j = sum_i Omega_ij V_i``, Omega antisymmetric with l_ij above its diagonal: one
    Jacobian-vector product per channel. The scales of the log-signature must be those of the channels, multiplied
    along each word; else these would not be brackets of one field. Layers as of `MLP`, the last with hidden * C
    outputs.

    Reference: Walker et al. 2024, "Log neural controlled differential equations: the Lie brackets make a difference".
    """

    most_depth: ClassVar[int | None] = 2
    scaled_along_words: ClassVar[bool] = True
    activation: Activation = "silu"
    """Activation between hidden layers."""
    last_activation: Activation = "silu"
    """Activation after the last hidden layer."""
    final_activation: FinalActivation = "tanh"
    """Activation after the linear layer."""

    def columns(self, header: Header) -> int:
        """Return the number of channels of the path: a vector field each."""
        return header.path_channels

    def summary(self, header: Header) -> str:
        """Describe the layers in a phrase for people."""
        perceptron = f"{self.activation} perceptron, {self.layers_phrase()}"
        return f"Lie brackets of a {perceptron}, {self.final_activation} at its end"

    def build(self, name: str, header: Header, tensors: Tensors) -> SolvedField:
        """Make the field on arrays."""
        return _Brackets(self, header, tensors)


class _Brackets(PerceptronOnArrays):
    def __init__(self, spec: LogNCDE, header: Header, tensors: Tensors) -> None:
        super().__init__(spec, header, tensors)
        self._depth = header.depth
        self._weight, self._bias = self.last[0].reshape(*self.shape, spec.width), self.last[1].reshape(self.shape)

    def drift(self, logsig: Reals) -> Callable[[Reals], Reals]:
        """See SolvedField."""
        channels = self.shape[1]
        own = logsig[:channels]
        omega = np.zeros((channels, channels), logsig.dtype)
        if self._depth > 1:
            # Words of two letters come in the order of the upper triangle's rows.
            omega[np.triu_indices(channels, 1)] = logsig[channels:]
            omega -= omega.T

        def drift(z: Reals) -> Reals:
            h, slopes = z, []
            for (weight, bias), name in zip(self.layers, self.names, strict=True):
                before = weight @ h + bias
                h = ACTIVATIONS[name](before)
                slopes.append(DERIVATIVES[name](before))
            last = self._weight @ h + self._bias  # (hidden, C)
            fields = ACTIVATIONS[self.final](last)
            moved = fields @ own
            if self._depth == 1:
                return np.asarray(moved)
            tangents = fields @ omega  # U, (hidden, C): one direction per channel
            for (weight, _), slope in zip(self.layers, slopes, strict=True):
                tangents = slope[:, None] * (weight @ tangents)
            brackets = np.einsum("hcw,wc->hc", self._weight, tangents)
            return np.asarray(moved + (DERIVATIVES[self.final](last) * brackets).sum(axis=1))

        return drift
