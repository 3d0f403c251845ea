"""The vector field of Log-NCDEs in torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from streamrde.inference.fields import LogNCDE
from streamrde.inference.header import Header
from streamrde.models.activations import DERIVATIVES
from streamrde.models.torch_field import PerceptronTorchField


class LogNCDEField(PerceptronTorchField):
    """A perceptron z -> V (N, hidden, C), one vector field per channel, and the Lie brackets between them.

    See `streamrde.inference.fields.LogNCDE`. The Jacobian-vector products of all channels go through the layers
    together, beside the state, so that gradients need no second derivative mode.

    Reference: Walker et al. 2024.
    """

    def __init__(self, spec: LogNCDE, header: Header) -> None:
        super().__init__(spec, header)
        self._depth = header.depth
        self._slopes = [DERIVATIVES[name] for name in spec.activations]
        self._final_slope = DERIVATIVES[spec.final_activation]

    def fields(self, z: Tensor) -> Tensor:
        """Return V(z), (..., hidden) -> (..., hidden, C)."""
        fields = self.final(self.last(self.features(z)))
        return fields.reshape(*fields.shape[:-1], *self.shape)

    def drift(
        self, logsig: Tensor, *, mask: Tensor | None = None, precontract: bool = True
    ) -> Callable[[Tensor], Tensor]:
        """Return the sum of fields and brackets. See SolvedTorchField. There is no mask and no contraction."""
        hidden, channels = self.shape
        own = logsig[:, :channels, None]
        if self._depth == 1:
            return lambda z: (self.fields(z) @ own).squeeze(-1)
        # Where each of the upper triangle's entries stands, row by row: a product, as its gradient is a product too.
        first, second = torch.triu_indices(channels, channels, 1, device=logsig.device)
        place = logsig.new_zeros(len(first), channels, channels)
        place[torch.arange(len(first), device=logsig.device), first, second] = 1.0
        omega = torch.einsum("np,pij->nij", logsig[:, channels:], place - place.transpose(1, 2))

        def drift(z: Tensor) -> Tensor:
            slopes = []
            for layer, activation, slope in zip(self, self.activations, self._slopes, strict=False):
                before = layer(z)
                z = activation(before)
                slopes.append(slope(before))
            last = self.last(z).reshape(-1, hidden, channels)
            fields = self.final(last)
            tangents = fields @ omega  # U, (N, hidden, C): one direction per channel
            for layer, along in zip(self, slopes, strict=False):
                tangents = along.unsqueeze(-1) * (cast(nn.Linear, layer).weight @ tangents)
            weight = self.last.weight.reshape(hidden, channels, -1)
            brackets = self._final_slope(last) * torch.einsum("hcw,nwc->nhc", weight, tangents)
            moved: Tensor = (fields @ own).squeeze(-1) + brackets.sum(-1)
            return moved

        return drift
