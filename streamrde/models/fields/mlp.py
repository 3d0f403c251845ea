"""The vector field of the original Neural RDE in torch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from streamrde.inference.fields import MLP
from streamrde.inference.header import Header
from streamrde.models.torch_field import PerceptronTorchField


class MLPField(PerceptronTorchField):
    """The vector field of the original Neural RDE: a multilayer perceptron that ends in a linear layer.

    ``F(z) = reshape(W h(z) + b, (hidden, B))`` with h the hidden layers. As F is linear in h,
    ``F(z) l = (sum_j l_j W_j) h(z) + sum_j l_j b_j``: both sums are taken once per window, and every stage of the
    solver is then a small product.

    Reference: Morrill et al. 2021, appendix C.
    """

    def __init__(self, spec: MLP, header: Header) -> None:
        super().__init__(spec, header)
        self._contracts = spec.final_activation == "identity"

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
            matrix = self.final(self.last(self.features(z, mask))).reshape(-1, *self.shape)  # (N, hidden, B)
            return torch.bmm(matrix, logsig.unsqueeze(-1)).squeeze(-1)

        return drift

    def _contracted(self, logsig: Tensor, mask: Tensor | None) -> Callable[[Tensor], Tensor]:
        weight = torch.einsum("nb,hbw->nhw", logsig, self.last.weight.reshape(*self.shape, -1))
        bias = logsig @ self.last.bias.reshape(self.shape).T

        def drift(z: Tensor) -> Tensor:
            return torch.baddbmm(bias.unsqueeze(-1), weight, self.features(z, mask).unsqueeze(-1)).squeeze(-1)

        return drift
