"""The two ends of a model in torch: the twins of `streamrde.inference.layers`."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from streamrde.errors import ParameterError, ShapeError
from streamrde.inference.ends import End, Layers
from streamrde.models.fields.external import described
from streamrde.models.fields.mlp import ACTIVATIONS


class LayersEnd(nn.ModuleList):
    """Perceptron. See `streamrde.inference.layers.Layers`."""

    def __init__(self, spec: Layers, inputs: int, outputs: int, *, dtype: torch.dtype) -> None:
        super().__init__(nn.Linear(a, b, dtype=dtype) for a, b in pairwise((inputs, *spec.widths, outputs)))
        self._activations = [ACTIVATIONS[name] for name in (*spec.activations, spec.final_activation)]

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        for layer, activation in zip(self, self._activations, strict=True):
            x = activation(layer(x))
        return x


class ModuleEnd(nn.Module):
    """Any module (N, inputs) -> (N, outputs).

    Args:
        module: the module.
        name: "initial" or "readout".
        outputs: size of what it gives.
    """

    def __init__(self, module: nn.Module, name: str, outputs: int) -> None:
        super().__init__()
        self.module = module
        self._name, self._outputs = name, outputs

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        rows = x.reshape(-1, x.shape[-1])
        y: Tensor = self.module(rows)
        # Not by len(), which is a plain number where a graph with free sizes is written down.
        if y.ndim != 2 or y.shape[1] != self._outputs:
            wanted = (rows.shape[0], self._outputs)
            raise ShapeError(f"{self._name} returned {tuple(y.shape)} for {tuple(rows.shape)}; expected {wanted}")
        return y.reshape(*x.shape[:-1], self._outputs)

    def spec(self) -> End:
        """Its class, and a digest of class and weights, as a model file has them."""
        return described(self.module)


def make_end(
    spec: End, name: str, inputs: int, outputs: int, *, dtype: torch.dtype, module: nn.Module | None = None
) -> nn.Module:
    """Make the end that a header asks for, with random weights, or of the given module.

    Raises:
        ParameterError: the header's is external, and no module is given.
    """
    if module is not None:
        return ModuleEnd(module, name, outputs)
    if not isinstance(spec, Layers):
        raise ParameterError(f"the {name} of this model ({spec.name}) is not in its file: give {name}=, the module")
    if spec.is_linear:
        return nn.Linear(inputs, outputs, dtype=dtype)
    return LayersEnd(spec, inputs, outputs, dtype=dtype)
