"""The Neural RDE as a recurrence, in torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from streamrde.inference.stacks.rde import RDE
from streamrde.models.activations import ACTIVATIONS
from streamrde.models.torch_recurrence import TorchRecurrence, draw_rates, inverse_softplus


class TorchRDE(TorchRecurrence):
    """See `streamrde.inference.stacks.rde.RDE`."""

    def __init__(self, spec: RDE, width: int, *, dtype: torch.dtype) -> None:
        super().__init__()
        self._substeps = spec.substeps
        self.drive = nn.Linear(width, width, dtype=dtype)
        self.hidden = nn.Linear(width, width, dtype=dtype)
        self.move = nn.Linear(width, width, bias=False, dtype=dtype)
        self.rate = nn.Parameter(inverse_softplus(draw_rates(width, dtype)))
        self.out = nn.Linear(width, width, bias=False, dtype=dtype)

    def run(self, state: Tensor, u: Tensor, time: Tensor, *, through: bool) -> tuple[Tensor, Tensor]:
        """See TorchRecurrence."""
        step = time / self._substeps
        half = torch.exp(-ACTIVATIONS["softplus"](self.rate) * (step / 2))
        drive = self.drive(u)
        weight, bias, move = self.hidden.weight, self.hidden.bias, self.move.weight
        states = []
        for own, share, fade in zip(drive.unbind(0), step.unbind(0), half.unbind(0), strict=True):
            for _ in range(self._substeps):
                slope = nn.functional.linear(nn.functional.linear(state, weight, bias).tanh() * own, move)
                between = fade * (state + share / 2 * slope)
                slope = nn.functional.linear(nn.functional.linear(between, weight, bias).tanh() * own, move)
                state = fade * (fade * state + share * slope)
            states.append(state)
        joined = torch.stack(states)
        return joined, self.out(joined)
