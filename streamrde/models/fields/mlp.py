"""The vector field of the original Neural RDE in torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from streamrde.inference.fields import MLP
from streamrde.inference.header import Header
from streamrde.models.activations import ACTIVATIONS
from streamrde.models.torch_field import SolvedTorchField


class MLPField(SolvedTorchField, nn.ModuleList):
    """The vector field of the original Neural RDE: a multilayer perceptron that ends in a linear layer.

    ``F(z) = reshape(W h(z) + b, (hidden, B))`` with h the hidden layers. As F is linear in h,
    ``F(z) l = (sum_j l_j W_j) h(z) + sum_j l_j b_j``: both sums are taken once per window, and every stage of the
    solver is then a small product.

    Reference: Morrill et al. 2021, appendix C.
    """

    def __init__(self, spec: MLP, header: Header) -> None:
        hidden, dtype = header.member_hidden, getattr(torch, header.dtype)
        sizes = [hidden] + [spec.width] * spec.layers
        super().__init__(nn.Linear(a, b, dtype=dtype) for a, b in pairwise(sizes))
        self._shape = hidden, header.logsig_channels
        self.append(nn.Linear(spec.width, hidden * header.logsig_channels, dtype=dtype))
        self._final = ACTIVATIONS[spec.final_activation]
        self._contracts = spec.final_activation == "identity"
        self._activations = [ACTIVATIONS[name] for name in spec.activations]

    @property
    def last(self) -> nn.Linear:
        """Return the final linear layer."""
        return cast(nn.Linear, self[-1])

    def last_weights(self) -> Sequence[Tensor]:
        """Return weight and bias of the final linear layer."""
        return list(self.last.parameters())

    def features(self, z: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return h(z), the output of the last hidden layer, times `mask`, (..., width)."""
        for layer, activation in zip(self, self._activations, strict=False):
            z = activation(layer(z))
        return z if mask is None else z * mask

    def drift(
        self, logsig: Tensor, *, mask: Tensor | None = None, precontract: bool = True
    ) -> Callable[[Tensor], Tensor]:
        """Return the function z -> F(z) l for one window.

        Args:
            logsig: scaled log-signature, (N, B).
            mask: factors on h(z), (N, width). None: 1.
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
