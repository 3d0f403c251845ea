"""The long short-term memory in torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from streamrde.inference.stacks.lstm import LSTM
from streamrde.models.compiled_residual import Branch
from streamrde.models.scans import linear_scan
from streamrde.models.torch_recurrence import TorchRecurrence


class TorchLSTM(TorchRecurrence):
    """See `streamrde.inference.stacks.lstm.LSTM`."""

    def __init__(self, spec: LSTM, width: int, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.cell = nn.LSTM(width, width, dtype=dtype)
        with torch.no_grad():
            # A cell that forgets nothing at first learns what to keep (Gers et al. 2000).
            for bias, start in zip(self.cell.all_weights[0][2:], (1.0, 0.0), strict=True):
                bias[width : 2 * width] = start

    def run(self, state: Tensor, u: Tensor, time: Tensor, *, through: bool) -> tuple[Tensor, Tensor]:
        """See TorchRecurrence."""
        hidden, memory = state.chunk(2, dim=-1)
        if not through and len(u) > 1:
            outputs = self.cell(u, (hidden[None].contiguous(), memory[None].contiguous()))[0]
            return torch.cat([outputs.detach(), self._memories(u, outputs, hidden, memory)], dim=-1), outputs
        # torch returns the cell's last value alone: one step after the other.
        weight, carried, *biases = self.cell.all_weights[0]
        states = []
        for token in nn.functional.linear(u, weight, biases[0] + biases[1]).unbind(0):
            gates = (token + nn.functional.linear(hidden, carried)).chunk(4, dim=-1)
            memory = gates[1].sigmoid() * memory + gates[0].sigmoid() * gates[2].tanh()
            hidden = gates[3].sigmoid() * memory.tanh()
            states.append(torch.cat([hidden, memory], dim=-1))
        joined = torch.stack(states)
        return joined, joined[..., : hidden.shape[-1]]

    def branch(self) -> Branch:
        """See TorchRecurrence."""
        own_weight, carried_weight, own_bias, carried_bias = self.cell.all_weights[0]
        return Branch("lstm", (own_weight, own_bias), (carried_weight, carried_bias))

    @torch.no_grad()
    def _memories(self, u: Tensor, outputs: Tensor, hidden: Tensor, memory: Tensor) -> Tensor:
        """Return the cell's values after each token, (K, N, width), which torch keeps to itself.

        Given the outputs, they follow a linear recurrence.
        """
        weight, carried, *biases = self.cell.all_weights[0]
        before = torch.cat([hidden[None], outputs[:-1]])
        own = nn.functional.linear(u, weight, biases[0] + biases[1])
        gates = (own + nn.functional.linear(before, carried)).chunk(4, dim=-1)
        return linear_scan(gates[1].sigmoid(), gates[0].sigmoid() * gates[2].tanh(), memory)
