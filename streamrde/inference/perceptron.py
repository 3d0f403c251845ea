"""Parts that fields made of a perceptron have in common."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

from streamrde.arrays import Reals
from streamrde.inference.activations import ACTIVATIONS, Activation, FinalActivation
from streamrde.inference.model_part import Positive, Shapes, Tensors
from streamrde.inference.vector_field import SolvedField, VectorField

if TYPE_CHECKING:
    from streamrde.inference.header import Header


class PerceptronField(VectorField, frozen=True, kw_only=True):
    """``Linear(hidden, width) -> [activation, Linear(width, width)] * (layers - 1) -> last_activation ->
    Linear(width, hidden * columns) -> final_activation``.
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

    def columns(self, header: Header) -> int:
        """Return the number of columns of the matrix that the perceptron gives for a state."""
        return header.logsig_channels

    def shapes(self, name: str, header: Header) -> Shapes:
        """Return name and shape of ``field.i.weight`` and ``field.i.bias`` of each layer."""
        sizes = [header.member_hidden] + [self.width] * self.layers + [header.member_hidden * self.columns(header)]
        shapes: Shapes = {}
        for i, (size_in, size_out) in enumerate(pairwise(sizes)):
            shapes[f"field.{i}.weight"], shapes[f"field.{i}.bias"] = (size_out, size_in), (size_out,)
        return shapes

    def layers_phrase(self) -> str:
        """Return number and size of the hidden layers for people."""
        return f"{self.layers} hidden layer{'s' if self.layers > 1 else ''} of {self.width}"


class PerceptronOnArrays(SolvedField):
    """The layers of such a field on arrays."""

    def __init__(self, spec: PerceptronField, header: Header, tensors: Tensors) -> None:
        super().__init__(header)
        *self.layers, self.last = [
            (tensors[f"field.{i}.weight"], tensors[f"field.{i}.bias"]) for i in range(spec.layers + 1)
        ]
        self.names, self.final = spec.activations, spec.final_activation
        self.activations = [ACTIVATIONS[name] for name in self.names]
        self.shape = header.hidden, spec.columns(header)

    def features(self, z: Reals) -> Reals:
        """Return h(z), the output of the last hidden layer, (width,)."""
        for (weight, bias), activation in zip(self.layers, self.activations, strict=True):
            z = activation(weight @ z + bias)
        return z
