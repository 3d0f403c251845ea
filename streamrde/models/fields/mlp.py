"""The vector field of the original Neural RDE in torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from streamrde.inference.fields import MLP


# Functions with names, not lambdas: a model is pickled with those that it uses.
def _identity(v: Tensor) -> Tensor:
    return v


def _softplus(v: Tensor) -> Tensor:
    # Beyond its threshold torch's softplus drops a term of exp(-threshold): 2e-9 at the default of 20.
    return nn.functional.softplus(v, threshold=40.0)


def _relu_slope(v: Tensor) -> Tensor:
    return (v > 0).to(v.dtype)


def _tanh_slope(v: Tensor) -> Tensor:
    return 1 - torch.tanh(v) ** 2


def _silu_slope(v: Tensor) -> Tensor:
    return torch.sigmoid(v) * (1 + v * (1 - torch.sigmoid(v)))


def _gelu_slope(v: Tensor) -> Tensor:
    return torch.special.ndtr(v) + v * torch.exp(-0.5 * v * v) * (1 / math.sqrt(2 * math.pi))  # type: ignore[no-any-return]


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": _identity,
    "relu": torch.relu,
    "tanh": torch.tanh,
    "silu": nn.functional.silu,
    "softplus": _softplus,
    "gelu": nn.functional.gelu,
}


DERIVATIVES: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": torch.ones_like,
    "relu": _relu_slope,
    "tanh": _tanh_slope,
    "silu": _silu_slope,
    "softplus": torch.sigmoid,
    "gelu": _gelu_slope,
}


class MLPField(nn.ModuleList):
    """The vector field of the original Neural RDE: a multilayer perceptron that ends in a linear layer.

    ``F(z) = reshape(W h(z) + b, (hidden, B))`` with h the hidden layers. As F is linear in h,
    ``F(z) l = (sum_j l_j W_j) h(z) + sum_j l_j b_j``: both sums are taken once per window, and every stage of the
    solver is then a small product.

    Args:
        spec: width, layers and activations.
        hidden: size of the state z.
        features: B, size of a window's log-signature.
        dtype: dtype of the weights.
    Reference: Morrill et al. 2021, appendix C.
    """

    def __init__(self, spec: MLP, *, hidden: int, features: int, dtype: torch.dtype) -> None:
        sizes = [hidden] + [spec.width] * spec.layers
        super().__init__(nn.Linear(a, b, dtype=dtype) for a, b in pairwise(sizes))
        self.append(nn.Linear(spec.width, hidden * features, dtype=dtype))
        self._shape = (hidden, features)
        self._final = ACTIVATIONS[spec.final_activation]
        self._contracts = spec.final_activation == "identity"
        self._activations = [ACTIVATIONS[name] for name in spec.activations]

    @property
    def last(self) -> nn.Linear:
        """The final linear layer."""
        return cast(nn.Linear, self[-1])

    def features(self, z: Tensor, mask: Tensor | None = None) -> Tensor:
        """h(z), the output of the last hidden layer, times `mask`, (..., width)."""
        for layer, activation in zip(self, self._activations, strict=False):
            z = activation(layer(z))
        return z if mask is None else z * mask

    def drift(
        self, logsig: Tensor, *, mask: Tensor | None = None, precontract: bool = True
    ) -> Callable[[Tensor], Tensor]:
        """z -> F(z) l for one window.

        Args:
            logsig: scaled log-signature, (N, B).
            mask: factors on h(z), (N, width); None = 1.
            precontract: contract the last layer with l once, instead of forming F(z) in every stage; only where nothing
                follows that layer.
        """
        if precontract and self._contracts:
            return self._contracted(logsig, mask)

        def drift(z: Tensor) -> Tensor:
            matrix = self._final(self.last(self.features(z, mask))).reshape(-1, *self._shape)  # (N, hidden, B)
            return torch.bmm(matrix, logsig.unsqueeze(-1)).squeeze(-1)

        return drift

    def _contracted(self, logsig: Tensor, mask: Tensor | None) -> Callable[[Tensor], Tensor]:
        weight = torch.einsum("nb,hbw->nhw", logsig, self.last.weight.reshape(*self._shape, -1))
        bias = logsig @ self.last.bias.reshape(self._shape).T

        def drift(z: Tensor) -> Tensor:
            return torch.baddbmm(bias.unsqueeze(-1), weight, self.features(z, mask).unsqueeze(-1)).squeeze(-1)

        return drift
