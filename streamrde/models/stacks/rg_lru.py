"""The real-gated linear recurrent unit in torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from streamrde.inference.stacks.rg_lru import FLOOR, RGLRU, SHARPNESS
from streamrde.models.activations import ACTIVATIONS
from streamrde.models.compiled_residual import Branch
from streamrde.models.scans import linear_scan
from streamrde.models.torch_recurrence import TorchRecurrence, draw_rates, inverse_softplus


class TorchRGLRU(TorchRecurrence):
    """See `streamrde.inference.stacks.rg_lru.RGLRU`."""

    def __init__(self, spec: RGLRU, width: int, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.gates = nn.Linear(width, 2 * width, dtype=dtype)
        self.value = nn.Linear(width, width, bias=False, dtype=dtype)
        self.rate = nn.Parameter(inverse_softplus(draw_rates(width, dtype)))
        self.out = nn.Linear(width, width, bias=False, dtype=dtype)

    def run(self, state: Tensor, u: Tensor, time: Tensor, *, through: bool) -> tuple[Tensor, Tensor]:
        """See TorchRecurrence."""
        recall, admit = self.gates(u).sigmoid().chunk(2, dim=-1)
        exponent = self._exponent() * recall * time
        gain = (FLOOR - torch.expm1(2 * exponent)).sqrt()
        states = linear_scan(exponent.exp(), gain * (admit * self.value(u)), state)
        return states, self.out(states)

    def branch(self) -> Branch:
        """See TorchRecurrence."""
        token = (
            torch.cat([self.gates.weight, self.value.weight]),
            torch.cat([self.gates.bias, torch.zeros_like(self.rate)]),
        )
        return Branch("rg_lru", token, out=(self.out.weight, None), vectors=(self._exponent(),))

    def _exponent(self) -> Tensor:
        """Return the exponent of a usual window at the strongest recall, (width,)."""
        return -SHARPNESS * ACTIVATIONS["softplus"](self.rate)
