"""The two ends of a model in torch: the twins of `streamrde.inference.ends`."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from streamrde.errors import ShapeError
from streamrde.inference.ends import Blank, Layers
from streamrde.inference.fields import External
from streamrde.inference.header import Header
from streamrde.models.activations import ACTIVATIONS
from streamrde.models.fields.external import described


class LayersEnd(nn.ModuleList):
    """A perceptron. See `streamrde.inference.ends.Layers`."""

    def __init__(self, spec: Layers, inputs: int, outputs: int, *, dtype: torch.dtype) -> None:
        super().__init__(nn.Linear(a, b, dtype=dtype) for a, b in pairwise((inputs, *spec.widths, outputs)))
        self._activations = [ACTIVATIONS[name] for name in (*spec.activations, spec.final_activation)]

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., inputs) -> (..., outputs)."""
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
        """Map (..., inputs) -> (..., outputs)."""
        rows = x.reshape(-1, x.shape[-1])
        y: Tensor = self.module(rows)
        # Not by len(), which is a plain number where a graph with free sizes is written down.
        if y.ndim != 2 or y.shape[1] != self._outputs:
            wanted = (rows.shape[0], self._outputs)
            raise ShapeError(f"{self._name} returned {tuple(y.shape)} for {tuple(rows.shape)}; expected {wanted}")
        return y.reshape(*x.shape[:-1], self._outputs)

    def description(self) -> External:
        """Describe the module by its class, and a digest of class and weights."""
        return described(self.module)


class BlankEnd(nn.Module):
    """A first state of zeros. See `streamrde.inference.ends.Blank`.

    Args:
        outputs: size of the state.
        dtype: dtype of the state.
    """

    zero: Tensor

    def __init__(self, outputs: int, *, dtype: torch.dtype) -> None:
        super().__init__()
        self._outputs = outputs
        # It moves with the model to another device or dtype, and is no part of the file.
        self.register_buffer("zero", torch.zeros((), dtype=dtype), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., inputs) -> (..., outputs)."""
        return self.zero.expand(*x.shape[:-1], self._outputs)


def make_end(header: Header, name: str, module: nn.Module | None = None) -> nn.Module:
    """Make the end of a header called `name` with random weights, or from the given module."""
    inputs, outputs = header.sizes(name)
    if module is not None:
        return ModuleEnd(module, name, outputs)
    dtype = getattr(torch, header.dtype)
    if isinstance(header.part(name), Blank):
        return BlankEnd(outputs, dtype=dtype)
    spec = cast(Layers, header.part(name))
    if spec.is_linear:
        return nn.Linear(inputs, outputs, dtype=dtype)
    return LayersEnd(spec, inputs, outputs, dtype=dtype)
