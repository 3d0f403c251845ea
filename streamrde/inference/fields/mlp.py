"""The vector field of the original Neural RDE: a multilayer perceptron."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from streamrde.arrays import Reals
from streamrde.inference.activations import ACTIVATIONS, Activation, FinalActivation
from streamrde.inference.model_part import Positive, Shapes, Tensors
from streamrde.inference.vector_field import SolvedField, VectorField

if TYPE_CHECKING:
    from streamrde.inference.header import Header


class MLP(VectorField, frozen=True, kw_only=True, tag="mlp"):
    """The vector field of the original Neural RDE: a multilayer perceptron with a final linear layer.

    ``Linear(hidden, width) -> [activation, Linear(width, width)] * (layers - 1) -> last_activation
    -> Linear(width, hidden * B) -> final_activation``, read as an (hidden, B) matrix F(z). The hidden layers have
    weights of their own. With ``final_activation="identity"`` F(z) l is contracted with l once per window, which is
    several times faster; any other is served by the plain product.

    Reference: Morrill et al. 2021, appendix C.
    """

    sweeps: ClassVar[tuple[str, ...]] = ("width",)
    width: Positive = 64
    """Units of each hidden layer."""
    layers: Positive = 2
    """Hidden layers."""
    activation: Activation = "relu"
    """Activation between hidden layers."""
    last_activation: Activation = "tanh"
    """Activation after the last hidden layer."""
    final_activation: FinalActivation = "identity"
    """Activation after the linear layer. Anything but identity makes the step several times slower."""

    @property
    def activations(self) -> tuple[Activation, ...]:
        """Return the activation after each hidden layer."""
        return (self.activation,) * (self.layers - 1) + (self.last_activation,)

    @property
    def kernel_activations(self) -> tuple[Activation, ...] | None:
        """See VectorField."""
        return self.activations if self.final_activation == "identity" else None

    @property
    def dropout_width(self) -> int:
        """See VectorField."""
        return self.width

    @property
    def carries_samples(self) -> bool:
        """See VectorField."""
        return self.final_activation == "identity"

    @property
    def carries_averages(self) -> bool:
        """See VectorField."""
        return self.carries_samples and self.activations == ("tanh",)

    def shapes(self, name: str, header: Header) -> Shapes:
        """Return name and shape of ``field.i.weight`` and ``field.i.bias`` of each layer."""
        hidden = header.member_hidden
        return layer_shapes(hidden, self.width, self.layers, hidden * header.logsig_channels)

    def summary(self, header: Header) -> str:
        """Describe the layers in a phrase for people."""
        layers = f"{self.layers} hidden layer{'s' if self.layers > 1 else ''} of {self.width}"
        final = "" if self.final_activation == "identity" else f" and {self.final_activation} after it"
        return f"{self.activation} perceptron, {layers}, {self.last_activation} before the last layer{final}"

    def build(self, name: str, header: Header, tensors: Tensors) -> SolvedField:
        """Make the field on arrays."""
        return (_Contracted if self.final_activation == "identity" else _Plain)(self, header, tensors)


def layer_shapes(hidden: int, width: int, layers: int, outputs: int) -> Shapes:
    """Return the tensors' shapes of a perceptron from `hidden` through `layers` of `width` to `outputs`."""
    shapes: Shapes = {}
    for i, (size_in, size_out) in enumerate(pairwise([hidden] + [width] * layers + [outputs])):
        shapes[f"field.{i}.weight"] = (size_out, size_in)
        shapes[f"field.{i}.bias"] = (size_out,)
    return shapes


class Perceptron:
    """The hidden layers of a field on arrays."""

    def __init__(self, tensors: Tensors, activations: tuple[Activation, ...]) -> None:
        self.layers = [(tensors[f"field.{i}.weight"], tensors[f"field.{i}.bias"]) for i in range(len(activations))]
        self.activations = [ACTIVATIONS[name] for name in activations]

    def __call__(self, z: Reals) -> Reals:
        """Return h(z), the output of the last hidden layer, (width,)."""
        for (weight, bias), activation in zip(self.layers, self.activations, strict=True):
            z = activation(weight @ z + bias)
        return z


class _Contracted(SolvedField):
    """``F(z) l = (sum_j l_j W_j) h(z) + sum_j l_j b_j``: both sums once per window, then small products."""

    def __init__(self, spec: MLP, header: Header, tensors: Tensors) -> None:
        super().__init__(header)
        self._hidden, features = header.hidden, header.logsig_channels
        self._perceptron = Perceptron(tensors, spec.activations)
        # Rows h*B + j of the last layer, regrouped so that contracting over j is one vector-matrix product; the bias
        # rides along as one more column.
        weight = tensors[f"field.{spec.layers}.weight"].reshape(self._hidden, features, spec.width)
        bias = tensors[f"field.{spec.layers}.bias"].reshape(self._hidden, features, 1)
        joined = np.concatenate([weight, bias], axis=2).transpose(1, 0, 2)
        self._last = np.ascontiguousarray(joined).reshape(features, -1)

    def drift(self, logsig: Reals) -> Callable[[Reals], Reals]:
        """See SolvedField."""
        contracted = (logsig @ self._last).reshape(self._hidden, -1)
        matrix, offset = contracted[:, :-1], contracted[:, -1]
        return lambda z: np.asarray(matrix @ self._perceptron(z) + offset)


class _Plain(SolvedField):
    """F(z) in full, because something follows the last layer."""

    def __init__(self, spec: MLP, header: Header, tensors: Tensors) -> None:
        super().__init__(header)
        self._shape = header.hidden, header.logsig_channels
        self._perceptron = Perceptron(tensors, spec.activations)
        self._weight, self._bias = tensors[f"field.{spec.layers}.weight"], tensors[f"field.{spec.layers}.bias"]
        self._final = ACTIVATIONS[spec.final_activation]

    def drift(self, logsig: Reals) -> Callable[[Reals], Reals]:
        """See SolvedField."""

        def drift(z: Reals) -> Reals:
            matrix = self._final(self._weight @ self._perceptron(z) + self._bias).reshape(self._shape)
            return np.asarray(matrix @ logsig)

        return drift
