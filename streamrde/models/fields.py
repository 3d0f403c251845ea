"""Vector fields in torch: F(z), an (hidden, B) matrix whose product with a window's log-signature drives the state."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from streamrde.inference.bundle import MLP

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "silu": nn.functional.silu,
    "softplus": nn.functional.softplus,
    "gelu": nn.functional.gelu,
}


class MLPField(nn.ModuleList):
    """The vector field of the original Neural RDE: a multilayer perceptron that ends in a linear layer.

    ``F(z) = reshape(W h(z) + b, (hidden, B))`` with h the hidden layers. As F is linear in h,
    ``F(z) l = (sum_j l_j W_j) h(z) + sum_j l_j b_j``: `contracted` takes both sums once per window, and every stage of
    the solver is then a small product.

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
        self._activations = [_ACTIVATIONS[name] for name in spec.activations]

    @property
    def last(self) -> nn.Linear:
        """The final linear layer."""
        return cast(nn.Linear, self[-1])

    def features(self, z: Tensor, mask: Tensor | None = None) -> Tensor:
        """h(z), the output of the last hidden layer, times `mask`, (..., width)."""
        for layer, activation in zip(self, self._activations, strict=False):
            z = activation(layer(z))
        return z if mask is None else z * mask

    def plain(self, logsig: Tensor, *, mask: Tensor | None = None) -> Callable[[Tensor], Tensor]:
        """z -> F(z) l for one window, by forming F(z).

        Args:
            logsig: scaled log-signature, (N, B).
            mask: factors on h(z), (N, width); None = 1.
        """

        def drift(z: Tensor) -> Tensor:
            matrix = self.last(self.features(z, mask)).reshape(-1, *self._shape)  # (N, hidden, B)
            return torch.bmm(matrix, logsig.unsqueeze(-1)).squeeze(-1)

        return drift

    def contracted(self, logsig: Tensor, *, mask: Tensor | None = None) -> Callable[[Tensor], Tensor]:
        """z -> F(z) l for one window, with the last layer contracted with l once; arguments as for `plain`."""
        weight = torch.einsum("nb,hbw->nhw", logsig, self.last.weight.reshape(*self._shape, -1))
        bias = logsig @ self.last.bias.reshape(self._shape).T

        def drift(z: Tensor) -> Tensor:
            return torch.baddbmm(bias.unsqueeze(-1), weight, self.features(z, mask).unsqueeze(-1)).squeeze(-1)

        return drift
