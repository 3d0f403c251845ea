"""The vector field of Log-NCDEs in torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from streamrde.inference.fields import LogNCDE
from streamrde.inference.fields.log_ncde import drivers
from streamrde.inference.header import Header
from streamrde.models.activations import DERIVATIVES
from streamrde.models.torch_field import PerceptronTorchField


class LogNCDEField(PerceptronTorchField):
    """A perceptron z -> V (N, hidden, V), one vector field per channel, and the Lie brackets between them.

    See `streamrde.inference.fields.LogNCDE`. The Jacobian-vector products of all fields go through the layers
    together, beside the state, so that gradients need no second derivative mode.

    Reference: Walker et al. 2024.
    """

    def __init__(self, spec: LogNCDE, header: Header) -> None:
        super().__init__(spec, header)
        self._drivers = drivers(header)
        self._slopes = [DERIVATIVES[name] for name in spec.activations]
        self._final_slope = DERIVATIVES[spec.final_activation]

    def fields(self, z: Tensor) -> Tensor:
        """Return V(z), (..., hidden) -> (..., hidden, V)."""
        fields = self.final(self.last(self.features(z)))
        return fields.reshape(*fields.shape[:-1], *self.shape)

    def drift(
        self, logsig: Tensor, *, mask: Tensor | None = None, precontract: bool = True
    ) -> Callable[[Tensor], Tensor]:
        """Return the sum of fields and brackets. See SolvedTorchField. There is no mask and no contraction."""
        hidden, count = self.shape
        where = [torch.as_tensor(found, device=logsig.device) for found in self._drivers]
        own = logsig[:, where[0], None]
        brackets, first, second = where[1:]
        if not len(brackets):
            return lambda z: (self.fields(z) @ own).squeeze(-1)
        # Where each bracket's entry stands: a product, as its gradient is a product too.
        place = logsig.new_zeros(len(first), count, count)
        place[torch.arange(len(first), device=logsig.device), first, second] = 1.0
        omega = torch.einsum("np,pij->nij", logsig[:, brackets], place - place.transpose(1, 2))

        def drift(z: Tensor) -> Tensor:
            slopes = []
            for layer, activation, slope in zip(self, self.activations, self._slopes, strict=False):
                before = layer(z)
                z = activation(before)
                slopes.append(slope(before))
            last = self.last(z).reshape(-1, hidden, count)
            fields = self.final(last)
            tangents = fields @ omega  # U, (N, hidden, V): one direction per field
            for layer, along in zip(self, slopes, strict=False):
                tangents = along.unsqueeze(-1) * (cast(nn.Linear, layer).weight @ tangents)
            weight = self.last.weight.reshape(hidden, count, -1)
            brackets = self._final_slope(last) * torch.einsum("hcw,nwc->nhc", weight, tangents)
            moved: Tensor = (fields @ own).squeeze(-1) + brackets.sum(-1)
            return moved

        return drift
