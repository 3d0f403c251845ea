"""Layers at the two ends of a model: what makes the first state of a sample, and what reads the state out."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, TypeAlias

import msgspec

from streamrde.arrays import Reals
from streamrde.errors import ParameterError
from streamrde.inference.activations import ACTIVATIONS, FinalActivation
from streamrde.inference.fields.external import External
from streamrde.inference.fields.motion import Positive, Shapes, Tensors

_MOST_LAYERS = 64


class Layers(msgspec.Struct, frozen=True, kw_only=True, tag="layers", tag_field="field", forbid_unknown_fields=True):
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

    def check(self, name: str) -> None:
        """Raise ParameterError where widths and activations do not go together."""
        if len(self.activations) != len(self.widths):
            raise ParameterError(
                f"{name} has {len(self.widths)} widths and {len(self.activations)} activations: give one per layer"
            )

    def tensor_names(self, name: str) -> list[str]:
        """The layers' names in the model file: NAME alone, or NAME.0, NAME.1, ..."""
        return [name] if self.is_linear else [f"{name}.{i}" for i in range(len(self.widths) + 1)]

    def shapes(self, name: str, inputs: int, outputs: int) -> Shapes:
        """Name and shape of the tensors of the end called `name`."""
        shapes: Shapes = {}
        sizes = pairwise((inputs, *self.widths, outputs))
        for layer, (size_in, size_out) in zip(self.tensor_names(name), sizes, strict=True):
            shapes[f"{layer}.weight"], shapes[f"{layer}.bias"] = (size_out, size_in), (size_out,)
        return shapes

    def summary(self) -> str:
        """A phrase for people."""
        if self.is_linear:
            return "linear"
        steps = [
            f"{width} {name}" for width, name in zip(self.widths, self.activations, strict=True)
        ]  # a layer's width and what follows it
        final = "" if self.final_activation == "identity" else f", then {self.final_activation}"
        return f"perceptron, hidden layers: {', '.join(steps) or 'none'}{final}"


End: TypeAlias = Layers | External


class Dense:
    """`Layers` on arrays, one row at a time: a product's rounding depends on its shape, and a row must stand alone."""

    def __init__(self, spec: Layers, tensors: Tensors, name: str) -> None:
        self._layers = [(tensors[f"{layer}.weight"], tensors[f"{layer}.bias"]) for layer in spec.tensor_names(name)]
        self._activations = [ACTIVATIONS[key] for key in (*spec.activations, spec.final_activation)]

    def __call__(self, row: Reals) -> Reals:
        """(inputs,) -> (outputs,)."""
        for (weight, bias), activation in zip(self._layers, self._activations, strict=True):
            row = activation(weight @ row + bias)
        return row
