"""The minimal gated recurrent unit in torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from streamrde.inference.stacks.min_gru import MinGRU
from streamrde.models.activations import ACTIVATIONS
from streamrde.models.compiled_residual import Branch
from streamrde.models.scans import linear_scan
from streamrde.models.torch_recurrence import TorchRecurrence, draw_rates, inverse_softplus


class TorchMinGRU(TorchRecurrence):
    """See `streamrde.inference.stacks.min_gru.MinGRU`."""

    def __init__(self, spec: MinGRU, width: int, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.gate = nn.Linear(width, width, dtype=dtype)
        self.value = nn.Linear(width, width, dtype=dtype)
        self.out = nn.Linear(width, width, bias=False, dtype=dtype)
        with torch.no_grad():
            self.gate.bias.copy_(inverse_softplus(draw_rates(width, dtype)))

    def run(self, state: Tensor, u: Tensor, time: Tensor, *, through: bool) -> tuple[Tensor, Tensor]:
        """See TorchRecurrence."""
        exponent = -ACTIVATIONS["softplus"](self.gate(u)) * time
        states = linear_scan(exponent.exp(), -torch.expm1(exponent) * self.value(u), state)
        return states, self.out(states)

    def branch(self) -> Branch:
        """See TorchRecurrence."""
        token = (
            torch.cat([self.gate.weight, self.value.weight]),
            torch.cat([self.gate.bias, self.value.bias]),
        )
        return Branch("min_gru", token, out=(self.out.weight, None))
