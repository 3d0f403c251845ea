"""The two ends of a model: the initial layer makes the first state of a sample, and the readout reads a state out."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, TypeAlias

import msgspec
import numpy as np

from streamrde.arrays import Reals
from streamrde.errors import ParameterError
from streamrde.inference.activations import ACTIVATIONS, FinalActivation
from streamrde.inference.fields.external import External
from streamrde.inference.model_part import ModelPart, Positive, Shapes, Tensors

if TYPE_CHECKING:
    from streamrde.inference.header import Header

_MOST_LAYERS = 64


class Layers(ModelPart, frozen=True, kw_only=True, tag="layers"):
    """A perceptron. If it has no `widths`, it is one linear layer.

    ``Linear(inputs, widths[0]) -> activations[0] -> ... -> Linear(widths[-1], outputs) -> final_activation``.
    """

    widths: Annotated[tuple[Positive, ...], msgspec.Meta(max_length=_MOST_LAYERS)] = ()
    activations: Annotated[tuple[FinalActivation, ...], msgspec.Meta(max_length=_MOST_LAYERS)] = ()
    """The activation after each hidden layer."""
    final_activation: FinalActivation = "identity"

    @property
    def is_linear(self) -> bool:
        """Return True if it is one linear layer and nothing else, whose tensors are NAME.weight and NAME.bias."""
        return not self.widths and self.final_activation == "identity"

    def check(self, name: str, header: Header) -> None:
        """Raise ParameterError if there is not one activation per hidden layer."""
        if len(self.activations) != len(self.widths):
            raise ParameterError(
                f"{name} has {len(self.widths)} widths and {len(self.activations)} activations: give one per layer"
            )

    def tensor_names(self, name: str) -> list[str]:
        """Return the layers' names in the model file: NAME alone, or NAME.0, NAME.1, ..."""
        return [name] if self.is_linear else [f"{name}.{i}" for i in range(len(self.widths) + 1)]

    def shapes(self, name: str, header: Header) -> Shapes:
        """Return name and shape of the layers' tensors in the model file."""
        inputs, outputs = header.sizes(name)
        shapes: Shapes = {}
        sizes = pairwise((inputs, *self.widths, outputs))
        for layer, (size_in, size_out) in zip(self.tensor_names(name), sizes, strict=True):
            shapes[f"{layer}.weight"], shapes[f"{layer}.bias"] = (size_out, size_in), (size_out,)
        return shapes

    def summary(self, header: Header) -> str:
        """Describe the layers in a phrase for people."""
        if self.is_linear:
            return "linear"
        steps = [f"{width} {name}" for width, name in zip(self.widths, self.activations, strict=True)]
        final = "" if self.final_activation == "identity" else f", then {self.final_activation}"
        return f"perceptron, hidden layers: {', '.join(steps) or 'none'}{final}"

    def build(self, name: str, header: Header, tensors: Tensors) -> Callable[[Reals], Reals]:
        """Return the function (inputs,) -> (outputs,).

        It takes one row at a time. A product's rounding depends on its shape, and a row must not depend on others.
        """
        layers = [(tensors[f"{layer}.weight"], tensors[f"{layer}.bias"]) for layer in self.tensor_names(name)]
        activations = [ACTIVATIONS[key] for key in (*self.activations, self.final_activation)]

        def dense(row: Reals) -> Reals:
            for (weight, bias), activation in zip(layers, activations, strict=True):
                row = activation(weight @ row + bias)
            return row

        return dense


class Blank(ModelPart, frozen=True, kw_only=True, tag="blank"):
    """A first state of zeros, whatever the first sample. Only for families that begin so."""

    def check(self, name: str, header: Header) -> None:
        """Raise ParameterError if the family does not begin with zeros."""
        if name != "initial" or not header.field.begins_blank:
            raise ParameterError(f"{name} is 'blank': only the initial state of fields 'reservoir' and 'stack' is")

    def shapes(self, name: str, header: Header) -> Shapes:
        """Return no tensors."""
        return {}

    def summary(self, header: Header) -> str:
        """Describe the state in a phrase for people."""
        return "a state of zeros"

    def build(self, name: str, header: Header, tensors: Tensors) -> Callable[[Reals], Reals]:
        """Return the function (C,) -> (hidden,)."""
        return lambda row: np.zeros(header.hidden, row.dtype)


End: TypeAlias = Layers | External | Blank
