"""The vector field of the original Neural RDE: a multilayer perceptron."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from streamrde.arrays import Reals
from streamrde.inference.activations import ACTIVATIONS, Activation
from streamrde.inference.model_part import Tensors
from streamrde.inference.perceptron import PerceptronField, PerceptronOnArrays
from streamrde.inference.vector_field import SolvedField

if TYPE_CHECKING:
    from streamrde.inference.header import Header


class MLP(PerceptronField, frozen=True, kw_only=True, tag="mlp"):
    """The vector field of the original Neural RDE: a multilayer perceptron with a final linear layer.

    The perceptron's result is read as an (hidden, B) matrix F(z). The hidden layers have weights of their own. With
    ``final_activation="identity"`` F(z) l is contracted with l once per window, which is several times faster. Any
    other is served by the plain product.

    Reference: Morrill et al. 2021, appendix C.
    """

    @property
    def plain_activations(self) -> tuple[Activation, ...] | None:
        """See VectorField."""
        return self.activations if self.final_activation == "identity" else None

    @property
    def dropout_width(self) -> int:
        """See VectorField."""
        return self.width

    def summary(self, header: Header) -> str:
        """Describe the layers in a phrase for people."""
        final = "" if self.final_activation == "identity" else f" and {self.final_activation} after it"
        before = f"{self.last_activation} before the last layer"
        return f"{self.activation} perceptron, {self.layers_phrase()}, {before}{final}"

    def build(self, name: str, header: Header, tensors: Tensors) -> SolvedField:
        """Make the field on arrays."""
        return (_Contracted if self.final_activation == "identity" else _Plain)(self, header, tensors)


class _Contracted(PerceptronOnArrays):
    """``F(z) l = (sum_j l_j W_j) h(z) + sum_j l_j b_j``: both sums once per window, then small products."""

    def __init__(self, spec: MLP, header: Header, tensors: Tensors) -> None:
        super().__init__(spec, header, tensors)
        # Rows h*B + j of the last layer, regrouped so that contracting over j is one vector-matrix product; the bias
        # rides along as one more column.
        weight, bias = self.last[0].reshape(*self.shape, spec.width), self.last[1].reshape(*self.shape, 1)
        joined = np.concatenate([weight, bias], axis=2).transpose(1, 0, 2)
        self._last = np.ascontiguousarray(joined).reshape(self.shape[1], -1)

    def drift(self, logsig: Reals) -> Callable[[Reals], Reals]:
        """See SolvedField."""
        contracted = (logsig @ self._last).reshape(self.shape[0], -1)
        matrix, offset = contracted[:, :-1], contracted[:, -1]
        return lambda z: np.asarray(matrix @ self.features(z) + offset)


class _Plain(PerceptronOnArrays):
    """F(z) in full, because something follows the last layer."""

    def drift(self, logsig: Reals) -> Callable[[Reals], Reals]:
        """See SolvedField."""
        (weight, bias), final = self.last, ACTIVATIONS[self.final]

        def drift(z: Reals) -> Reals:
            return np.asarray(final(weight @ self.features(z) + bias).reshape(self.shape) @ logsig)

        return drift
