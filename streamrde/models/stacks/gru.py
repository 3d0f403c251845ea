"""The gated recurrent unit in torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from streamrde.inference.stacks.gru import GRU
from streamrde.models.compiled_residual import Branch
from streamrde.models.torch_recurrence import TorchRecurrence


class TorchGRU(TorchRecurrence):
    """See `streamrde.inference.stacks.gru.GRU`."""

    def __init__(self, spec: GRU, width: int, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.cell = nn.GRU(width, width, dtype=dtype)

    def run(self, state: Tensor, u: Tensor, time: Tensor, *, through: bool) -> tuple[Tensor, Tensor]:
        """See TorchRecurrence."""
        if len(u) > 1:
            states = self.cell(u, state[None].contiguous())[0]
            return states, states
        # One step is written out, for any number of rows in a graph.
        own_weight, carried_weight, own_bias, carried_bias = self.cell.all_weights[0]
        own = nn.functional.linear(u[0], own_weight, own_bias).chunk(3, dim=-1)
        carried = nn.functional.linear(state, carried_weight, carried_bias).chunk(3, dim=-1)
        reset, keep = torch.sigmoid(own[0] + carried[0]), torch.sigmoid(own[1] + carried[1])
        new = torch.tanh(own[2] + reset * carried[2])
        states = ((1 - keep) * new + keep * state)[None]
        return states, states

    def branch(self) -> Branch:
        """See TorchRecurrence."""
        own_weight, carried_weight, own_bias, carried_bias = self.cell.all_weights[0]
        return Branch("gru", (own_weight, own_bias), (carried_weight, carried_bias))
